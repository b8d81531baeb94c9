//! Bans, end to end: made on one node, in force on all, told to those that were away, ended by themselves.
//!
//! Needs root, and `onevip` and `onevip-lab` built beside these tests: `cargo build --workspace` does it.

#![allow(clippy::unwrap_used)]

mod fail2ban;
mod limits;
mod short_frames;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Output;
use std::time::Duration;

use onevip_lab::dial::connect_within;
use onevip_lab::process::{run, run_ok};
use onevip_lab::{Lab, LabFault, Options, wait_until};

/// Long for everything that happens here, even on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(40);

fn lab(name: &str, nodes: usize) -> Lab {
    must_be_root();
    Lab::up(Options::test(name).nodes(nodes).clients(16)).unwrap()
}

fn must_be_root() {
    let root = nix::unistd::geteuid().is_root();
    assert!(root, "these tests build network namespaces: run them as root (make test)");
}

/// A command of a node, to its end.
fn onevip(lab: &Lab, node: u8, subcommand: &str, arguments: &[&str]) -> Output {
    run(lab.node(node).onevip_command(subcommand).unwrap().args(arguments), PATIENCE).unwrap()
}

/// What a command of a node printed; it must succeed.
fn said(lab: &Lab, node: u8, subcommand: &str, arguments: &[&str]) -> String {
    run_ok(lab.node(node).onevip_command(subcommand).unwrap().args(arguments), PATIENCE).unwrap()
}

