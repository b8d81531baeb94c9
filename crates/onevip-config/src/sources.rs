//! `[[vip.source]]`: sources for which something else counts than for all others.

use super::diagnostic::{Diagnostic, Diagnostics};
use super::model::{Instead, SourceRule};
use super::nodelist::compress;
use super::parse::{HashWord, NodeDraft, VipDraft};
use super::reader::Section;
use super::services;
use super::span::{Span, Spanned};
use super::suggest::nearest;
use onevip_core::{NodeId, Prefix};
use std::net::IpAddr;

/// How many exceptions all VIPs together may have: the kernel part has room for twice as many, for the old and the new.
pub const SOURCES_MAX: usize = 1024;

/// What one `[[vip.source]]` says.
pub(super) struct SourceDraft {
    pub place: Span,
    pub network: Spanned<Prefix>,
    pub hash: Option<Spanned<HashWord>>,
    pub pin: Option<Spanned<String>>,
}

/// Reads one `[[vip.source]]`.
pub(super) fn source(mut section: Section<'_>, out: &mut Diagnostics) -> Option<SourceDraft> {
    section.require("prefix", out);
    let place = section.place().clone();
    let network = section.string("prefix", out).and_then(|text| network(&text, out));
    let hash = section.choice("hash", HashWord::ALL, out);
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

/// The exceptions of a VIP, sorted. Mistakes are reported.
pub(super) fn sources(vip: &VipDraft, members: &[&NodeDraft], out: &mut Diagnostics) -> Vec<SourceRule> {
    let mut sources: Vec<SourceRule> = Vec::new();
    for (index, draft) in vip.sources.iter().enumerate() {
        let network = draft.network.value;
        let twin = |other: &&SourceDraft| other.network.value == network;
        if let Some(earlier) = vip.sources[..index].iter().find(twin) {
            let reason = format!("two [[vip.source]] have the prefix {network}");
            let mistake = Diagnostic::mistake(&draft.network.place, reason, "keep one of them");
            out.push(mistake.also(&earlier.network.place, "the other one"));
        }
        let same_family = |address: &Spanned<IpAddr>| address.value.is_ipv4() == network.address().is_ipv4();
        if !vip.addresses.is_empty() && !vip.addresses.iter().any(same_family) {
            let family = if network.address().is_ipv4() { "IPv4" } else { "IPv6" };
            let reason = format!("the VIP has no {family} address, so {network} cannot reach it");
            out.push(Diagnostic::advice(&draft.network.place, reason, "take the [[vip.source]] out"));
        }
        let instead = match (&draft.hash, &draft.pin) {
            (Some(word), _) => Some(Instead::Hash(services::mode(word.value, vip.prefix.as_ref()))),
            (None, Some(name)) => pinned(name, vip, members, out).map(Instead::Pin),
            (None, None) => None,
        };
        sources.extend(instead.map(|instead| SourceRule { network, instead }));
    }
    sources.sort_by_key(|source| source.network);
    sources
}

/// No more than there is room for.
pub(super) fn count(vips: &[VipDraft], out: &mut Diagnostics) {
    let sources: Vec<_> = vips.iter().flat_map(|vip| &vip.sources).collect();
    if let Some(beyond) = sources.get(SOURCES_MAX) {
        let reason = format!("the VIPs have {} sources together, more than {SOURCES_MAX}", sources.len());
        out.mistake(&beyond.place, reason, "let wider prefixes stand for many narrow ones");
    }
}

fn pinned(
    name: &Spanned<String>,
    vip: &VipDraft,
    members: &[&NodeDraft],
    out: &mut Diagnostics,
) -> Option<NodeId> {
    let is_named = |node: &&&NodeDraft| {
        node.name.as_ref().is_some_and(|known| known.value.eq_ignore_ascii_case(&name.value))
    };
    if let Some(node) = members.iter().find(is_named) {
        return node.id.as_ref().and_then(|id| u8::try_from(id.value).ok()).and_then(NodeId::new);
    }
    let known = members.iter().filter_map(|node| node.name.as_ref()).map(|name| name.value.as_str());
    let remedy = match nearest(&name.value, known.clone()) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => format!("its nodes are {}", compress(known)),
    };
    let reason = format!("`pin` names {}, which does not serve the VIP", name.value);
    out.push(Diagnostic::mistake(&name.place, reason, remedy).also(&vip.place, "the VIP").absent());
    None
}
