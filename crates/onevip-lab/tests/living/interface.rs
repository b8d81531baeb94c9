//! Nothing about a VIP's interface is constant: it is deleted and made anew (`netplan apply`, a VLAN or bond that is
//! created again), or gets another MAC (a bond that fails over, a bridge that loses a port). The node follows.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use onevip_lab::load::SessionLog;
use onevip_lab::plan::{LabPlan, vip4, vip6};
use onevip_lab::process::signal;
use onevip_lab::testbed::Testbed;
use onevip_lab::wire::Tap;
use onevip_lab::{Host, Lab, LabFault, wait_until};

use super::address_families::{Session, client_of, lab, landed, missing, takes_its_share};
use super::{PATIENCE, answered_twice, lost, testbed, until, until_served, until_they_go_on};

/// A kernel that was away from the LAN for less than this was not yet asked in vain as often as it takes to be found gone:
/// `probe_after`, and 12 questions (docs/membership.md, timers).
const NOT_YET_GONE: Duration = Duration::from_millis(105 + 12 * 25);

/// The interface of a node goes and comes back at once, as with `netplan apply`. How long it was away, at most.
fn renew(testbed: &Testbed, node: u8) -> Duration {
    let start = Instant::now();
    testbed.lab.fault(&LabFault::NoInterface(node)).unwrap();
    testbed.lab.heal(None).unwrap();
    start.elapsed()
}

/// What `onevip` says on a node; it must succeed.
fn said(testbed: &Testbed, node: u8, words: &[&str]) -> String {
    let mut command = testbed.lab.node(node).onevip_command(words[0]).unwrap();
    let output = command.args(&words[1..]).output().unwrap();
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{words:?} on unix{node}: {text}");
    text
}

fn until_it_serves(testbed: &mut Testbed, node: u8) {
    until(testbed, "the node to serve again", |testbed| {
        testbed.served().is_some_and(|served| served.values().any(|&by| by == node))
    });
}

#[test]
fn a_node_whose_interface_is_made_anew_serves_again_by_itself() {
    let mut testbed = testbed("anew");
    let start = Instant::now();
    renew(&testbed, 2);
    let back = Instant::now();
    until_it_serves(&mut testbed, 2);
    println!("serves again {:?} after its interface was there", back.elapsed());
    for node in [1, 2] {
        let everybody = said(&testbed, node, &["who", "--all-nodes"]);
        assert!(!everybody.contains("does not answer"), "letters take their old way: {everybody}");
    }
    until_they_go_on(&mut testbed, |log| log.node != 2);
    assert_eq!(lost(&testbed, |log| log.node != 2), []);
    assert_eq!(answered_twice(&testbed, start), []);
}

/// The node says what is wrong, goes on, and serves again when the interface is back.
#[test]
fn a_node_without_its_interface_says_so_and_blames_nobody() {
    let mut testbed = testbed("no-eth");
    let start = Instant::now();
    testbed.lab.fault(&LabFault::NoInterface(2)).unwrap();
    until_served(&mut testbed, |node| node != 2);
    let trouble =
        |testbed: &Testbed| testbed.lab.node(2).onevip_status().unwrap()["vips"][0]["trouble"].clone();
    until(&mut testbed, "the reason in its status", |testbed| {
        trouble(testbed) == "interface eth0 is not there"
    });
    assert!(super::status_page(&testbed, 2).contains("interface eth0 is not there"));
    let mut doctor = testbed.lab.node(2).onevip_command("doctor").unwrap();
    let output = doctor.arg("--json").output().unwrap();
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(findings[0]["check"], "interface", "{findings:?}");
    let checks: Vec<_> = findings.iter().map(|finding| finding["check"].as_str().unwrap()).collect();
    let blames = |check: &&str| ["node-out", "snooping-switch", "no-share", "health"].contains(check);
    assert!(!checks.iter().any(blames), "{findings:?}");

    testbed.lab.heal(None).unwrap();
    until_it_serves(&mut testbed, 2);
    assert!(trouble(&testbed).is_null());
    let log = testbed.lab.node(2).onevip_log();
    let about_it = log.lines().filter(|line| line.contains("eth0")).count();
    assert!(about_it < 30, "the log is full of it:\n{log}");
    assert_eq!(lost(&testbed, |log| log.node != 2), []);
    assert_eq!(answered_twice(&testbed, start), []);
}

