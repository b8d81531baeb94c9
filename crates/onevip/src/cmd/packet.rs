//! What a frame looks like to people: who speaks to whom, and about what.
//!
//! For `onevip trace` and `onevip explain`. Nothing is decided by this; a frame that cannot be read is described as far
//! as it can.

use onevip_core::Packet;
use onevip_core::packet::Place;
use serde::Serialize;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The flow of a frame, and what kind of packet it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Sketch {
    /// Who sent it; for ARP who asks.
    pub source: Option<IpAddr>,
    /// Its port.
    pub source_port: Option<u16>,
    /// To whom; for ARP who is asked for.
    pub dest: Option<IpAddr>,
    /// Its port.
    pub dest_port: Option<u16>,
    /// The kind: "tcp syn", "udp", "icmp echo request", "arp request".
    pub kind: String,
}

impl Sketch {
    /// Describes a frame that begins with its Ethernet header; it may be cut short.
    pub fn of(frame: &[u8]) -> Self {
        let nothing =
            Self { source: None, source_port: None, dest: None, dest_port: None, kind: "unreadable".into() };
        read(frame).unwrap_or(nothing)
    }
}

impl fmt::Display for Sketch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, dest) = (end(self.source, self.source_port), end(self.dest, self.dest_port));
        write!(f, "{source} → {dest} {}", self.kind)
    }
}

/// The bucket that decides about a packet; none where no bucket does.
pub fn place(packet: &Packet) -> Option<Place> {
    match *packet {
        Packet::ArpRequest(place)
        | Packet::NdSolicitation(place)
        | Packet::TcpSyn(place)
        | Packet::Tcp { place, .. }
        | Packet::IcmpErrorOther(place)
        | Packet::Fragment(place)
        | Packet::Plain(_, place) => Some(place),
        _ => None,
    }
}

fn end(address: Option<IpAddr>, port: Option<u16>) -> String {
    match (address, port) {
        (None, _) => "?".to_owned(),
        (Some(address), None) => address.to_string(),
        (Some(address), Some(port)) => std::net::SocketAddr::new(address, port).to_string(),
    }
}

fn read(frame: &[u8]) -> Option<Sketch> {
    let mut at = 12;
    // Tags that carry no VLAN.
    while matches!(frame.get(at..at + 2)?, [0x81, 0x00] | [0x88, 0xa8]) {
        at += 4;
    }
    let network = frame.get(at + 2..)?;
    match frame.get(at..at + 2)? {
        [0x08, 0x06] => arp(network),
        [0x08, 0x00] => ipv4(network),
        [0x86, 0xdd] => ipv6(network),
        _ => None,
    }
}

fn arp(message: &[u8]) -> Option<Sketch> {
    let kind = match message.get(6..8)? {
        [0, 1] => "arp request",
        [0, 2] => "arp reply",
        _ => "arp",
    };
    let between = (v4(message, 14)?, v4(message, 24)?);
    Some(sketch(between, (None, None), kind.to_owned()))
}

fn ipv4(packet: &[u8]) -> Option<Sketch> {
    let between = (v4(packet, 12)?, v4(packet, 16)?);
    let fragment = be16(packet, 6)? & 0x3fff;
    let payload = packet.get(usize::from(packet[0] & 15) * 4..)?;
    Some(carried(between, packet[9], fragment & 0x1fff != 0, payload))
}

fn ipv6(packet: &[u8]) -> Option<Sketch> {
    let between = (v6(packet, 8)?, v6(packet, 24)?);
    let (mut next, mut payload, mut later) = (packet[6], packet.get(40..)?, false);
    // Hop-by-hop, routing, fragment and destination options.
    while matches!(next, 0 | 43 | 44 | 60) {
        let (Some(&after), Some(&eights)) = (payload.first(), payload.get(1)) else { break };
        let length = if next == 44 { 8 } else { (usize::from(eights) + 1) * 8 };
        later |= next == 44 && be16(payload, 2).is_some_and(|word| word & 0xfff8 != 0);
        let Some(rest) = payload.get(length..) else { break };
        (next, payload) = (after, rest);
    }
    Some(carried(between, next, later, payload))
}

