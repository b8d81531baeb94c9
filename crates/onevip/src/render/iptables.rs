//! The rules as iptables and arptables.
//!
//! `-m cluster` also makes a packet to a multicast MAC one for this host. ARP it cannot hash: every node answers, all with
//! the same cluster MAC.

use super::{Choice, Plan};
use std::fmt::Write as _;

/// The commands that set the rules; each rule is looked for first, so that none is there twice.
pub(super) fn start(plans: &[Plan<'_>]) -> String {
    let mut out = String::new();
    for (tool, table, chain, rule) in plans.iter().flat_map(rules) {
        let _ = match tool {
            "iptables" => writeln!(
                out,
                "iptables -t {table} -C {chain} {rule} 2>/dev/null || iptables -t {table} -A {chain} {rule}"
            ),
            // arptables cannot look for a rule.
            _ => writeln!(out, "arptables -D {chain} {rule} 2>/dev/null || :\narptables -A {chain} {rule}"),
        };
    }
    out
}

/// What takes them away again.
pub(super) fn stop(plans: &[Plan<'_>]) -> String {
    let mut out = String::new();
    for (tool, table, chain, rule) in plans.iter().flat_map(rules) {
        let table = if tool == "iptables" { format!("-t {table} ") } else { String::new() };
        let _ = writeln!(out, "{tool} {table}-D {chain} {rule} 2>/dev/null");
    }
    out
}

/// Tool, table, chain and rule, in their order.
fn rules(plan: &Plan<'_>) -> Vec<(&'static str, &'static str, &'static str, String)> {
    let Choice::Block { number, total } = plan.choice else { return Vec::new() };
    let (interface, mac, seed) = (plan.interface, plan.vip.mac, plan.vip.seed);
    let mut rules = Vec::new();
    for address in &plan.address {
        let to_vip = format!("-d {address} -i {interface}");
        let own = format!(
            "{to_vip} -m cluster --cluster-total-nodes {total} --cluster-local-node {number} \
             --cluster-hash-seed {seed:#x} -j ACCEPT"
        );
        rules.push(("iptables", "mangle", "PREROUTING", own));
        rules.push(("iptables", "mangle", "PREROUTING", format!("{to_vip} -j DROP")));
        rules.push(("arptables", "filter", "OUTPUT", format!("-s {address} -j mangle --mangle-mac-s {mac}")));
        rules.push(("arptables", "filter", "INPUT", format!("-s {address} -j DROP")));
    }
    rules
}
