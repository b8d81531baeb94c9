//! The rules as iptables and arptables.
//!
//! `-m cluster` also makes a packet to a multicast MAC one for this host. ARP it cannot hash: every node answers, all with
//! the same cluster MAC. Each VIP has a chain of its own, which is filled as a whole: no packet meets half of it.

use super::{Choice, Plan};
use std::fmt::Write as _;

/// The commands that set the rules, also in place of older ones.
pub(super) fn start(plans: &[Plan<'_>]) -> String {
    let mut out = String::from("iptables-restore --noflush <<'RULES'\n*mangle\n");
    for (number, plan) in plans.iter().enumerate() {
        let chain = chain(number);
        let _ = writeln!(out, ":{chain} - [0:0]\n-A {chain} {} -j RETURN\n-A {chain} -j DROP", own(plan));
    }
    out.push_str("COMMIT\nRULES\n");
    for (number, plan) in plans.iter().enumerate() {
        for jump in jumps(number, plan) {
            let _ = writeln!(out, "iptables -t mangle -C {jump} 2>/dev/null || iptables -t mangle -A {jump}");
        }
        // arptables cannot look for a rule.
        for rule in arp(plan) {
            let _ = writeln!(out, "arptables -D {rule} 2>/dev/null || :\narptables -A {rule}");
        }
    }
    out
}

/// What takes them away again.
pub(super) fn stop(plans: &[Plan<'_>]) -> String {
    let mut out = String::new();
    for (number, plan) in plans.iter().enumerate() {
        for jump in jumps(number, plan) {
            let _ = writeln!(out, "iptables -t mangle -D {jump} 2>/dev/null");
        }
        let chain = chain(number);
        let _ = writeln!(
            out,
            "iptables -t mangle -F {chain} 2>/dev/null\niptables -t mangle -X {chain} 2>/dev/null"
        );
        for rule in arp(plan) {
            let _ = writeln!(out, "arptables -D {rule} 2>/dev/null");
        }
    }
    out
}

/// By number: a VIP may have a longer name than a chain.
fn chain(number: usize) -> String {
    format!("onevip-{}", number + 1)
}

fn own(plan: &Plan<'_>) -> String {
    match plan.choice {
        Choice::Block { number, total } => format!(
            "-m cluster --cluster-total-nodes {total} --cluster-local-node {number} --cluster-hash-seed {:#x}",
            plan.vip.seed
        ),
        // Refused when the plan was made.
        Choice::Buckets(_) => unreachable!("the balanced table is no plan for iptables"),
    }
}

fn jumps(number: usize, plan: &Plan<'_>) -> Vec<String> {
    let (interface, chain) = (plan.interface, chain(number));
    let jump = |address| format!("PREROUTING -d {address} -i {interface} -j {chain}");
    plan.address.iter().map(jump).collect()
}

fn arp(plan: &Plan<'_>) -> Vec<String> {
    let rules = plan.address.iter().map(|address| {
        [
            format!("OUTPUT -s {address} -j mangle --mangle-mac-s {}", plan.vip.mac),
            format!("INPUT -s {address} -j DROP"),
        ]
    });
    rules.flatten().collect()
}
