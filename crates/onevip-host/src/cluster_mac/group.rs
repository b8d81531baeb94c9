//! A group address as the cluster MAC (`delivery = "multicast"`).
//!
//! Joined at link level with `SIOCADDMULTI`, which outlives the process; a packet socket's membership would vanish
//! with it, and with it every held session.

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

nix::ioctl_write_ptr_bad!(
    /// Adds a link-level multicast address for good (`netdevice(7)`).
    add_multicast,
    libc::SIOCADDMULTI,
    libc::ifreq
);
nix::ioctl_write_ptr_bad!(
    /// Removes one.
    delete_multicast,
    libc::SIOCDELMULTI,
    libc::ifreq
);

/// Where the kernel lists the link-level multicast addresses of this namespace.
const LISTING: &str = "/proc/thread-self/net/dev_mcast";

/// Makes the interface accept frames to `mac`. Once more does no harm and counts as once.
///
/// # Errors
/// The kernel's: the interface is gone, rights are missing, the NIC's filter is full.
pub fn join(interface: &str, mac: [u8; 6]) -> io::Result<()> {
    let (control, request) = prepare(interface, mac)?;
    // SAFETY: the request is a complete ifreq that outlives the call, which only reads it.
    match unsafe { add_multicast(control.as_raw_fd(), &request) } {
        Ok(_) | Err(nix::errno::Errno::EEXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Ends what [`join`] began; quiet when there is nothing to end.
///
/// # Errors
/// The kernel's: the interface is gone, rights are missing.
pub fn leave(interface: &str, mac: [u8; 6]) -> io::Result<()> {
    let (control, request) = prepare(interface, mac)?;
    // SAFETY: the request is a complete ifreq that outlives the call, which only reads it.
    match unsafe { delete_multicast(control.as_raw_fd(), &request) } {
        Ok(_) | Err(nix::errno::Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether somebody asked, at link level and for good, that the interface accept frames to `mac`.
///
/// # Errors
/// Reading the kernel's listing failed.
pub fn is_joined(interface: &str, mac: [u8; 6]) -> io::Result<bool> {
    Ok(listed(&std::fs::read_to_string(LISTING)?, interface, mac))
}

/// Lines are: index, name, users, users for good, address in hex.
fn listed(listing: &str, interface: &str, mac: [u8; 6]) -> bool {
    let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    listing.lines().any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        matches!(fields[..], [_, name, _, for_good, address]
            if name == interface && address == hex && for_good != "0")
    })
}

pub(super) fn control() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?)
}

fn prepare(interface: &str, mac: [u8; 6]) -> io::Result<(OwnedFd, libc::ifreq)> {
    let (control, mut request) = (control()?, request_about(interface)?);
    let mut address = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    for (to, from) in address.sa_data.iter_mut().zip(mac) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_hwaddr = address;
    Ok((control, request))
}

/// A request about an interface, with nothing in it yet.
pub(super) fn request_about(interface: &str) -> io::Result<libc::ifreq> {
    // SAFETY: ifreq is plain data; all zeroes is a valid value of it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = interface.as_bytes();
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{interface}: name too long")));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_read_by_interface_address_and_permanence() {
        let listing = "2    eth0            1     1     01005e33640a\n3    eth1   1   0   01005e33640b\n";
        assert!(listed(listing, "eth0", [1, 0, 0x5e, 0x33, 0x64, 0x0a]));
        assert!(!listed(listing, "eth1", [1, 0, 0x5e, 0x33, 0x64, 0x0a]));
        assert!(!listed(listing, "eth1", [1, 0, 0x5e, 0x33, 0x64, 0x0b]), "a passing user is not for good");
    }
}
