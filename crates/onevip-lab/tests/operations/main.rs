//! What operators do and see, end to end: real daemons, real `sshd`, people at real terminals.
//!
//! Needs root, and `onevip` and `onevip-lab` built beside these tests: `cargo build --workspace` does it.

#![allow(clippy::unwrap_used)]

mod degraded_hosts;
mod doctor;
mod drain;
mod fake_sshd;
mod monitoring;
mod remote_drain;
mod systemd_units;
#[path = "../common/terminal.rs"]
mod terminal;
mod who;

use std::net::IpAddr;
use std::process::Output;
use std::time::Duration;

use onevip_lab::process::{run, run_ok};
use onevip_lab::{Lab, Options};
use terminal::{GREETING, Terminal};

/// Long for everything that happens here, even on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(30);

fn lab(name: &str, nodes: usize) -> Lab {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests build network namespaces: run them as root (make test)"
    );
    Lab::up(Options::test(name).nodes(nodes).clients(24)).unwrap()
}

/// A command of a node, to its end.
fn onevip(lab: &Lab, node: u8, subcommand: &str, arguments: &[&str]) -> Output {
    run(lab.node(node).onevip_command(subcommand).unwrap().args(arguments), PATIENCE).unwrap()
}

/// What a command of a node printed; it must succeed.
fn said(lab: &Lab, node: u8, subcommand: &str, arguments: &[&str]) -> String {
    run_ok(lab.node(node).onevip_command(subcommand).unwrap().args(arguments), PATIENCE).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The lines of JSON that a command of a node printed.
fn json(lab: &Lab, node: u8, subcommand: &str, arguments: &[&str]) -> Vec<serde_json::Value> {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    let text = said(lab, node, subcommand, &arguments);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Clients that meet a node while all live, as many as wanted.
fn clients_of(lab: &Lab, node: u8, count: usize) -> Vec<IpAddr> {
    let meets = |client: &IpAddr| {
        let answer = json(lab, node, "where", &[&client.to_string()]);
        answer[0]["node_id"] == node
    };
    let found: Vec<IpAddr> = lab.clients().into_iter().filter(meets).take(count).collect();
    assert_eq!(found.len(), count, "unix{node} has so many clients");
    found
}

/// Somebody logs in from a client of a node, and sits at a terminal there.
fn sit_down(lab: &Lab, node: u8, client: IpAddr) -> Terminal {
    let mut ssh = lab.ssh_command(lab.vip_for(client), Some(client)).unwrap();
    // Options may follow the destination.
    let terminal = Terminal::open(ssh.args(["-tt", &format!("{GREETING}; exec cat")]));
    assert_eq!(terminal.host, format!("unix{node}"));
    terminal
}

/// Types a line and waits for its echo.
fn types(terminal: &mut Terminal, line: &str) {
    terminal.press(&format!("{line}\n"));
    terminal.until_it_shows(line);
}
