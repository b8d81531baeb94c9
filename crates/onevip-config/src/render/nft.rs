//! The rules as nftables: one table at the interface's ingress, before anything else sees a packet, and one for ARP.

use super::{Choice, Plan};
use std::fmt::Write as _;

/// Names of the tables of a VIP. (A dash is no part of a name in nft.)
fn table(plan: &Plan<'_>) -> String {
    format!("onevip_{}", plan.vip.name.replace('-', "_"))
}

/// The ruleset of all VIPs, for `nft -f`. Loading it again replaces it as a whole.
pub(super) fn rules(plans: &[Plan<'_>]) -> String {
    let mut out = String::new();
    for plan in plans {
        one(&mut out, plan);
    }
    out
}

/// What takes it away again.
pub(super) fn stop(plans: &[Plan<'_>]) -> String {
    let mut out = String::new();
    for plan in plans {
        let table = table(plan);
        let _ = writeln!(
            out,
            "nft delete table netdev {table} 2>/dev/null\nnft delete table arp {table} 2>/dev/null"
        );
    }
    out
}

fn one(out: &mut String, plan: &Plan<'_>) {
    let (table, interface, mac) = (table(plan), plan.interface, plan.vip.mac);
    // `table` before `delete`, so that the delete cannot fail.
    for family in ["netdev", "arp"] {
        let _ = writeln!(out, "table {family} {table}\ndelete table {family} {table}");
    }
    let _ = writeln!(
        out,
        "table netdev {table} {{\n\tchain ingress {{\n\
         \t\ttype filter hook ingress device \"{interface}\" priority -300; policy accept;"
    );
    for address in &plan.address {
        let _ = writeln!(
            out,
            "\t\t# Who asks where {address} is gets one answer. What other nodes say in its name is no conflict.\n\
             \t\tether type arp arp saddr ip {address} drop\n\
             \t\tether type arp arp operation request arp daddr ip {address} {arp} drop\n\
             \t\t# One node takes a packet. TCP takes it only as if it had come to the interface's own MAC.\n\
             \t\tether type ip ip daddr {address} {ip} drop\n\
             \t\tether type ip ip daddr {address} ether daddr {mac} meta pkttype set host",
            arp = others(plan, "arp saddr ip"),
            ip = others(plan, "ip saddr"),
        );
    }
    let _ = writeln!(out, "\t}}\n}}");
    let _ = writeln!(
        out,
        "table arp {table} {{\n\tchain output {{\n\t\ttype filter hook output priority 0; policy accept;"
    );
    for address in &plan.address {
        let _ = writeln!(out, "\t\tarp saddr ip {address} arp saddr ether set {mac}");
    }
    let _ = writeln!(out, "\t}}\n}}");
}

/// The expression that is true for what other nodes take.
fn others(plan: &Plan<'_>, source: &str) -> String {
    let seed = plan.vip.seed;
    match &plan.choice {
        Choice::Block { number, total } => {
            format!("jhash {source} mod {total} seed {seed:#x} offset 1 != {number}")
        }
        Choice::Buckets(ranges) => {
            let ranges: Vec<String> = ranges
                .iter()
                .map(
                    |(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") },
                )
                .collect();
            format!("jhash {source} mod 1024 seed {seed:#x} != {{ {} }}", ranges.join(", "))
        }
    }
}
