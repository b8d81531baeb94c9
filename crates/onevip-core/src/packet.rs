//! The reference parser: from a frame to the few facts on which its verdict rests.
//!
//! It reads what the kernel part reads, in the same order and with the same tolerance, but is written for clarity
//! and shares nothing with it. The differential test in `onevip-bpf` runs both over the same frames; a fuzz target
//! feeds it anything at all. It never fails: a frame that cannot be read is [`Packet::NotOurs`] as long as it has not
//! named a VIP, and [`Packet::Malformed`] from then on.

mod ipv6;

use crate::ids::Bucket;
use crate::selector::{Answerer, Other, Ports, Selector, Transport};
use crate::slice::Slice;
use std::net::{IpAddr, Ipv4Addr};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;
const VLAN_TAGS_MAX: usize = 2;

const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;

const TCP_FIN: u8 = 0x01;
const TCP_SYN: u8 = 0x02;
const TCP_RST: u8 = 0x04;
const TCP_ACK: u8 = 0x10;

/// One VIP as the verdict sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipView {
    /// Its addresses; a packet for any of them is a packet for this VIP.
    pub addresses: Vec<IpAddr>,
    /// What it serves, and how its packets are assigned to buckets.
    pub selector: Selector,
    /// UDP port on which beats arrive.
    pub beat_port: u16,
    /// The cluster MAC.
    pub cluster_mac: [u8; 6],
}

/// A TCP flow as this host's kernel would look it up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Flow {
    /// The client's address.
    pub remote: IpAddr,
    /// The client's port.
    pub remote_port: u16,
    /// The VIP.
    pub local: IpAddr,
    /// The service's port.
    pub local_port: u16,
}

/// Where a packet for a VIP belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Index of the VIP in the list that was given to [`Packet::parse`].
    pub vip: usize,
    /// The bucket that its source selects.
    pub bucket: Bucket,
    /// A service wants it, or nobody is turned away.
    pub served: bool,
    /// The place among the VIP's services of the one it is for, if that has a limit.
    pub limited: Option<usize>,
}

impl Place {
    /// Where a packet belongs that is wanted.
    pub const fn new(vip: usize, bucket: Bucket) -> Self {
        Self { vip, bucket, served: true, limited: None }
    }
}

/// Protocols without a row of their own in the verdict table, counted apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plain {
    /// A UDP datagram to a service, or the first fragment of one.
    Udp,
    /// ICMP that is no error: echo and the rest.
    Icmp,
    /// Any other IP protocol.
    Other,
}

/// What a frame is, as far as its verdict is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packet {
    /// Nothing that concerns a VIP, or unreadable before it named one.
    NotOurs,
    /// Names a VIP, but its headers are cut short or contradict themselves.
    Malformed,
    /// A beat of the cluster.
    Beat {
        /// Index of the VIP to which it was sent.
        vip: usize,
    },
    /// ARP request for a VIP.
    ArpRequest(Place),
    /// ARP reply addressed to a VIP: the answer to a question one of the nodes asked.
    ArpReplyToVip,
    /// ARP that says where a VIP is, naming the cluster MAC: a node's own announcement or answer.
    ArpEcho,
    /// ARP that says a VIP is at another MAC: somebody else uses the address.
    ArpStranger,
    /// Neighbour solicitation for a VIP.
    NdSolicitation(Place),
    /// Neighbour or router advertisement, or redirect, addressed to a VIP: any of the nodes may have asked.
    NdToVip,
    /// Neighbour message that says where a VIP is, naming the cluster MAC or none.
    NdEcho,
    /// Neighbour message that says a VIP is at another MAC: somebody else uses the address.
    NdStranger,
    /// A TCP segment that opens a connection.
    TcpSyn(Place),
    /// Any other TCP segment.
    Tcp {
        /// Where it belongs.
        place: Place,
        /// The flow it is part of.
        flow: Flow,
        /// FIN is set.
        fin: bool,
        /// RST is set.
        rst: bool,
        /// The acknowledgement number, where ACK is set.
        ack: Option<u32>,
    },
    /// An ICMP error that quotes a TCP flow of the VIP.
    IcmpErrorTcp {
        /// Index of the VIP.
        vip: usize,
        /// The flow in the quotation.
        flow: Flow,
    },
    /// An ICMP error that quotes a datagram of a service that is answered by sockets.
    IcmpErrorBySocket {
        /// The flow in the quotation.
        flow: Flow,
        /// Its port is in this node's slice.
        own_slice: bool,
    },
    /// An ICMP error that quotes something else that the VIP sent; the place is the quoted client's.
    IcmpErrorOther(Place),
    /// A fragment other than the first: it has no ports.
    Fragment(Place),
    /// A datagram to a service that is answered by sockets.
    BySocket {
        /// The flow it is part of.
        flow: Flow,
        /// Its port is in this node's slice.
        own_slice: bool,
    },
    /// A packet judged by its bucket alone.
    Plain(Plain, Place),
}

