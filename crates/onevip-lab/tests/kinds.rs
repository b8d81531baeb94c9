//! A sample of the kinds of hosts, each through all stories: `onevip-lab matrix` runs over every kind.

#![allow(clippy::unwrap_used)]

use onevip_lab::{Options, kind, matrix};

fn keeps_its_promises(name: &str) {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests build network namespaces: run them as root (make test)"
    );
    let kind = kind::find(name).unwrap();
    let broken = matrix::broken_promises(kind, Options::test(&format!("k-{name}"))).unwrap();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn hardened_hosts_keep_all_promises() {
    keeps_its_promises("hardened");
}

#[test]
fn hosts_with_a_second_interface_in_the_lan_keep_all_promises() {
    keeps_its_promises("two-nics");
}

/// The resets of their stack are kept back by the filter; sessions of a dead node end all the same.
#[test]
fn hosts_with_a_strict_stateful_firewall_keep_all_promises() {
    keeps_its_promises("conntrack-strict");
}
