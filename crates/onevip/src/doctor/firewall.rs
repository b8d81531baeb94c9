//! Firewalls: whether the chains of nftables and iptables lose what clients send to the VIP.
//!
//! Beats do not care: the ingress program takes them before any firewall. So a node whose firewall drops its clients
//! looks healthy to the others.

use super::connection::TestConnection;
use super::nft::Ruleset;
use super::{Diagnosis, Inputs, iptables};
use onevip_core::Transport;
use onevip_host::programs;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

pub(super) fn examine(inputs: &Inputs<'_>) -> Vec<Diagnosis> {
    let questions = questions(inputs);
    let listing = output_of("nft", &["-j", "list", "ruleset"]);
    let listing: Value = listing.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let ruleset = Ruleset::of(&listing);
    let mut findings = BTreeSet::new();
    for question in &questions {
        findings.extend(ruleset.losses(question).into_iter().map(|loss| {
            let remedy = format!("nft insert rule {} tcp dport {} accept", loss.place, question.port);
            Lost { kind: "nftables", place: loss.place, policy: loss.policy, port: question.port, remedy }
        }));
    }
    // nftables does not know the legacy tables at all, and of those made by iptables-nft not what each rule means.
    for (kind, v4, family) in [
        ("legacy", true, "iptables"),
        ("legacy", false, "ip6tables"),
        ("nft", true, "iptables"),
        ("nft", false, "ip6tables"),
    ] {
        let there = if kind == "legacy" { has_legacy_tables(v4) } else { ruleset.has_foreign_rules() };
        let Some(saved) = there.then(|| saved(family, kind)).flatten() else { continue };
        for question in questions.iter().filter(|question| question.vip.is_ipv4() == v4) {
            findings.extend(iptables::losses(&saved, question).into_iter().map(|(place, policy)| {
                let (table, chain) = place.split_once(' ').unwrap_or(("filter", "INPUT"));
                let remedy = format!(
                    "{family}-{kind} -t {table} -I {chain} -p tcp --dport {} -j ACCEPT",
                    question.port
                );
                Lost { kind: family, place, policy, port: question.port, remedy }
            }));
        }
    }
    findings.into_iter().map(Lost::finding).collect()
}

/// What is asked: each port of each VIP, by each of its addresses.
fn questions(inputs: &Inputs<'_>) -> Vec<TestConnection> {
    let mut all = Vec::new();
    for plan in &inputs.plan.vips {
        let single = |service: &&onevip_config::VipService| {
            service.transport == Transport::Tcp && service.ports.start() == service.ports.end()
        };
        for service in plan.vip.services.iter().filter(single) {
            all.extend(plan.vip.addresses.iter().map(|vip| TestConnection {
                vip: *vip,
                port: *service.ports.start(),
                interface: plan.link.name.clone(),
            }));
        }
    }
    all
}

/// Whether the kernel has tables of the old kind here. Asking iptables itself would make them.
fn has_legacy_tables(v4: bool) -> bool {
    let path = if v4 { "/proc/net/ip_tables_names" } else { "/proc/net/ip6_tables_names" };
    fs::read_to_string(path).is_ok_and(|names| !names.trim().is_empty())
}

fn saved(family: &str, kind: &str) -> Option<String> {
    output_of(&format!("{family}-{kind}-save"), &[]).or_else(|| output_of(&format!("{family}-save"), &[]))
}

fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    programs::output_of(programs::find(program)?.command().args(arguments))
}

/// Where connections to a port are lost.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Lost {
    kind: &'static str,
    place: String,
    policy: bool,
    port: u16,
    remedy: String,
}

impl Lost {
    fn finding(self) -> Diagnosis {
        let Self { kind, place, policy, port, remedy } = self;
        let by = if policy { "its policy" } else { "a rule" };
        Diagnosis::new(
            "firewall",
            format!("the {kind} chain {place} drops new connections to TCP port {port}: {by} does"),
            "beats come through all the same, so this node gets its share, and its clients get no answer",
            format!("accept the port there (`{remedy}`), on every node"),
        )
    }
}
