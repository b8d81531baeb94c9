//! From a question to the frame that the kernel part is asked about.

use super::question::{Kind, Question};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The MAC of a client that is none: locally administered.
const CLIENT_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 1];

/// The frame, as it would arrive here. Checksums are left out, where the stack would look at them but the programs do not.
pub(super) fn frame(question: &Question, vip: IpAddr, port: u16, cluster_mac: [u8; 6]) -> Vec<u8> {
    match (question.source, vip) {
        (IpAddr::V4(source), IpAddr::V4(vip)) if question.kind == Kind::WhoHas => {
            ethernet([0xff; 6], 0x0806, &arp(source, vip))
        }
        (IpAddr::V4(source), IpAddr::V4(vip)) => {
            ethernet(cluster_mac, 0x0800, &ipv4(question, source, vip, port))
        }
        (IpAddr::V6(source), IpAddr::V6(vip)) => {
            let (packet, mac) = ipv6(question, source, vip, port, cluster_mac);
            ethernet(mac, 0x86dd, &packet)
        }
        // The families were compared when the VIP was chosen.
        _ => Vec::new(),
    }
}

fn ethernet(to: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &CLIENT_MAC, &ethertype.to_be_bytes(), payload].concat()
}

fn arp(source: Ipv4Addr, vip: Ipv4Addr) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    [&head[..], &CLIENT_MAC, &source.octets(), &[0; 6], &vip.octets()].concat()
}

fn ipv4(question: &Question, source: Ipv4Addr, vip: Ipv4Addr, port: u16) -> Vec<u8> {
    let (protocol, payload) = payload(question, port, false);
    let offset: u16 = if question.kind == Kind::Fragment { 185 } else { 0 };
    let mut packet = vec![0x45, 0];
    packet.extend((20 + payload.len() as u16).to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(offset.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(vip.octets());
    packet.extend(payload);
    packet
}

/// The packet, and the MAC that it goes to.
fn ipv6(
    question: &Question,
    source: Ipv6Addr,
    vip: Ipv6Addr,
    port: u16,
    mut mac: [u8; 6],
) -> (Vec<u8>, [u8; 6]) {
    let (mut protocol, mut payload) = payload(question, port, true);
    let mut dest = vip;
    match question.kind {
        Kind::WhoHas => {
            let [.., a, b, c] = vip.octets();
            dest = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
            mac = [0x33, 0x33, 0xff, a, b, c];
            let option = [&[1, 1][..], &CLIENT_MAC].concat();
            (protocol, payload) = (58, [&[135, 0, 0, 0, 0, 0, 0, 0][..], &vip.octets(), &option].concat());
        }
        Kind::Fragment => {
            payload = [&[protocol, 0, 5, 0xc8, 0, 0, 0, 1][..], &payload].concat();
            protocol = 44;
        }
        Kind::Tcp(_) | Kind::Udp | Kind::Echo => {}
    }
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([protocol, 255]);
    packet.extend(source.octets());
    packet.extend(dest.octets());
    packet.extend(payload);
    (packet, mac)
}

fn payload(question: &Question, port: u16, v6: bool) -> (u8, Vec<u8>) {
    let ports = [question.source_port.to_be_bytes(), port.to_be_bytes()].concat();
    match question.kind {
        Kind::Tcp(flags) => {
            let (sequence, acknowledgement) =
                (question.sequence.to_be_bytes(), question.acknowledgement.to_be_bytes());
            (6, [&ports[..], &sequence, &acknowledgement, &[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]].concat())
        }
        Kind::Udp => (17, [&ports[..], &[0, 8, 0, 0]].concat()),
        Kind::Echo if v6 => (58, vec![128, 0, 0, 0, 0, 1, 0, 1]),
        Kind::Echo => (1, vec![8, 0, 0, 0, 0, 1, 0, 1]),
        // Of something that was too long; what stands here nobody reads.
        Kind::Fragment => (17, vec![0; 64]),
        Kind::WhoHas => (0, Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::packet::Sketch;

    #[test]
    fn a_frame_says_what_was_asked() {
        let made = |text: &str| {
            let question = Question::parse(&[text.to_owned()]).unwrap();
            let vip: IpAddr =
                if question.source.is_ipv4() { "198.51.100.10" } else { "2001:db8::10" }.parse().unwrap();
            Sketch::of(&frame(&question, vip, 22, [1, 0, 0x5e, 0, 0, 1])).to_string()
        };
        assert_eq!(made("10.1.2.3 40000 syn"), "10.1.2.3:40000 → 198.51.100.10:22 tcp syn");
        assert_eq!(made("10.1.2.3 arp"), "10.1.2.3 → 198.51.100.10 arp request");
        assert_eq!(made("10.1.2.3 ping"), "10.1.2.3 → 198.51.100.10 icmp echo request");
        assert_eq!(made("10.1.2.3 fragment"), "10.1.2.3 → 198.51.100.10 fragment of udp");
        assert_eq!(made("fd00::1 77 udp"), "[fd00::1]:77 → [2001:db8::10]:22 udp");
        assert_eq!(made("fd00::1 nd"), "fd00::1 → ff02::1:ff00:10 icmpv6 neighbour solicitation");
        assert_eq!(made("fd00::1 fragment"), "fd00::1 → 2001:db8::10 fragment of udp");
    }
}
