//! Monitoring: metrics, the check of monitoring systems, hooks.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use onevip_lab::{Lab, LabFault, Options, lease_slack, wait_until};

use super::{PATIENCE, clients_of, onevip, said, stdout};

/// Asks an HTTP server on a Unix socket.
fn get(socket: &Path, path: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// The value of a metric with these labels.
fn value(page: &str, metric: &str) -> f64 {
    // One without labels may be written with empty ones.
    let rest = |line| str::strip_prefix(line, metric).map(|rest| rest.trim_start_matches("{}"));
    let line = page.lines().find_map(|line| rest(line)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{metric} in {page}")).parse().unwrap()
}

/// A lab with something added to its configuration.
fn lab(name: &str, nodes: usize, added: &str) -> Lab {
    let options = Options::test(name).nodes(nodes).clients(24);
    Lab::up(options.edit_config(|text| format!("{text}\n{added}\n")).unwrap()).unwrap()
}

#[test]
fn metrics_and_status_are_served_on_a_socket() {
    let socket = std::env::temp_dir().join(format!("onevip-metrics-{}.sock", std::process::id()));
    // The file is the same for all nodes, and the socket is that of the one that started last.
    let lab = lab("opmet", 2, &format!("[metrics]\nlisten = \"{}\"\n", socket.display()));
    lab.node(1).stop_onevip();
    lab.node(1).start_onevip().unwrap();
    wait_until(PATIENCE, "unix1 to serve", || lab.node(1).claims() == Some(512)).unwrap();
    let _session = lab.session(Some(clients_of(&lab, 1, 1)[0])).unwrap();
    let page = || get(&socket, "/metrics");
    wait_until(PATIENCE, "the session to be counted", || {
        value(&page(), "onevip_sessions{vip=\"login\"}") == 1.0
    })
    .unwrap();
    let page = page();
    assert!(page.contains("200 OK") && page.contains("application/openmetrics-text"), "{page}");
    assert_eq!(value(&page, "onevip_buckets_claimed{vip=\"login\"}"), 512.0);
    assert_eq!(value(&page, "onevip_lease_live"), 1.0);
    assert_eq!(value(&page, "onevip_node_heard{vip=\"login\",node=\"unix2\"}"), 1.0);
    assert_eq!(value(&page, "onevip_state{vip=\"login\",state=\"serving\"}"), 1.0);
    assert!(value(&page, "onevip_beats_received_total{vip=\"login\"}") > 10.0);
    assert!(value(&page, "onevip_packets_total{program=\"ingress\",reason=\"syn-own\"}") >= 1.0);
    assert!(value(&page, "onevip_view_changes_total{vip=\"login\"}") >= 1.0);
    let renewed = value(&page, "onevip_lease_margin_seconds_count");
    assert!(renewed > 10.0, "the lease was renewed: {page}");
    assert!(value(&page, "onevip_lease_margin_seconds_sum") / renewed > 0.01, "well in time");
    assert!(!page.contains("198.51.100.1"), "no client's address: {page}");
    let status = get(&socket, "/status");
    let (_, body) = status.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["node"], "unix1");
    assert!(get(&socket, "/").contains("404"));
    drop(lab);
    let _ = fs::remove_file(socket);
}

#[test]
fn without_a_word_in_the_file_nothing_listens_and_on_loopback_only_if_told() {
    let lab = lab("opport", 2, "[metrics]\nlisten = \"127.0.0.1:9108\"\n");
    let listening = lab.exec_ok("unix1", &["ss", "-Htln"]).unwrap();
    let daemons: Vec<&str> = listening.lines().filter(|line| !line.contains(":22 ")).collect();
    assert!(daemons.len() == 1 && daemons[0].contains("127.0.0.1:9108"), "{listening}");
}

/// Connects to a node's metrics and says something; what is not taken is not said.
fn says(lab: &Lab, words: &[u8]) -> TcpStream {
    let connect = || {
        let mut stream = TcpStream::connect("127.0.0.1:9108").unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let _ = stream.write_all(words);
        stream
    };
    lab.inside("unix1", connect).unwrap()
}

#[test]
fn whoever_connects_to_the_metrics_cannot_keep_others_from_them() {
    let lab = lab("oprude", 2, "[metrics]\nlisten = \"127.0.0.1:9108\"\n");
    let daemon = lab.node(1).onevip().unwrap();
    let is_served = |after: &str| {
        let page = lease_slack::scrape(&lab, 1).unwrap_or_else(|error| panic!("after {after}: {error:#}"));
        assert!(page.contains("\nonevip_lease_live"), "after {after}: {page}");
    };
    is_served("nothing");
    let mut held = Vec::new();
    let endless = [b"GET /metrics HTTP/1.1\r\n".to_vec(), b"a: b\r\n".repeat(200_000)].concat();
    for (what, words) in [
        ("half a request", &b"GET /metrics HT"[..]),
        ("a head without an end", &endless),
        ("a body that never comes", b"POST /metrics HTTP/1.1\r\nContent-Length: 1000\r\n\r\n"),
        (
            "a body that would not fit",
            b"GET /metrics HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1000000000000\r\n\r\n",
        ),
        ("rubbish", b"\x00\xff\x16\x03\r\n\r\n"),
        ("a page that nobody reads", b"GET /metrics HTTP/1.1\r\n\r\n"),
    ] {
        // One of a kind may be nothing: several.
        held.extend((0..20).map(|_| says(&lab, words)));
        is_served(what);
    }
    held.extend((0..200).map(|_| says(&lab, b"")));
    is_served("200 that say nothing");
    // With something unread, closing is a reset.
    drop(held);
    is_served("their sudden end");
    assert_eq!(lab.node(1).onevip(), Some(daemon), "it is the same daemon");
}

#[test]
fn without_descriptors_the_daemon_neither_ends_nor_spins() {
    let metrics = "[metrics]\nlisten = \"127.0.0.1:9108\"\n";
    let options = Options::test("opfull").nodes(2).clients(2).env("ONEVIP_LOG", "onevip=debug");
    let lab = Lab::up(options.edit_config(|text| format!("{text}\n{metrics}")).unwrap()).unwrap();
    let daemon = lab.node(1).onevip().unwrap();
    let limit = |soft: &str| {
        lab.exec_ok("unix1", &["prlimit", &format!("--pid={daemon}"), &format!("--nofile={soft}:")]).unwrap();
    };
    let limits = fs::read_to_string(format!("/proc/{daemon}/limits")).unwrap();
    let files: Vec<&str> =
        limits.lines().find(|line| line.starts_with("Max open files")).unwrap().split_whitespace().collect();
    let (soft, hard): (u64, u64) = (files[3].parse().unwrap(), files[4].parse().unwrap());
    assert!(soft >= 4096.min(hard), "{files:?}");

    let is_free = |fd: &u64| !Path::new(&format!("/proc/{daemon}/fd/{fd}")).exists();
    let lowest_free = (0..soft).find(is_free).unwrap();
    let begun = Instant::now();
    limit(&lowest_free.to_string());
    let refused = |by: &str| {
        let log = lab.node(1).onevip_log();
        let count = log.lines().filter(|line| line.contains(by) && line.contains("os error 24")).count();
        // Ten times a second.
        let most = begun.elapsed().as_millis() as usize / 100 + 1;
        assert!(count <= most, "{count} lines of {by} in {:?}", begun.elapsed());
        count >= 5
    };
    let asked = UnixStream::connect(lab.node(1).run_dir().join("control.sock")).unwrap();
    wait_until(PATIENCE, "no descriptor for the control socket", || refused("control connection")).unwrap();
    let held: Vec<TcpStream> = (0..20).map(|_| says(&lab, b"")).collect();
    wait_until(PATIENCE, "no descriptor for the metrics", || refused("metrics")).unwrap();
    limit(&soft.to_string());
    drop((held, asked));
    assert!(lease_slack::scrape(&lab, 1).unwrap().contains("\nonevip_lease_live"));
    wait_until(PATIENCE, "the daemon to answer", || lab.node(1).onevip_status().is_ok()).unwrap();
    assert_eq!(lab.node(1).onevip(), Some(daemon), "it is the same daemon");
}

#[test]
fn a_monitoring_system_gets_a_line_and_a_code() {
    let lab = lab("opicinga", 3, "");
    let check = |node| {
        let output = onevip(&lab, node, "check-health", &["--icinga"]);
        (output.status.code().unwrap(), stdout(&output))
    };
    let (code, line) = check(1);
    assert_eq!(code, 0, "{line}");
    assert!(line.starts_with("ONEVIP OK - login: 34"), "{line}");
    assert_eq!(line.lines().count(), 1);
    said(&lab, 2, "drain", &[]);
    wait_until(PATIENCE, "a warning of the drained node", || check(2).0 == 1).unwrap();
    assert!(check(2).1.contains("it was drained"), "{}", check(2).1);
    lab.fault(&LabFault::PowerOff(2)).unwrap();
    wait_until(PATIENCE, "a warning of the dead node", || check(1).0 == 1).unwrap();
    assert!(check(1).1.contains("ONEVIP WARNING - login: unix2 is out"), "{}", check(1).1);
    lab.node(1).stop_onevip();
    let (code, line) = check(1);
    assert!(code == 2 && line.starts_with("ONEVIP CRITICAL - no onevip daemon"), "{line}");
}

#[test]
fn hooks_run_when_something_happens_and_delay_no_takeover() {
    let told = std::env::temp_dir().join(format!("onevip-hooked-{}", std::process::id()));
    let hooks = format!(
        "[[hook]]\non = \"node-out\"\ncommand = \"sleep 600\"\ntimeout = \"1s\"\n\
         [[hook]]\non = [\"node-out\", \"node-heard\"]\n\
         command = 'echo \"$(hostname) $ONEVIP_EVENT $ONEVIP_NODE\" >> {}'\n",
        told.display()
    );
    let lab = lab("ophook", 3, &hooks);
    let text = || fs::read_to_string(&told).unwrap_or_default();
    wait_until(PATIENCE, "the hook for a node that is heard", || text().contains("unix1 node-heard unix2"))
        .unwrap();
    lab.fault(&LabFault::PowerOff(2)).unwrap();
    wait_until(PATIENCE, "unix1 to claim half of everything", || lab.node(1).claims() == Some(512)).unwrap();
    wait_until(PATIENCE, "the hook for a node that is out", || text().contains("unix1 node-out unix2"))
        .unwrap();
    let log = lab.node(1).onevip_log();
    assert!(log.contains("killed after 1s"), "{log}");
    drop(lab);
    let _ = fs::remove_file(told);
}
