//! From the tables of the files to a [`Draft`]: every value understood by itself, none compared with another yet.
//!
//! What could not be understood was reported and is absent from the draft, so that `validate` goes on with the rest
//! and all mistakes come to light at once.

mod health;
mod limit;
mod service;
mod source;
mod support;
mod values;
mod watching;

use crate::diagnostic::Diagnostics;
use crate::draft::{Draft, NodeDraft, PrefixLengths, VipDraft};
use crate::model::{Acceleration, Delivery, Membership};
use crate::reader::Section;
use crate::span::Spanned;
use crate::words::HashWord;
use onevip_core::membership::Failback;
use onevip_core::{AddressOrder, Mapping, Other, Prefix};
use std::net::IpAddr;

/// Reads all sections.
pub(super) fn draft(mut top: Section<'_>, out: &mut Diagnostics) -> Draft {
    top.require("cluster", out);
    let cluster = top.string("cluster", out).and_then(|name| values::label("cluster", name, out));
    let membership = top.word_or_default("membership", Membership::WORDS, out);
    let beat =
        top.or_default(out, |top, out| values::beat(&top.string("beat", out)?, top.times("beat"), out));
    let failback = top.word_or_default("failback", Failback::WORDS, out);
    let key_file =
        top.or_default(out, |top, out| values::absolute_path("key_file", top.string("key_file", out)?, out));
    let control_group = top.string("control_group", out).and_then(|name| values::group(name, out));
    let metrics = watching::metrics(&mut top, out);
    let hooks = watching::hooks(&mut top, out);
    let support = support::support(&mut top, out);
    let health = health::health(top.table("health", out), out);
    let checks = health::checks(top.tables("check", out), out);
    let never_banned = never_banned(&mut top, out);
    let vips = top.tables("vip", out).into_iter().map(|section| vip(section, out)).collect();
    let nodes = top.tables("node", out).into_iter().map(|section| node(section, out)).collect();
    let place = top.place().clone();
    top.finish(out);
    Draft {
        place,
        cluster: cluster.map(|name| name.value),
        membership,
        beat,
        failback,
        key_file,
        control_group,
        metrics,
        hooks,
        support,
        health,
        checks,
        never_banned,
        vips,
        nodes,
    }
}

/// `[bans]`: whom no ban may touch.
fn never_banned(top: &mut Section<'_>, out: &mut Diagnostics) -> Vec<Prefix> {
    let Some(mut section) = top.table("bans", out) else { return Vec::new() };
    let never = section.strings("never", out).map(|never| never.value).unwrap_or_default();
    section.finish(out);
    never.iter().filter_map(|text| values::network(text, out)).collect()
}

fn vip(mut section: Section<'_>, out: &mut Diagnostics) -> VipDraft {
    section.require("name", out);
    section.require("addresses", out);
    let draft = VipDraft {
        place: section.place().clone(),
        name: section.string("name", out).and_then(|name| values::label("name", name, out)),
        addresses: addresses(&mut section, "addresses", "a VIP", out),
        interface: section.string("interface", out).and_then(|name| values::interface(name, out)),
        nodes: node_names(&mut section, out),
        weights: section.or_default(out, |section, out| section.by_node("weights", out)),
        hash: section.word_or_default("hash", HashWord::WORDS, out),
        prefix: section.or_default(out, prefix),
        seed: section.number_or_default("seed", out),
        mapping: section.word_or_default("mapping", Mapping::WORDS, out),
        address_order: section
            .or_default(out, |section, out| section.word("address_order", AddressOrder::WORDS, out)),
        delivery: section.word_or_default("delivery", Delivery::WORDS, out),
        mac: section.string("mac", out).and_then(|text| values::mac(&text, out)),
        accelerate: section.word_or_default("accelerate", Acceleration::WORDS, out),
        beat_port: section.or_default(out, |section, out| section.number("beat_port", out)),
        other: section.word_or_default("other", Other::WORDS, out),
        says_services: section.has("service"),
        services: section
            .tables("service", out)
            .into_iter()
            .filter_map(|section| service::service(section, out))
            .collect(),
        sources: section
            .tables("source", out)
            .into_iter()
            .filter_map(|section| source::source(section, out))
            .collect(),
    };
    section.finish(out);
    draft
}

/// The addresses under `key`; an empty array is a mistake of its own.
fn addresses(
    section: &mut Section<'_>,
    key: &'static str,
    what: &str,
    out: &mut Diagnostics,
) -> Vec<Spanned<IpAddr>> {
    let Some(list) = section.strings(key, out) else { return Vec::new() };
    if list.place.text().chars().all(|c| "[] \t\r\n".contains(c)) {
        out.mistake(
            &list.place,
            format!("`{key}` is empty"),
            format!("write at least one address, like {key} = [\"198.51.100.10\"]"),
        );
    }
    list.value.iter().filter_map(|text| values::address(what, text, out)).collect()
}

/// The names under `nodes`, expanded. When a list cannot be read, the VIP counts as having said nothing, so that the
/// mistake is not followed by its echoes.
fn node_names(section: &mut Section<'_>, out: &mut Diagnostics) -> Option<Spanned<Vec<Spanned<String>>>> {
    let lists = section.strings("nodes", out)?;
    let before = out.counts().0;
    let names: Vec<_> = lists.value.iter().flat_map(|list| values::node_list(list, out)).collect();
    if names.is_empty() && out.counts().0 == before {
        let remedy = "name at least one node, like nodes = [\"unix[1-4]\"], or leave `nodes` out: then all nodes serve it";
        out.mistake(&lists.place, "`nodes` is empty", remedy);
    }
    if out.counts().0 > before { None } else { Some(Spanned::new(names, lists.place)) }
}

/// What a network is, of a VIP or of a limit.
fn prefix(section: &mut Section<'_>, out: &mut Diagnostics) -> Option<PrefixLengths> {
    let mut table = section.table("prefix", out)?;
    let lengths = PrefixLengths {
        ipv4: table.number_or_default("ipv4", out) as u8,
        ipv6: table.number_or_default("ipv6", out) as u8,
        place: table.place().clone(),
    };
    table.finish(out);
    Some(lengths)
}

fn node(mut section: Section<'_>, out: &mut Diagnostics) -> NodeDraft {
    section.require("name", out);
    section.require("id", out);
    section.require("address", out);
    let draft = NodeDraft {
        place: section.place().clone(),
        name: section.string("name", out).and_then(|name| values::hostname(name, out)),
        id: section.number("id", out),
        addresses: addresses(&mut section, "address", "a node's own address", out),
        weight: section.or_default(out, |section, out| section.number("weight", out)),
    };
    section.finish(out);
    draft
}