impl Packet {
    /// Reads `frame`, which begins with its Ethernet header, in the eyes of a node that serves `vips`.
    pub fn parse(frame: &[u8], vips: &[VipView]) -> Packet {
        let Some((ethertype, rest)) = ethernet(frame) else { return Packet::NotOurs };
        match ethertype {
            ETHERTYPE_ARP => arp(rest, vips),
            ETHERTYPE_IPV4 => ipv4(rest, vips),
            ETHERTYPE_IPV6 => ipv6::ipv6(rest, vips),
            _ => Packet::NotOurs,
        }
    }

    /// From whom an IP packet comes, if the frame has one.
    pub fn source(frame: &[u8]) -> Option<IpAddr> {
        let (ethertype, packet) = ethernet(frame)?;
        match ethertype {
            ETHERTYPE_IPV4 => packet.get(12..16)?.try_into().ok().map(|octets: [u8; 4]| octets.into()),
            ETHERTYPE_IPV6 => packet.get(8..24)?.try_into().ok().map(|octets: [u8; 16]| octets.into()),
            _ => None,
        }
    }
}

/// The EtherType behind any priority tags, and what follows. `None` for frames of other VLANs, whose VLAN device has
/// a program of its own, and for frames too short or too deeply tagged.
fn ethernet(frame: &[u8]) -> Option<(u16, &[u8])> {
    let (mut ethertype, mut rest) = (be16(frame, 12)?, frame.get(14..)?);
    for _ in 0..VLAN_TAGS_MAX {
        if ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_QINQ {
            break;
        }
        if be16(rest, 0)? & 0x0fff != 0 {
            return None;
        }
        (ethertype, rest) = (be16(rest, 2)?, &rest[4..]);
    }
    Some((ethertype, rest))
}

fn arp(packet: &[u8], vips: &[VipView]) -> Packet {
    const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
    let Some(packet) = packet.get(..28) else { return Packet::NotOurs };
    let operation = u16::from_be_bytes([packet[6], packet[7]]);
    if packet[..6] != ETHERNET_IPV4 || !(1..=2).contains(&operation) {
        return Packet::NotOurs;
    }
    let (sender_mac, sender) = (&packet[8..14], address(packet, 14));
    let target = address(packet, 24);
    if let Some(vip) = find(vips, sender) {
        let ours = sender_mac == vips[vip].cluster_mac;
        return if ours { Packet::ArpEcho } else { Packet::ArpStranger };
    }
    match find(vips, target) {
        None => Packet::NotOurs,
        Some(_) if operation == 2 => Packet::ArpReplyToVip,
        Some(vip) => Packet::ArpRequest(portless(vips, vip, sender)),
    }
}

fn ipv4(packet: &[u8], vips: &[VipView]) -> Packet {
    if packet.len() < 20 {
        return Packet::NotOurs;
    }
    let (source, dest) = (address(packet, 12), address(packet, 16));
    let Some(vip) = find(vips, dest) else { return Packet::NotOurs };
    let header_len = usize::from(packet[0] & 0x0f) * 4;
    if packet[0] >> 4 != 4 || header_len < 20 || packet.len() < header_len {
        return Packet::Malformed;
    }
    let fragment = u16::from_be_bytes([packet[6], packet[7]]);
    let (first, whole) = (fragment & 0x1fff == 0, fragment & 0x3fff == 0);
    if !first {
        return Packet::Fragment(portless(vips, vip, source));
    }
    let payload = &packet[header_len..];
    match packet[9] {
        PROTOCOL_TCP => tcp(payload, vips, vip, source, dest),
        PROTOCOL_UDP => udp(payload, vips, vip, source, dest, whole),
        PROTOCOL_ICMP => icmp(payload, vips, vip, source, dest),
        _ => other(vips, vip, source),
    }
}

fn tcp(segment: &[u8], vips: &[VipView], vip: usize, source: IpAddr, dest: IpAddr) -> Packet {
    let Some(header) = segment.get(..20) else { return Packet::Malformed };
    if header[12] >> 4 < 5 {
        return Packet::Malformed;
    }
    let word = |at| u16::from_be_bytes([header[at], header[at + 1]]);
    let (source_port, dest_port, flags) = (word(0), word(2), header[13]);
    let place =
        place(vips, vip, source, Ports { transport: Transport::Tcp, source: source_port, dest: dest_port });
    if flags & (TCP_SYN | TCP_ACK | TCP_RST) == TCP_SYN {
        return Packet::TcpSyn(place);
    }
    let ack_seq = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    Packet::Tcp {
        place,
        flow: Flow { remote: source, remote_port: source_port, local: dest, local_port: dest_port },
        fin: flags & TCP_FIN != 0,
        rst: flags & TCP_RST != 0,
        ack: (flags & TCP_ACK != 0).then_some(ack_seq),
    }
}

