//! From a [`Draft`] to a [`Config`]: what must hold between values.
//!
//! Everything is looked at even after the first mistake; only if none was found in the whole of the files is there a
//! configuration.

mod limits;
mod mac;
mod services;
mod sources;

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::draft::{Draft, NodeDraft, VipDraft};
use crate::model::{Config, Node, Vip};
use crate::nodelist::compress;
use crate::span::{Span, Spanned};
use crate::suggest::nearest;
use crate::words::HashWord;
use onevip_core::{AddressOrder, HashMode, Mapping, NODES_MAX, NodeId, NodeSet};
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::IpAddr;

/// How many addresses all VIPs together may have: the kernel part compares each packet with all of them.
const VIP_ADDRESSES_MAX: usize = 8;

/// The configuration that the draft describes, if nothing is wrong with it.
pub(super) fn validate(mut draft: Draft, out: &mut Diagnostics) -> Option<Config> {
    counts(&draft, out);
    // What is too much was reported; comparing all of it with all the rest would only take time.
    draft.nodes.truncate(NODES_MAX + 1);
    draft.vips.truncate(VIP_ADDRESSES_MAX + 1);
    unique_names(&draft, out);
    unique_addresses(&draft, out);
    let nodes = nodes(&draft.nodes, out);
    let vips: Vec<Option<Vip>> = draft.vips.iter().map(|vip| check_vip(vip, &draft, out)).collect();
    idle_nodes(&draft, &vips, out);
    if out.has_mistakes() {
        return None;
    }
    mac::advise(&draft.vips, &vips, out);
    Some(Config {
        cluster: draft.cluster?,
        membership: draft.membership,
        beat: draft.beat,
        failback: draft.failback,
        key_file: draft.key_file,
        control_group: draft.control_group,
        metrics: draft.metrics,
        support: draft.support,
        hooks: draft.hooks,
        health: draft.health,
        checks: draft.checks,
        never_banned: draft.never_banned,
        vips: vips.into_iter().collect::<Option<_>>()?,
        nodes,
    })
}

/// At least one VIP and one node, and no more than there is room for.
fn counts(draft: &Draft, out: &mut Diagnostics) {
    if draft.vips.is_empty() {
        let remedy = "add [[vip]] with a name and the addresses that users connect to";
        out.push(Diagnostic::mistake(&draft.place, "there is no [[vip]]", remedy).absent());
    }
    if draft.nodes.is_empty() {
        let remedy = "add a [[node]] with name, id and address for each host";
        out.push(Diagnostic::mistake(&draft.place, "there is no [[node]]", remedy).absent());
    }
    if let Some(beyond) = draft.nodes.get(NODES_MAX) {
        let reason = format!("there are {} nodes, more than {NODES_MAX}", draft.nodes.len());
        out.mistake(&beyond.place, reason, "split the hosts into two clusters with a VIP each");
    }
    let addresses: Vec<_> = draft.vips.iter().flat_map(|vip| &vip.addresses).collect();
    if let Some(beyond) = addresses.get(VIP_ADDRESSES_MAX) {
        let reason =
            format!("the VIPs have {} addresses together, more than {VIP_ADDRESSES_MAX}", addresses.len());
        out.mistake(&beyond.place, reason, "take some out, or move a VIP to a cluster of its own");
    }
    services::count(&draft.vips, out);
    sources::count(&draft.vips, out);
}

/// Reports each value that came before.
fn unique<'a, K: Hash + Eq>(
    values: impl IntoIterator<Item = (K, &'a Span)>,
    out: &mut Diagnostics,
    message: impl Fn(&K) -> (String, String),
) {
    let mut seen: HashMap<K, &Span> = HashMap::new();
    for (value, place) in values {
        if let Some(earlier) = seen.get(&value) {
            let (reason, remedy) = message(&value);
            out.push(Diagnostic::mistake(place, reason, remedy).also(earlier, "first used here"));
        } else {
            seen.insert(value, place);
        }
    }
}

