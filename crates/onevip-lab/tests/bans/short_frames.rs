//! Messages between nodes pass links and paths that carry no more than IPv6 asks for.

use onevip_lab::{Host, Lab};

use super::{PATIENCE, lab, said};
use onevip_lab::process::run_ok;
use onevip_lab::wait_until;

/// The least that a link bears which carries IPv6 (RFC 8200, section 5).
const MTU: &str = "1280";
/// More than one message holds, whatever its length.
const BANS: usize = 200;

fn bans_of(lab: &Lab, node: u8) -> usize {
    said(lab, node, "bans", &["--json"]).lines().count()
}

/// Bans many on one node; all come to know, and all answer when asked who is logged in.
fn everything_is_told(lab: &Lab) {
    let prefixes: Vec<String> = (0..BANS).map(|number| format!("203.0.113.{number}")).collect();
    let said_of = |node: u8, words: &[&str]| said(lab, node, words[0], &words[1..]);
    for prefix in &prefixes {
        said_of(
            1,
            &["ban", prefix, "--reason", "a reason that takes some room in a message, as many of them do"],
        );
    }
    for node in 1..=3 {
        wait_until(PATIENCE, &format!("unix{node} to know of all bans"), || bans_of(lab, node) == BANS)
            .unwrap();
    }
    // The list of sessions of one node is a long answer as well, once somebody is logged in.
    let _sessions: Vec<_> =
        lab.clients().into_iter().take(8).map(|client| lab.session(Some(client)).unwrap()).collect();
    let mut command = lab.node(2).onevip_command("who").unwrap();
    let who = run_ok(command.arg("--all-nodes"), PATIENCE).unwrap();
    assert!(!who.contains("does not answer"), "{who}");
}

#[test]
fn everything_is_told_where_the_interfaces_carry_1280_bytes() {
    let lab = lab("lim-mtu", 3);
    for node in 1..=3 {
        lab.exec_ok(&Host::Node(node).to_string(), &["ip", "link", "set", "eth0", "mtu", MTU]).unwrap();
    }
    everything_is_told(&lab);
}

#[test]
fn everything_is_told_where_the_path_loses_longer_frames() {
    let lab = lab("lim-path", 3);
    let ports = lab.exec_ok("switch", &["ip", "-o", "link", "show", "type", "veth"]).unwrap();
    let name = |line: &str| line.split(": ").nth(1).unwrap().split('@').next().unwrap().to_owned();
    let ports: Vec<String> = ports.lines().map(name).collect();
    assert!(ports.len() >= 3, "{ports:?}");
    for port in &ports {
        lab.exec_ok("switch", &["ip", "link", "set", port, "mtu", MTU]).unwrap();
    }
    everything_is_told(&lab);
}

/// IPv6 is gone from such a link; what is left is said.
#[test]
fn an_interface_that_carries_less_is_named() {
    let lab = lab("lim-short", 2);
    let doctor = |node: u8| {
        let output = super::onevip(&lab, node, "doctor", &[]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(!doctor(1).contains("carries"), "{}", doctor(1));
    lab.exec_ok("unix1", &["ip", "link", "set", "eth0", "mtu", "1200"]).unwrap();
    let words = "interface eth0 carries 1200 bytes at most (mtu), and nodes send up to 1280";
    assert!(doctor(1).contains(words), "{}", doctor(1));
}