fn carried(between: (IpAddr, IpAddr), protocol: u8, later_fragment: bool, payload: &[u8]) -> Sketch {
    if later_fragment {
        return sketch(between, (None, None), format!("fragment of {}", protocol_name(protocol)));
    }
    let ports = || (be16(payload, 0), be16(payload, 2));
    match protocol {
        6 => sketch(between, ports(), format!("tcp {}", payload.get(13).map_or("?".into(), |f| flags(*f)))),
        17 => sketch(between, ports(), "udp".into()),
        1 | 58 => {
            let kind = payload.first().map_or_else(|| "icmp".to_owned(), |kind| icmp(protocol, *kind));
            sketch(between, (None, None), kind)
        }
        other => sketch(between, (None, None), protocol_name(other)),
    }
}

fn sketch(
    between: (IpAddr, IpAddr),
    (source_port, dest_port): (Option<u16>, Option<u16>),
    kind: String,
) -> Sketch {
    Sketch { source: Some(between.0), source_port, dest: Some(between.1), dest_port, kind }
}

fn protocol_name(protocol: u8) -> String {
    match protocol {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        58 => "icmpv6".into(),
        other => format!("protocol {other}"),
    }
}

fn flags(bits: u8) -> String {
    let names = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];
    let set = names.iter().enumerate().filter(|(bit, _)| bits & 1 << bit != 0).map(|(_, name)| *name);
    let text = set.collect::<Vec<_>>().join(",");
    if text.is_empty() { "without flags".into() } else { text }
}

fn icmp(protocol: u8, kind: u8) -> String {
    let name = match (protocol, kind) {
        (1, 0) | (58, 129) => "echo reply",
        (1, 8) | (58, 128) => "echo request",
        (1, 3) | (58, 1) => "unreachable",
        (58, 2) => "packet too big",
        (1, 11) | (58, 3) => "time exceeded",
        (58, 133) => "router solicitation",
        (58, 134) => "router advertisement",
        (58, 135) => "neighbour solicitation",
        (58, 136) => "neighbour advertisement",
        (1, 5) | (58, 137) => "redirect",
        _ => return format!("{} type {kind}", protocol_name(protocol)),
    };
    format!("{} {name}", protocol_name(protocol))
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]))
}

fn v4(bytes: &[u8], at: usize) -> Option<IpAddr> {
    let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(Ipv4Addr::from(octets).into())
}

fn v6(bytes: &[u8], at: usize) -> Option<IpAddr> {
    let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
    Some(Ipv6Addr::from(octets).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_is_described_as_far_as_it_can_be_read() {
        let hex = |text: &str| -> Vec<u8> {
            let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
            digits
                .chunks(2)
                .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
                .collect()
        };
        let ethernet = "01005e33640a 020000000201";
        let syn = format!(
            "{ethernet} 0800 4500002800000000400600 00 c6336465 c633640a 9c400016 00000001 00000000 5002ffff"
        );
        assert_eq!(Sketch::of(&hex(&syn)).to_string(), "198.51.100.101:40000 → 198.51.100.10:22 tcp syn");
        let tagged = syn.replacen("0800 45", "88a80000 81000000 0800 45", 1);
        assert_eq!(Sketch::of(&hex(&tagged)), Sketch::of(&hex(&syn)));
        let later = syn.replacen("0000 c6", "0000c6", 1).replacen("00000000400600", "00000001400600", 1);
        assert_eq!(Sketch::of(&hex(&later)).to_string(), "198.51.100.101 → 198.51.100.10 fragment of tcp");
        let arp = format!("{ethernet} 0806 0001080006040001 020000000201 c6336465 000000000000 c633640a");
        assert_eq!(Sketch::of(&hex(&arp)).to_string(), "198.51.100.101 → 198.51.100.10 arp request");
        let ping = format!(
            "{ethernet} 86dd 600000000010 00 ff 20010db8000000000000000000000101 20010db8000000000000000000000010 \
             3a00010400000000 8000 0000"
        );
        assert_eq!(Sketch::of(&hex(&ping)).to_string(), "2001:db8::101 → 2001:db8::10 icmpv6 echo request");
        assert_eq!(Sketch::of(&[]).to_string(), "? → ? unreadable");
    }

    proptest! {
        #[test]
        fn nothing_is_too_strange_to_be_looked_at(frame: Vec<u8>, kind in 0usize..3) {
            let mut frame = frame;
            if frame.len() >= 14 {
                frame[12..14].copy_from_slice(&[[8, 0], [8, 6], [0x86, 0xdd]][kind]);
            }
            let _ = Sketch::of(&frame).to_string();
        }
    }
}
