//! How an interface comes to accept frames to the cluster MAC, for good: it must outlive the daemon, as sessions do.
//!
//! A group address is joined at link level. A unicast one that is not the interface's own goes into the NIC's list of
//! further addresses; a driver without such a filter is made to receive everything by the kernel itself. Where the list is
//! refused (macvlan), or would keep frames from others (a bridge delivers what is in it to the host alone, instead of
//! flooding it to the guests behind its ports), the interface is set promiscuous.

pub mod group;
pub mod unicast;

use crate::netlink::Netlink;
use onevip_core::MacAddr;
use std::io;

/// What it took, or takes, to accept the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The address was added to the interface's filter.
    Listed,
    /// The interface has no filter for it, and has to receive everything.
    Promiscuous,
}

/// Which way this interface will go. Nothing is changed.
///
/// # Errors
/// The kernel's: the interface is gone.
pub fn way(netlink: &mut Netlink, interface: &str, mac: [u8; 6]) -> io::Result<Way> {
    if MacAddr(mac).is_multicast() || !unicast::must_be_promiscuous(&netlink.link(interface)?) {
        Ok(Way::Listed)
    } else {
        Ok(Way::Promiscuous)
    }
}

/// Makes the interface accept frames to `mac`. Once more does no harm and counts as once.
///
/// # Errors
/// The kernel's: the interface is gone, rights are missing, the NIC's filter is full.
pub fn join(netlink: &mut Netlink, interface: &str, mac: [u8; 6]) -> io::Result<()> {
    if MacAddr(mac).is_multicast() {
        return group::join(interface, mac);
    }
    if unicast::is_promiscuous(interface)? {
        return Ok(());
    }
    let link = netlink.link(interface)?;
    if unicast::must_be_promiscuous(&link) {
        unicast::set_promiscuous(interface, true)
    } else {
        netlink.list_mac(link.index, mac)
    }
}

/// Whether an error of [`join`] says that the driver keeps no list of addresses, so that only [`Way::Promiscuous`] is left.
pub fn has_no_list(error: &io::Error, mac: [u8; 6]) -> bool {
    let refused = matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL));
    refused && !MacAddr(mac).is_multicast()
}

/// Takes `mac` off the interface's filter; quiet when it is not there.
///
/// # Errors
/// The kernel's: the interface is gone, rights are missing.
pub fn leave(netlink: &mut Netlink, interface: &str, mac: [u8; 6]) -> io::Result<()> {
    if MacAddr(mac).is_multicast() {
        return group::leave(interface, mac);
    }
    let link = netlink.link(interface)?;
    if unicast::must_be_promiscuous(&link) { Ok(()) } else { netlink.unlist_mac(link.index, mac) }
}

/// Whether the interface accepts frames to `mac`, for good.
///
/// # Errors
/// The kernel's, or reading its listing failed.
pub fn is_joined(netlink: &mut Netlink, interface: &str, mac: [u8; 6]) -> io::Result<bool> {
    if MacAddr(mac).is_multicast() {
        return group::is_joined(interface, mac);
    }
    if unicast::is_promiscuous(interface)? {
        return Ok(true);
    }
    let link = netlink.link(interface)?;
    Ok(!unicast::must_be_promiscuous(&link) && netlink.listed_macs(link.index)?.contains(&mac))
}
