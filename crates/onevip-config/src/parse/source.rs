//! `[[vip.source]]`: sources for which something else counts than for all others.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::draft::SourceDraft;
use crate::reader::Section;
use crate::span::Spanned;
use crate::words::HashWord;
use onevip_core::Prefix;
use std::net::IpAddr;

/// Reads one `[[vip.source]]`.
pub(super) fn source(mut section: Section<'_>, out: &mut Diagnostics) -> Option<SourceDraft> {
    section.require("prefix", out);
    let place = section.place().clone();
    let network = section.string("prefix", out).and_then(|text| network(&text, out));
    let hash = section.word("hash", HashWord::WORDS, out);
    let pin = section.string("pin", out);
    let says = section.has("hash") || section.has("pin");
    section.finish(out);
    if let (Some(hash), Some(pin)) = (&hash, &pin) {
        let reason = "a source is either hashed in another way or pinned to a node";
        out.push(
            Diagnostic::mistake(&pin.place, reason, "leave `hash` or `pin` out")
                .also(&hash.place, "hashed here"),
        );
    }
    if !says {
        let remedy = "add pin = \"unix1\", or hash = \"source-ip-port\"";
        out.push(Diagnostic::mistake(&place, "[[vip.source]] says nothing of its sources", remedy).absent());
    }
    Some(SourceDraft { place, network: network?, hash, pin })
}

/// An address with its length; without one it is a single host.
fn network(text: &Spanned<String>, out: &mut Diagnostics) -> Option<Spanned<Prefix>> {
    let (address, length) = match text.value.split_once('/') {
        None => (text.value.as_str(), None),
        Some((address, length)) => (address, Some(length)),
    };
    let example = "write a network like \"10.8.0.0/16\", or an address";
    let Ok(address) = address.parse::<IpAddr>() else {
        out.mistake(&text.place, format!("`prefix` cannot be \"{}\": not a network", text.value), example);
        return None;
    };
    let bits_max = if address.is_ipv4() { 32 } else { 128 };
    let length = length.map_or(Some(bits_max), |text| text.parse().ok());
    let Some(network) = length.and_then(|length| Prefix::new(address, length)) else {
        let reason = format!("`prefix` cannot be \"{}\": its length is not 0 to {bits_max}", text.value);
        out.mistake(&text.place, reason, example);
        return None;
    };
    if network.address() != address {
        let length = network.length();
        let reason = format!("{address} is not the first address of a network of {length} bits");
        out.mistake(
            &text.place,
            reason,
            format!("write \"{network}\", or \"{address}\" for this host alone"),
        );
        return None;
    }
    Some(Spanned::new(network, text.place.clone()))
}