/// Names of VIPs, names of nodes and numbers of nodes occur once.
fn unique_names(draft: &Draft, out: &mut Diagnostics) {
    let vips = draft.vips.iter().filter_map(|vip| vip.name.as_ref());
    unique(vips.map(|name| (name.value.as_str(), &name.place)), out, |name| {
        (format!("two VIPs are named \"{name}\""), "give each VIP a name of its own".to_owned())
    });
    let nodes = draft.nodes.iter().filter_map(|node| node.name.as_ref());
    unique(nodes.map(|name| (name.value.to_lowercase(), &name.place)), out, |name| {
        (format!("two nodes are named \"{name}\""), "name each [[node]] as its own hostname".to_owned())
    });
    let ids: Vec<_> = draft.nodes.iter().filter_map(|node| node.id.as_ref()).collect();
    let free = (1..=NODES_MAX as u32).find(|id| ids.iter().all(|used| used.value != *id));
    unique(ids.iter().map(|id| (id.value, &id.place)), out, |id| {
        let free = free.map_or(String::new(), |free| format!("; {free} is free"));
        (
            format!("two nodes have the number {id}"),
            format!("give each node a number of its own, 1 to {NODES_MAX}{free}"),
        )
    });
}

/// Every address stands once in the whole file: a VIP is no node's own address, nor another VIP's.
fn unique_addresses(draft: &Draft, out: &mut Diagnostics) {
    let vips = draft.vips.iter().flat_map(|vip| &vip.addresses).map(|address| (address, "VIP"));
    let nodes = draft.nodes.iter().flat_map(|node| &node.addresses).map(|address| (address, "node"));
    let mut seen: HashMap<IpAddr, (&Span, &str)> = HashMap::new();
    for (Spanned { value, place }, whose) in vips.chain(nodes) {
        let Some((earlier, owner)) = seen.get(value) else {
            seen.insert(*value, (place, whose));
            continue;
        };
        let (reason, remedy) = match (*owner, whose) {
            ("VIP", "VIP") => (
                format!("the VIP address {value} is used twice"),
                "let one [[vip]] have it; several services of one address go under one [[vip]]",
            ),
            ("VIP", _) => (
                format!("{value} is a VIP, it cannot be a node's own address"),
                "write the address that only this host has; onevip itself adds the VIP to it",
            ),
            _ => (format!("two nodes have the address {value}"), "write each host's own address"),
        };
        out.push(Diagnostic::mistake(place, reason, remedy).also(earlier, "first used here"));
    }
}

/// The nodes, by number; those of which nothing was wrong.
fn nodes(drafts: &[NodeDraft], out: &mut Diagnostics) -> Vec<Node> {
    let mut nodes: Vec<Node> = drafts.iter().filter_map(|draft| node(draft, out)).collect();
    nodes.sort_by_key(|node| node.id);
    nodes
}

fn node(draft: &NodeDraft, out: &mut Diagnostics) -> Option<Node> {
    for is_family in [IpAddr::is_ipv4, IpAddr::is_ipv6] {
        let mut family = draft.addresses.iter().filter(|address| is_family(&address.value));
        if let (Some(first), Some(second)) = (family.next(), family.next()) {
            let reason = "a node has one own address of each family, but here are two".to_owned();
            let remedy = "keep the one on the LAN of the VIP, by which the other nodes reach this host";
            out.push(Diagnostic::mistake(&second.place, reason, remedy).also(&first.place, "the first one"));
        }
    }
    Some(Node {
        name: draft.name.as_ref()?.value.clone(),
        id: draft.id.as_ref().and_then(node_id)?,
        addresses: draft.addresses.iter().map(|address| address.value).collect(),
        weight: weight(draft),
    })
}

fn node_id(id: &Spanned<u32>) -> Option<NodeId> {
    u8::try_from(id.value).ok().and_then(NodeId::new)
}