/// `netplan apply` on all nodes by one `for` loop. Who was away for too long may have been taken for dead, and its sessions
/// for orphans; who never was is untouched.
#[test]
fn interfaces_made_anew_on_all_nodes_in_turn_never_make_two_answer() {
    let mut testbed = testbed("anew-all");
    let start = Instant::now();
    let away: Vec<Duration> = (1..=3).map(|node| renew(&testbed, node)).collect();
    println!("away for {away:?}");
    for node in 1..=3 {
        until_it_serves(&mut testbed, node);
    }
    until_served(&mut testbed, |_| true);
    until_they_go_on(&mut testbed, |log| log.lost.is_none());
    assert_eq!(answered_twice(&testbed, start), []);
    let logs: Vec<String> = testbed.lab.nodes().map(|node| node.onevip_log()).collect();
    let never_gone = |log: &SessionLog| away[usize::from(log.node) - 1] < NOT_YET_GONE;
    assert_eq!(lost(&testbed, never_gone), [], "away for {away:?}\n{}", logs.join("\n"));
}

/// The same with time between: what is away for longer than its kernel is asked for may lose its own sessions, nobody
/// else's.
#[test]
fn interfaces_made_anew_one_after_the_other_cost_no_session_elsewhere() {
    let mut testbed = testbed("anew-each");
    let start = Instant::now();
    for node in 1..=3 {
        testbed.lab.fault(&LabFault::NoInterface(node)).unwrap();
        until_served(&mut testbed, |by| by != node);
        testbed.lab.heal(None).unwrap();
        until_it_serves(&mut testbed, node);
        let elsewhere = |log: &SessionLog| log.node > node;
        until_they_go_on(&mut testbed, elsewhere);
        assert_eq!(lost(&testbed, elsewhere), [], "when unix{node} had gone");
    }
    assert_eq!(answered_twice(&testbed, start), []);
}

/// The source of the next beat to arrive that goes to the VIP in this family (EtherType).
fn next_beat_source(tap: &Tap, v6: bool) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let frame = tap.next(deadline).unwrap().expect("a beat");
        let is_beat = match (v6, frame.get(12..14)) {
            (false, Some([0x08, 0x00])) => frame[23] == 17 && frame[30..34] == vip4().octets(),
            (true, Some([0x86, 0xdd])) => frame[20] == 17 && frame[38..54] == vip6().octets(),
            _ => false,
        };
        if is_beat {
            let bytes: Vec<String> = frame[6..12].iter().map(|byte| format!("{byte:02x}")).collect();
            return bytes.join(":");
        }
    }
}

#[test]
fn beats_and_questions_follow_a_mac_that_changes_and_no_session_is_lost() {
    let mut testbed = testbed("mac");
    let start = Instant::now();
    let (old, new) = (LabPlan::mac(Host::Node(2)), LabPlan::other_mac(Host::Node(2)));
    let tap = testbed.lab.tap("switch", "unix2").unwrap();
    testbed.lab.fault(&LabFault::OtherMac(2)).unwrap();
    let changed = Instant::now();
    for v6 in [false, true] {
        while next_beat_source(&tap, v6) != new {
            assert!(changed.elapsed() < PATIENCE, "beats go on from {old}");
        }
        println!("a beat from the new MAC {:?} after the change (IPv6: {v6})", changed.elapsed());
    }
    // From now on the switch, or the NIC, keeps frames to the old MAC from the node: so must the questions be answered
    // that the node asks when another one's daemon falls silent, or that one's sessions are taken for orphans.
    let rules = format!(
        "add table bridge filter_mac {{ chain to {{ type filter hook postrouting priority 301; \
         oifname \"unix2\" ether daddr {old} drop; }}; }}"
    );
    testbed.lab.exec_ok("switch", &["nft", &rules]).unwrap();
    for node in [3, 2] {
        let daemon = testbed.lab.node(node).onevip().unwrap();
        signal(daemon, Signal::SIGSTOP);
        until_served(&mut testbed, |by| by != node);
        // Every client tries twice: what is taken for an orphan is reset then.
        until_they_go_on(&mut testbed, |_| true);
        until_they_go_on(&mut testbed, |_| true);
        for other in (1..=3).filter(|other| *other != node) {
            assert!(
                !takes_for_gone(&testbed.lab, other, node),
                "unix{other} takes the kernel of unix{node} for gone"
            );
        }
        signal(daemon, Signal::SIGCONT);
        until_it_serves(&mut testbed, node);
    }
    // The MAC is part of what tells hosts apart; for the others this one stays the same.
    said(&testbed, 2, &["reload"]);
    until_they_go_on(&mut testbed, |_| true);
    until_they_go_on(&mut testbed, |_| true);
    until_it_serves(&mut testbed, 2);
    for node in [1, 2, 3] {
        let page = said(&testbed, node, &["status"]);
        assert!(!page.contains("OUT"), "{page}");
    }
    assert!(
        !testbed.lab.node(1).onevip_log().contains("two hosts beat"),
        "{}",
        testbed.lab.node(1).onevip_log()
    );
    assert_eq!(lost(&testbed, |_| true), []);
    assert!(testbed.users.iter().all(|user| user.log().lost.is_none()), "nor is any ssh session");
    assert_eq!(answered_twice(&testbed, start), []);
}

