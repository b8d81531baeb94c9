//! What must hold for `[[vip.source]]`: each prefix once, and nodes that serve the VIP.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::draft::{NodeDraft, SourceDraft, VipDraft};
use crate::model::{SourceRule, Steering};
use crate::nodelist::compress;
use crate::span::Spanned;
use crate::suggest::nearest;
use onevip_core::NodeId;
use std::net::IpAddr;

/// How many exceptions all VIPs together may have: the kernel part has room for twice as many, for the old and the new.
const SOURCES_MAX: usize = 1024;

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
        let steering = match (&draft.hash, &draft.pin) {
            (Some(word), _) => Some(Steering::Hash(vip.prefix.mode(word.value))),
            (None, Some(name)) => pinned(name, vip, members, out).map(Steering::Pin),
            (None, None) => None,
        };
        sources.extend(steering.map(|steering| SourceRule { network, steering }));
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
