//! A unicast address that belongs to nobody as the cluster MAC (`delivery = "flood"`).
//!
//! The list of further addresses of an interface is kept by [`Netlink`](crate::netlink::Netlink) (what
//! `bridge fdb add MAC dev IF self` does); here is what to do where that is not the way.

use super::group::{control, request_about};
use crate::netlink::Link;
use std::io;
use std::os::fd::AsRawFd;

nix::ioctl_write_ptr_bad!(
    /// Sets the flags of an interface (`netdevice(7)`).
    set_flags,
    libc::SIOCSIFFLAGS,
    libc::ifreq
);
nix::ioctl_read_bad!(
    /// Reads them.
    get_flags,
    libc::SIOCGIFFLAGS,
    libc::ifreq
);

/// Kinds of interface whose list of further addresses is refused, or means something else.
const WITHOUT_A_LIST: [&str; 2] = ["bridge", "macvlan"];

/// Whether the interface can accept a foreign unicast address only by receiving everything.
pub fn must_be_promiscuous(link: &Link) -> bool {
    link.kind.as_deref().is_some_and(|kind| WITHOUT_A_LIST.contains(&kind))
}

/// Whether somebody asked, for good, that the interface receive everything. (A packet capture asks for itself alone.)
///
/// # Errors
/// The kernel's: the interface is gone.
pub fn is_promiscuous(interface: &str) -> io::Result<bool> {
    Ok(flags(interface)? & libc::IFF_PROMISC as libc::c_short != 0)
}

/// Makes the interface receive everything, or only what is for this host again.
///
/// # Errors
/// The kernel's: the interface is gone, rights are missing.
pub fn set_promiscuous(interface: &str, on: bool) -> io::Result<()> {
    let (before, bit) = (flags(interface)?, libc::IFF_PROMISC as libc::c_short);
    let after = if on { before | bit } else { before & !bit };
    if after == before {
        return Ok(());
    }
    let (control, mut request) = (control()?, request_about(interface)?);
    request.ifr_ifru.ifru_flags = after;
    // SAFETY: the request is a complete ifreq that outlives the call, which only reads it.
    unsafe { set_flags(control.as_raw_fd(), &request) }?;
    Ok(())
}

fn flags(interface: &str) -> io::Result<libc::c_short> {
    let (control, mut request) = (control()?, request_about(interface)?);
    // SAFETY: the request is a complete ifreq that outlives the call, which writes nothing but its flags.
    unsafe { get_flags(control.as_raw_fd(), &mut request) }?;
    // SAFETY: the call has filled this member, and every value of it is valid.
    Ok(unsafe { request.ifr_ifru.ifru_flags })
}
