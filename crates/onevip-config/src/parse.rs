//! From the tables of the files to a [`Draft`]: every value understood by itself, none compared with another yet.
//!
//! What could not be understood was reported and is absent from the draft, so that `validate.rs` goes on with the rest
//! and all mistakes come to light at once.

use super::diagnostic::Diagnostics;
use super::health::{self, HealthSettings, UserCheck};
use super::model::{Accelerate, Delivery, Failback, Hook, Listen, Mapping, Membership};
use super::reader::Section;
use super::services::{OTHERS, ServiceDraft, service};
use super::sources::{SourceDraft, source};
use super::span::{Span, Spanned};
use super::support::{self, SupportSettings};
use super::values;
use super::watching;
use onevip_core::MacAddr;
use onevip_core::Prefix;
use onevip_core::{AddressOrder, NODES_MAX, Other};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The UDP port of a VIP on which beats arrive, unless the file says otherwise: no UDP service of Debian's
/// `/etc/services` has it, and it lies below the ephemeral ports of Linux (from 32768) and the ports of mosh (from
/// 60000).
pub const BEAT_PORT: u16 = 7077;
/// Time between two beats, unless the file says otherwise.
pub const BEAT: Duration = Duration::from_millis(50);
/// Where the key lies, unless the file says otherwise.
pub const KEY_FILE: &str = "/etc/onevip/key";
/// The weight of a node, unless the file says otherwise.
pub const WEIGHT: u16 = 100;
/// The largest weight of a node.
pub const WEIGHT_MAX: u16 = 10_000;

/// The word for a hash mode; the prefixes of `source-net` come separately.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum HashWord {
    Ip,
    IpPort,
    IpPortDestPort,
    Net,
}

impl HashWord {
    pub const ALL: &'static [(&'static str, Self)] = &[
        ("source-ip", Self::Ip),
        ("source-ip-port", Self::IpPort),
        ("source-ip-port-dest-port", Self::IpPortDestPort),
        ("source-net", Self::Net),
    ];
}

const ADDRESS_ORDERS: &[(&str, AddressOrder)] =
    &[("memory", AddressOrder::Memory), ("host", AddressOrder::Host)];

/// Everything that the files say.
pub(super) struct Draft {
    pub place: Span,
    pub cluster: Option<String>,
    pub membership: Membership,
    pub beat: Duration,
    pub failback: Failback,
    pub key_file: PathBuf,
    pub control_group: Option<String>,
    pub metrics: Option<Listen>,
    pub hooks: Vec<Hook>,
    pub support: SupportSettings,
    pub health: HealthSettings,
    pub checks: Vec<UserCheck>,
    pub never_banned: Vec<Prefix>,
    pub vips: Vec<VipDraft>,
    pub nodes: Vec<NodeDraft>,
}

/// What one `[[vip]]` says.
pub(super) struct VipDraft {
    pub place: Span,
    pub name: Option<Spanned<String>>,
    pub addresses: Vec<Spanned<IpAddr>>,
    pub interface: Option<String>,
    /// `None` when the file does not say: all nodes.
    pub nodes: Option<Spanned<Vec<Spanned<String>>>>,
    /// By the name of the node.
    pub weights: Vec<(Spanned<String>, Spanned<u32>)>,
    pub hash: Option<Spanned<HashWord>>,
    pub prefix: Option<PrefixDraft>,
    pub seed: u32,
    pub mapping: Mapping,
    pub address_order: Option<Spanned<AddressOrder>>,
    pub delivery: Delivery,
    pub mac: Option<Spanned<MacAddr>>,
    pub accelerate: Accelerate,
    pub beat_port: Option<Spanned<u16>>,
    pub other: Other,
    pub services: Vec<ServiceDraft>,
    pub sources: Vec<SourceDraft>,
    /// Whether the file has any `[[vip.service]]`, right or wrong.
    pub says_services: bool,
}

/// What `prefix = { … }` says.
pub(super) struct PrefixDraft {
    pub place: Span,
    pub ipv4: u8,
    pub ipv6: u8,
}

/// What one `[[node]]` says.
pub(super) struct NodeDraft {
    pub place: Span,
    pub name: Option<Spanned<String>>,
    pub id: Option<Spanned<u32>>,
    pub addresses: Vec<Spanned<IpAddr>>,
    pub weight: Option<Spanned<u32>>,
}

