//! The reference parser's IPv6 half: extension headers, neighbour discovery, ICMPv6 errors.

use super::{
    PROTOCOL_TCP, PROTOCOL_UDP, Packet, Plain, VipView, be16, error_about_datagram, find, other, portless,
    tcp, udp,
};
use std::net::{IpAddr, Ipv6Addr};

const HEADER: usize = 40;
/// More extension headers than this, or more bytes of them, and a packet is malformed. Judged by its bucket instead,
/// it could carry a segment of another node's session past the socket lookup, to be reset here.
const EXTENSIONS_MAX: usize = 6;
const EXTENSIONS_BYTES_MAX: usize = 128;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const PROTOCOL_ICMPV6: u8 = 58;
const DESTINATION_OPTIONS: u8 = 60;

/// ICMPv6 types below this are errors (RFC 4443, 2.1).
const FIRST_INFORMATIONAL: u8 = 128;
const ROUTER_ADVERTISEMENT: u8 = 134;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;

const SOURCE_LINK_ADDRESS: u8 = 1;
const TARGET_LINK_ADDRESS: u8 = 2;
/// How far the options of a neighbour message are read.
const OPTIONS_MAX: usize = 4;
const OPTIONS_BYTES_MAX: usize = 64;

/// What lies behind the IPv6 header and its extension headers.
enum Chain {
    /// A fragment other than the first.
    Later,
    /// The packet proper, or its first fragment.
    Upper { protocol: u8, offset: usize, whole: bool },
}

pub(super) fn ipv6(packet: &[u8], vips: &[VipView]) -> Packet {
    if packet.len() < HEADER {
        return Packet::NotOurs;
    }
    let (source, dest) = (address(packet, 8), address(packet, 24));
    let to_vip = find(vips, dest);
    let chain = if packet[0] >> 4 == 6 { walk(packet) } else { None };
    if let Some(about) = chain.as_ref().and_then(|chain| neighbour(packet, chain, vips, source, to_vip)) {
        return about;
    }
    let Some(vip) = to_vip else { return Packet::NotOurs };
    let (protocol, payload, whole) = match chain {
        None => return Packet::Malformed,
        Some(Chain::Later) => return Packet::Fragment(portless(vips, vip, source)),
        Some(Chain::Upper { protocol, offset, whole }) => match packet.get(offset..) {
            None => return Packet::Malformed,
            Some(payload) => (protocol, payload, whole),
        },
    };
    match protocol {
        PROTOCOL_TCP => tcp(payload, vips, vip, source, dest),
        PROTOCOL_UDP => udp(payload, vips, vip, source, dest, whole),
        PROTOCOL_ICMPV6 => icmp(payload, vips, vip, source, dest),
        _ => other(vips, vip, source),
    }
}

/// Follows the extension headers; `None` when they are cut short or too many. Authentication and encapsulation are
/// protocols of their own here, as they are in IPv4.
fn walk(packet: &[u8]) -> Option<Chain> {
    let (mut protocol, mut offset, mut whole) = (packet[6], HEADER, true);
    for _ in 0..EXTENSIONS_MAX {
        if !is_extension(protocol) {
            break;
        }
        let header = packet.get(offset..offset + 8)?;
        let mut length = usize::from(header[1]) * 8 + 8;
        if protocol == FRAGMENT {
            length = 8;
            let fragment = u16::from_be_bytes([header[2], header[3]]);
            if fragment & 0xfff8 != 0 {
                return Some(Chain::Later);
            }
            whole &= fragment & 1 == 0;
        }
        (protocol, offset) = (header[0], offset + length);
        if offset > HEADER + EXTENSIONS_BYTES_MAX {
            return None;
        }
    }
    (!is_extension(protocol)).then_some(Chain::Upper { protocol, offset, whole })
}

fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS)
}

