//! Seeing what happens to a packet: the same SYN is one node's own and foreign on all others, and the nodes say so before
//! and while it comes.

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::{Child, ChildStdout, Stdio};

use nix::sys::signal::Signal;
use onevip_lab::{Lab, process};

use crate::common::{
    Mode, PATIENCE, client_of, in_every_mode, kill_daemon, landed, onevip, owner, status, wait,
};

in_every_mode!(a_login_is_traced_as_own_on_one_node_and_as_foreign_on_the_others);

/// `onevip trace` on a node.
struct Trace {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Trace {
    /// Returns once it watches.
    fn begin(lab: &Lab, node: u8, words: &[&str]) -> Self {
        let mut command = lab.node(node).onevip_command("trace").unwrap();
        command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
        assert!(said.contains("watching"), "{said}");
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn line(&mut self) -> serde_json::Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    /// The first line about a packet of this kind.
    fn first(&mut self, kind: &str) -> serde_json::Value {
        loop {
            let line = self.line();
            if line["kind"] == kind {
                return line;
            }
        }
    }

    fn end(mut self) {
        process::signal(self.child.id() as i32, Signal::SIGTERM);
        assert!(self.child.wait().unwrap().success());
    }
}

fn a_login_is_traced_as_own_on_one_node_and_as_foreign_on_the_others(mode: Mode) {
    let lab = mode.lab("imp-trace", 3, 12);
    let client = client_of(&lab, 2);
    let mut traces: Vec<Trace> =
        (1..=3).map(|node| Trace::begin(&lab, node, &["--json", &client.to_string()])).collect();
    let second = onevip(&lab, 1, &["trace"]);
    assert!(String::from_utf8_lossy(&second.stderr).contains("somebody traces here already"));
    // Somebody whom nobody asked for.
    assert_eq!(landed(&lab, client_of(&lab, 1)), "unix1");
    assert_eq!(landed(&lab, client), "unix2");
    for (node, trace) in (1..).zip(&mut traces) {
        let syn = trace.first("tcp syn");
        assert_eq!(syn["source"], client.to_string());
        assert_eq!(syn["dest_port"], 22);
        assert_eq!(syn["owner"], "unix2", "{syn}");
        let expected = if node == 2 { ("pass", "syn-own") } else { ("drop", "syn-foreign") };
        assert_eq!((syn["verdict"].as_str().unwrap(), syn["reason"].as_str().unwrap()), expected);
        let by = if mode == Mode::Xdp && node != 2 { "xdp" } else { "ingress" };
        assert_eq!(syn["by"], by);
    }
    traces.into_iter().for_each(Trace::end);
    let mut counted = Trace::begin(&lab, 2, &["--json", "--count", "2"]);
    assert_eq!(landed(&lab, client), "unix2");
    counted.line();
    counted.line();
    assert!(counted.child.wait().unwrap().success());
}

#[test]
fn every_node_explains_and_one_would_answer() {
    let lab = Mode::Tcx.lab("imp-explain", 4, 20);
    let clients: Vec<IpAddr> =
        lab.clients().into_iter().take(16).chain(lab.clients6().into_iter().take(4)).collect();
    let before: Vec<_> = (1..=4).map(|node| counted(&lab, node)).collect();
    for &client in &clients {
        let passing: Vec<u8> =
            (1..=4).filter(|&node| explain(&lab, node, client, "syn")["verdict"] == "pass").collect();
        assert_eq!(passing, [owner(&lab, client)], "{client}");
    }
    for (node, before) in (1..=4).zip(before) {
        assert_eq!(counted(&lab, node), before, "a question is no packet");
    }
    let client = client_of(&lab, 1);
    for (packet, reason) in
        [("arp", "arp-answer"), ("ping", "icmp-own"), ("53 udp", "udp-own"), ("ack", "tcp-orphan-first")]
    {
        // Static members do not know what others hold, so an orphan meets silence.
        let expected = if reason == "tcp-orphan-first" { "tcp-elsewhere" } else { reason };
        assert_eq!(explain(&lab, 1, client, packet)["reason"], expected, "{packet}");
    }
    // The kernel part is asked, not the daemon: it knows when its lease has run out.
    kill_daemon(&lab, 1);
    wait("the lease to run out", || explain(&lab, 1, client, "syn")["reason"] == "syn-lapsed");
    assert_eq!(explain(&lab, 1, client, "syn")["lease_ms"], 0);
}

fn explain(lab: &Lab, node: u8, client: IpAddr, packet: &str) -> serde_json::Value {
    let mut command = lab.node(node).onevip_command("explain").unwrap();
    let output =
        process::run(command.args(["--json", &format!("{client} 40000 {packet}")]), PATIENCE).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// SYNs that got a verdict from this node.
fn counted(lab: &Lab, node: u8) -> (u64, u64) {
    let verdicts = status(lab, node)["verdicts"]["ingress"].clone();
    (verdicts["syn-own"].as_u64().unwrap(), verdicts["syn-foreign"].as_u64().unwrap())
}
