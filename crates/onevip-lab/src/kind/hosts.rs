//! How each kind of host is made: settings, interfaces and rules inside the node's own namespace.

use std::process::Command;

use anyhow::{Context, Result};

use crate::net::{self, BRIDGE, INTERFACE, ip_batch};
use crate::netns::{self, Entrance, sysctl};
use crate::plan::{Host, Name, v4};
use crate::process::feed;

/// The settings of the CIS benchmarks for Debian and RHEL ("Network Kernel Parameters"), and `arp_ignore` and
/// `arp_announce` as guides for hosts with several interfaces have them.
const HARDENED: &[(&str, &str)] = &[
    ("rp_filter", "1"),
    ("log_martians", "1"),
    ("accept_redirects", "0"),
    ("secure_redirects", "0"),
    ("send_redirects", "0"),
    ("accept_source_route", "0"),
    ("arp_ignore", "1"),
    ("arp_announce", "2"),
];

pub(super) fn hardened(name: &Name, id: u8) -> Result<()> {
    netns::inside(name, Host::Node(id), || {
        for group in ["all", "default", INTERFACE] {
            for (setting, value) in HARDENED {
                sysctl(&format!("ipv4/conf/{group}/{setting}"), value)?;
            }
        }
        sysctl("ipv4/icmp_echo_ignore_broadcasts", "1")?;
        sysctl("ipv4/tcp_syncookies", "1")
    })?
}

pub(super) fn two_nics(name: &Name, id: u8) -> Result<()> {
    let (node, port) = (Host::Node(id), net::second_port(Host::Node(id)));
    let mac = format!("02:00:00:00:09:{id:02x}");
    let netns = name.netns(node);
    let plugged = format!(
        "link add {port} type veth peer name eth1 address {mac} netns {netns}\n\
         link set {port} master {BRIDGE} up\n"
    );
    ip_batch(name, Host::Switch, &plugged)?;
    ip_batch(name, node, "link set eth1 up\n")
}

pub(super) fn default_drop(name: &Name, id: u8) -> Result<()> {
    nft(
        name,
        id,
        "table inet host {\n\
         chain input { type filter hook input priority 0; policy drop;\n\
         iifname lo accept\n\
         ct state established,related accept\n\
         meta l4proto { icmp, ipv6-icmp } accept\n\
         tcp dport { 7, 22 } accept\n}\n}\n",
    )
}

pub(super) fn conntrack_strict(name: &Name, id: u8) -> Result<()> {
    nft(
        name,
        id,
        "table inet host {\n\
         chain input { type filter hook input priority 0; policy accept;\n\
         ct state invalid drop\n\
         tcp flags & (syn | ack) != syn ct state new drop\n}\n}\n",
    )?;
    // The setting is there once something in the namespace uses conntrack.
    netns::inside(name, Host::Node(id), || sysctl("netfilter/nf_conntrack_tcp_loose", "0"))?
}

pub(super) fn arp_filter(name: &Name, id: u8) -> Result<()> {
    let number = 10 + u16::from(id);
    let rules = format!(
        "table arp host {{\n\
         chain input {{ type filter hook input priority 0;\n\
         arp operation request arp daddr ip {} drop\n}}\n}}\n\
         table ip6 host {{\n\
         chain input {{ type filter hook input priority 0;\n\
         ip6 daddr ff02::1:ff00:{number} icmpv6 type nd-neighbor-solicit drop\n}}\n}}\n",
        own(id)
    );
    nft(name, id, &rules)
}

pub(super) fn mtu_1280(name: &Name, id: u8) -> Result<()> {
    ip_batch(name, Host::Node(id), &format!("link set {INTERFACE} mtu 1280\n"))
}

pub(super) fn own_slash_32(name: &Name, id: u8) -> Result<()> {
    let own = own(id);
    let batch = format!(
        "addr del {own}/24 dev {INTERFACE}\n\
         addr add {own}/32 dev {INTERFACE}\n\
         route add {}/24 dev {INTERFACE} src {own}\n",
        v4(0)
    );
    ip_batch(name, Host::Node(id), &batch)
}

fn own(id: u8) -> std::net::Ipv4Addr {
    v4(10 + id)
}

fn nft(name: &Name, id: u8, rules: &str) -> Result<()> {
    let mut nft = Command::new("nft");
    Entrance::open(name, Host::Node(id))?.apply(nft.args(["-f", "-"]));
    feed(&mut nft, rules).context("the firewall's rules are not taken (package nftables)")
}
