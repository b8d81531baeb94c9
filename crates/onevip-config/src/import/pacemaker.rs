//! `crm configure show` and `pcs resource config`: a cloned `IPaddr2`.
//!
//! The agent has had two lives. The older one (until `CLUSTERIP` left the kernel) makes a CLUSTERIP rule without
//! `--hash-init`; the newer makes `xt_cluster` or nft rules, with a seed that is a parameter or else is made of the
//! address, the netmask and the broadcast address as the running host shows them. Which of the two it is shows in the
//! parameters, if at all; that seed only in the rules of a node.

use super::found::{Answers, Found, Scheme};
use super::iptables::understand;
use super::tokens::{Token, lines, number, place_of_line, tokens};
use crate::{Diagnostic, SourceFile, Span};
use onevip_core::{AddressOrder, HashMode};
use std::sync::Arc;

/// Parameters that only the newer agent has.
const NEWER: [&str; 5] = [
    "clusterip_hash_seed",
    "clusterip_firewall",
    "clusterip_table",
    "clusterip_chain",
    "clusterip_mac_mangle",
];

/// A resource, or a clone of one.
struct Part {
    /// Tokens like `ip=198.51.100.10`.
    pairs: Vec<(String, Token)>,
    name: String,
    /// Of a clone: what it clones.
    of: Option<String>,
    is_ipaddr2: bool,
    place: Span,
}

impl Part {
    fn get(&self, key: &str) -> Option<&Token> {
        self.pairs.iter().find(|(known, _)| known == key).map(|(_, token)| token)
    }
}

/// Reads a file.
pub(super) fn read(source: &Arc<SourceFile>, answers: &Answers, found: &mut Found) {
    let is_crm = source.text().lines().any(|line| line.starts_with("primitive "));
    let parts = if is_crm { crm(source, found) } else { pcs(source) };
    for part in parts.iter().filter(|part| part.is_ipaddr2) {
        let clone = parts.iter().find(|other| other.of.as_deref() == Some(&part.name));
        match clone {
            Some(clone) => read_clone(part, clone, answers, found),
            None => {
                let reason = format!("{} is not cloned: one host has the address at a time", part.name);
                found.out.push(Diagnostic::advice(
                    &part.place,
                    reason,
                    "it deals no clients, and is left out",
                ));
            }
        }
    }
}

/// Statements of crm: a line, and the lines that it is continued on.
fn crm(source: &Arc<SourceFile>, found: &mut Found) -> Vec<Part> {
    let (mut parts, mut open) = (Vec::<Part>::new(), false);
    for (start, line) in lines(source) {
        let mut tokens = tokens(source, start, line, "");
        let continued = tokens.pop_if(|token| token.text == "\\").is_some();
        let pairs = tokens.iter().filter_map(pair);
        if open {
            if let Some(part) = parts.last_mut() {
                part.pairs.extend(pairs);
            }
        } else if let Some(first) = tokens.first() {
            let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
            if first.text == "node" {
                // node 1: unix1, or node unix1
                let name = if text(1).ends_with(':') { text(2) } else { text(1) };
                found.names.push(name.to_owned());
            }
            parts.push(Part {
                pairs: pairs.collect(),
                name: text(1).to_owned(),
                of: (first.text == "clone").then(|| text(2).to_owned()),
                is_ipaddr2: first.text == "primitive" && is_ipaddr2(text(2)),
                place: place_of_line(source, start, line),
            });
        }
        open = continued;
    }
    parts
}

/// The sections of pcs, by their indentation; what stands deeper belongs to the nearest section above that is less deep.
fn pcs(source: &Arc<SourceFile>) -> Vec<Part> {
    let mut parts = Vec::<Part>::new();
    // Indices of the sections that are open, with how deep they are.
    let mut open = Vec::<(usize, usize)>::new();
    for (start, line) in lines(source).filter(|(_, line)| !line.trim().is_empty()) {
        let depth = line.len() - line.trim_start().len();
        let tokens = tokens(source, start, line, "");
        let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
        while open.last().is_some_and(|(_, other)| *other >= depth) {
            open.pop();
        }
        if matches!(text(0), "Clone:" | "Resource:") {
            let place = place_of_line(source, start, line);
            let name = text(1).to_owned();
            if let (Some((above, _)), "Resource:") = (open.last(), text(0)) {
                parts[*above].of = Some(name.clone());
            }
            let is_ipaddr2 = text(0) == "Resource:" && line.contains("type=IPaddr2");
            open.push((parts.len(), depth));
            parts.push(Part { pairs: Vec::new(), name, of: None, is_ipaddr2, place });
        } else if let Some((part, _)) = open.last() {
            parts[*part].pairs.extend(tokens.iter().filter_map(pair));
        }
    }
    parts
}

fn is_ipaddr2(agent: &str) -> bool {
    agent.rsplit(':').next() == Some("IPaddr2")
}

fn pair(token: &Token) -> Option<(String, Token)> {
    let (key, value) = token.text.split_once('=')?;
    Some((key.to_owned(), Token { text: value.to_owned(), place: token.place.clone() }))
}

