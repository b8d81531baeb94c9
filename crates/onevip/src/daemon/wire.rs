//! Beats on the wire: an IPv4 UDP datagram from a node's own address to the VIP, in a frame to the cluster MAC.
//!
//! Sent on a packet socket, so that a beat takes exactly the way of a client's packet and no routing table or firewall
//! of this host has a say. Received through the ingress program, which hands over whole datagrams.

use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};
use onevip_core::membership::Family;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;
const PROTOCOL_UDP: u8 = 17;

/// Where a node's beats for one VIP address go, and what they bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The interface.
    pub link: u32,
    /// Its own MAC: the cluster MAC is never the source of a frame.
    pub own_mac: [u8; 6],
    /// The cluster MAC.
    pub cluster_mac: [u8; 6],
    /// The node's own address.
    pub own: Ipv4Addr,
    /// The VIP.
    pub vip: Ipv4Addr,
    /// UDP port of source and destination.
    pub port: u16,
}

impl Route {
    /// The frame that carries `payload`, which must leave room for it in 64 KiB.
    pub fn frame(&self, payload: &[u8]) -> Vec<u8> {
        let udp_len = (UDP + payload.len()) as u16;
        let mut frame = Vec::with_capacity(ETHERNET + IPV4 + UDP + payload.len());
        frame.extend(self.cluster_mac);
        frame.extend(self.own_mac);
        frame.extend([0x08, 0x00]);
        frame.extend(self.ip_header(udp_len));
        frame.extend(self.port.to_be_bytes());
        frame.extend(self.port.to_be_bytes());
        frame.extend(udp_len.to_be_bytes());
        // RFC 768: zero means that no checksum was made. The seal protects the contents far better.
        frame.extend([0, 0]);
        frame.extend(payload);
        frame
    }

    /// TTL 1: a beat is for this LAN. "Don't fragment", because a fragment is no beat.
    fn ip_header(&self, udp_len: u16) -> [u8; IPV4] {
        let mut header = [0; IPV4];
        header[0] = 0x45;
        header[1] = 0xc0; // network control (RFC 2474 class selector 6): ahead of bulk traffic
        header[2..4].copy_from_slice(&(IPV4 as u16 + udp_len).to_be_bytes());
        header[6] = 0x40;
        header[8] = 1;
        header[9] = PROTOCOL_UDP;
        header[12..16].copy_from_slice(&self.own.octets());
        header[16..20].copy_from_slice(&self.vip.octets());
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    }
}

/// The internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks_exact(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A beat as it arrived, not yet authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived<'a> {
    /// By which family of the VIP.
    pub family: Family,
    /// From which address, as the datagram says.
    pub source: IpAddr,
    /// What the datagram carries.
    pub payload: &'a [u8],
}

/// Reads a datagram as the ingress program hands it over: it begins with its IP header and may end with padding of
/// the link. `None` for anything cut short.
pub fn read(datagram: &[u8]) -> Option<Arrived<'_>> {
    let header = usize::from(datagram.first()? & 0x0f) * 4;
    if datagram[0] >> 4 != 4 || header < IPV4 {
        return None;
    }
    let source: [u8; 4] = datagram.get(12..16)?.try_into().ok()?;
    let udp = datagram.get(header..)?;
    let length = usize::from(u16::from_be_bytes([*udp.get(4)?, *udp.get(5)?]));
    let payload = udp.get(UDP..length)?;
    Some(Arrived { family: Family::V4, source: IpAddr::V4(source.into()), payload })
}

/// Sends beats.
#[derive(Debug)]
pub struct Sender(OwnedFd);

impl Sender {
    /// Opens the packet socket. It receives nothing (protocol 0).
    ///
    /// # Errors
    /// The kernel's: `CAP_NET_RAW` is missing.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        Ok(Self(socket(AddressFamily::Packet, SockType::Raw, flags, None)?))
    }

    /// Sends a beat; never waits.
    ///
    /// # Errors
    /// The kernel's: the link is down or gone, or its queue is full.
    pub fn send(&self, route: &Route, payload: &[u8]) -> io::Result<()> {
        let frame = route.frame(payload);
        sendto(self.0.as_raw_fd(), &frame, &link_address(route.link), MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }
}

/// The interface to send on; the frame itself has all the addresses.
fn link_address(link: u32) -> LinkAddr {
    // SAFETY: sockaddr_ll is plain data; all zeroes is a valid value of it.
    let mut raw: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    raw.sll_family = libc::AF_PACKET as u16;
    raw.sll_protocol = (libc::ETH_P_IP as u16).to_be();
    raw.sll_ifindex = link as i32;
    raw.sll_halen = 6;
    // SAFETY: `raw` is a complete sockaddr_ll of the AF_PACKET family, as long as its type says.
    let address = unsafe {
        nix::sys::socket::SockaddrLike::from_raw(
            (&raw const raw).cast(),
            Some(size_of::<libc::sockaddr_ll>() as u32),
        )
    };
    address.expect("the family is AF_PACKET and the length is right")
}

#[cfg(test)]
mod tests {
    use super::*;
    use onevip_core::{Hasher, Packet, VipView};

    fn route() -> Route {
        Route {
            link: 2,
            own_mac: [2, 0, 0, 0, 0, 1],
            cluster_mac: [1, 0, 0x5e, 0x33, 0x64, 0x0a],
            own: Ipv4Addr::new(198, 51, 100, 11),
            vip: Ipv4Addr::new(198, 51, 100, 10),
            port: 7077,
        }
    }

    #[test]
    fn a_beat_is_read_as_it_was_sent_padding_or_not() {
        let mut frame = route().frame(b"tick");
        frame.resize(60, 0);
        let arrived = read(&frame[ETHERNET..]).expect("a whole datagram");
        assert_eq!(arrived.payload, b"tick");
        assert_eq!(arrived.source, IpAddr::V4(route().own));
        assert_eq!(checksum(&frame[ETHERNET..ETHERNET + IPV4]), 0, "the header's sum is right");
    }

    #[test]
    fn the_ingress_program_knows_it_for_a_beat() {
        let vips = [VipView {
            addresses: vec![IpAddr::V4(route().vip)],
            hasher: Hasher::DEFAULT,
            beat_port: 7077,
            cluster_mac: route().cluster_mac,
        }];
        assert_eq!(Packet::parse(&route().frame(b"tick"), &vips), Packet::Beat { vip: 0 });
    }

    #[test]
    fn anything_cut_short_is_no_beat() {
        let frame = route().frame(b"tick");
        let datagram = &frame[ETHERNET..];
        for length in 0..datagram.len() {
            assert_eq!(read(&datagram[..length]), None, "{length} bytes");
        }
    }
}
