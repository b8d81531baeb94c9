//! `onevip doctor`: silent on a healthy lab, and it finds what is planted, one by one.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use onevip_lab::process::{is_alive, signal, spawn_background};
use onevip_lab::{Lab, LabFault, config, wait_until};

use super::{PATIENCE, lab, onevip, stdout};

/// What the doctor of a node finds: the words for it, and everything it says.
pub fn findings(lab: &Lab, node: u8) -> (Vec<String>, String) {
    let (words, text) = all_findings(lab, node);
    // A machine may refuse real-time rights to everybody; that is a finding, and true.
    (words.into_iter().filter(|word| word != "real-time" && word != "memory-lock").collect(), text)
}

pub fn all_findings(lab: &Lab, node: u8) -> (Vec<String>, String) {
    let output = onevip(lab, node, "doctor", &["--json"]);
    let text = stdout(&output);
    let all: Vec<serde_json::Value> = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    for finding in &all {
        for part in ["finding", "why", "remedy"] {
            assert!(finding[part].as_str().is_some_and(|words| words.len() > 10), "{finding}");
        }
    }
    assert_eq!(output.status.code(), Some(i32::from(!all.is_empty())), "{text}");
    (all.iter().map(|finding| finding["check"].as_str().unwrap().to_owned()).collect(), text)
}

/// In the end. A node that has just lost its `sshd` is ill for a moment, and says so; a busy machine makes that longer.
#[track_caller]
pub fn finds(lab: &Lab, node: u8, check: &str, words: &[&str]) {
    let mut last = (Vec::new(), String::new());
    let waited = wait_until(PATIENCE, &format!("{check} and nothing else to be found"), || {
        last = findings(lab, node);
        last.0 == [check] && words.iter().all(|word| last.1.contains(word))
    });
    waited.unwrap_or_else(|error| panic!("{error}; it should say {words:?}, and says {}", last.1));
}

#[track_caller]
pub fn finds_nothing(lab: &Lab, node: u8) {
    let mut text = String::new();
    let waited = wait_until(PATIENCE, "the doctor to be content", || {
        let found;
        (found, text) = findings(lab, node);
        found.is_empty()
    });
    waited.unwrap_or_else(|error| panic!("{error}: {text}"));
}

/// Puts another `sshd` in the place of a node's, with its configuration edited.
pub fn replace_sshd(lab: &Lab, node: u8, edit: impl Fn(String) -> String) {
    stop_sshd(lab, node);
    start_sshd(lab, node, edit);
}

/// Starts one where none runs.
pub fn start_sshd(lab: &Lab, node: u8, edit: impl Fn(String) -> String) {
    let path = lab.node(node).dir().join("sshd_config");
    let text = edit(fs::read_to_string(&path).unwrap());
    fs::write(&path, text).unwrap();
    let mut sshd = lab.command(&format!("unix{node}"), "/usr/sbin/sshd").unwrap();
    sshd.args(["-D", "-e", "-f"]).arg(&path);
    // It belongs to the lab, which ends it.
    spawn_background(&mut sshd, &lab.node(node).dir().join("sshd.log")).unwrap();
    wait_until(PATIENCE, "sshd to listen", || lab.node(node).sshd().is_some()).unwrap();
}

pub fn stop_sshd(lab: &Lab, node: u8) {
    let pid = lab.node(node).sshd().unwrap();
    signal(pid, Signal::SIGTERM);
    wait_until(PATIENCE, "sshd to end", || !is_alive(pid)).unwrap();
}

#[test]
fn everything_is_well_on_a_healthy_lab() {
    let lab = lab("opwell", 3);
    for node in 1..=3 {
        finds_nothing(&lab, node);
    }
}

