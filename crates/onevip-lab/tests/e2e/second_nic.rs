//! A second interface of a node in the VIP's LAN, with or without an address, answers for nothing of the VIP.

use std::net::IpAddr;

use onevip_lab::net::ip_batch;
use onevip_lab::wire::ArpMessage;
use onevip_lab::{Host, Lab, netns};

use crate::common::router::ip;
use crate::common::{
    CLUSTER_MAC, Mode, Session, VIP, Watch, all_claim, client_of, client_of_each_family, kill_daemon, landed,
    onevip, wait,
};

/// The settings that keep it silent, and their values.
const SETTINGS: [(&str, &str); 4] = [
    ("ipv4/conf/eth1/arp_ignore", "3"),
    ("ipv4/conf/eth1/arp_announce", "2"),
    ("ipv4/conf/eth1/drop_unicast_in_l2_multicast", "1"),
    ("ipv6/conf/eth1/drop_unicast_in_l2_multicast", "1"),
];
/// How often clients ask anew: which answer comes first, where there are two, is a matter of luck.
const ROUNDS: usize = 5;

/// Plugs another interface of `unix1` into the switch.
fn plug_in(lab: &Lab, with_address: bool) {
    let netns = lab.name().netns(Host::Node(1));
    let port = format!(
        "link add second type veth peer name eth1 address 02:00:00:00:09:01 netns {netns}\n\
         link set second master br0 up\n"
    );
    ip_batch(lab.name(), Host::Switch, &port).unwrap();
    if with_address {
        ip(lab, "unix1", "addr add 198.51.100.201/24 dev eth1");
        ip(lab, "unix1", "addr add 2001:db8::201/64 dev eth1 nodad");
    }
    ip(lab, "unix1", "link set eth1 up");
}

fn settings(lab: &Lab) -> Vec<String> {
    let read = |(key, _)| std::fs::read_to_string(format!("/proc/sys/net/{key}")).unwrap().trim().to_owned();
    lab.inside("unix1", || SETTINGS.into_iter().map(read).collect()).unwrap()
}

fn is_silent(lab: &Lab) -> bool {
    settings(lab) == SETTINGS.map(|(_, value)| value)
}

/// Everybody is served by the node that owns them, and by it alone.
fn all_is_well(lab: &Lab) {
    let announced = Watch::announcements(lab, "client", "eth0");
    let resets = Watch::resets(lab);
    let clients: Vec<IpAddr> = [1, 2].into_iter().flat_map(|node| client_of_each_family(lab, node)).collect();
    let mut sessions: Vec<Session> = clients.iter().map(|&client| Session::open(lab, client)).collect();
    let mut doubled = String::new();
    for _ in 0..ROUNDS {
        lab.exec_ok("client", &["ip", "neigh", "flush", "dev", "eth0"]).unwrap();
        for (session, client) in sessions.iter_mut().zip(&clients) {
            assert!(session.echoes(), "the session of {client} on {} is lost", session.host);
        }
        for &client in &clients {
            let vip = lab.vip_for(client).to_string();
            let words = ["ping", "-n", "-c2", "-i0.2", "-W1", "-I", &client.to_string(), &vip];
            let pinged = lab.exec("client", &words).unwrap();
            let said = String::from_utf8_lossy(&pinged.stdout).into_owned();
            doubled.extend(said.lines().filter(|line| line.contains("DUP!")).map(|line| format!("{line}\n")));
        }
    }
    for node in [1, 2] {
        assert_eq!(landed(lab, client_of(lab, node)), format!("unix{node}"));
    }
    let wrong: Vec<ArpMessage> =
        announced.seen().into_iter().filter(|message| message.sender_mac != CLUSTER_MAC).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(doubled, "");
    assert_eq!(resets.seen(), []);
}

fn a_second_interface(name: &str, with_address: bool) {
    let lab = Lab::up(Mode::Tcx.options(name, 2, 20).no_onevip()).unwrap();
    plug_in(&lab, with_address);
    lab.start_onevip().unwrap();
    all_claim(&lab);
    all_is_well(&lab);
    assert!(is_silent(&lab));
    let log = lab.node(1).onevip_log();
    let said = "eth1 is kept from answering for the VIPs, past the kernel part";
    assert_eq!(log.matches(said).count(), 1, "{log}");
    // Everything else that it answered, it answers as before: also for the address of the other one.
    let asked = lab.exec_ok("client", &["arping", "-c1", "-w5", "-I", "eth0", "198.51.100.11"]).unwrap();
    assert!(asked.contains("reply from"), "{asked}");
    kill_daemon(&lab, 1);
    assert!(onevip(&lab, 1, &["teardown"]).status.success());
    assert_eq!(settings(&lab), ["0", "0", "0", "0"]);
}

#[test]
fn a_second_interface_in_the_lan_answers_for_nothing() {
    a_second_interface("e2e-nic", false);
}

#[test]
fn a_second_interface_with_an_address_in_the_lan_answers_for_nothing() {
    a_second_interface("e2e-nic2", true);
}

#[test]
fn an_interface_that_comes_later_is_kept_silent_and_stays_so() {
    let lab = Mode::Tcx.lab("e2e-nic3", 2, 20);
    plug_in(&lab, true);
    wait("the new interface to be silent", || is_silent(&lab));
    all_is_well(&lab);
    for (key, _) in SETTINGS {
        netns::inside(lab.name(), Host::Node(1), || netns::sysctl(key, "0")).unwrap().unwrap();
    }
    wait("it to be silent again", || is_silent(&lab));
    assert!(lab.node(1).onevip_log().contains("somebody removed setting net/ipv4/conf/eth1/arp_ignore = 3"));
    // One that goes leaves nothing to undo.
    ip(&lab, "unix1", "link del eth1");
    let journal = lab.node(1).run_dir().join("host.json");
    wait("the journal to forget it", || !std::fs::read_to_string(&journal).unwrap().contains("eth1"));
    assert!(std::fs::read_to_string(&journal).unwrap().contains(&VIP.to_string()));
}
