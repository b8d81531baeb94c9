//! Health, end to end: real `sshd`s that are killed, stopped, slow and full; hosts that run out of everything.
//!
//! Verdicts are about what holds in the end: new users are served elsewhere, sessions stay, the node comes back. How fast
//! that goes is `onevip-lab bench health`'s business. Needs root, and `onevip` and `onevip-lab` built beside these tests.

#![allow(clippy::unwrap_used)]

mod answers;
mod host;
mod peer_check;
mod rolling_reboot;
mod several_nodes;
mod side_effects;
mod socket_activation;
mod sshd;

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use onevip_lab::load::SessionLog;
use onevip_lab::testbed::Testbed;
use onevip_lab::{Host, Lab, LabFault, Options, wait_until};
use serde_json::Value;

/// Long for everything that happens here, even on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster of three with clients at work.
fn testbed(options: Options) -> Testbed {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests build network namespaces: run them as root (make test)"
    );
    Testbed::set_up(options, &[Host::Client]).unwrap()
}

fn options(name: &str) -> Options {
    Options::test(&format!("hl{name}")).nodes(3).clients(24)
}

/// Watches until a condition holds.
fn until(testbed: &mut Testbed, what: &str, condition: impl FnMut(&mut Testbed) -> bool) {
    let held = testbed.watch(Instant::now() + PATIENCE, condition).unwrap();
    let logs: Vec<_> = testbed.lab.nodes().map(|node| node.onevip_log()).collect();
    assert!(held, "waited {PATIENCE:?} for {what}, in vain\n{}", logs.join("\n"));
}

/// Watches until every client is served by a node that `by` picks.
fn until_served(testbed: &mut Testbed, by: impl Fn(u8) -> bool) {
    until(testbed, "every client to be served", |testbed| {
        testbed.served().is_some_and(|served| served.values().all(|&node| by(node)))
    });
}

/// Watches until a node serves somebody.
fn until_back(testbed: &mut Testbed, node: u8) {
    until(testbed, "the node to serve again", |testbed| {
        testbed.served().is_some_and(|served| served.values().any(|&other| other == node))
    });
}

/// Nobody's session was lost: not those that carry data, and not those with `ssh`.
fn nobody_lost_a_session(testbed: &mut Testbed) {
    let now = Instant::now();
    until(testbed, "the sessions to go on", |testbed| {
        let goes_on =
            |log: &SessionLog| log.lost.is_some() || log.heard.back().is_some_and(|&heard| heard > now);
        testbed.sessions.glance().iter().all(goes_on)
    });
    let lost: Vec<_> = testbed.sessions.glance().into_iter().filter(|log| log.lost.is_some()).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert!(testbed.users.iter().all(|user| user.log().lost.is_none()), "nor was any ssh session lost");
}

/// A fault of node 2 sends its new users elsewhere, cuts nobody's session, and passes.
fn it_goes_out_and_comes_back(mut testbed: Testbed, fault: &LabFault, check: &str) -> Testbed {
    testbed.lab.fault(fault).unwrap();
    until_served(&mut testbed, |node| node != 2);
    let found = checked(&testbed.lab, 2, check);
    assert_eq!(found["state"], "out", "{found}");
    assert!(told_illness(&testbed.lab, 1, 2) > 0, "the others know");
    nobody_lost_a_session(&mut testbed);
    testbed.lab.heal(None).unwrap();
    until_back(&mut testbed, 2);
    nobody_lost_a_session(&mut testbed);
    let log = testbed.lab.node(2).onevip_log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(&format!(" {check}"))).collect();
    assert_eq!(lines.len(), 2, "one line out and one line back: {lines:#?}");
    testbed
}

/// How ill a node is in the eyes of another one.
fn told_illness(lab: &Lab, by: u8, of: u8) -> u64 {
    let status = lab.node(by).onevip_status().unwrap();
    let nodes = status["vips"][0]["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|node| node["id"] == of).unwrap();
    node["peer"]["illness"].as_u64().unwrap()
}

/// The health of a node, as `status` tells it.
fn health(lab: &Lab, node: u8) -> Value {
    lab.node(node).onevip_status().unwrap()["health"].clone()
}

/// What a check found on a node.
fn checked(lab: &Lab, node: u8, check: &str) -> Value {
    let health = health(lab, node);
    let checks = health["checks"].as_array().unwrap();
    checks.iter().find(|one| one["name"] == check).unwrap_or_else(|| panic!("no {check} in {health}")).clone()
}

fn until_state(lab: &Lab, node: u8, check: &str, state: &str) {
    let what = format!("{check} of unix{node} to be {state}");
    wait_until(PATIENCE, &what, || checked(lab, node, check)["state"] == state).unwrap();
}

/// A client whom a node serves.
fn client_of(testbed: &Testbed, node: u8) -> Ipv4Addr {
    testbed.clients_of(node).unwrap()[0]
}

/// Connects to SSH as a client does and says nothing. The connection stays until it is dropped.
fn connect(lab: &Lab, client: Ipv4Addr) -> std::net::TcpStream {
    let IpAddr::V4(vip) = lab.vip()[0] else { panic!("the lab's VIP is IPv4") };
    let dial = || onevip_lab::dial::dial(client, std::net::SocketAddrV4::new(vip, 22));
    lab.inside("client", dial).unwrap().unwrap()
}