/// Neighbour discovery that concerns a VIP; `None` for everything else.
///
/// What did not come straight from the LAN (hop limit 255, RFC 4861 7.1) is no neighbour discovery, so nobody beyond a
/// router can make us believe in strangers.
fn neighbour(
    packet: &[u8],
    chain: &Chain,
    vips: &[VipView],
    source: IpAddr,
    to_vip: Option<usize>,
) -> Option<Packet> {
    let &Chain::Upper { protocol: PROTOCOL_ICMPV6, offset, whole: true } = chain else { return None };
    let message = packet.get(offset..)?;
    if packet[7] != 255 || message.len() < 8 || message[1] != 0 {
        return None;
    }
    let kind = message[0];
    if kind == ROUTER_ADVERTISEMENT || kind == REDIRECT {
        return to_vip.map(|_| Packet::NdToVip);
    }
    if message.len() < 24 {
        return None;
    }
    let target = find(vips, address(message, 8));
    match kind {
        SOLICITATION => match (find(vips, source), target) {
            (None, None) => None,
            (None, Some(vip)) => Some(Packet::NdSolicitation(portless(vips, vip, source))),
            // The asker gives its own address away. An honest question of another node's about somebody else is none
            // of ours: this very host may be the one that it asks for.
            (Some(vip), about) => match says(message, SOURCE_LINK_ADDRESS, &vips[vip]) {
                Packet::NdEcho if about.is_none() => None,
                said => Some(said),
            },
        },
        ADVERTISEMENT => match (target, to_vip) {
            (Some(vip), _) => Some(says(message, TARGET_LINK_ADDRESS, &vips[vip])),
            (None, to_vip) => to_vip.map(|_| Packet::NdToVip),
        },
        _ => None,
    }
}

/// Whether a message that speaks of a VIP's own place names the cluster MAC, or no MAC at all, or another one.
fn says(message: &[u8], option: u8, vip: &VipView) -> Packet {
    match link_address(&message[24..], option) {
        Some(mac) if mac != vip.cluster_mac => Packet::NdStranger,
        _ => Packet::NdEcho,
    }
}

/// The link-layer address in the option of this type.
fn link_address(options: &[u8], wanted: u8) -> Option<[u8; 6]> {
    let mut offset = 0;
    for _ in 0..OPTIONS_MAX {
        let option = options.get(offset..offset + 8)?;
        if option[1] == 0 {
            return None;
        }
        if option[0] == wanted {
            return option[2..].try_into().ok();
        }
        offset += usize::from(option[1]) * 8;
        if offset > OPTIONS_BYTES_MAX {
            return None;
        }
    }
    None
}

fn icmp(message: &[u8], vips: &[VipView], vip: usize, source: IpAddr, dest: IpAddr) -> Packet {
    if message.len() < 8 {
        return Packet::Malformed;
    }
    let is_error = message[0] < FIRST_INFORMATIONAL;
    let quoted = if is_error { quotation(&message[8..], vips, vip, dest) } else { None };
    quoted.unwrap_or_else(|| Packet::Plain(Plain::Icmp, portless(vips, vip, source)))
}

/// What an ICMPv6 error complains about, where it quotes enough of a packet that this VIP sent.
fn quotation(quoted: &[u8], vips: &[VipView], vip: usize, local: IpAddr) -> Option<Packet> {
    if quoted.len() < HEADER || quoted[0] >> 4 != 6 || address(quoted, 8) != local {
        return None;
    }
    let remote = address(quoted, 24);
    let whom = || Some(Packet::IcmpErrorOther(portless(vips, vip, remote)));
    let (protocol, offset) = match walk(quoted)? {
        Chain::Later => return whom(),
        Chain::Upper { protocol, offset, .. } => (protocol, offset),
    };
    let ports = quoted.get(offset..offset + 8)?;
    let (local_port, remote_port) = (be16(ports, 0)?, be16(ports, 2)?);
    let flow = super::Flow { remote, remote_port, local, local_port };
    match protocol {
        PROTOCOL_TCP => Some(Packet::IcmpErrorTcp { vip, flow }),
        PROTOCOL_UDP => Some(error_about_datagram(vips, vip, flow)),
        _ => whom(),
    }
}

/// The IPv6 address at `offset`, which the caller has checked to be there.
fn address(packet: &[u8], offset: usize) -> IpAddr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&packet[offset..offset + 16]);
    Ipv6Addr::from(octets).into()
}
