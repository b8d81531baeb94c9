//! The lab and the daemon: started, killed, stopped and taken down in the box. (That the cluster keeps its promises is
//! tested elsewhere; here it is the lab that is tested.)
//!
//! Needs root, and `onevip` built beside this test: `cargo build --workspace` does it.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use common::traces;
use onevip_lab::process::is_alive;
use onevip_lab::{Lab, LabFault, Options, wait_until};

const PATIENCE: Duration = Duration::from_secs(20);

fn up(name: &str) -> Lab {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests build network namespaces: run them as root (make test)"
    );
    Lab::up(Options::test(name).nodes(2).clients(8)).unwrap()
}

fn host_of(lab: &Lab, client: usize) -> String {
    let output = lab.ssh(Some(lab.clients()[client]), "hostname").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn clients_log_in_to_the_vip_and_down_leaves_nothing_behind() {
    let lab = up("daemon");
    let hosts: BTreeSet<String> = (0..8).map(|client| host_of(&lab, client)).collect();
    assert!(hosts.iter().all(|host| host == "unix1" || host == "unix2"), "{hosts:?}");
    let mut session = lab.session(None).unwrap();
    assert_eq!((session.host.clone(), session.client.0), (host_of(&lab, 0), lab.clients()[0]));
    session.echo(PATIENCE).unwrap();
    let pids: Vec<i32> = lab.nodes().flat_map(|node| node.pids()).collect();
    let name = lab.name().clone();
    lab.down().unwrap();
    assert_eq!(traces(&name), BTreeSet::new());
    assert!(pids.into_iter().all(|pid| !is_alive(pid)));
}

#[test]
fn a_killed_daemon_is_started_again_by_healing() {
    let lab = up("kill");
    let old = lab.node(1).onevip().unwrap();
    lab.fault(&LabFault::KillOnevip(1)).unwrap();
    assert!(!is_alive(old) && lab.node(1).onevip().is_none());
    assert!(lab.node(1).sshd().is_some(), "only the daemon was killed");
    lab.heal(Some("unix1")).unwrap();
    assert!(lab.node(1).onevip().is_some_and(|pid| pid != old));
    host_of(&lab, 0);
}

/// The state of a process as `/proc` has it: `S`, `T`, …
fn state(pid: i32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
}

#[test]
fn a_frozen_daemon_stands_still_alone() {
    let lab = up("fdaemon");
    let (daemon, sshd) = (lab.node(1).onevip().unwrap(), lab.node(1).sshd().unwrap());
    lab.fault(&LabFault::FreezeOnevip(1)).unwrap();
    assert_eq!(state(daemon), 'T');
    assert_ne!(state(sshd), 'T');
    lab.heal(None).unwrap();
    wait_until(PATIENCE, "the daemon to go on", || state(daemon) != 'T').unwrap();
    assert_eq!(lab.node(1).onevip(), Some(daemon));
}

#[test]
fn a_node_boots_with_its_daemon() {
    let lab = up("boot");
    lab.fault(&LabFault::PowerOff(2)).unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let pins = lab.node(2).run_dir().display().to_string();
    assert!(!mounts.contains(&pins), "no pins outlive the power: {mounts}");
    lab.heal(Some("unix2")).unwrap();
    assert!(lab.node(2).onevip().is_some());
    (0..8).for_each(|client| drop(host_of(&lab, client)));
}

#[test]
fn down_copes_with_daemons_that_were_frozen_or_killed() {
    let lab = up("rough");
    lab.fault(&LabFault::FreezeOnevip(1)).unwrap();
    lab.fault(&LabFault::Freeze(2)).unwrap();
    let name = lab.name().clone();
    lab.down().unwrap();
    assert_eq!(traces(&name), BTreeSet::new());
}
