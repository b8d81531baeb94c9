//! What hosts say of themselves by ARP and neighbour discovery.

use std::net::IpAddr;

/// What a host says: this address is at that MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The address.
    pub ip: IpAddr,
    /// The MAC.
    pub mac: [u8; 6],
    /// Whether it answers a question of this host, and was sent to it alone.
    pub asked: bool,
}
