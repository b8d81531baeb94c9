//! Neighbour discovery on the wire of a lab: the question "who answers for this IPv6 address?", asked in every way.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use anyhow::Result;
use onevip_core::checksum::transport;

use crate::lab::Lab;
use crate::net::INTERFACE;
use crate::plan::LabPlan;
use crate::wire::{parse_mac, show_mac};

const HEADERS: usize = 14 + 40;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// In which way to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SolicitationKind {
    /// The group of those who might have the address, as who does not know its MAC asks.
    Group,
    /// The address itself at the cluster MAC, as who wants to know whether it is still there asks.
    Probe,
    /// The group, from `::`, as who wants to take the address asks.
    Duplicate,
}

/// What a neighbour solicitation or advertisement says (RFC 4861 4.3, 4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NdMessage {
    /// An advertisement, else a solicitation.
    pub is_answer: bool,
    /// The MAC that the Ethernet frame came from.
    pub frame_source: String,
    /// Who sent it.
    pub source: Ipv6Addr,
    /// Whom it is for.
    pub destination: Ipv6Addr,
    /// The address that it is about.
    pub target: Ipv6Addr,
    /// The MAC that it binds: to `source` in a question, to `target` in an answer.
    pub link_address: Option<String>,
    /// Whether its checksum is right.
    pub is_whole: bool,
}

impl NdMessage {
    /// Reads one out of an untagged frame without extension headers; none when it is anything else.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let (headers, message) = frame.split_at_checked(HEADERS)?;
        let length = usize::from(u16::from_be_bytes([headers[18], headers[19]]));
        let message = message.get(..length)?;
        if headers[12..14] != [0x86, 0xdd] || headers[20] != 58 || message.len() < 24 {
            return None;
        }
        if message[0] != SOLICITATION && message[0] != ADVERTISEMENT {
            return None;
        }
        let address = |bytes: &[u8]| bytes.try_into().ok().map(|octets: [u8; 16]| Ipv6Addr::from(octets));
        let (source, destination) = (address(&headers[22..38])?, address(&headers[38..54])?);
        let is_answer = message[0] == ADVERTISEMENT;
        Some(Self {
            is_answer,
            frame_source: show_mac(&headers[6..12]),
            source,
            destination,
            target: address(&message[8..24])?,
            link_address: link_address(&message[24..], if is_answer { 2 } else { 1 }),
            is_whole: transport(source.into(), destination.into(), 58, message) == 0,
        })
    }

    /// The address that it says is at [`NdMessage::link_address`].
    pub fn bound(&self) -> Ipv6Addr {
        if self.is_answer { self.target } else { self.source }
    }
}

impl Lab {
    /// Asks the whole network once from `host` who has `target`, and collects every answer that arrives within `window`.
    ///
    /// # Errors
    /// When the host is not there or its link is down.
    pub fn solicit(
        &self,
        host: &str,
        ask: SolicitationKind,
        target: Ipv6Addr,
        window: Duration,
    ) -> Result<Vec<NdMessage>> {
        let station = self.plan().host(host)?;
        let (mac, own) = (parse_mac(&LabPlan::mac(station)), self.plan().addresses6(station)[0]);
        let tap = self.tap(host, INTERFACE)?;
        tap.send(&solicitation(ask, mac, own, target, parse_mac(self.cluster_mac())))?;
        let frames = tap.until(Instant::now() + window)?;
        let messages = frames.iter().filter_map(|frame| NdMessage::parse(frame));
        Ok(messages.filter(|m| m.is_answer && m.target == target).collect())
    }
}

fn solicitation(
    ask: SolicitationKind,
    mac: [u8; 6],
    own: Ipv6Addr,
    target: Ipv6Addr,
    cluster_mac: [u8; 6],
) -> Vec<u8> {
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    let (source, dest) = match ask {
        SolicitationKind::Group => (own, group),
        SolicitationKind::Probe => (own, target),
        SolicitationKind::Duplicate => (Ipv6Addr::UNSPECIFIED, group),
    };
    let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    if ask != SolicitationKind::Duplicate {
        message.extend([1, 1]);
        message.extend(mac);
    }
    let sum = transport(source.into(), dest.into(), 58, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());

    let to_mac = if ask == SolicitationKind::Probe { cluster_mac } else { [0x33, 0x33, 0xff, a, b, c] };
    let mut frame = [to_mac, mac].concat();
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend((message.len() as u16).to_be_bytes());
    frame.extend([58, 255]);
    frame.extend(source.octets());
    frame.extend(dest.octets());
    frame.extend(message);
    frame
}

fn link_address(mut options: &[u8], wanted: u8) -> Option<String> {
    while let [kind, eights, ..] = *options {
        let option = options.get(..usize::from(eights) * 8).filter(|option| !option.is_empty())?;
        if kind == wanted {
            return Some(show_mac(&option[2..8]));
        }
        options = &options[option.len()..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_reads_back() {
        let (own, target) = ("2001:db8::101".parse().unwrap(), "2001:db8::10".parse().unwrap());
        let frame = solicitation(SolicitationKind::Group, [2, 0, 0, 0, 2, 1], own, target, [1; 6]);
        let message = NdMessage::parse(&frame).unwrap();
        assert!(!message.is_answer && message.is_whole);
        assert_eq!((message.source, message.target, message.bound()), (own, target, own));
        assert_eq!(message.link_address.as_deref(), Some("02:00:00:00:02:01"));
        assert_eq!(message.destination, "ff02::1:ff00:10".parse::<Ipv6Addr>().unwrap());
        assert_eq!(NdMessage::parse(&frame[..frame.len() - 1]), None);
        let mut damaged = frame;
        damaged[70] ^= 1;
        assert!(!NdMessage::parse(&damaged).unwrap().is_whole);
    }
}
