//! The shell script around the rules: what it does, what it cannot do, start and stop.

use super::{Choice, Format, Plan, iptables, nft};
use crate::{Config, Node};
use std::fmt::Write as _;

/// What no static rules can do, at the head of every script.
const LIMITS: &str = "\
# What static rules cannot do, and the daemon does:
#  - nobody takes over: the clients of a node that is down, or whose sshd hangs, get no answer until you
#    take it out of the configuration, and render and load the rules of all others anew;
#  - a session lives where the hash says: whoever changes the number of nodes cuts those that move;
#  - IPv6: no rule can put the cluster MAC into a neighbour advertisement with a right checksum;
#  - a path MTU error from a router goes to the node of the router, not to the node of the session;
#  - no drain, no weights that change, no check of anybody's health, no limits, no mosh that roams.
";

/// The script for a node.
pub(super) fn script(config: &Config, node: &Node, format: Format, plans: &[Plan<'_>]) -> String {
    let mut out = head(config, node, format, plans);
    out.push_str("set -u\n\nstart() {\n\tset -e\n");
    // The rules go first: with the address, but without them, this node would answer everybody.
    match format {
        Format::Nft => {
            let _ = write!(out, "\tnft -f - <<'RULES'\n{}RULES\n", nft::rules(plans));
        }
        Format::Iptables => out.push_str(&iptables::start(plans)),
    }
    for plan in plans {
        out.push_str(&indented(&bring_up(plan)));
    }
    out.push_str("}\n\nstop() {\n");
    // The address goes first, for the same reason.
    for plan in plans {
        out.push_str(&indented(&take_down(plan)));
    }
    out.push_str(&indented(&match format {
        Format::Nft => nft::stop(plans),
        Format::Iptables => iptables::stop(plans),
    }));
    out.push_str(
        "\treturn 0\n}\n\ncase \"${1:-}\" in\nstart | stop) \"$1\" ;;\n\
         *) echo \"usage: $0 start | stop\" >&2; exit 2 ;;\nesac\n",
    );
    out
}

fn head(config: &Config, node: &Node, format: Format, plans: &[Plan<'_>]) -> String {
    let kind = match format {
        Format::Nft => "nftables",
        Format::Iptables => "iptables and arptables",
    };
    let mut out = format!(
        "#!/bin/sh\n# {} (node {}) of cluster {}: static {kind} rules, made by `onevip render`.\n#\n",
        node.name, node.id, config.cluster
    );
    for plan in plans {
        let addresses: Vec<String> = plan.address.iter().map(ToString::to_string).collect();
        let share = match &plan.choice {
            Choice::Block { number, total } => format!("block {number} of {total}"),
            Choice::Buckets(ranges) => {
                let count: u32 = ranges.iter().map(|(first, last)| u32::from(last - first) + 1).sum();
                format!("{count} of 1024 buckets")
            }
        };
        let _ = writeln!(
            out,
            "# VIP {}: {} at {} on {}, {share}",
            plan.vip.name,
            addresses.join(", "),
            plan.vip.mac,
            plan.interface
        );
        for left_out in plan.vip.v6() {
            let _ = writeln!(out, "# LEFT OUT: {left_out}, see below");
        }
    }
    out.push_str(
        "# Each client meets the node that `onevip where` names. Do not run it beside the daemon.\n#\n",
    );
    out.push_str(LIMITS);
    if format == Format::Iptables {
        out.push_str(
            "#  - every node answers ARP, all with the cluster MAC (arptables cannot hash; --format nft can);\n\
             #  - connection tracking must be on for this address, and may not be told to be strict.\n",
        );
    }
    out
}

fn bring_up(plan: &Plan<'_>) -> String {
    let (interface, mac) = (plan.interface, plan.vip.mac);
    let mut out = format!(
        "ip maddr show dev {interface} | grep -qw {mac} || ip maddr add {mac} dev {interface}\n\
         # Clients are asked for their MACs in this node's own name.\n\
         sysctl -qw net.ipv4.conf.{interface}.arp_announce=2\n"
    );
    for address in &plan.address {
        // Of that scope it is never the source of the node's own traffic.
        let _ = writeln!(out, "ip address replace {address}/32 dev {interface} scope host");
    }
    out
}

fn take_down(plan: &Plan<'_>) -> String {
    let (interface, mac) = (plan.interface, plan.vip.mac);
    let mut out = String::new();
    for address in &plan.address {
        let _ = writeln!(out, "ip address del {address}/32 dev {interface} 2>/dev/null");
    }
    let _ = writeln!(out, "ip maddr del {mac} dev {interface} 2>/dev/null");
    out
}

fn indented(lines: &str) -> String {
    lines.lines().map(|line| format!("\t{line}\n")).collect()
}
