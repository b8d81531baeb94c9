//! Being watched: metrics, the check of monitoring systems, hooks.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use onevip_lab::{Fault, Lab, Options, wait_until};

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
    let lab = lab("dkmet", 2, &format!("[metrics]\nlisten = \"{}\"\n", socket.display()));
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
    let lab = lab("dkport", 2, "[metrics]\nlisten = \"127.0.0.1:9108\"\n");
    let listening = lab.exec_ok("unix1", &["ss", "-Htln"]).unwrap();
    let daemons: Vec<&str> = listening.lines().filter(|line| !line.contains(":22 ")).collect();
    assert!(daemons.len() == 1 && daemons[0].contains("127.0.0.1:9108"), "{listening}");
}

#[test]
fn a_monitoring_system_gets_a_line_and_a_code() {
    let lab = lab("dkicinga", 3, "");
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
    lab.fault(&Fault::PowerOff(2)).unwrap();
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
    let lab = lab("dkhook", 3, &hooks);
    let text = || fs::read_to_string(&told).unwrap_or_default();
    wait_until(PATIENCE, "the hook for a node that is heard", || text().contains("unix1 node-heard unix2"))
        .unwrap();
    lab.fault(&Fault::PowerOff(2)).unwrap();
    wait_until(PATIENCE, "unix1 to claim half of everything", || lab.node(1).claims() == Some(512)).unwrap();
    wait_until(PATIENCE, "the hook for a node that is out", || text().contains("unix1 node-out unix2"))
        .unwrap();
    let log = lab.node(1).onevip_log();
    assert!(log.contains("killed after 1s"), "{log}");
    drop(lab);
    let _ = fs::remove_file(told);
}
