//! Beats on the wire: a UDP datagram from a node's own address to the VIP, in a frame to the cluster MAC, a copy for each
//! address of the VIP.
//!
//! Sent on a packet socket, so that a beat takes exactly the way of a client's packet and no routing table or firewall
//! of this host has a say. Received through the ingress program, which hands over whole datagrams.

use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};
use onevip_core::checksum;
use onevip_core::membership::Family;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP: usize = 8;
const PROTOCOL_UDP: u8 = 17;

/// From where to where a node's beats go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// By IPv4.
    V4 {
        /// The node's own address.
        own: Ipv4Addr,
        /// The VIP.
        vip: Ipv4Addr,
    },
    /// By IPv6.
    V6 {
        /// The node's own address, good beyond the link or not.
        own: Ipv6Addr,
        /// The VIP.
        vip: Ipv6Addr,
    },
}

/// The way of a node's beats for one VIP address, and what they bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The interface.
    pub link: u32,
    /// Its own MAC: the cluster MAC is never the source of a frame.
    pub own_mac: [u8; 6],
    /// The cluster MAC.
    pub cluster_mac: [u8; 6],
    /// The addresses.
    pub ends: Ends,
    /// UDP port of source and destination.
    pub port: u16,
}

impl Ends {
    /// Their family.
    pub const fn family(&self) -> Family {
        match self {
            Self::V4 { .. } => Family::V4,
            Self::V6 { .. } => Family::V6,
        }
    }

    const fn ethertype(&self) -> u16 {
        match self {
            Self::V4 { .. } => libc::ETH_P_IP as u16,
            Self::V6 { .. } => libc::ETH_P_IPV6 as u16,
        }
    }
}

impl Route {
    /// The frame that carries `payload`, which must leave room for it in 64 KiB.
    pub fn frame(&self, payload: &[u8]) -> Vec<u8> {
        let datagram = self.datagram(payload);
        let mut frame = Vec::with_capacity(ETHERNET + IPV6 + datagram.len());
        frame.extend(self.cluster_mac);
        frame.extend(self.own_mac);
        frame.extend(self.ends.ethertype().to_be_bytes());
        match self.ends {
            Ends::V4 { own, vip } => frame.extend(ipv4_header(own, vip, datagram.len() as u16)),
            Ends::V6 { own, vip } => frame.extend(ipv6_header(own, vip, datagram.len() as u16)),
        }
        frame.extend(datagram);
        frame
    }

    fn datagram(&self, payload: &[u8]) -> Vec<u8> {
        let length = (UDP + payload.len()) as u16;
        let [port, length] = [self.port, length].map(u16::to_be_bytes);
        let mut datagram = Vec::with_capacity(UDP + payload.len());
        // RFC 768: a checksum of zero means that none was made. The seal protects the contents far better.
        datagram.extend([port, port, length, [0, 0]].concat());
        datagram.extend(payload);
        // IPv6 insists on one (RFC 8200 8.1).
        if let Ends::V6 { own, vip } = self.ends {
            let sum = checksum::udp(own.into(), vip.into(), &datagram);
            datagram[6..8].copy_from_slice(&sum.to_be_bytes());
        }
        datagram
    }
}

/// Network control (RFC 2474 class selector 6): ahead of bulk traffic.
const TRAFFIC_CLASS: u8 = 0xc0;

