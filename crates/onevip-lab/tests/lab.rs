//! The lab itself, without the daemon: it comes up, holds together, breaks on purpose, and leaves nothing behind.
//!
//! Needs root, as everything in namespaces does. Each test has a lab of its own name, so they may run side by side.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use onevip_lab::bench::access::switch_mode::{self, SwitchMode};
use onevip_lab::cleanup::test_name;
use onevip_lab::process::{is_alive, run, signal};
use onevip_lab::{Lab, LabFault, Name, Options, lab, netns, wait_until};

use common::traces;

const PATIENCE: Duration = Duration::from_secs(20);

fn up(name: &str, nodes: usize) -> Lab {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests build network namespaces: run them as root (make test)"
    );
    Lab::up(Options::test(name).nodes(nodes).clients(3).no_onevip()).unwrap()
}

/// The whole name of a test's lab.
fn named(name: &str) -> Name {
    Name::new(&test_name(name, std::process::id())).unwrap()
}

/// One echo request; true when the answer comes.
fn pings(lab: &Lab, from: &str, to: &str) -> bool {
    lab.exec(from, &["ping", "-n", "-c1", "-W1", to]).unwrap().status.success()
}

/// True as soon as one of many pings (one attempt may fall into a change of links) is answered.
fn reaches(lab: &Lab, from: &str, to: &str) -> bool {
    wait_until(PATIENCE, "an answer", || pings(lab, from, to)).is_ok()
}

fn address(lab: &Lab, node: u8) -> String {
    lab.node(node).address().to_string()
}

/// What `ssh` to a node's own address says, and how it ends.
fn log_in(lab: &Lab, node: u8, command: &str) -> (bool, String) {
    let mut ssh = lab.ssh_command(lab.node(node).address(), Some(lab.clients()[1])).unwrap();
    let output = run(ssh.arg(command), PATIENCE).unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[test]
fn down_leaves_nothing_behind() {
    let lab = up("trace", 2);
    // A session with a child in the background: the kind that outlives its sshd.
    assert_eq!(log_in(&lab, 1, "sleep 1000 >/dev/null 2>&1 & hostname"), (true, "unix1".into()));
    let before = traces(&named("trace"));
    for kind in ["directory", "netns unix1", "netns switch", "mount", "process"] {
        assert!(before.iter().any(|t| t.starts_with(kind)), "{kind} is missing in {before:#?}");
    }
    let pids = lab.node(1).pids();
    assert!(pids.len() >= 2, "sshd and sleep: {pids:?}");
    lab.down().unwrap();
    assert_eq!(traces(&named("trace")), BTreeSet::new());
    assert!(pids.iter().all(|&pid| !is_alive(pid)));
}

#[test]
fn dropping_takes_the_lab_down_also_when_a_test_panics() {
    let story = std::panic::catch_unwind(|| {
        let _lab = up("panic", 1);
        panic!("on purpose");
    });
    assert!(story.is_err());
    assert_eq!(traces(&named("panic")), BTreeSet::new());
}

#[test]
fn what_fails_half_way_leaves_nothing_behind() {
    // No address in the file: refused before anything is made.
    assert!(Lab::up(Options::test("half").no_onevip().config("cluster = \"x\"")).is_err());
    assert_eq!(traces(&named("half")), BTreeSet::new());
    // A daemon that ends at once: everything else runs by then.
    let output = run(command("half").env("ONEVIP", "/bin/false").args(["--nodes", "2"]), PATIENCE).unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && message.contains("onevip on unix"), "{message}");
    assert_eq!(traces(&named("half")), BTreeSet::new());
}

/// `onevip-lab up --name NAME`, to be completed.
fn command(name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onevip-lab"));
    command.args(["up", "--name", named(name).as_str()]);
    command
}