#[test]
fn what_is_wrong_with_sshd_is_found() {
    let lab = lab("opsshd", 2);
    let original = fs::read_to_string(lab.node(2).dir().join("sshd_config")).unwrap();

    let key = lab.dir().join("other_key");
    lab.exec_ok("client", &["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key.to_str().unwrap()])
        .unwrap();
    let common = format!("HostKey {}", lab.dir().join("host_key").display());
    replace_sshd(&lab, 2, |text| text.replace(&common, &format!("HostKey {}", key.display())));
    let shown = lab.exec_ok("client", &["ssh-keygen", "-l", "-f", key.to_str().unwrap()]).unwrap();
    let fingerprint = shown.split(' ').nth(1).unwrap();
    for node in [1, 2] {
        finds(
            &lab,
            node,
            "host-keys-differ",
            &["ssh-ed25519", &format!("{fingerprint} on unix2"), " on unix1"],
        );
    }

    replace_sshd(&lab, 2, |_| original.replace("MaxStartups 200:30:400", "MaxStartups 2:30:5"));
    finds(&lab, 2, "max-startups", &["sshd_config"]);
    finds_nothing(&lab, 1);

    let own = format!("ListenAddress {}\n", lab.node(2).address());
    replace_sshd(&lab, 2, |_| original.replace("ListenAddress 0.0.0.0\nListenAddress ::\n", &own));
    finds(&lab, 2, "listen-address", &["198.51.100.10"]);

    replace_sshd(&lab, 2, |_| original.clone());
    finds_nothing(&lab, 2);
    stop_sshd(&lab, 2);
    finds(&lab, 2, "not-listening", &["port 22"]);
}

#[test]
fn what_is_wrong_with_a_host_is_found() {
    let lab = lab("ophost", 2);
    lab.exec_ok("unix2", &["nft", "add table inet f"]).unwrap();
    lab.exec_ok(
        "unix2",
        &["nft", "add chain inet f in { type filter hook input priority 0 ; policy accept ; }"],
    )
    .unwrap();
    finds_nothing(&lab, 2);
    lab.exec_ok("unix2", &["nft", "add rule inet f in tcp dport 22 drop"]).unwrap();
    finds(&lab, 2, "firewall", &["inet f in", "port 22"]);
    lab.exec_ok("unix2", &["nft", "delete table inet f"]).unwrap();
    finds_nothing(&lab, 2);
    firewalls(&lab);

    let key = config::key_path(lab.name());
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    finds(&lab, 2, "key-file", &["chmod 600"]);
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();

    lab.node(2).stop_onevip();
    finds(&lab, 2, "daemon", &[]);
    finds(&lab, 1, "node-out", &["unix2 is out"]);
}

/// Each is set up, found, and taken away again: chains that lead elsewhere, and the tables of old.
fn firewalls(lab: &Lab) {
    let on_unix2 = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        lab.exec_ok("unix2", &words).unwrap();
    };
    on_unix2("nft add table inet f");
    on_unix2("nft add chain inet f in { type filter hook input priority 0 ; policy drop ; }");
    on_unix2("nft add chain inet f ssh");
    on_unix2("nft add rule inet f in ct state established,related accept");
    on_unix2("nft add rule inet f in iifname lo accept");
    on_unix2("nft add rule inet f in ct state vmap { new : jump ssh, invalid : drop }");
    finds(lab, 2, "firewall", &["inet f in", "its policy"]);
    on_unix2("nft add rule inet f ssh tcp dport { 22, 80 } accept");
    on_unix2("nft add rule inet f in meta l4proto { icmp, icmpv6 } accept");
    finds_nothing(lab, 2);
    on_unix2("nft insert rule inet f ssh ip daddr 198.51.100.10 tcp dport 22 reject");
    finds(lab, 2, "firewall", &["inet f ssh", "a rule"]);
    on_unix2("nft delete table inet f");

    on_unix2("iptables-legacy -N guests");
    on_unix2("iptables-legacy -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT");
    on_unix2("iptables-legacy -A INPUT -p tcp -j guests");
    on_unix2("iptables-legacy -A guests -s 192.0.2.0/24 -j DROP");
    finds_nothing(lab, 2);
    on_unix2("iptables-legacy -A guests -p tcp -m multiport --dports 22,23 -j REJECT");
    finds(lab, 2, "firewall", &["iptables chain filter guests"]);
    on_unix2("iptables-legacy -F");
    on_unix2("iptables-legacy -X");
    on_unix2("ip6tables-nft -A INPUT -p tcp -m tcp --dport 22 -j DROP");
    finds(lab, 2, "firewall", &["port 22"]);
    on_unix2("ip6tables-nft -F");
    finds_nothing(lab, 2);
}

#[test]
fn a_configuration_that_differs_is_found_by_all() {
    let lab = lab("opconf", 2);
    let own = lab.node(2).config();
    let text = fs::read_to_string(&own).unwrap();
    fs::remove_file(&own).unwrap();
    fs::write(&own, text.replace("\nid = 2\n", "\nid = 2\nweight = 50\n")).unwrap();
    super::said(&lab, 2, "reload", &[]);
    for node in [1, 2] {
        finds(&lab, node, "config-differs", &["on unix1", "on unix2"]);
    }
}

#[test]
fn somebody_elses_vip_is_found() {
    let lab = lab("oparp", 2);
    let vip = lab.vip()[0].to_string();
    lab.exec_ok("client2", &["ip", "address", "add", &format!("{vip}/32"), "dev", "eth0"]).unwrap();
    // A gratuitous ARP, as a host sends that brings up an address.
    lab.exec_ok("client2", &["arping", "-q", "-c", "2", "-U", "-I", "eth0", &vip]).unwrap();
    for node in [1, 2] {
        finds(&lab, node, "foreign-mac", &["MAC of its own"]);
    }
}

#[test]
fn a_snooping_switch_is_named_by_status_and_doctor() {
    let lab = lab("opsnoop", 2);
    lab.fault(&LabFault::Snoop).unwrap();
    let hint = || {
        let status = lab.node(1).onevip_status().unwrap();
        status["vips"][0]["membership"]["hint"].as_str().unwrap_or_default().to_owned()
    };
    wait_until(PATIENCE, "the status to name the switch", || hint().contains("IGMP snooping")).unwrap();
    let (found, text) = findings(&lab, 1);
    assert!(found.contains(&"snooping-switch".to_owned()), "{text}");
    lab.heal(None).unwrap();
    wait_until(PATIENCE, "the hint to go away", || hint().is_empty()).unwrap();
    finds_nothing(&lab, 1);
}