fn weight(draft: &NodeDraft) -> u16 {
    draft.weight.value as u16
}

/// A VIP, if nothing that it needs is absent. Its mistakes are reported.
fn check_vip(vip: &VipDraft, draft: &Draft, out: &mut Diagnostics) -> Option<Vip> {
    let members = members(vip, draft, out);
    let weights = weights(vip, &members, out);
    numbering(vip, &members, out);
    let hash = hash_mode(vip, out);
    let address_order = address_order(vip, out);
    let addresses: Vec<IpAddr> = vip.addresses.iter().map(|address| address.value).collect();
    let mac = mac::cluster_mac(vip, &addresses, out);
    let numbers = draft.nodes.iter().filter_map(|node| node.id.as_ref().and_then(node_id));
    let services = services::services(vip, hash, numbers.max(), out);
    Some(Vip {
        name: vip.name.as_ref()?.value.clone(),
        addresses,
        interface: vip.interface.clone(),
        nodes: members.iter().filter_map(|node| node.id.as_ref().and_then(node_id)).collect::<NodeSet>(),
        weights,
        hash,
        seed: vip.seed,
        mapping: vip.mapping,
        address_order,
        delivery: vip.delivery,
        mac: mac?,
        accelerate: vip.accelerate,
        beat_port: vip.beat_port.value as u16,
        services,
        other: vip.other,
        sources: sources::sources(vip, &members, out),
    })
}

/// The nodes that serve the VIP. Names that no `[[node]]` has are reported.
fn members<'a>(vip: &VipDraft, draft: &'a Draft, out: &mut Diagnostics) -> Vec<&'a NodeDraft> {
    let Some(names) = &vip.nodes else { return draft.nodes.iter().collect() };
    let known = || draft.nodes.iter().filter_map(|node| node.name.as_ref()).map(|name| name.value.as_str());
    unique(names.value.iter().map(|name| (name.value.to_lowercase(), &name.place)), out, |name| {
        (format!("`nodes` names {name} twice"), "name each node once".to_owned())
    });
    let find = |name: &str| {
        let matches = |node: &&NodeDraft| {
            node.name.as_ref().is_some_and(|known| known.value.eq_ignore_ascii_case(name))
        };
        draft.nodes.iter().find(matches)
    };
    for list in names.value.chunk_by(|a, b| a.place.bytes() == b.place.bytes()) {
        let unknown: Vec<&str> =
            list.iter().map(|name| name.value.as_str()).filter(|name| find(name).is_none()).collect();
        let Some((first, place)) = unknown.first().zip(list.first().map(|name| &name.place)) else {
            continue;
        };
        let remedy = match nearest(first, known()) {
            Some(meant) if unknown.len() == 1 && list.len() == 1 => format!("did you mean \"{meant}\"?"),
            Some(_) | None if draft.nodes.is_empty() => "add a [[node]] for each".to_owned(),
            Some(_) | None => format!("add a [[node]] for each, or name only these: {}", compress(known())),
        };
        let reason = format!("no [[node]] is named {}", compress(unknown.iter().copied()));
        out.push(Diagnostic::mistake(place, reason, remedy).absent());
    }
    names.value.iter().filter_map(|name| find(&name.value)).collect()
}