#[test]
fn an_interrupted_up_leaves_nothing_behind() {
    // A daemon that starts and is never ready, so that `up` is surely still waiting when it is interrupted.
    let never_ready = std::env::temp_dir().join(format!("never-ready-{}", std::process::id()));
    fs::write(&never_ready, "#!/bin/sh\n[ \"$1\" = run ] || exit 0\nexec sleep 1000\n").unwrap();
    fs::set_permissions(&never_ready, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut up = command("intr").env("ONEVIP", &never_ready).args(["--nodes", "2"]).spawn().unwrap();
    let started = || named("intr").node_dir(2).join("onevip.pid").exists();
    wait_until(PATIENCE, "the daemons to start", started).unwrap();
    signal(up.id().cast_signed(), nix::sys::signal::Signal::SIGINT);
    let mut status = None;
    wait_until(PATIENCE, "the end of up", || {
        status = up.try_wait().unwrap();
        status.is_some()
    })
    .unwrap();
    fs::remove_file(never_ready).unwrap();
    assert!(!status.unwrap().success());
    assert_eq!(traces(&named("intr")), BTreeSet::new());
}

#[test]
fn labs_live_side_by_side() {
    let (one, two) = (up("side", 1), up("side-2", 1));
    fs::write(one.node(1).dir().join("mark"), "one").unwrap();
    assert!(pings(&one, "client", "198.51.100.11") && pings(&two, "client", "198.51.100.11"));
    one.down().unwrap();
    assert_eq!(traces(&named("side")), BTreeSet::new());
    assert_eq!(log_in(&two, 1, "hostname"), (true, "unix1".into()));
    assert!(!two.node(1).dir().join("mark").exists());
}

#[test]
fn up_after_a_crash_cleans_up_first() {
    let crashed = up("crash", 2);
    let old = crashed.node(1).sshd().unwrap();
    signal(crashed.node(2).sshd().unwrap(), nix::sys::signal::Signal::SIGKILL);
    fs::remove_file(crashed.dir().join("state.json")).unwrap();
    fs::write(crashed.node(1).run_dir().join("stale"), "").unwrap();
    crashed.keep();
    assert!(Lab::open(named("crash").as_str()).is_err());

    let fresh = up("crash", 1);
    assert!(!is_alive(old));
    assert!(!fresh.node(1).run_dir().join("stale").exists());
    assert_eq!(netns::list().iter().filter(|(name, _)| name == fresh.name()).count(), 4);
    assert_eq!(log_in(&fresh, 1, "hostname"), (true, "unix1".into()));
}

#[test]
fn a_lab_that_somebody_uses_is_not_replaced() {
    let first = up("own", 1);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| up("own", 2));
        assert_eq!(log_in(&first, 1, "hostname"), (true, "unix1".into()));
        assert!(!second.is_finished());
        first.down().unwrap();
        assert_eq!(second.join().unwrap().plan().nodes, 2);
    });
}

#[test]
fn down_needs_no_written_state() {
    let lab = up("lost", 1);
    fs::remove_dir_all(lab.dir().join("nodes")).unwrap();
    fs::remove_file(lab.dir().join("state.json")).unwrap();
    lab.keep();
    lab::down(&named("lost")).unwrap();
    assert_eq!(traces(&named("lost")), BTreeSet::new());
}

#[test]
fn hosts_are_what_they_should_be() {
    let lab = up("hosts", 2);
    for host in ["unix1", "unix2", "client", "client2"] {
        assert_eq!(lab.exec_ok(host, &["hostname"]).unwrap().trim(), host);
    }
    assert_eq!(log_in(&lab, 2, "hostname"), (true, "unix2".into()));
    let log = lab.node(2).sshd_log();
    assert!(log.contains("Accepted publickey for root from 198.51.100.102 "), "{log}");
    assert!(pings(&lab, "client", "2001:db8::12") && pings(&lab, "client2", "198.51.100.11"));
    let (to, from): (IpAddr, IpAddr) = ("2001:db8::12".parse().unwrap(), "2001:db8::103".parse().unwrap());
    let session = lab.session_to(to, Some(from)).unwrap();
    assert_eq!((session.host.as_str(), session.client.0), ("unix2", from));
    session.close().unwrap();
    let client = lab.exec_ok("client", &["ip", "-br", "addr", "show", "eth0"]).unwrap();
    assert!(client.contains("198.51.100.103/24") && !client.contains("198.51.100.104"), "{client}");
    // No way out, and no VIP anywhere.
    assert_eq!(lab.exec_ok("unix1", &["ip", "route", "show", "default"]).unwrap(), "");
    assert!(!lab.exec_ok("unix1", &["ip", "addr"]).unwrap().contains("198.51.100.10/"));
    assert!(lab.exec("unix3", &["true"]).is_err());
    let stranger: IpAddr = "198.51.100.11".parse().unwrap();
    assert!(lab.ssh(Some(stranger), "true").unwrap_err().to_string().contains("no client's address"));
}

