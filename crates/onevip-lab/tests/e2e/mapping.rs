//! `mapping = "clusterip"` is what it says: for every client the same node as the kernel's own implementations choose,
//! asked on the very packets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use onevip_lab::plan::LabPlan;
use onevip_lab::process::feed;
use onevip_lab::{Host, Lab};

use crate::common::mapping::{all_marked, echo_reply, marked, sources, udp};
use crate::common::{CLUSTER_MAC, Mode, VIP, all_claim, config, predicted};

const SEED: u32 = 0x5eed_1234;
const CLIENTS: usize = 1500;

#[test]
fn four_nodes_are_chosen_as_nftables_and_xt_cluster_choose() {
    choose_as_the_kernel_does("e2e-map4", 4, "memory");
}

/// 3 does not divide the number of buckets.
#[test]
fn three_nodes_are_chosen_as_nftables_and_xt_cluster_choose() {
    choose_as_the_kernel_does("e2e-map3", 3, "memory");
}

/// `CLUSTERIP` is gone from the kernel; it hashed the address with its bytes in the other order.
#[test]
fn three_nodes_are_chosen_as_clusterip_did() {
    choose_as_the_kernel_does("e2e-mapc", 3, "host");
}

fn choose_as_the_kernel_does(name: &str, nodes: usize, order: &str) {
    let lines = format!("mapping = \"clusterip\"\nseed = {SEED}\naddress_order = \"{order}\"");
    // The lab's name has the mode's behind it.
    let text = config(name, nodes, &lines);
    let lab = Lab::up(Mode::Tcx.options(name, nodes, 3).config(text)).unwrap();
    all_claim(&lab);
    let sources = sources(CLIENTS);
    let as_hashed = |source: Ipv4Addr| match order {
        "memory" => source,
        _ => Ipv4Addr::from(source.to_bits().swap_bytes()),
    };
    // Every node notes what its authority let through. unix1 notes, of all sources, what the kernel would choose.
    for id in 1..=nodes {
        feed(lab.command(&format!("unix{id}"), "nft").unwrap().args(["-f", "-"]), &rules(nodes)).unwrap();
    }
    for id in 1..=nodes {
        let of = format!("-t mangle -A PREROUTING -p udp --dport 9 -m cluster --cluster-total-nodes {nodes}");
        let to = format!("--cluster-local-node {id} --cluster-hash-seed {SEED} -j MARK --set-mark {id}");
        let words: Vec<&str> = ["iptables"].into_iter().chain(of.split(' ')).chain(to.split(' ')).collect();
        lab.exec_ok("unix1", &words).unwrap();
    }
    let tap = lab.tap("client", "eth0").unwrap();
    let own_mac = LabPlan::mac(Host::Node(1));
    let question = |source| udp(&own_mac, as_hashed(source), "198.51.100.11".parse().unwrap());
    let chosen = all_marked(&lab, &tap, 1..=1, "chosen", &sources, question, as_hashed);
    let by_xt_cluster = marked(&lab, 1, "by_xt_cluster");
    let packet = |source| echo_reply(CLUSTER_MAC, source, VIP);
    all_marked(&lab, &tap, 1..=nodes, "passed", &sources, packet, |source| source);

    let mut owners: BTreeMap<Ipv4Addr, Vec<u32>> = BTreeMap::new();
    for id in 1..=nodes {
        let passed = marked(&lab, id, "passed").into_keys();
        passed.for_each(|source| owners.entry(source).or_default().push(id as u32));
    }
    for &source in &sources {
        let kernels = chosen[&as_hashed(source)] + 1;
        assert_eq!(owners[&source], [kernels], "{source}: passed by these nodes; nftables chooses the other");
        assert_eq!(by_xt_cluster[&as_hashed(source)], kernels, "{source}: xt_cluster and nftables disagree");
    }
    for &source in sources.iter().take(20) {
        assert_eq!(predicted(&lab, source.into()), format!("unix{}", owners[&source][0]));
    }
    let used: BTreeSet<_> = owners.values().flatten().collect();
    assert_eq!(used.len(), nodes);
}

/// Behind the authority (which sits at tc ingress) and behind iptables' mangle table.
fn rules(nodes: usize) -> String {
    let set = |name: &str| format!("set {name} {{ type ipv4_addr . mark; size 65535; flags dynamic; }}\n");
    let hash = format!("meta mark set jhash ip saddr mod {nodes} seed {SEED}");
    format!(
        "table ip story {{\n{}{}{}\
         chain pre {{ type filter hook prerouting priority -100; policy accept;\n\
         ip daddr {VIP} icmp type echo-reply {hash} add @passed {{ ip saddr . meta mark }} drop\n\
         udp dport 9 add @by_xt_cluster {{ ip saddr . meta mark }}\n\
         udp dport 9 {hash} add @chosen {{ ip saddr . meta mark }} drop\n\
         }}\n}}\n",
        set("passed"),
        set("chosen"),
        set("by_xt_cluster"),
    )
}
