//! A way in that moves nobody: the old rules at work in the kernel, their own listing imported, and every one of ten
//! thousand clients has the same node under both.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use onevip_config::Config;
use onevip_lab::process::feed;
use onevip_lab::{Lab, Options, daemon, process};

use crate::common::mapping::{all_marked, marked, sources, udp};
use crate::common::{CLUSTER_MAC, PATIENCE, VIP, must_be_root};

const CLIENTS: usize = 10_000;
const NODES: u8 = 4;

/// As an administrator would set them up on node K; behind them, a set notes what got through.
#[derive(Clone, Copy)]
enum Rules {
    XtCluster,
    Nft,
    /// What Pacemaker's agent makes, whose parameters do not tell the seed.
    PacemakerNft,
}

#[test]
fn ten_thousand_clients_keep_the_node_that_xt_cluster_gave_them() {
    clients_keep_their_nodes("imp-xt", Rules::XtCluster);
}

#[test]
fn ten_thousand_clients_keep_the_node_that_nftables_gave_them() {
    clients_keep_their_nodes("imp-nft", Rules::Nft);
}

#[test]
fn ten_thousand_clients_keep_the_node_that_pacemaker_gave_them() {
    clients_keep_their_nodes("imp-crm", Rules::PacemakerNft);
}

fn clients_keep_their_nodes(name: &str, rules: Rules) {
    must_be_root();
    let options = Options::new(name).nodes(NODES.into()).clients(1).no_onevip();
    let lab = Lab::up(options).unwrap();
    for id in 1..=NODES {
        set_up(&lab, id, rules);
    }
    // What one of them lists is all that the import gets, before the notes are added.
    let config = imported(&lab, rules);
    for id in 1..=NODES {
        let notes = format!(
            "table ip story {{\nset passed {{ type ipv4_addr . mark; size 65535; flags dynamic; }}\n\
             chain pre {{ type filter hook prerouting priority -100; policy accept;\n\
             ip daddr {VIP} udp dport 9 meta mark set {id} add @passed {{ ip saddr . meta mark }} drop\n\
             }}\n}}\n"
        );
        feed(lab.command(&format!("unix{id}"), "nft").unwrap().args(["-f", "-"]), &notes).unwrap();
    }
    let sources = sources(CLIENTS);
    let tap = lab.tap("client", "eth0").unwrap();
    // Connection tracking, which xt_cluster asks, must find it a packet that may be the first of its flow.
    let packet = |source| udp(CLUSTER_MAC, source, VIP);
    all_marked(&lab, &tap, 1..=NODES.into(), "passed", &sources, packet, |source| source);
    let mut kernels: BTreeMap<Ipv4Addr, Vec<u32>> = BTreeMap::new();
    for id in 1..=usize::from(NODES) {
        for (source, node) in marked(&lab, id, "passed") {
            kernels.entry(source).or_default().push(node);
        }
    }
    let vip = &config.vips[0];
    assert_eq!(vip.mac.to_string(), CLUSTER_MAC);
    let table = config.full_table(vip);
    for source in &sources {
        let ours = table.owner(vip.hasher().bucket((*source).into(), 0, 0)).unwrap();
        assert_eq!(
            kernels[source],
            [u32::from(ours.get())],
            "{source}: let through by these nodes; ours is the other"
        );
    }
}

fn set_up(lab: &Lab, id: u8, rules: Rules) {
    let host = format!("unix{id}");
    let run = |line: &str| {
        lab.exec_ok(&host, &line.split(' ').collect::<Vec<_>>()).unwrap();
    };
    run(&format!("ip maddr add {CLUSTER_MAC} dev eth0"));
    match rules {
        Rules::XtCluster => {
            run(&format!(
                "iptables -t mangle -A PREROUTING -i eth0 -d {VIP} -m cluster --cluster-total-nodes {NODES} \
                 --cluster-local-node {id} --cluster-hash-seed 0xdeadbeef -j ACCEPT"
            ));
            run(&format!("iptables -t mangle -A PREROUTING -i eth0 -d {VIP} -j DROP"));
            run(&format!("arptables -A OUTPUT -s {VIP} -j mangle --mangle-mac-s {CLUSTER_MAC}"));
        }
        Rules::Nft | Rules::PacemakerNft => {
            let text = format!(
                "table ip IPaddr2_198_51_100_10 {{ chain prerouting {{ type filter hook prerouting priority mangle;\n\
                 iif eth0 ip daddr {VIP} jhash ip saddr mod {NODES} seed 0x5eed1234 offset 1 == {id} \
                 meta pkttype set host accept comment \"cip-node-{id}\"\n\
                 iif eth0 ip daddr {VIP} drop\n}}\n}}\n\
                 table arp IPaddr2_198_51_100_10 {{ chain output {{ type filter hook output priority 0;\n\
                 arp saddr ip {VIP} arp saddr ether set {CLUSTER_MAC}\n}}\n}}\n"
            );
            feed(lab.command(&host, "nft").unwrap().args(["-f", "-"]), &text).unwrap();
        }
    }
}

/// What `onevip import` makes of the listing of unix2.
fn imported(lab: &Lab, rules: Rules) -> Config {
    let listing = |line: &str| lab.exec_ok("unix2", &line.split(' ').collect::<Vec<_>>()).unwrap();
    let mut files = Vec::new();
    match rules {
        Rules::XtCluster => files.push(listing("iptables-save") + &listing("ip maddr show dev eth0")),
        Rules::Nft => files.push(listing("nft list ruleset")),
        Rules::PacemakerNft => {
            files.push(format!(
                "primitive vip IPaddr2 params ip={VIP} nic=eth0 clusterip_firewall=nft mac={CLUSTER_MAC}\n\
                 clone c-vip vip meta clone-max={NODES} globally-unique=true\n"
            ));
            files.push(listing("nft list ruleset"));
        }
    }
    let mut command = std::process::Command::new(daemon::program().unwrap());
    command.arg("import");
    for (number, text) in files.iter().enumerate() {
        let path = lab.dir().join(format!("rules{number}.txt"));
        std::fs::write(&path, text).unwrap();
        command.arg(path);
    }
    for node in lab.nodes() {
        command.arg(format!("--host={}={}", node.name(), node.address()));
    }
    let output = process::run(&mut command, PATIENCE).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("this host is node 2"), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (config, found) = Config::inspect_text("onevip.toml", &text);
    config.unwrap_or_else(|| panic!("{found}\n{text}"))
}