#[test]
fn status_is_what_scripts_read() {
    let lab = up("status", 2);
    let status = serde_json::to_value(lab.status()).unwrap();
    assert_eq!(status["name"], named("status").as_str());
    assert_eq!(status["vip"][0], "198.51.100.10");
    assert_eq!(status["cluster_mac"], "01:00:5e:33:64:0a");
    assert_eq!(status["client"]["interface"], "eth0");
    assert_eq!(status["client"]["addresses"].as_array().unwrap().len(), 3);
    let node = &status["nodes"][1];
    assert_eq!((node["id"].as_u64(), node["name"].as_str()), (Some(2), Some("unix2")));
    assert!(node["pids"]["onevip"].is_null());
    assert!(is_alive(node["pids"]["sshd"].as_i64().unwrap().try_into().unwrap()));
    assert!(
        fs::read_to_string(node["config"].as_str().unwrap())
            .unwrap()
            .contains(&format!("cluster = \"{}\"", named("status")))
    );
    for netns in [&node["netns"], &status["client"]["netns"], &status["switch"]["netns"]] {
        let entered =
            Command::new("ip").args(["netns", "exec", netns.as_str().unwrap(), "true"]).status().unwrap();
        assert!(entered.success(), "{netns}");
    }
}

#[test]
fn a_cut_node_is_reached_by_nobody_until_healed() {
    let lab = up("cut", 2);
    assert!(pings(&lab, "unix1", &address(&lab, 2)));
    lab.fault(&LabFault::Cut(2)).unwrap();
    assert!(!pings(&lab, "unix1", &address(&lab, 2)));
    assert_eq!(lab.status().faults, ["cut unix2"]);
    lab.heal(Some("unix2")).unwrap();
    assert!(reaches(&lab, "unix1", &address(&lab, 2)));
    assert!(lab.status().faults.is_empty());
}

/// Frames that a host's interface has received or sent so far.
fn frames(lab: &Lab, host: &str, direction: &str) -> u64 {
    let json = lab.exec_ok(host, &["ip", "-s", "-j", "link", "show", "eth0"]).unwrap();
    let links: serde_json::Value = serde_json::from_str(&json).unwrap();
    links[0]["stats64"][direction]["packets"].as_u64().unwrap()
}

#[test]
fn a_mute_node_hears_and_a_deaf_node_speaks() {
    let lab = up("mute", 2);
    assert!(pings(&lab, "unix1", &address(&lab, 2)));

    lab.fault(&LabFault::Mute(2)).unwrap();
    let heard = frames(&lab, "unix2", "rx");
    assert!(!pings(&lab, "unix1", &address(&lab, 2)));
    assert!(frames(&lab, "unix2", "rx") > heard, "a mute node hears the request");
    lab.heal(None).unwrap();

    lab.fault(&LabFault::Deaf(2)).unwrap();
    let (heard, spoken) = (frames(&lab, "unix2", "rx"), frames(&lab, "unix1", "rx"));
    assert!(!pings(&lab, "unix1", &address(&lab, 2)));
    assert_eq!(frames(&lab, "unix2", "rx"), heard, "a deaf node hears nothing");
    assert!(!pings(&lab, "unix2", &address(&lab, 1)));
    assert!(frames(&lab, "unix1", "rx") > spoken, "a deaf node's request arrives");
    lab.heal(None).unwrap();
    assert!(reaches(&lab, "unix1", &address(&lab, 2)));
}

#[test]
fn loss_loses_some_and_not_all() {
    let lab = up("loss", 2);
    let answered = |lab: &Lab| {
        let to = address(lab, 2);
        let ping = lab.exec("unix1", &["ping", "-n", "-q", "-i0.002", "-c400", "-W1", &to]).unwrap();
        let text = String::from_utf8_lossy(&ping.stdout).into_owned();
        let received = text.split(", ").nth(1).unwrap().split(' ').next().unwrap();
        received.parse::<u32>().unwrap()
    };
    assert_eq!(answered(&lab), 400);
    lab.fault(&LabFault::Loss { percent: 30, node: 2 }).unwrap();
    // 0.7 × 0.7 of 400 = 196 ± 10 (one standard deviation); the bounds are eight of them away.
    let some = answered(&lab);
    assert!((116..276).contains(&some), "{some} of 400");
    lab.fault(&LabFault::Loss { percent: 100, node: 2 }).unwrap();
    assert!(!pings(&lab, "unix1", &address(&lab, 2)));
    assert_eq!(lab.status().faults, ["loss=100 unix2"]);
    lab.heal(Some("unix2")).unwrap();
    assert!(reaches(&lab, "unix1", &address(&lab, 2)));
}