/// All fragments of a datagram must meet the same bucket, so a first fragment does not hash its ports either.
fn udp(datagram: &[u8], vips: &[VipView], vip: usize, source: IpAddr, dest: IpAddr, whole: bool) -> Packet {
    let (Some(source_port), Some(dest_port), Some(_)) =
        (be16(datagram, 0), be16(datagram, 2), be16(datagram, 6))
    else {
        return Packet::Malformed;
    };
    let ports = Ports { transport: Transport::Udp, source: source_port, dest: dest_port };
    if !whole {
        let served = vips[vip].selector.serves(ports.transport, dest_port);
        return Packet::Plain(Plain::Udp, Place { served, ..portless(vips, vip, source) });
    }
    if dest_port == vips[vip].beat_port {
        return Packet::Beat { vip };
    }
    if let Some(slice) = slice(vips, vip, dest_port) {
        let flow = Flow { remote: source, remote_port: source_port, local: dest, local_port: dest_port };
        return Packet::BySocket { flow, own_slice: slice.contains(dest_port) };
    }
    Packet::Plain(Plain::Udp, place(vips, vip, source, ports))
}

/// The slice of this node in the UDP service on this port, if sockets answer it.
fn slice(vips: &[VipView], vip: usize, port: u16) -> Option<Slice> {
    match vips[vip].selector.service(Transport::Udp, port)?.answerer {
        Answerer::Socket(slice) => Some(slice),
        Answerer::Bucket => None,
    }
}

/// What an ICMP error about a datagram that left one of the VIP's ports is.
fn error_about_datagram(vips: &[VipView], vip: usize, flow: Flow) -> Packet {
    if let Some(slice) = slice(vips, vip, flow.local_port) {
        return Packet::IcmpErrorBySocket { flow, own_slice: slice.contains(flow.local_port) };
    }
    let ports = Ports { transport: Transport::Udp, source: flow.remote_port, dest: flow.local_port };
    Packet::IcmpErrorOther(place(vips, vip, flow.remote, ports))
}

fn icmp(message: &[u8], vips: &[VipView], vip: usize, source: IpAddr, dest: IpAddr) -> Packet {
    if message.len() < 8 {
        return Packet::Malformed;
    }
    let is_error = matches!(message[0], 3 | 4 | 5 | 11 | 12);
    let quoted = if is_error { icmp_quotation(&message[8..], vips, vip, dest) } else { None };
    quoted.unwrap_or_else(|| Packet::Plain(Plain::Icmp, portless(vips, vip, source)))
}

/// What an ICMP error complains about, where it quotes enough of a packet that this VIP sent.
fn icmp_quotation(quoted: &[u8], vips: &[VipView], vip: usize, local: IpAddr) -> Option<Packet> {
    let header_len = usize::from(quoted.first()? & 0x0f) * 4;
    let ports = quoted.get(header_len..header_len + 8)?;
    if quoted[0] >> 4 != 4 || header_len < 20 || address(quoted, 12) != local {
        return None;
    }
    let remote = address(quoted, 16);
    let (local_port, remote_port) =
        (u16::from_be_bytes([ports[0], ports[1]]), u16::from_be_bytes([ports[2], ports[3]]));
    let first = u16::from_be_bytes([quoted[6], quoted[7]]) & 0x1fff == 0;
    Some(match quoted[9] {
        PROTOCOL_TCP if first => {
            Packet::IcmpErrorTcp { vip, flow: Flow { remote, remote_port, local, local_port } }
        }
        PROTOCOL_UDP if first => {
            error_about_datagram(vips, vip, Flow { remote, remote_port, local, local_port })
        }
        _ => Packet::IcmpErrorOther(portless(vips, vip, remote)),
    })
}

fn place(vips: &[VipView], vip: usize, source: IpAddr, ports: Ports) -> Place {
    let selector = &vips[vip].selector;
    let served = selector.serves(ports.transport, ports.dest);
    let limited = selector.limited(ports.transport, ports.dest);
    Place { vip, bucket: selector.bucket(source, Some(ports)), served, limited }
}

fn portless(vips: &[VipView], vip: usize, source: IpAddr) -> Place {
    Place::new(vip, vips[vip].selector.bucket(source, None))
}

fn other(vips: &[VipView], vip: usize, source: IpAddr) -> Packet {
    let served = vips[vip].selector.other == Other::Owner;
    Packet::Plain(Plain::Other, Place { served, ..portless(vips, vip, source) })
}

fn find(vips: &[VipView], address: IpAddr) -> Option<usize> {
    vips.iter().position(|vip| vip.addresses.contains(&address))
}

/// The IPv4 address at `offset`, which the caller has checked to be there.
fn address(packet: &[u8], offset: usize) -> IpAddr {
    Ipv4Addr::new(packet[offset], packet[offset + 1], packet[offset + 2], packet[offset + 3]).into()
}

fn be16(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..offset + 2).map(|two| u16::from_be_bytes([two[0], two[1]]))
}