/// TTL 1: a beat is for this LAN. "Don't fragment", because a fragment is no beat.
fn ipv4_header(own: Ipv4Addr, vip: Ipv4Addr, datagram_len: u16) -> [u8; IPV4] {
    let mut header = [0; IPV4];
    header[0] = 0x45;
    header[1] = TRAFFIC_CLASS;
    header[2..4].copy_from_slice(&(IPV4 as u16 + datagram_len).to_be_bytes());
    header[6] = 0x40;
    header[8] = 1;
    header[9] = PROTOCOL_UDP;
    header[12..16].copy_from_slice(&own.octets());
    header[16..20].copy_from_slice(&vip.octets());
    let sum = checksum::internet(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

/// Hop limit 1, as above.
fn ipv6_header(own: Ipv6Addr, vip: Ipv6Addr, datagram_len: u16) -> [u8; IPV6] {
    let mut header = [0; IPV6];
    header[0] = 0x60 | TRAFFIC_CLASS >> 4;
    header[1] = TRAFFIC_CLASS << 4;
    header[4..6].copy_from_slice(&datagram_len.to_be_bytes());
    header[6] = PROTOCOL_UDP;
    header[7] = 1;
    header[8..24].copy_from_slice(&own.octets());
    header[24..40].copy_from_slice(&vip.octets());
    header
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
    let (family, source, udp) = match datagram.first()? >> 4 {
        4 => {
            let header = usize::from(datagram[0] & 0x0f) * 4;
            let source: [u8; 4] = datagram.get(12..16)?.try_into().ok()?;
            (Family::V4, IpAddr::from(source), datagram.get(header.max(IPV4)..)?)
        }
        // The nodes send no extension headers.
        6 if *datagram.get(6)? == PROTOCOL_UDP => {
            let source: [u8; 16] = datagram.get(8..24)?.try_into().ok()?;
            (Family::V6, IpAddr::from(source), datagram.get(IPV6..)?)
        }
        _ => return None,
    };
    let length = usize::from(u16::from_be_bytes([*udp.get(4)?, *udp.get(5)?]));
    let payload = udp.get(UDP..length)?;
    Some(Arrived { family, source, payload })
}

/// Sends beats.
#[derive(Debug)]
pub struct FrameSender(OwnedFd);

impl FrameSender {
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
        self.send_frame(route.link, route.ends.ethertype(), &route.frame(payload))
    }

    /// Sends a whole frame; never waits.
    ///
    /// # Errors
    /// The kernel's, as above.
    pub fn send_frame(&self, link: u32, ethertype: u16, frame: &[u8]) -> io::Result<()> {
        sendto(self.0.as_raw_fd(), frame, &link_address(link, ethertype), MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }
}

/// The interface to send on; the frame itself has all the addresses.
fn link_address(link: u32, ethertype: u16) -> LinkAddr {
    // SAFETY: sockaddr_ll is plain data; all zeroes is a valid value of it.
    let mut raw: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    raw.sll_family = libc::AF_PACKET as u16;
    raw.sll_protocol = ethertype.to_be();
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
    use onevip_core::{Hasher, Packet, Selector, VipView};

    const OWN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 11);
    const OWN6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x11);
    const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
    const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);

    fn routes() -> [Route; 2] {
        let ends = [Ends::V4 { own: OWN, vip: VIP }, Ends::V6 { own: OWN6, vip: VIP6 }];
        ends.map(|ends| Route {
            link: 2,
            own_mac: [2, 0, 0, 0, 0, 1],
            cluster_mac: [1, 0, 0x5e, 0x33, 0x64, 0x0a],
            ends,
            port: 7077,
        })
    }

    #[test]
    fn a_beat_is_read_as_it_was_sent_padding_or_not() {
        for (route, own) in routes().into_iter().zip([IpAddr::from(OWN), OWN6.into()]) {
            let mut frame = route.frame(b"tick");
            frame.resize(70, 0);
            let arrived = read(&frame[ETHERNET..]).expect("a whole datagram");
            assert_eq!(arrived.payload, b"tick");
            assert_eq!((arrived.source, arrived.family), (own, route.ends.family()));
        }
    }

    #[test]
    fn the_sums_are_right() {
        let [v4, v6] = routes().map(|route| route.frame(b"tick"));
        assert_eq!(checksum::internet(&v4[ETHERNET..ETHERNET + IPV4]), 0);
        assert_eq!(checksum::transport(OWN6.into(), VIP6.into(), PROTOCOL_UDP, &v6[ETHERNET + IPV6..]), 0);
    }

    #[test]
    fn the_ingress_program_knows_it_for_a_beat() {
        let [route, route6] = routes();
        let vips = [VipView {
            addresses: vec![VIP.into(), VIP6.into()],
            selector: Selector::uniform(Hasher::DEFAULT),
            beat_port: 7077,
            cluster_mac: route.cluster_mac,
        }];
        assert_eq!(Packet::parse(&route.frame(b"tick"), &vips), Packet::Beat { vip: 0 });
        assert_eq!(Packet::parse(&route6.frame(b"tick"), &vips), Packet::Beat { vip: 0 });
    }

    #[test]
    fn anything_cut_short_is_no_beat() {
        for route in routes() {
            let frame = route.frame(b"tick");
            let datagram = &frame[ETHERNET..];
            for length in 0..datagram.len() {
                assert_eq!(read(&datagram[..length]), None, "{length} bytes");
            }
        }
    }
}
