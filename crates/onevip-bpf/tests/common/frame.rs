//! Frames, built byte by byte.

use super::{CLUSTER_MAC, VIP};
use std::net::Ipv4Addr;

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
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// An unfragmented IPv4 packet to the VIP, in its frame.
pub fn to_vip(source: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(0x0800, &ipv4_fragment(source, VIP, protocol, 0, payload))
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
pub fn tcp_with_checksum(source: Ipv4Addr, from: u16, to: u16, flags: u8, seq: u32, ack: u32) -> Vec<u8> {
    let mut header = tcp_header(from, to, flags, seq, ack);
    let pseudo = [&source.octets()[..], &VIP.octets(), &[0, 6, 0, 20], &header].concat();
    let sum = checksum(&pseudo);
    header[16..18].copy_from_slice(&sum.to_be_bytes());
    header
}

/// A TCP segment to the VIP.
pub fn tcp(source: Ipv4Addr, source_port: u16, dest_port: u16, flags: u8) -> Vec<u8> {
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

fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header.chunks(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