/// What a command of a node complained about; it must fail.
fn refused(lab: &Lab, node: u8, subcommand: &str, arguments: &[&str]) -> String {
    let output = onevip(lab, node, subcommand, arguments);
    assert!(!output.status.success(), "{subcommand} {arguments:?} was not refused");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The prefixes that a node lists.
fn banned(lab: &Lab, node: u8) -> Vec<String> {
    let output = onevip(lab, node, "bans", &["--json"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let prefix = |line: &str| {
        let ban: serde_json::Value = serde_json::from_str(line).unwrap();
        ban["prefix"].as_str().unwrap().to_owned()
    };
    text.lines().map(prefix).collect()
}

fn until_banned(lab: &Lab, node: u8, prefixes: &[&str]) {
    wait_until(PATIENCE, &format!("unix{node} to list {prefixes:?}"), || banned(lab, node) == prefixes)
        .unwrap();
}

/// Clients that meet a node while all live, as many as wanted.
fn clients_of(lab: &Lab, node: u8, all: Vec<IpAddr>, count: usize) -> Vec<IpAddr> {
    let meets = |client: &IpAddr| {
        let text = said(lab, node, "where", &[&client.to_string(), "--json"]);
        let answer: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        answer["node_id"] == node
    };
    let found: Vec<IpAddr> = all.into_iter().filter(meets).take(count).collect();
    assert_eq!(found.len(), count, "unix{node} has so many clients");
    found
}

/// Connects from a client to the VIP's SSH and reads the first line; `None` when nothing comes of it.
fn call(lab: &Lab, client: IpAddr, patience: Duration) -> Option<TcpStream> {
    let vip = lab.vip_for(client);
    lab.inside("client", || {
        let mut stream = connect_within(client, SocketAddr::new(vip, 22), patience).ok()?;
        let mut banner = [0; 8];
        stream.read_exact(&mut banner).ok().filter(|()| banner == *b"SSH-2.0-")?;
        Some(stream)
    })
    .unwrap()
}

/// Nothing is answered, though it is tried more than once.
fn is_kept_out(lab: &Lab, client: IpAddr) -> bool {
    call(lab, client, Duration::from_millis(2500)).is_none()
}

fn is_let_in(lab: &Lab, client: IpAddr) -> bool {
    call(lab, client, PATIENCE).is_some()
}

#[test]
fn a_ban_on_one_node_holds_on_all_of_them_until_it_is_lifted() {
    let lab = lab("lim-all", 3);
    let clients = clients_of(&lab, 2, lab.clients(), 2);
    let (bad, good) = (clients[0], clients[1]);
    let other = clients_of(&lab, 3, lab.clients(), 1)[0];
    let mut session = call(&lab, bad, PATIENCE).unwrap();
    let words = said(&lab, 1, "ban", &[&bad.to_string(), "--reason", "guesses passwords"]);
    assert!(
        words.contains("is banned for 1h: guesses passwords") && words.contains("2 other nodes"),
        "{words}"
    );
    (1..=3).for_each(|node| until_banned(&lab, node, &[&bad.to_string()]));
    assert!(is_kept_out(&lab, bad), "although unix1 was told and unix2 answers it");
    assert!(is_let_in(&lab, good), "another client of the same node");
    assert!(is_let_in(&lab, other), "a client of another node");
    let page = said(&lab, 3, "bans", &[]);
    assert!(page.contains("unix1  guesses passwords"), "{page}");
    let status = lab.node(2).onevip_status().unwrap();
    assert!(status["verdicts"]["ingress"]["banned"].as_u64().unwrap() > 0, "{status}");
    assert_eq!(status["bans"], serde_json::json!([1, 0]));

    // What it had open is silent as well, and goes on afterwards.
    session.write_all(b"SSH-2.0-test\r\n").unwrap();
    session.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
    let mut rest = vec![0; 4096];
    while session.read(&mut rest).is_ok_and(|length| length > 0) {}
    session.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(
        said(&lab, 2, "unban", &[&bad.to_string()]),
        format!("{bad} is not banned any more · 2 other nodes are told\n")
    );
    (1..=3).for_each(|node| until_banned(&lab, node, &[]));
    assert!(is_let_in(&lab, bad));
    assert!(session.read(&mut rest).unwrap() > 0, "sshd has got the client's version and goes on");
    assert!(said(&lab, 2, "unban", &[&bad.to_string()]).contains("was not banned"));
}

#[test]
fn sessions_can_be_spared() {
    let lab = lab("lim-spare", 2);
    let client = clients_of(&lab, 2, lab.clients(), 1)[0];
    let mut session = lab.session(Some(client)).unwrap();
    said(&lab, 1, "ban", &[&client.to_string(), "--keep-sessions", "--ttl", "forever"]);
    until_banned(&lab, 2, &[&client.to_string()]);
    assert!(is_kept_out(&lab, client));
    session.echo(PATIENCE).unwrap();
}

#[test]
fn a_node_that_was_off_learns_what_it_missed() {
    let lab = lab("lim-away", 3);
    let clients = clients_of(&lab, 3, lab.clients(), 2);
    let [early, late] = [clients[0].to_string(), clients[1].to_string()];
    said(&lab, 3, "ban", &[&early]);
    wait_until(PATIENCE, "all to know", || (1..=3).all(|node| banned(&lab, node) == [early.as_str()]))
        .unwrap();
    // The state directory is written within a second.
    let stored = onevip_lab::daemon::state_dir(lab.name(), 3).join("bans.json");
    wait_until(PATIENCE, "unix3 to store it", || stored.exists()).unwrap();
    lab.fault(&LabFault::PowerOff(3)).unwrap();
    said(&lab, 1, "unban", &[&early]);
    said(&lab, 2, "ban", &[&late]);
    until_banned(&lab, 1, &[&late]);
    lab.heal(Some("unix3")).unwrap();
    until_banned(&lab, 3, &[&late]);
    wait_until(PATIENCE, "unix3 to serve", || lab.node(3).claims().is_some_and(|claims| claims > 0)).unwrap();
    assert!(is_kept_out(&lab, clients[1]));
    assert!(is_let_in(&lab, clients[0]), "what was lifted meanwhile does not come back");
    (1..=2).for_each(|node| until_banned(&lab, node, &[&late]));
}

#[test]
fn a_ban_outlives_daemons_and_a_reboot_of_all_and_ends_by_itself() {
    let lab = lab("lim-restart", 2);
    let client = clients_of(&lab, 2, lab.clients(), 1)[0];
    said(&lab, 1, "ban", &[&client.to_string(), "--ttl", "1h"]);
    until_banned(&lab, 2, &[&client.to_string()]);
    for node in [1, 2] {
        lab.node(node).stop_onevip();
    }
    assert_eq!(banned(&lab, 2), [client.to_string()], "without a daemon the kernel part is asked");
    for node in [1, 2] {
        lab.node(node).start_onevip().unwrap();
    }
    lab.wait_serving(PATIENCE).unwrap();
    assert_eq!(banned(&lab, 2), [client.to_string()]);
    assert!(is_kept_out(&lab, client));
    for node in [1, 2] {
        lab.fault(&LabFault::PowerOff(node)).unwrap();
    }
    lab.heal(None).unwrap();
    lab.wait_serving(PATIENCE).unwrap();
    assert_eq!(banned(&lab, 2), [client.to_string()]);
    assert!(is_kept_out(&lab, client));
    said(&lab, 1, "ban", &[&client.to_string(), "--ttl", "2s"]);
    (1..=2).for_each(|node| until_banned(&lab, node, &[]));
    assert!(is_let_in(&lab, client));
}

#[test]
fn a_network_of_ipv6_is_banned_as_well() {
    let lab = lab("lim-six", 2);
    let client = clients_of(&lab, 2, lab.clients6(), 1)[0];
    assert!(is_let_in(&lab, client));
    let IpAddr::V6(v6) = client else { panic!("{client} is of IPv6") };
    let prefix = format!("{}/126", std::net::Ipv6Addr::from_bits(v6.to_bits() & !3));
    said(&lab, 1, "ban", &[&prefix]);
    until_banned(&lab, 2, &[&prefix]);
    assert!(is_kept_out(&lab, client));
    let complaint = refused(&lab, 1, "unban", &[&client.to_string()]);
    assert!(complaint.contains(&format!("because {prefix} is banned")), "{complaint}");
    said(&lab, 2, "unban", &[&prefix]);
    until_banned(&lab, 1, &[]);
    assert!(is_let_in(&lab, client));
}

#[test]
fn the_cluster_and_its_administrators_cannot_be_locked_out() {
    let options = Options::test("lim-never").nodes(2).clients(8);
    must_be_root();
    let never = |text: String| text.replace("[health]", "[bans]\nnever = [\"203.0.113.0/24\"]\n\n[health]");
    let lab = Lab::up(options.edit_config(never).unwrap()).unwrap();
    let because = |prefix: &str, why: &str| {
        let complaint = refused(&lab, 1, "ban", &[prefix]);
        assert!(complaint.contains("is not banned") && complaint.contains(why), "{prefix}: {complaint}");
    };
    because("198.51.100.12", "it is the node unix2");
    because("198.51.100.10", "it is an address of the VIP login");
    because("203.0.113.77", "it lies in 203.0.113.0/24, which is never to be banned");
    because("0.0.0.0/0", "it contains");
    because("::/0", "it contains");
    because("10.0.0.0/7", "--force");
    said(&lab, 1, "ban", &["10.0.0.0/7", "--force"]);
    let mut from_within = lab.node(1).onevip_command("ban").unwrap();
    let output = run(
        from_within.arg("192.0.2.0/24").env("SSH_CONNECTION", "192.0.2.9 50000 198.51.100.10 22"),
        PATIENCE,
    );
    let complaint = String::from_utf8_lossy(&output.unwrap().stderr).into_owned();
    assert!(complaint.contains("you come from 192.0.2.9 yourself"), "{complaint}");
    assert_eq!(banned(&lab, 1), ["10.0.0.0/7"]);
}

#[test]
fn with_a_fixed_set_of_nodes_a_ban_is_local_and_says_so() {
    must_be_root();
    let lab = Lab::up(Options::test("lim-static").nodes(2).clients(16).static_membership()).unwrap();
    let client = clients_of(&lab, 2, lab.clients(), 1)[0];
    let words = said(&lab, 2, "ban", &[&client.to_string()]);
    assert!(words.contains("on this node only"), "{words}");
    assert_eq!(banned(&lab, 1), [""; 0]);
    assert!(is_kept_out(&lab, client), "it is unix2's client");
}
