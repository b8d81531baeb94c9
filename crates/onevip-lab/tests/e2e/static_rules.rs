//! A way without a daemon: rendered rules on four nodes, real logins, and one answer for every client.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use onevip_lab::demo::ping::PingReplies;
use onevip_lab::{Lab, Options};

use crate::common::{CLUSTER_MAC, VIP, config, landed, must_be_root, onevip, owner, predicted};

const NODES: usize = 4;

#[test]
fn rules_of_nftables_serve_as_the_table_says() {
    let name = "imp-rendered-nft";
    let lab = without_daemons(name, "mapping = \"clusterip\"\nseed = 1592593972");
    start(&lab, "nft");
    let answers = lab.who_has("client", VIP, Duration::from_millis(300)).unwrap();
    assert_eq!(answers.len(), 1, "{answers:#?}");
    assert_eq!(answers[0].sender_mac, CLUSTER_MAC);
    clients_are_served(&lab);
    // The balanced table, in place of the rules that are there.
    lab.write_config(&config(name, NODES, "seed = 7")).unwrap();
    start(&lab, "nft");
    clients_are_served(&lab);
    stop(&lab);
}

#[test]
fn rules_of_iptables_serve_as_the_table_says() {
    let lab = without_daemons("imp-rendered-ipt", "mapping = \"clusterip\"\nseed = 1592593972");
    start(&lab, "iptables");
    start(&lab, "iptables");
    // All answer, as the script says at its head, and all the same.
    let answers = lab.who_has("client", VIP, Duration::from_millis(300)).unwrap();
    assert_eq!(answers.len(), NODES, "{answers:#?}");
    assert!(answers.iter().all(|answer| answer.sender_mac == CLUSTER_MAC), "{answers:#?}");
    clients_are_served(&lab);
    stop(&lab);
}

fn without_daemons(name: &str, vip_lines: &str) -> Lab {
    must_be_root();
    let options = Options::new(name).nodes(NODES).clients(24).config(config(name, NODES, vip_lines));
    Lab::up(options.no_onevip()).unwrap()
}

/// Renders on every node, and starts what comes of it.
fn start(lab: &Lab, format: &str) {
    for node in lab.nodes() {
        let output = onevip(lab, node.id, &["render", "--format", format]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::write(node.dir().join("static.sh"), output.stdout).unwrap();
        run(lab, node.id, "start");
    }
}

fn stop(lab: &Lab) {
    for node in lab.nodes() {
        run(lab, node.id, "stop");
        let left = lab.exec_ok(&node.name(), &["nft", "list", "ruleset"]).unwrap();
        assert!(!left.contains("198.51.100.10") && !left.contains("onevip"), "{left}");
        let addresses = lab.exec_ok(&node.name(), &["ip", "address"]).unwrap();
        assert!(!addresses.contains("198.51.100.10/"), "{addresses}");
        let groups = lab.exec_ok(&node.name(), &["ip", "maddr", "show", "dev", "eth0"]).unwrap();
        assert!(!groups.contains(CLUSTER_MAC), "{groups}");
    }
}

fn run(lab: &Lab, node: u8, what: &str) {
    let script = lab.node(node).dir().join("static.sh");
    lab.exec_ok(&format!("unix{node}"), &["sh", script.to_str().unwrap(), what]).unwrap();
}

/// Every client gets one answer to a request, and a login on each node lands where `onevip where` says.
fn clients_are_served(lab: &Lab) {
    let clients = lab.clients();
    for client in &clients {
        let words =
            ["ping", "-n", "-c", "3", "-i", "0.02", "-W", "2", "-I", &client.to_string(), &VIP.to_string()];
        let output = lab.exec("client", &words).unwrap();
        let replies = PingReplies::parse(&String::from_utf8_lossy(&output.stdout));
        assert!(replies.each_answered(1), "{client}: {:#?}", replies.lines);
    }
    let mut hosts = BTreeSet::new();
    for node in 1..=NODES as u8 {
        let client: IpAddr = *clients.iter().find(|client| owner(lab, **client) == node).unwrap();
        let host = landed(lab, client);
        assert_eq!(host, predicted(lab, client), "{client}");
        hosts.insert(host);
    }
    assert_eq!(hosts.len(), NODES);
}