/// Whether a node says that the kernel of another one is gone.
fn takes_for_gone(lab: &Lab, node: u8, other: u8) -> bool {
    let status = lab.node(node).onevip_status().unwrap();
    let nodes = status["vips"][0]["nodes"].as_array().unwrap().clone();
    nodes.iter().any(|node| node["id"] == other && node["peer"]["kernel_gone"] == true)
}

/// By both families, with `ssh`: those who are logged in elsewhere notice nothing, and the node serves both again.
#[test]
fn an_interface_made_anew_serves_both_families_again() {
    let lab = lab("anew-dual", &[]);
    let families = [lab.clients(), lab.clients6()];
    let of = |host| families.iter().map(|clients| client_of(clients, &lab, host)).collect::<Vec<_>>();
    let (of_unix1, of_unix2) = (of("unix1"), of("unix2"));
    let mut sessions: Vec<Session> = of_unix1.iter().map(|&client| Session::open(&lab, client)).collect();
    lab.fault(&LabFault::NoInterface(2)).unwrap();
    lab.heal(None).unwrap();
    takes_its_share(&lab, 2);
    for &client in &of_unix2 {
        assert_eq!(landed(&lab, client).as_deref(), Some("unix2"), "{client}");
    }
    wait_until(PATIENCE, "no family to be missed", || missing(&lab, 1) == [None, None]).unwrap();
    sessions.iter_mut().for_each(Session::echoes);
}

/// What the network manager brings back later than the interface: without an address of its own the node could answer
/// nobody, so it claims nothing until then.
#[test]
fn a_node_waits_for_its_own_addresses() {
    let mut testbed = testbed("own-late");
    let start = Instant::now();
    testbed.lab.fault(&LabFault::NoInterface(2)).unwrap();
    let switch = "link add unix2 type veth peer name eth0 netns {ns}\nlink set unix2 master br0 up\n";
    let netns = testbed.lab.name().netns(Host::Node(2));
    onevip_lab::net::ip_batch(testbed.lab.name(), Host::Switch, &switch.replace("{ns}", &netns)).unwrap();
    let on_node = |batch: &str| onevip_lab::net::ip_batch(testbed.lab.name(), Host::Node(2), batch).unwrap();
    on_node(&format!("link set eth0 address {} up\n", LabPlan::mac(Host::Node(2))));
    let trouble =
        |testbed: &Testbed| testbed.lab.node(2).onevip_status().unwrap()["vips"][0]["trouble"].clone();
    let says = |testbed: &Testbed, family: &str| {
        trouble(testbed).as_str().is_some_and(|said| said.contains(&format!("no {family} address")))
    };
    wait_until(PATIENCE, "it to wait for IPv4", || says(&testbed, "IPv4")).unwrap();
    on_node("addr add 198.51.100.12/24 brd + dev eth0\n");
    wait_until(PATIENCE, "it to wait for IPv6", || says(&testbed, "IPv6")).unwrap();
    // What it claimed before is void when its lease has run out.
    wait_until(PATIENCE, "it to claim nothing", || testbed.lab.node(2).claims() == Some(0)).unwrap();
    on_node("addr add 2001:db8::12/64 dev eth0 nodad\n");
    until_it_serves(&mut testbed, 2);
    assert!(trouble(&testbed).is_null());
    assert_eq!(answered_twice(&testbed, start), []);
}