#[test]
fn a_split_has_a_client_on_each_side() {
    let lab = up("split", 4);
    lab.fault(&"split unix1,unix2|unix3,unix4".parse().unwrap()).unwrap();
    for (from, to) in [("unix1", 2), ("unix3", 4), ("client", 1), ("client2", 3)] {
        assert!(pings(&lab, from, &address(&lab, to)), "{from} and unix{to} are on one side");
    }
    for (from, to) in [("unix1", 3), ("unix4", 2), ("client", 4), ("client2", 1)] {
        assert!(!pings(&lab, from, &address(&lab, to)), "{from} and unix{to} are on two sides");
    }
    lab.heal(Some("split")).unwrap();
    assert!(reaches(&lab, "unix1", &address(&lab, 3)) && reaches(&lab, "client2", &address(&lab, 1)));
}

#[test]
fn a_tap_hears_who_answers() {
    let lab = up("tap", 2);
    let window = Duration::from_millis(200);
    let of = |address: &str| lab.who_has("client", address.parse().unwrap(), window).unwrap();
    let answers = of("198.51.100.12");
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers[0].sender_mac, lab.node(2).mac());
    assert_eq!(of("198.51.100.10"), []);
    // What a node sends arrives at its switch port.
    let port = lab.tap("switch", "unix1").unwrap();
    assert!(pings(&lab, "unix1", "198.51.100.12"));
    let frame = port.next(std::time::Instant::now() + PATIENCE).unwrap().unwrap();
    assert_eq!(frame[6..12], [2, 0, 0, 0, 1, 1]);
}

/// Gives unix1 an address that the client sends to in multicast frames, as clients do to a VIP.
fn make_multicast_address(lab: &Lab) -> String {
    let (vip, mac) = (lab.vip()[0].to_string(), lab.cluster_mac());
    lab.exec_ok("unix1", &["ip", "addr", "add", &format!("{vip}/32"), "dev", "eth0"]).unwrap();
    lab.exec_ok("unix1", &["ip", "maddr", "add", mac, "dev", "eth0"]).unwrap();
    lab.exec_ok("client", &["ip", "neigh", "replace", &vip, "lladdr", mac, "dev", "eth0"]).unwrap();
    vip
}

#[test]
fn a_snooping_bridge_withholds_multicast_frames_only() {
    let lab = up("snoop", 2);
    let vip = make_multicast_address(&lab);
    assert!(pings(&lab, "client", &vip));
    lab.fault(&LabFault::Snoop).unwrap();
    wait_until(PATIENCE, "the querier to take over", || !pings(&lab, "client", &vip)).unwrap();
    assert!(pings(&lab, "client", &address(&lab, 1)));
    lab.heal(Some("snoop")).unwrap();
    assert!(reaches(&lab, "client", &vip));
}

/// True when a connection to the address is accepted, from the client, within a second.
/// What benchmarks tell the price of delivery by.
#[test]
fn a_switch_that_floods_lets_everybody_hear_and_stops_when_told() {
    let lab = up("flooding", 2);
    let heard_by_the_other = || {
        let before = frames(&lab, "unix2", "rx");
        lab.exec_ok("client", &["ping", "-n", "-q", "-c50", "-i0.01", &address(&lab, 1)]).unwrap();
        frames(&lab, "unix2", "rx") - before
    };
    assert!(reaches(&lab, "client", &address(&lab, 1)));
    for _ in 0..2 {
        switch_mode::set(&lab, SwitchMode::Flooded).unwrap();
        let heard = heard_by_the_other();
        assert!(heard >= 50, "only {heard} of 50 requests were heard by the other node");
        switch_mode::set(&lab, SwitchMode::Switched).unwrap();
        let heard = heard_by_the_other();
        assert!(heard < 25, "{heard} frames were heard by a node that 50 requests were not for");
    }
}