fn read_clone(part: &Part, clone: &Part, answers: &Answers, found: &mut Found) {
    let yes = |token: &Token| matches!(token.text.to_lowercase().as_str(), "true" | "yes" | "1" | "on" | "y");
    if let Some(token) = part.get("unique_clone_address").filter(|token| yes(token)) {
        found.refuse(
            token,
            "each clone has an address of its own",
            "nothing is shared, so there is nothing to import",
        );
        return;
    }
    let Some(ip) = part.get("ip") else {
        found.out.mistake(
            &part.place,
            "the parameter ip is missing",
            "IPaddr2 demands it; is the output whole?",
        );
        return;
    };
    let Ok(address) = ip.text.parse() else {
        found.refuse(ip, "this is no IP address", "IPaddr2 demands one; is the output whole?");
        return;
    };
    let Some(clusterip) = is_clusterip_agent(part, answers, found) else { return };
    let total = match clone.get("clone-max") {
        Some(token) => match token.text.parse().ok().filter(|total| (2..=64).contains(total)) {
            Some(total) => Some(total),
            None => {
                found.refuse(
                    token,
                    "clone-max is not from 2 to 64",
                    "the address is shared only when there are several clones",
                );
                return;
            }
        },
        None => None,
    };
    let mac = part.get("mac").map(|token| (token, token.text.parse().ok()));
    if let Some((token, None)) = mac {
        found.refuse(token, "this is no MAC", "write six bytes in hex, like 01:00:5e:33:64:0a");
    }
    let mode = if clusterip { hash_mode(part, found) } else { Some(HashMode::SourceIp) };
    let Some(mode) = mode else { return };
    let seed = part.get("clusterip_hash_seed");
    let read = seed.and_then(|token| number(&token.text));
    if let (Some(token), None) = (seed, read) {
        found.refuse(token, "this is no seed", "a seed has 32 bits: a number, or hex with 0x");
    }
    let scheme = Scheme {
        origin: if clusterip { "IPaddr2 with CLUSTERIP" } else { "IPaddr2 with the cluster match" },
        addresses: vec![address],
        interface: part.get("nic").map(|token| token.text.split(':').next().unwrap_or_default().to_owned()),
        mac: mac.and_then(|(_, mac)| mac),
        total,
        local: Vec::new(),
        seed: if clusterip { Some(0) } else { read },
        mode,
        order: if clusterip { AddressOrder::Host } else { AddressOrder::Memory },
        services: Vec::new(),
        place: part.place.clone(),
    };
    understand(&scheme, found);
    found.schemes.push(scheme);
    not_taken_over(part, found);
}

/// Whether the agent makes CLUSTERIP rules; `None` when that cannot be told.
fn is_clusterip_agent(part: &Part, answers: &Answers, found: &mut Found) -> Option<bool> {
    let newer = NEWER.iter().find_map(|key| part.get(key));
    match (answers.clusterip_agent, part.get("clusterip_hash"), newer) {
        (Some(said), ..) => Some(said),
        (None, Some(_), None) => Some(true),
        (None, None, Some(_)) => Some(false),
        (None, Some(old), Some(new)) => {
            let reason = "parameters of the older and of the newer agent stand side by side";
            let remedy = "say which agent runs: --agent clusterip, or --agent cluster";
            found
                .out
                .push(Diagnostic::mistake(&old.place, reason, remedy).also(&new.place, "the newer agent's"));
            None
        }
        (None, None, None) => {
            let reason =
                "the parameters do not tell whether the agent makes CLUSTERIP or cluster-match rules";
            let remedy = "look with iptables-save on a node, and say --agent clusterip, or --agent cluster";
            found.out.mistake(&part.place, reason, remedy);
            None
        }
    }
}

fn hash_mode(part: &Part, found: &mut Found) -> Option<HashMode> {
    let Some(token) = part.get("clusterip_hash") else { return Some(HashMode::SourceIpPort) };
    match token.text.as_str() {
        "sourceip" => Some(HashMode::SourceIp),
        "sourceip-sourceport" => Some(HashMode::SourceIpPort),
        "sourceip-sourceport-destport" => Some(HashMode::SourceIpPortDestPort),
        other => {
            let reason = format!("there is no clusterip_hash {other}");
            found.refuse(
                token,
                reason,
                "it is sourceip, sourceip-sourceport or sourceip-sourceport-destport",
            );
            None
        }
    }
}

/// Parameters that mean nothing to onevip, named so that nobody looks for them.
fn not_taken_over(part: &Part, found: &mut Found) {
    let others = [
        ("cidr_netmask", "onevip adds the address as a /32 or /128, whose network is that of the interface"),
        ("arp_interval", "onevip needs no repeated announcements: who asks gets an answer from the owner"),
        ("arp_count", "onevip needs no repeated announcements: who asks gets an answer from the owner"),
        ("iflabel", "onevip sets no label"),
    ];
    for (key, why) in others {
        if let Some(token) = part.get(key) {
            let one = Diagnostic::advice(&token.place, format!("{key} is not taken over"), why);
            found.out.push(one);
        }
    }
}
