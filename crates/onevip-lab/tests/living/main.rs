//! Living membership, end to end: real daemons, real packets, real `ssh`, and faults made on purpose.
//!
//! Verdicts are about what holds in the end, with deadlines far beyond what a good day needs: how fast it goes is
//! `onevip-lab bench failover`'s business. Needs root, and `onevip` and `onevip-lab` built beside these tests:
//! `cargo build --workspace` does it.

#![allow(clippy::unwrap_used)]

mod families;
mod faults;
mod flood;
mod hostile;
mod interface;
mod planned;
mod pools;
mod strangeness;
mod strangers;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use onevip_lab::bench::stage::Stage;
use onevip_lab::load::{Outcome, SessionLog};
use onevip_lab::{Host, Lab, Options};

/// Long for everything that happens here, even on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);

/// A cluster of three with clients at work.
fn stage(name: &str) -> Stage {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests build network namespaces: run them as root (make test)"
    );
    Stage::set(Options::test(name).nodes(3).clients(24), &[Host::Client]).unwrap()
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
fn until(stage: &mut Stage, what: &str, condition: impl FnMut(&mut Stage) -> bool) {
    let held = stage.watch(Instant::now() + PATIENCE, condition).unwrap();
    assert!(held, "waited {PATIENCE:?} for {what}, in vain; sessions lost: {:?}", lost(stage, |_| true));
}

/// Watches until every client is served by a node that `by` picks.
fn until_served(stage: &mut Stage, by: impl Fn(u8) -> bool) {
    until(stage, "every client to be served", |stage| {
        stage.served().is_some_and(|served| served.values().all(|&node| by(node)))
    });
}

/// Watches until all sessions that `which` picks have had an answer to something sent after now.
fn until_they_go_on(stage: &mut Stage, which: impl Fn(&SessionLog) -> bool) {
    let now = Instant::now();
    until(stage, "the sessions to go on", |stage| {
        let goes_on =
            |log: &SessionLog| log.lost.is_none() && log.heard.back().is_some_and(|&heard| heard > now);
        stage.sessions.glance().iter().filter(|log| which(log)).all(goes_on)
    });
}

/// The sessions that were lost among those that `which` picks.
fn lost(stage: &Stage, which: impl Fn(&SessionLog) -> bool) -> Vec<(Ipv4Addr, u8, String)> {
    let logs = stage.sessions.glance();
    let lost = logs.iter().filter(|log| which(log));
    lost.filter_map(|log| Some((log.client, log.node, log.lost.as_ref()?.1.clone()))).collect()
}

/// What `onevip status` on a node says.
fn status_page(stage: &Stage, node: u8) -> String {
    let output = stage.lab.node(node).onevip_command("status").unwrap().output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// SYNs that were answered by two nodes since `from`.
fn answered_twice(stage: &Stage, from: Instant) -> Vec<(Ipv4Addr, Outcome)> {
    stage.tape.twice(from, Instant::now()).iter().map(|knock| (knock.client, knock.outcome)).collect()
}
