//! The cluster MAC: one that fits the delivery.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::draft::VipDraft;
use crate::model::Delivery;
use crate::span::Spanned;
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
