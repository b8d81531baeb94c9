//! An `sshd` that another program starts for each connection: an open port, and even an accepted connection, proves nothing.
//! And key exchange, which is where an `sshd` shows that it can do more than greet.

use nix::sys::signal::Signal;
use onevip_lab::process::{run_ok, signal, spawn_background};

use super::*;

/// Puts something that accepts and starts a program for each connection, as `ssh@.service` does, in the place of a
/// node's `sshd`; returns its process.
fn activate(lab: &Lab, node: u8, program: &[&str]) -> i32 {
    let pid = lab.node(node).sshd().unwrap();
    signal(pid, Signal::SIGTERM);
    wait_until(PATIENCE, "sshd to end", || lab.node(node).sshd().is_none()).unwrap();
    let mut command = lab.command(&format!("unix{node}"), "systemd-socket-activate").unwrap();
    command.args(["-l", "22", "--accept", "--inetd"]).args(program);
    let log = lab.node(node).dir().join("activate.log");
    let pid = spawn_background(&mut command, &log).unwrap();
    wait_until(PATIENCE, "it to listen", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("Listening"))
    })
    .unwrap();
    pid
}

#[test]
fn a_socket_activated_sshd_is_well_and_one_that_hangs_is_not() {
    let edit = |text: String| text.replace("[health]\n", "[health]\nbanner_every = \"1s\"\n");
    let lab = Lab::up(options("activate").edit_config(edit).unwrap()).unwrap();
    let config = lab.node(2).dir().join("sshd_config").display().to_string();
    let pid = activate(&lab, 2, &["/usr/sbin/sshd", "-i", "-f", &config]);
    until_state(&lab, 2, "sshd", "well");
    wait_until(PATIENCE, "a banner", || {
        checked(&lab, 2, "sshd")["finding"].as_str().unwrap().starts_with("SSH-2.0-OpenSSH")
    })
    .unwrap();
    wait_until(PATIENCE, "unix2 to serve", || lab.node(2).claims().is_some_and(|claims| claims > 0)).unwrap();
    let client = clients_of(&lab, 2);
    assert_eq!(lab.session(Some(client)).unwrap().host, "unix2");
    signal(pid, Signal::SIGKILL);

    let pid = activate_again(&lab, 2);
    until_state(&lab, 2, "sshd", "out");
    wait_until(PATIENCE, "unix2 to claim nothing", || lab.node(2).claims() == Some(0)).unwrap();
    signal(pid, Signal::SIGKILL);
}

/// Accepts and starts something that never says a word.
fn activate_again(lab: &Lab, node: u8) -> i32 {
    let mut command = lab.command(&format!("unix{node}"), "systemd-socket-activate").unwrap();
    command.args(["-l", "22", "--accept", "--inetd", "/bin/sleep", "600"]);
    spawn_background(&mut command, &lab.node(node).dir().join("activate.log")).unwrap()
}

/// A client that meets a node while all live.
fn clients_of(lab: &Lab, node: u8) -> IpAddr {
    let meets = |client: &IpAddr| {
        let mut command = lab.node(node).onevip_command("where").unwrap();
        let answer = run_ok(command.args([&client.to_string(), "--json"]), PATIENCE).unwrap();
        let answer: Value = serde_json::from_str(answer.lines().next().unwrap()).unwrap();
        answer["now"]["node"] == format!("unix{node}")
    };
    lab.clients().into_iter().find(meets).unwrap()
}

#[test]
fn a_key_exchange_tells_what_a_banner_does_not() {
    let edit = |text: String| {
        text.replace("[health]\n", "[health]\nsshd = \"kex\"\nkex_every = \"1s\"\nbanner_every = \"1s\"\n")
    };
    let lab = Lab::up(options("kex").edit_config(edit).unwrap()).unwrap();
    for node in 1..=3 {
        until_state(&lab, node, "key exchange", "well");
    }
    let words = checked(&lab, 2, "key exchange")["finding"].as_str().unwrap().to_owned();
    assert!(words.contains("ssh-ed25519"), "{words}");
    // Something greets as sshd does, and hangs.
    let greets = "/bin/echo SSH-2.0-OpenSSH_9.2; exec /bin/sleep 600";
    let pid = activate(&lab, 2, &["/bin/sh", "-c", greets]);
    until_state(&lab, 2, "key exchange", "out");
    until_state(&lab, 2, "sshd", "well");
    wait_until(PATIENCE, "unix2 to claim nothing", || lab.node(2).claims() == Some(0)).unwrap();
    signal(pid, Signal::SIGKILL);
}
