//! Living membership, end to end: real daemons, real packets, real `ssh`, and faults made on purpose.
//!
//! Verdicts are about what holds in the end, with deadlines far beyond what a good day needs: how fast it goes is
//! `onevip-lab bench failover`'s business. Needs root, and `onevip` and `onevip-lab` built beside these tests:
//! `cargo build --workspace` does it.

#![allow(clippy::unwrap_used)]

mod address_families;
mod beat_security;
mod faults;
mod flood_delivery;
mod interface;
mod misconfiguration;
mod planned_changes;
mod several_vips;
mod unusual_hosts;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use onevip_lab::load::{ProbeOutcome, SessionLog};
use onevip_lab::testbed::Testbed;
use onevip_lab::{Host, Lab, Options};

/// Long for everything that happens here, even on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);

/// A cluster of three with clients at work.
fn testbed(name: &str) -> Testbed {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests build network namespaces: run them as root (make test)"
    );
    Testbed::set_up(Options::test(name).nodes(3).clients(24), &[Host::Client]).unwrap()
}

/// A lab of three without daemons, to be started one by one.
fn bare(name: &str) -> Lab {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests build network namespaces: run them as root (make test)"
    );
    Lab::up(Options::test(name).nodes(3).clients(8).no_onevip()).unwrap()
}

/// Watches until a condition holds.
fn until(testbed: &mut Testbed, what: &str, condition: impl FnMut(&mut Testbed) -> bool) {
    let held = testbed.watch(Instant::now() + PATIENCE, condition).unwrap();
    assert!(held, "waited {PATIENCE:?} for {what}, in vain; sessions lost: {:?}", lost(testbed, |_| true));
}

/// Watches until every client is served by a node that `by` picks.
fn until_served(testbed: &mut Testbed, by: impl Fn(u8) -> bool) {
    until(testbed, "every client to be served", |testbed| {
        testbed.served().is_some_and(|served| served.values().all(|&node| by(node)))
    });
}

/// Watches until all sessions that `which` picks have had an answer to something sent after now.
fn until_they_go_on(testbed: &mut Testbed, which: impl Fn(&SessionLog) -> bool) {
    let now = Instant::now();
    until(testbed, "the sessions to go on", |testbed| {
        let goes_on =
            |log: &SessionLog| log.lost.is_none() && log.heard.back().is_some_and(|&heard| heard > now);
        testbed.sessions.glance().iter().filter(|log| which(log)).all(goes_on)
    });
}

/// The sessions that were lost among those that `which` picks.
fn lost(testbed: &Testbed, which: impl Fn(&SessionLog) -> bool) -> Vec<(Ipv4Addr, u8, String)> {
    let logs = testbed.sessions.glance();
    let lost = logs.iter().filter(|log| which(log));
    lost.filter_map(|log| Some((log.client, log.node, log.lost.as_ref()?.1.clone()))).collect()
}

/// What `onevip status` on a node says.
fn status_page(testbed: &Testbed, node: u8) -> String {
    let output = testbed.lab.node(node).onevip_command("status").unwrap().output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// SYNs that were answered by two nodes since `from`.
fn answered_twice(testbed: &Testbed, from: Instant) -> Vec<(Ipv4Addr, ProbeOutcome)> {
    testbed.samples.twice(from, Instant::now()).iter().map(|probe| (probe.client, probe.outcome)).collect()
}