/// What differs from the nodes' own weights at this VIP. Somebody must be left to answer.
fn weights(vip: &VipDraft, members: &[&NodeDraft], out: &mut Diagnostics) -> BTreeMap<NodeId, u16> {
    let mut own = BTreeMap::new();
    for (name, weight) in &vip.weights {
        let is_named = |node: &&&NodeDraft| {
            node.name.as_ref().is_some_and(|known| known.value.eq_ignore_ascii_case(&name.value))
        };
        match members.iter().find(is_named) {
            Some(node) => own.extend(node.id.as_ref().and_then(node_id).map(|id| (id, weight.value as u16))),
            None => {
                let known =
                    members.iter().filter_map(|node| node.name.as_ref()).map(|name| name.value.as_str());
                let remedy = match nearest(&name.value, known.clone()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("its nodes are {}", compress(known)),
                };
                let reason = format!("`weights` names {}, which does not serve the VIP", name.value);
                out.push(
                    Diagnostic::mistake(&name.place, reason, remedy).also(&vip.place, "the VIP").absent(),
                );
            }
        }
    }
    let weight_here = |node: &NodeDraft| {
        node.id.as_ref().and_then(node_id).and_then(|id| own.get(&id).copied()).unwrap_or(weight(node))
    };
    if let Some(last) = members.last()
        && members.iter().all(|node| weight_here(node) == 0)
    {
        let place = vip.weights.last().map_or(&last.weight.place, |(_, weight)| &weight.place);
        let reason = "every node of the VIP has weight 0: nobody would answer";
        let remedy = "give at least one node a weight; to take a host out for a while, use `onevip drain`";
        out.push(Diagnostic::mistake(place, reason, remedy).also(&vip.place, "the VIP"));
    }
    own
}

/// `mapping = "clusterip"` numbers its blocks as the old systems number their nodes: 1 to N without a gap.
fn numbering(vip: &VipDraft, members: &[&NodeDraft], out: &mut Diagnostics) {
    if vip.mapping == Mapping::Balanced {
        return;
    }
    let total = members.len() as u32;
    let beyond = members.iter().filter_map(|node| node.id.as_ref()).find(|id| id.value > total);
    let Some(id) = beyond else { return };
    let reason = format!(
        "mapping \"clusterip\" numbers the {total} nodes of the VIP 1 to {total}, but one has number {}",
        id.value
    );
    let remedy = "CLUSTERIP chooses node `hash mod total`, so its nodes are numbered without a gap: give them those \
                  numbers, or use mapping = \"balanced\"";
    out.push(Diagnostic::mistake(&id.place, reason, remedy).also(&vip.place, "the VIP").absent());
}

fn hash_mode(vip: &VipDraft, out: &mut Diagnostics) -> HashMode {
    let mut words = vip
        .services
        .iter()
        .filter_map(|service| service.hash.as_ref())
        .chain(vip.sources.iter().filter_map(|source| source.hash.as_ref()))
        .map(|word| word.value);
    let given = vip.prefix.place.is_in_a_line();
    if given && vip.hash != HashWord::Net && !words.any(|word| word == HashWord::Net) {
        let reason = "`prefix` counts only with hash = \"source-net\"";
        out.mistake(&vip.prefix.place, reason, "write hash = \"source-net\", or take `prefix` out");
    }
    vip.prefix.mode(vip.hash)
}

fn address_order(vip: &VipDraft, out: &mut Diagnostics) -> AddressOrder {
    let order = &vip.address_order;
    if order.value == AddressOrder::Host && vip.mapping == Mapping::Balanced {
        let reason = "`address_order = \"host\"` counts only with mapping = \"clusterip\"";
        let remedy = "write mapping = \"clusterip\" (to replace CLUSTERIP), or take `address_order` out";
        out.mistake(&order.place, reason, remedy);
    }
    order.value
}

/// Nodes that serve no VIP are allowed (they may be about to), but worth a word.
fn idle_nodes(draft: &Draft, vips: &[Option<Vip>], out: &mut Diagnostics) {
    let Some(vips) = vips.iter().map(Option::as_ref).collect::<Option<Vec<_>>>() else { return };
    if vips.is_empty() || out.has_mistakes() {
        return;
    }
    for node in &draft.nodes {
        let (Some(name), Some(id)) = (&node.name, node.id.as_ref().and_then(node_id)) else { continue };
        if !vips.iter().any(|vip| vip.nodes.contains(id)) {
            let reason = format!("{} serves no VIP", name.value);
            let remedy = "add it to the `nodes` of a [[vip]], unless it is meant to wait";
            out.push(Diagnostic::advice(&name.place, reason, remedy));
        }
    }
}
