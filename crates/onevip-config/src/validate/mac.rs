//! The cluster MAC: one that fits the delivery.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::draft::VipDraft;
use crate::model::{Delivery, Vip};
use crate::span::{Span, Spanned};
use onevip_core::MacAddr;
use std::net::IpAddr;

/// The MAC that the file names, if it fits the delivery; else the one made from the addresses.
pub(super) fn cluster_mac(vip: &VipDraft, addresses: &[IpAddr], out: &mut Diagnostics) -> Option<MacAddr> {
    let made = match vip.delivery {
        Delivery::Multicast => MacAddr::multicast_for(addresses),
        Delivery::Flood => MacAddr::flood_for(addresses),
    };
    let Some(mac) = &vip.mac else { return made };
    let leave_out = made.map_or(String::new(), |made| format!(", or leave `mac` out: it would be {made}"));
    let found = mac.value;
    let wrong = match vip.delivery {
        _ if found.0 == [0; 6] || found.0 == [0xff; 6] => Some((
            format!("{found} is nobody's or everybody's address"),
            format!("write a MAC of its own{leave_out}"),
        )),
        _ if found.is_link_local() => {
            Some((format!("{found} never passes a bridge"), format!("write another{leave_out}")))
        }
        Delivery::Multicast if !found.is_multicast() => Some((
            format!("{found} is no multicast MAC: its first byte {:02x} is even", found.0[0]),
            format!("begin it with 01:00:5e, or write delivery = \"flood\"{leave_out}"),
        )),
        Delivery::Flood if found.is_multicast() => Some((
            format!("{found} is a multicast MAC: its first byte {:02x} is odd", found.0[0]),
            format!("begin it with 02, or write delivery = \"multicast\"{leave_out}"),
        )),
        Delivery::Multicast | Delivery::Flood => None,
    };
    match wrong {
        Some((reason, remedy)) => {
            out.mistake(&mac.place, reason, remedy);
            None
        }
        None => {
            mac_advice(vip, mac, addresses, out);
            Some(found)
        }
    }
}

/// A MAC that frames of a protocol of the link have as well: those of 224.0.0.0/24 (a MAC has the lower 23 bits of an
/// address: RFC 1112, section 6.4) and of ff02:: (the lower 32: RFC 2464, section 7), by the IANA's lists of groups.
fn reserved(place: &Span, mac: MacAddr, out: &mut Diagnostics) {
    let ([0x01, 0x00, 0x5e, 0, 0, group] | [0x33, 0x33, 0, 0, 0, group]) = mac.0 else { return };
    let whose = match group {
        0x01 => "all hosts",
        0x02 => "all routers",
        0x05 | 0x06 => "OSPF",
        0x09 => "RIP",
        0x0a => "EIGRP",
        0x0d => "PIM",
        0x12 => "VRRP, as of keepalived",
        0x16 => "IGMP and MLD",
        0xfb => "mDNS",
        0xfc if mac.0[0] == 0x01 => "LLMNR",
        _ => "a protocol of the link",
    };
    let remedy = format!(
        "write `mac`, one that begins alike and that nothing else has: {}",
        MacAddr([mac.0[0], mac.0[1], mac.0[2], 0x33, 0x33, group])
    );
    let reason = format!(
        "the cluster MAC {mac} is also the one of {whose}: their hosts take in all frames for the VIP, and this one theirs"
    );
    out.push(Diagnostic::advice(place, reason, remedy));
}

/// What about the cluster MACs of a file without mistakes is worth a word: those that something else has as well, and one
/// that two VIPs have, so that who serves one of them takes in what is for the other.
pub(super) fn advise(drafts: &[VipDraft], vips: &[Option<Vip>], out: &mut Diagnostics) {
    let known: Vec<(&VipDraft, &Vip)> =
        drafts.iter().zip(vips).filter_map(|(draft, vip)| Some((draft, vip.as_ref()?))).collect();
    for (at, (draft, vip)) in known.iter().enumerate() {
        let said = draft.mac.as_ref().map(|mac| &mac.place);
        let place = said.or(draft.addresses.first().map(|address| &address.place));
        reserved(place.unwrap_or(&draft.place), vip.mac, out);
        let Some((earlier, other)) = known[..at].iter().find(|(_, other)| other.mac == vip.mac) else {
            continue;
        };
        let reason = format!(
            "\"{}\" and \"{}\" have one cluster MAC, {}: a node of one takes in the frames of both",
            other.name, vip.name, vip.mac
        );
        let remedy = "write `mac` for one of them, another one; with the same nodes for both it does no harm";
        out.push(Diagnostic::advice(&draft.place, reason, remedy).also(&earlier.place, "the other one"));
    }
}

/// MACs that work, but that switches or other hosts may stumble over.
fn mac_advice(vip: &VipDraft, mac: &Spanned<MacAddr>, addresses: &[IpAddr], out: &mut Diagnostics) {
    let has_v4 = addresses.iter().any(IpAddr::is_ipv4);
    let advice = match (vip.delivery, mac.value.0) {
        (Delivery::Multicast, [0x01, 0x00, 0x5e, ..]) if !has_v4 => Some((
            "is in the range of IPv4 multicast, but the VIP has IPv6 only",
            "33:33:… is the range of IPv6",
        )),
        (Delivery::Multicast, [0x33, 0x33, ..]) if has_v4 => Some((
            "is in the range of IPv6 multicast, but the VIP has IPv4",
            "01:00:5e:… is the range of IPv4",
        )),
        (Delivery::Multicast, [0x01, 0x00, 0x5e, ..] | [0x33, 0x33, ..] | [0x03, ..]) => None,
        (Delivery::Multicast, _) => Some((
            "is outside the ranges that switches know as multicast",
            "01:00:5e:… is the classic; 03:… is flooded by switches that snoop",
        )),
        (Delivery::Flood, _) if !mac.value.is_local() => Some((
            "looks like the address of a real network card",
            "begin it with 02, so that it can never be one",
        )),
        (Delivery::Flood, _) => None,
    };
    if let Some((reason, remedy)) = advice {
        out.push(Diagnostic::advice(&mac.place, format!("{} {reason}", mac.value), remedy));
    }
}