/// Reads all sections.
pub(super) fn draft(mut top: Section<'_>, out: &mut Diagnostics) -> Draft {
    top.require("cluster", out);
    let cluster = top.string("cluster", out).and_then(|name| values::label("cluster", name, out));
    let membership = top.choice("membership", Membership::ALL, out);
    let beat = top.string("beat", out).and_then(|text| values::beat(&text, out));
    let failback = top.choice("failback", Failback::ALL, out);
    let key_file = top.string("key_file", out).and_then(|path| values::absolute_path("key_file", path, out));
    let control_group = top.string("control_group", out).and_then(|name| values::group(name, out));
    let metrics = watching::metrics(&mut top, out);
    let hooks = watching::hooks(&mut top, out);
    let support = support::support(&mut top, out);
    let health = health::health(top.table("health", "[health]", out), out);
    let checks = health::checks(top.tables("check", "[[check]]", out), out);
    let never_banned = never_banned(&mut top, out);
    let vips = top.tables("vip", "[[vip]]", out).into_iter().map(|section| vip(section, out)).collect();
    let nodes = top.tables("node", "[[node]]", out).into_iter().map(|section| node(section, out)).collect();
    let place = top.place().clone();
    top.finish(out);
    Draft {
        place,
        cluster: cluster.map(|name| name.value),
        membership: membership.map_or_else(Membership::default, |word| word.value),
        beat: beat.unwrap_or(BEAT),
        failback: failback.map_or_else(Failback::default, |word| word.value),
        key_file: key_file.unwrap_or_else(|| PathBuf::from(KEY_FILE)),
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
    let Some(mut section) = top.table("bans", "[bans]", out) else { return Vec::new() };
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
        weights: section
            .table("weights", "`weights`", out)
            .map_or_else(Vec::new, |table| table.numbers(&(0..=u32::from(WEIGHT_MAX)), out)),
        hash: section.choice("hash", HashWord::ALL, out),
        prefix: prefix(&mut section, out),
        seed: section.integer("seed", 0..=u32::MAX, out).map_or(0, |seed| seed.value),
        mapping: section
            .choice("mapping", Mapping::ALL, out)
            .map_or_else(Mapping::default, |word| word.value),
        address_order: section.choice("address_order", ADDRESS_ORDERS, out),
        delivery: section
            .choice("delivery", Delivery::ALL, out)
            .map_or_else(Delivery::default, |word| word.value),
        mac: section.string("mac", out).and_then(|text| values::mac(&text, out)),
        accelerate: section
            .choice("accelerate", Accelerate::ALL, out)
            .map_or_else(Accelerate::default, |word| word.value),
        beat_port: section
            .integer("beat_port", 1..=65535, out)
            .map(|port| Spanned::new(port.value as u16, port.place)),
        other: section.choice("other", OTHERS, out).map_or_else(Other::default, |word| word.value),
        says_services: section.has("service"),
        services: section
            .tables("service", "[[vip.service]]", out)
            .into_iter()
            .filter_map(|section| service(section, out))
            .collect(),
        sources: section
            .tables("source", "[[vip.source]]", out)
            .into_iter()
            .filter_map(|section| source(section, out))
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

fn prefix(section: &mut Section<'_>, out: &mut Diagnostics) -> Option<PrefixDraft> {
    let mut table = section.table("prefix", "`prefix`", out)?;
    let ipv4 = table.integer("ipv4", 1..=32, out).map_or(32, |bits| bits.value as u8);
    let ipv6 = table.integer("ipv6", 1..=128, out).map_or(64, |bits| bits.value as u8);
    let place = table.place().clone();
    table.finish(out);
    Some(PrefixDraft { place, ipv4, ipv6 })
}

fn node(mut section: Section<'_>, out: &mut Diagnostics) -> NodeDraft {
    section.require("name", out);
    section.require("id", out);
    section.require("address", out);
    let draft = NodeDraft {
        place: section.place().clone(),
        name: section.string("name", out).and_then(|name| values::hostname(name, out)),
        id: section.integer("id", 1..=NODES_MAX as u32, out),
        addresses: addresses(&mut section, "address", "a node's own address", out),
        weight: section.integer("weight", 0..=u32::from(WEIGHT_MAX), out),
    };
    section.finish(out);
    draft
}
