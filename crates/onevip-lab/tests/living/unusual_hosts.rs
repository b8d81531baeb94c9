//! Hosts that are not like the lab's: kernels that answer no questions, a state directory that went back.

use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use onevip_lab::process::{run, signal};
use onevip_lab::ssh_session::SshSession;
use onevip_lab::{Lab, LabFault, daemon, wait_until};

use super::{PATIENCE, answered_twice, bare, testbed, until, until_they_go_on};

/// Keeps questions for unix2's own addresses from its kernel, and nothing else.
fn let_nobody_ask_unix2(lab: &Lab) {
    let rules = [
        "add table arp f",
        "add chain arp f i { type filter hook input priority 0; }",
        "add rule arp f i arp operation request arp daddr ip 198.51.100.12 drop",
        "add table ip6 f",
        "add chain ip6 f i { type filter hook input priority 0; }",
        "add rule ip6 f i ip6 daddr ff02::1:ff00:12 icmpv6 type nd-neighbor-solicit drop",
    ];
    for rule in rules {
        lab.exec_ok("unix2", &["nft", rule]).unwrap();
    }
}

/// A session on unix2, from whichever client lands there.
fn session_on_unix2(lab: &Lab) -> SshSession {
    let clients: Vec<IpAddr> = lab.clients();
    let sessions = clients.iter().filter_map(|client| lab.quiet_session(*client).ok());
    sessions.into_iter().find(|session| session.host == "unix2").expect("some client of eight lands on unix2")
}

/// What unix1 knows of unix2.
fn unix2_by_unix1(lab: &Lab) -> serde_json::Value {
    let status = lab.node(1).onevip_status().unwrap();
    let nodes = status["vips"][0]["nodes"].as_array().unwrap().clone();
    nodes.into_iter().find(|node| node["name"] == "unix2").unwrap()["peer"].clone()
}

#[test]
fn sessions_of_a_node_that_cannot_be_asked_outlive_its_daemon() {
    let lab = bare("unasked");
    let_nobody_ask_unix2(&lab);
    lab.start_onevip().unwrap();
    let mut session = session_on_unix2(&lab);
    signal(lab.node(2).onevip().unwrap(), Signal::SIGKILL);
    let replaced = || lab.node(1).claims().unwrap_or(0) + lab.node(3).claims().unwrap_or(0) == 1024;
    wait_until(PATIENCE, "unix2 to be replaced", replaced).unwrap();
    // A kernel that is asked in vain is found gone within half a second; the second keystroke after that was reset.
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        let echoed = session.echo(PATIENCE);
        assert!(
            echoed.is_ok(),
            "the session lives and answers every key: {echoed:?}\n{}",
            lab.node(1).onevip_log()
        );
    }
    for node in [1, 3] {
        let log = lab.node(node).onevip_log();
        assert!(!log.contains("the kernel of unix2 no longer answers"), "{log}");
        assert!(log.contains("unix2's kernel does not answer for 198.51.100.12"), "said beforehand: {log}");
    }
    assert_eq!(unix2_by_unix1(&lab)["kernel_askable"], false);
    let doctor = run(&mut lab.node(1).onevip_command("doctor").unwrap(), PATIENCE).unwrap();
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains("kernel-unaskable") && said.contains("arping"), "{said}");

    let forget = |node: &str| {
        let output = run(lab.node(1).onevip_command("forget").unwrap().arg(node), PATIENCE).unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (done, said) = forget("unix3");
    assert!(!done && said.contains("unix3 is alive"), "{said}");
    assert!(forget("unix2").0);
    assert_eq!(unix2_by_unix1(&lab)["kernel_gone"], true);
    lab.node(2).start_onevip().unwrap();
    wait_until(PATIENCE, "unix2 to be remembered", || unix2_by_unix1(&lab)["kernel_gone"] == false).unwrap();
    session.echo(PATIENCE).unwrap();
}

#[test]
fn a_node_that_dies_while_another_daemon_is_down_is_found_gone_by_it() {
    let lab = bare("knew");
    lab.start_onevip().unwrap();
    let written = daemon::state_dir(lab.name(), 1).join("answering");
    let knows = || fs::read_to_string(&written).is_ok_and(|text| text.contains("eth0 198.51.100.12"));
    wait_until(PATIENCE, "unix1 to write down that unix2 answers", knows).unwrap();
    lab.node(1).stop_onevip();
    lab.fault(&LabFault::PowerOff(2)).unwrap();
    lab.node(1).start_onevip().unwrap();
    wait_until(PATIENCE, "unix2 to be found gone", || unix2_by_unix1(&lab)["kernel_gone"] == true).unwrap();
}

#[test]
fn a_node_whose_number_went_back_begins_anew_and_claims_nothing_beside_the_others() {
    let mut testbed = testbed("anew");
    let start = Instant::now();
    let file = daemon::state_dir(testbed.lab.name(), 2).join("incarnation");
    let restart_after = |testbed: &mut onevip_lab::testbed::Testbed, number: &str| {
        testbed.lab.node(2).stop_onevip();
        fs::write(&file, number).unwrap();
        testbed.lab.node(2).start_onevip().unwrap();
        until(testbed, "everything to be shared", |testbed| {
            let claims: Vec<u64> = (1..=3).map(|id| testbed.lab.node(id).claims().unwrap_or(0)).collect();
            claims[1] > 0 && claims.iter().sum::<u64>() == 1024
        });
        until_they_go_on(testbed, |log| log.lost.is_none());
    };
    restart_after(&mut testbed, "4000000000\n");
    restart_after(&mut testbed, "5\n");
    let log = testbed.lab.node(2).onevip_log();
    assert!(log.contains("know a later life of this node (incarnation 4000000001)"), "{log}");
    assert!(log.contains("begins anew as incarnation 4000000002"), "{log}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "4000000002\n");
    assert_eq!(super::lost(&testbed, |_| true), []);
    assert_eq!(answered_twice(&testbed, start), []);
}
