//! Frames, built byte by byte.

use super::{CLUSTER_MAC, vip_for};
use onevip_core::checksum;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const CLIENT_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x99];

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

/// An Ethernet frame to the cluster MAC.
pub fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [CLUSTER_MAC, CLIENT_MAC].concat();
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Puts a VLAN tag behind the addresses of a frame.
pub fn tagged(frame: &[u8], tpid: u16, tci: u16) -> Vec<u8> {
    let mut tagged = frame[..12].to_vec();
    tagged.extend(tpid.to_be_bytes());
    tagged.extend(tci.to_be_bytes());
    tagged.extend(&frame[12..]);
    tagged
}

/// An IPv4 packet without options; `fragment` is the word with flags and offset.
pub fn ipv4_fragment(
    source: Ipv4Addr,
    dest: Ipv4Addr,
    protocol: u8,
    fragment: u16,
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((20 + payload.len() as u16).to_be_bytes());
    packet.extend([0x12, 0x34]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(dest.octets());
    let sum = checksum::internet(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// An IPv6 packet that may go to neighbours only.
pub fn ipv6(source: Ipv6Addr, dest: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 255]);
    packet.extend(source.octets());
    packet.extend(dest.octets());
    packet.extend(payload);
    packet
}

/// An IPv6 fragment header; `fragment` is the word with offset and flag.
pub fn fragment_header(next: u8, fragment: u16) -> Vec<u8> {
    let [high, low] = fragment.to_be_bytes();
    vec![next, 0, high, low, 0x12, 0x34, 0x56, 0x78]
}

/// An extension header of so many times eight bytes, filled with padding.
pub fn extension(next: u8, eights: u8) -> Vec<u8> {
    let len = usize::from(eights) * 8;
    let mut header = vec![0; len];
    header[..4].copy_from_slice(&[next, eights - 1, 1, (len - 4) as u8]);
    header
}

/// An unfragmented packet in its frame; the family is that of the addresses, which must agree.
pub fn packet(source: IpAddr, dest: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (source, dest) {
        (IpAddr::V4(source), IpAddr::V4(dest)) => {
            ethernet(0x0800, &ipv4_fragment(source, dest, protocol, 0, payload))
        }
        (IpAddr::V6(source), IpAddr::V6(dest)) => ethernet(0x86dd, &ipv6(source, dest, protocol, payload)),
        _ => panic!("{source} cannot speak to {dest}"),
    }
}

/// An unfragmented packet to the VIP, in its frame.
pub fn to_vip(source: impl Into<IpAddr>, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let source = source.into();
    packet(source, vip_for(source), protocol, payload)
}

/// A TCP header without options.
pub fn tcp_header(source_port: u16, dest_port: u16, flags: u8, seq: u32, ack: u32) -> Vec<u8> {
    let mut header = source_port.to_be_bytes().to_vec();
    header.extend(dest_port.to_be_bytes());
    header.extend(seq.to_be_bytes());
    header.extend(ack.to_be_bytes());
    header.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    header
}

/// A TCP header to the VIP that a stack accepts.
pub fn tcp_with_checksum(source: IpAddr, from: u16, to: u16, flags: u8, seq: u32, ack: u32) -> Vec<u8> {
    let mut header = tcp_header(from, to, flags, seq, ack);
    let sum = checksum::transport(source, vip_for(source), 6, &header);
    header[16..18].copy_from_slice(&sum.to_be_bytes());
    header
}

/// A TCP segment to the VIP.
pub fn tcp(source: impl Into<IpAddr>, source_port: u16, dest_port: u16, flags: u8) -> Vec<u8> {
    to_vip(source, 6, &tcp_header(source_port, dest_port, flags, 1000, 2000))
}

pub fn udp_datagram(source_port: u16, dest_port: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = source_port.to_be_bytes().to_vec();
    datagram.extend(dest_port.to_be_bytes());
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

pub fn icmp(kind: u8, code: u8, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    message.extend(payload);
    message
}

/// An ARP message between Ethernet and IPv4, in a frame to everybody.
pub fn arp(operation: u16, sender_mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut message = vec![0, 1, 8, 0, 6, 4];
    message.extend(operation.to_be_bytes());
    message.extend(sender_mac);
    message.extend(sender.octets());
    message.extend([0; 6]);
    message.extend(target.octets());
    let mut frame = ethernet(0x0806, &message);
    frame[..6].copy_from_slice(&[0xff; 6]);
    frame
}

/// A neighbour message: solicitation (135) or advertisement (136) about `target`, with a link-layer address where one
/// is given, in an option of this type. Its frame goes to the cluster MAC, its checksum is right.
pub fn neighbour(
    kind: u8,
    source: Ipv6Addr,
    dest: Ipv6Addr,
    target: Ipv6Addr,
    link: Option<(u8, [u8; 6])>,
) -> Vec<u8> {
    let options = link.map_or(Vec::new(), |(option, mac)| [&[option, 1][..], &mac].concat());
    ethernet(0x86dd, &ipv6(source, dest, 58, &neighbour_message(kind, source, dest, target, &options)))
}

/// The same without IP header and frame, with any options.
pub fn neighbour_message(
    kind: u8,
    source: Ipv6Addr,
    dest: Ipv6Addr,
    target: Ipv6Addr,
    options: &[u8],
) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    message.extend(options);
    let sum = checksum::transport(source.into(), dest.into(), 58, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// The group in which whoever has this address is asked for.
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}