fn connects(lab: &Lab, node: u8) -> Option<TcpStream> {
    let to = SocketAddr::new(lab.node(node).address(), 22);
    lab.inside("client", || TcpStream::connect_timeout(&to, Duration::from_secs(1)).ok()).unwrap()
}

/// True when `sshd` says who it is within a second.
fn greets(lab: &Lab, node: u8) -> bool {
    let Some(mut stream) = connects(lab, node) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut banner = [0; 4];
    std::io::Read::read_exact(&mut stream, &mut banner).is_ok() && &banner == b"SSH-"
}

#[test]
fn a_frozen_node_has_a_kernel_and_nothing_else() {
    let lab = up("freeze", 1);
    let mut session = lab.session_to(lab.node(1).address(), None).unwrap();
    assert_eq!((session.host.as_str(), session.client.0), ("unix1", lab.clients()[0]));
    session.echo(PATIENCE).unwrap();
    lab.fault(&LabFault::Freeze(1)).unwrap();
    assert!(pings(&lab, "client", &address(&lab, 1)), "the kernel answers");
    assert!(connects(&lab, 1).is_some() && !greets(&lab, 1), "sshd does not");
    assert!(
        session.echo(Duration::from_millis(300)).is_err() && session.is_open(),
        "the session stands still"
    );
    lab.heal(Some("unix1")).unwrap();
    assert!(greets(&lab, 1));
    session.echo(PATIENCE).unwrap();
    session.close().unwrap();
}

#[test]
fn a_frozen_sshd_lets_sessions_go_on() {
    let lab = up("fsshd", 1);
    let mut session = lab.session_to(lab.node(1).address(), None).unwrap();
    session.echo(PATIENCE).unwrap();
    lab.fault(&LabFault::FreezeSshd(1)).unwrap();
    assert!(!greets(&lab, 1));
    session.echo(PATIENCE).unwrap();
    lab.heal(None).unwrap();
    assert!(greets(&lab, 1));
    session.close().unwrap();
}

#[test]
fn a_node_without_power_is_gone_and_boots_afresh() {
    let lab = up("power", 2);
    let old = lab.node(2).pids();
    fs::write(lab.node(2).run_dir().join("stale"), "").unwrap();
    lab.fault(&LabFault::PowerOff(2)).unwrap();
    assert!(old.iter().all(|&pid| !is_alive(pid)));
    assert!(!pings(&lab, "client", &address(&lab, 2)) && pings(&lab, "client", &address(&lab, 1)));
    assert!(lab.exec("unix2", &["true"]).is_err());
    assert!(lab.fault(&LabFault::Cut(2)).unwrap_err().to_string().contains("heal it first"));
    assert_eq!(lab.status().nodes[1].pids.sshd, None);

    lab.heal(Some("unix2")).unwrap();
    assert!(reaches(&lab, "client", &address(&lab, 2)));
    assert_eq!(log_in(&lab, 2, "hostname"), (true, "unix2".into()));
    assert!(!lab.node(2).run_dir().join("stale").exists());
}

#[test]
fn a_frozen_node_that_loses_its_power_boots_unfrozen() {
    let lab = up("ice", 1);
    lab.fault(&LabFault::Freeze(1)).unwrap();
    lab.fault(&LabFault::PowerOff(1)).unwrap();
    assert_eq!(lab.status().faults, ["power-off unix1"]);
    lab.heal(None).unwrap();
    assert_eq!(log_in(&lab, 1, "hostname"), (true, "unix1".into()));
}

#[test]
fn a_dying_node_says_no_last_word() {
    let lab = up("last", 1);
    let mut stream = connects(&lab, 1).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut banner = [0; 64];
    assert!(std::io::Read::read(&mut stream, &mut banner).unwrap() > 0);
    lab.fault(&LabFault::PowerOff(1)).unwrap();
    // Neither a FIN (an empty read) nor a reset (an error): silence.
    let silence = std::io::Read::read(&mut stream, &mut banner).unwrap_err();
    assert_eq!(silence.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_lab_without_daemons_has_none_to_kill() {
    let lab = up("none", 1);
    for fault in [LabFault::KillOnevip(1), LabFault::FreezeOnevip(1)] {
        assert!(lab.fault(&fault).unwrap_err().to_string().contains("no onevip runs on unix1"));
    }
    assert!(lab.fault(&LabFault::Cut(2)).unwrap_err().to_string().contains("has no unix2"));
    assert!(lab.status().faults.is_empty());
}
