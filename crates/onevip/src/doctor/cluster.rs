//! What nodes can only find out together.

use super::facts::NodeFacts;
use super::{Diagnosis, Inputs};
use crate::base::plan::VipPlan;
use crate::events::words;
use crate::report::status::{NodeStatus, Status, VipStatus};
use onevip_config::Membership;
use onevip_core::MacAddr;
use onevip_core::beat::envelope::{DATAGRAM_MAX, DATAGRAM_SENT_MAX};
use onevip_core::membership::WhyOut;
use std::collections::{BTreeMap, BTreeSet};

/// Clocks further apart than this, in milliseconds, are worth a word; asking takes less than half of it.
const CLOCKS_APART_MS: u64 = 5_000;

/// Beats of up to so many nodes are no longer than messages ([`DATAGRAM_SENT_MAX`]).
const SHORT_BEATS_NODES: usize = 50;
/// Bytes of a UDP header.
const UDP: usize = 8;

pub(super) fn examine(inputs: &Inputs<'_>) -> Vec<Diagnosis> {
    let facts: Vec<(&str, &NodeFacts)> = inputs
        .replies
        .iter()
        .filter_map(|reply| match &reply.answer {
            Ok(facts) => Some((reply.node.as_str(), facts)),
            _ => None,
        })
        .collect();
    let mut findings = host_keys(&facts);
    findings.extend(differs(
        &facts,
        "config-differs",
        "configuration",
        |facts| facts.config_digest.clone(),
        "nodes that disagree about nodes, weights or hashes may both answer a client, or neither",
        "copy the file to all nodes and `onevip reload` on each",
    ));
    findings.extend(differs(
        &facts,
        "version-differs",
        "version",
        |facts| facts.version.clone(),
        "releases may differ in what they understand; a mixed cluster is meant for the time of an upgrade only",
        "install the same release on all nodes",
    ));
    findings.extend(clocks(&facts, &inputs.plan.node.name));
    if inputs.config.membership == Membership::Living {
        findings.extend(inputs.plan.vips.iter().filter_map(short_frames));
    }
    if let Some(status) = inputs.status {
        findings.extend(status.vips.iter().flat_map(membership));
        findings.extend(stranger(status));
    }
    findings
}

fn host_keys(facts: &[(&str, &NodeFacts)]) -> Vec<Diagnosis> {
    let tell = |(node, facts): &&(&str, &NodeFacts)| !facts.host_keys.is_empty() && !node.is_empty();
    let told: Vec<&(&str, &NodeFacts)> = facts.iter().filter(tell).collect();
    let kinds: BTreeSet<&String> = told.iter().flat_map(|(_, facts)| facts.host_keys.keys()).collect();
    let differing = kinds.into_iter().filter_map(|kind| {
        let key = |facts: &NodeFacts| facts.host_keys.get(kind).cloned().unwrap_or_else(|| "none".to_owned());
        let groups = groups(told.iter().map(|(node, facts)| (*node, key(facts))));
        (groups.len() > 1).then(|| {
            Diagnosis::new(
                "host-keys-differ",
                format!("the host key of type {kind} is not the same everywhere: {}", list(&groups)),
                "to clients all nodes are one host: whoever lands on another node meets a warning of an attack, or none \
                 of the keys they know",
                "copy /etc/ssh/ssh_host_* of one node to all others, and reload sshd there",
            )
        })
    });
    differing.collect()
}

fn differs(
    facts: &[(&str, &NodeFacts)],
    check: &'static str,
    what: &str,
    value: impl Fn(&NodeFacts) -> String,
    why: &'static str,
    remedy: &str,
) -> Option<Diagnosis> {
    let groups = groups(facts.iter().map(|(node, facts)| (*node, value(facts))));
    let found = || format!("the {what} is not the same everywhere: {}", list(&groups));
    (groups.len() > 1).then(|| Diagnosis::new(check, found(), why, remedy))
}

/// Nodes by what they have.
fn groups<'a>(all: impl Iterator<Item = (&'a str, String)>) -> BTreeMap<String, Vec<&'a str>> {
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (node, value) in all {
        groups.entry(value).or_default().push(node);
    }
    groups
}

