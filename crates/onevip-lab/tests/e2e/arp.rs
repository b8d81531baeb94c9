//! Nobody ever learns a node's own MAC for the VIP: a client that did would speak to that node alone, whoever owns its
//! bucket.

use std::net::Ipv4Addr;

use onevip_lab::wire::ArpMessage;
use onevip_lab::{Lab, netns};

use crate::common::{
    CLUSTER_MAC, Mode, VIP, Watch, client_of, in_every_mode, kill_daemon, onevip, pings, wait,
};

in_every_mode!(no_arp_message_binds_the_vip_to_a_nodes_own_mac);

fn no_arp_message_binds_the_vip_to_a_nodes_own_mac(mode: Mode) {
    let lab = onevip_lab::Lab::up(mode.options("e2e-arp", 2, 20).no_onevip()).unwrap();
    // Everything that the nodes send, from before the daemons start until one has been torn down.
    let watches = ["unix1", "unix2"].map(|port| Watch::announcements(&lab, "switch", port));
    lab.start_onevip().unwrap();
    clients_ask(&lab);
    asks_with_the_vip_as_its_own(&lab, &watches[0]);
    announces_itself(&lab, &watches[0]);

    kill_daemon(&lab, 1);
    lab.node(1).start_onevip().unwrap();
    lab.node(1).stop_onevip();
    lab.node(1).start_onevip().unwrap();
    clients_ask(&lab);
    lab.node(1).stop_onevip();
    assert!(onevip(&lab, 1, &["teardown"]).status.success());
    wait("the other node's answer", || pings(&lab, client_of(&lab, 2)));

    let seen: Vec<ArpMessage> = watches.into_iter().flat_map(Watch::seen).collect();
    let wrong: Vec<_> = seen.iter().filter(|message| message.sender_mac != CLUSTER_MAC).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen.iter().filter(|message| message.is_reply).count() >= 3, "{seen:#?}");
}

/// Clients forget where the VIP is and ask, all addresses of each node.
fn clients_ask(lab: &Lab) {
    for node in [1, 2] {
        lab.exec_ok("client", &["ip", "neigh", "flush", "dev", "eth0"]).unwrap();
        wait("an answer", || pings(lab, client_of(lab, node)));
    }
}

/// A node that forgets where a client is, and asks for it in the VIP's name. (It would use its own address, were the
/// setting not changed by hand; the daemon sets it back when it next looks.)
fn asks_with_the_vip_as_its_own(lab: &Lab, watch: &Watch<ArpMessage>) {
    let client: Ipv4Addr = "198.51.100.101".parse().unwrap();
    let asked = |seen: &[ArpMessage]| seen.iter().any(|m| !m.is_reply && m.target_address == client);
    wait("a request in the VIP's name", || {
        netns::inside(lab.name(), onevip_lab::Host::Node(1), || {
            netns::sysctl("ipv4/conf/eth0/arp_announce", "0")
        })
        .unwrap()
        .unwrap();
        lab.exec_ok("unix1", &["ip", "neigh", "flush", "dev", "eth0"]).unwrap();
        let words = ["ping", "-n", "-c1", "-W1", "-I", &VIP.to_string(), &client.to_string()];
        lab.exec("unix1", &words).unwrap();
        watch.so_far(asked)
    });
}

/// A node whose kernel is told to announce its addresses whenever its link comes up.
fn announces_itself(lab: &Lab, watch: &Watch<ArpMessage>) {
    netns::inside(lab.name(), onevip_lab::Host::Node(1), || netns::sysctl("ipv4/conf/eth0/arp_notify", "1"))
        .unwrap()
        .unwrap();
    for state in ["down", "up"] {
        lab.exec_ok("unix1", &["ip", "link", "set", "eth0", state]).unwrap();
    }
    wait("a gratuitous announcement", || watch.so_far(|seen| seen.iter().any(|m| m.target_address == VIP)));
}
