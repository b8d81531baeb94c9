//! Who has an address on this LAN: the same question by ARP and by neighbour discovery.

use super::announcement::Announcement;
use super::arp::ArpSocket;
use super::nd::NdSocket;
use crate::netlink::Link;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};

/// A socket for the questions and answers of one family on one interface.
#[derive(Debug)]
pub enum Neighbours {
    /// ARP.
    V4(ArpSocket),
    /// Neighbour discovery.
    V6(NdSocket),
}

impl Neighbours {
    /// Opens one of the family of `address` on an Ethernet interface. Reading never waits.
    ///
    /// # Errors
    /// The kernel's: `CAP_NET_RAW` is missing, the interface is gone. [`io::ErrorKind::Unsupported`] when the
    /// interface is no Ethernet.
    pub fn open(link: &Link, address: IpAddr) -> io::Result<Self> {
        match address {
            IpAddr::V4(_) => ArpSocket::open(link).map(Self::V4),
            IpAddr::V6(_) => NdSocket::open(link).map(Self::V6),
        }
    }

    /// Asks everybody who has `target`, in the name of `sender`; without one in nobody's, so that nobody learns from
    /// it. A question of another family is not asked.
    ///
    /// # Errors
    /// The kernel's: the link is down or gone.
    pub fn ask(&self, sender: Option<IpAddr>, target: IpAddr) -> io::Result<()> {
        match (self, sender, target) {
            (Self::V4(socket), Some(IpAddr::V4(sender)), IpAddr::V4(target)) => socket.ask(sender, target),
            (Self::V4(socket), None, IpAddr::V4(target)) => socket.ask(Ipv4Addr::UNSPECIFIED, target),
            (Self::V6(socket), Some(IpAddr::V6(sender)), IpAddr::V6(target)) => socket.ask(sender, target),
            (Self::V6(socket), None, IpAddr::V6(target)) => socket.ask(Ipv6Addr::UNSPECIFIED, target),
            _ => Ok(()),
        }
    }

    /// The next announcement that has arrived; other frames are passed over. `None` when there is nothing to read.
    ///
    /// # Errors
    /// The kernel's: the link is down or gone.
    pub fn next(&self) -> io::Result<Option<Announcement>> {
        match self {
            Self::V4(socket) => socket.next(),
            Self::V6(socket) => socket.next(),
        }
    }
}

impl AsFd for Neighbours {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::V4(socket) => socket.as_fd(),
            Self::V6(socket) => socket.as_fd(),
        }
    }
}