/// What most have comes first.
fn list(groups: &BTreeMap<String, Vec<&str>>) -> String {
    let mut groups: Vec<_> = groups.iter().collect();
    groups.sort_by_key(|(_, nodes)| std::cmp::Reverse(nodes.len()));
    let one = |(value, nodes): &(&String, &Vec<&str>)| format!("{value} on {}", nodes.join(", "));
    groups.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn clocks(facts: &[(&str, &NodeFacts)], me: &str) -> Vec<Diagnosis> {
    let Some((_, own)) = facts.iter().find(|(node, _)| *node == me) else { return Vec::new() };
    let far = facts.iter().filter(|(_, facts)| facts.clock_ms.abs_diff(own.clock_ms) > CLOCKS_APART_MS);
    far.map(|(node, facts)| {
        let apart = facts.clock_ms.abs_diff(own.clock_ms) / 1000;
        Diagnosis::new(
            "clock-off",
            format!("the clocks of {me} and {node} are {apart} s apart"),
            "onevip does not need them, but Kerberos tickets, one-time passwords and logs do",
            "run an NTP client (chrony, systemd-timesyncd) on all nodes",
        )
    })
    .collect()
}

/// An interface that does not carry the longest of what nodes tell each other.
fn short_frames(vip: &VipPlan) -> Option<Diagnosis> {
    let datagram = if vip.vip.nodes.len() > SHORT_BEATS_NODES { DATAGRAM_MAX } else { DATAGRAM_SENT_MAX };
    let ip = if vip.vip.addresses.iter().any(|address| address.is_ipv6()) { 40 } else { 20 };
    let (least, mtu) = (datagram + ip + UDP, vip.link.mtu?);
    (usize::try_from(mtu).is_ok_and(|mtu| mtu < least)).then(|| {
        let name = &vip.link.name;
        Diagnosis::new(
            "short-frames",
            format!("{}: interface {name} carries {mtu} bytes at most (mtu), and nodes send up to {least}", vip.vip.name),
            "bans, counts and lists of sessions do not reach the other nodes, and in a contest beats do not either",
            format!("`ip link set {name} mtu {least}` or more, on all nodes and in the network manager's file"),
        )
    })
}

fn membership(vip: &VipStatus) -> Vec<Diagnosis> {
    // Who cannot hear has learnt nothing about others.
    if vip.trouble.is_some() {
        return Vec::new();
    }
    let Some(membership) = &vip.membership else { return Vec::new() };
    let mut findings = Vec::new();
    if let Some(hint) = &membership.hint {
        let flooded = vip.cluster_mac.parse().is_ok_and(|mac: MacAddr| !mac.is_multicast());
        let (name, remedy) = if flooded {
            ("switch-does-not-flood", "let the switch flood unknown unicast frames on these ports")
        } else {
            (
                "snooping-switch",
                "let the switch flood the cluster MAC, or write delivery = \"flood\" on all nodes",
            )
        };
        findings.push(Diagnosis::new(
            name,
            format!("{}: {hint}", vip.name),
            "what keeps beats away keeps clients' packets away, too: this node cannot serve anybody",
            format!("start the daemons of the others; else {remedy} (docs/network.md)"),
        ));
    }
    // Where others feel better, what ails this node is a finding of its own.
    let feels_ill = |why: &&String| words::read_why_out(why) == Some(WhyOut::Unhealthy);
    let why_out = membership.why_out.as_ref().filter(|why| membership.state == "serving" && !feels_ill(why));
    if let Some(why) = why_out {
        findings.push(Diagnosis::new(
            "no-share",
            format!("{}: this node takes no share: {why}", vip.name),
            "the others have to serve its users",
            "docs/operations.md says for each reason what to do; `onevip watch` shows what happens",
        ));
    }
    let out = vip.nodes.iter().filter_map(|node| Some((node, out(node)?)));
    findings.extend(out.map(|(node, why)| {
        Diagnosis::new(
            "node-out",
            format!("{}: {} is out: {why}", vip.name, node.name),
            "the others carry its share, and there is one node less to fail",
            format!("look at {}: does the host run, its daemon, its link?", node.name),
        )
    }));
    let unaskable = |node: &&NodeStatus| {
        node.peer.as_ref().is_some_and(|peer| peer.kernel_askable == Some(false) && !peer.kernel_gone)
    };
    findings.extend(vip.nodes.iter().filter(unaskable).map(|node| {
        Diagnosis::new(
            "kernel-unaskable",
            format!("{}: {}", vip.name, words::unaskable(&node.name, &node.addresses)),
            "nobody can tell whether it is dead, so its users hang until their own timeouts instead of being reset",
            format!(
                "from here, `arping -I {} ADDRESS` (`ndisc6` for IPv6) must be answered: let ARP and neighbour discovery \
                 pass on {}, and give in the configuration the address that it has on this LAN; if it is gone for good, \
                 `onevip forget {}`",
                vip.interface, node.name, node.name
            ),
        )
    }));
    findings.extend(strangers(vip));
    findings
}

/// Nodes that beat, but stand in no file here.
fn strangers(vip: &VipStatus) -> impl Iterator<Item = Diagnosis> {
    let strangers = vip.nodes.iter().filter(|node| node.peer.as_ref().is_some_and(|peer| !peer.in_file));
    strangers.map(|node| {
        Diagnosis::new(
            "config-differs",
            format!("{}: {} beats, but is not in this node's configuration", vip.name, node.name),
            "nodes that disagree about nodes, weights or hashes may both answer a client, or neither",
            "copy the file to all nodes and `onevip reload` on each",
        )
    })
}

/// Why a node is out.
fn out(node: &NodeStatus) -> Option<&str> {
    let peer = node.peer.as_ref().filter(|peer| !peer.heard && peer.in_file)?;
    Some(peer.why_lost.as_deref().unwrap_or("it was never heard"))
}

fn stranger(status: &Status) -> Option<Diagnosis> {
    let ingress = status.verdicts.get("ingress")?;
    let seen: u64 = ["arp-stranger", "nd-stranger"].iter().filter_map(|reason| ingress.get(*reason)).sum();
    (seen > 0).then(|| {
        Diagnosis::new(
            "foreign-mac",
            format!("{seen} times another host has announced a VIP with a MAC of its own"),
            "clients that believe it lose their way to the cluster",
            "find it: `tcpdump -nei IF arp or icmp6`, from a host that is no node `arping -c 3 VIP`; the count starts anew \
             with the next boot or `onevip teardown`",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn facts(key: &str, config: &str, clock_ms: u64) -> NodeFacts {
        NodeFacts {
            version: "1".into(),
            config_digest: config.into(),
            host_keys: BTreeMap::from([("ssh-ed25519".to_owned(), key.to_owned())]),
            clock_ms,
            ill: Vec::new(),
        }
    }

    #[test]
    fn what_differs_is_named_with_its_nodes() {
        let (one, two, three) =
            (facts("SHA256:a", "x", 0), facts("SHA256:a", "x", 900), facts("SHA256:b", "y", 9_000));
        let all = [("unix1", &one), ("unix2", &two), ("unix3", &three)];
        let keys = host_keys(&all);
        assert_eq!(keys.len(), 1);
        assert!(keys[0].finding.ends_with("SHA256:a on unix1, unix2; SHA256:b on unix3"), "{:?}", keys[0]);
        assert!(host_keys(&all[..2]).is_empty());
        let config = |all: &[(&str, &NodeFacts)]| {
            differs(all, "c", "configuration", |f| f.config_digest.clone(), "", "")
        };
        assert!(config(&all).is_some_and(|found| found.finding.ends_with("x on unix1, unix2; y on unix3")));
        assert!(config(&all[..2]).is_none());
        let off: Vec<String> = clocks(&all, "unix1").into_iter().map(|finding| finding.finding).collect();
        assert_eq!(off, ["the clocks of unix1 and unix3 are 9 s apart"]);
    }

    #[test]
    fn a_node_that_cannot_read_its_keys_accuses_nobody() {
        let (one, mut two) = (facts("SHA256:a", "x", 0), facts("SHA256:a", "x", 0));
        two.host_keys.clear();
        assert!(host_keys(&[("unix1", &one), ("unix2", &two)]).is_empty());
    }
}
