//! The text of the configuration.

use super::found::{Answers, Found, ImportedLimit, Scheme};
use onevip_core::{AddressOrder, HashMode, Transport};
use std::fmt::Write as _;
use std::net::IpAddr;

/// Stands where only a person knows what belongs there; `onevip check` refuses the file until it is gone.
pub(super) const FILL_IN: &str = "# fill in:";

/// Writes it. Every scheme is whole by now.
pub(super) fn configuration(found: &Found, answers: &Answers) -> String {
    let mut origins: Vec<&str> = found.schemes.iter().map(|scheme| scheme.origin).collect();
    origins.dedup();
    let mut out = format!(
        "# Made by `onevip import` from: {}.\n\
         # Every client keeps its node while all nodes are up. Examine it with `onevip check`, and ask `onevip where`.\n\n",
        origins.join(", ")
    );
    let _ = writeln!(out, "cluster = \"{}\"", answers.cluster);
    out.push_str(
        "# Nodes can change over one by one under \"static\". When all have: make a key with `onevip keygen`, copy it to\n\
         # all, and write \"living\", so that the others take over from a node that dies.\n\
         membership = \"static\"\n",
    );
    for (number, scheme) in found.schemes.iter().enumerate() {
        vip(&mut out, number, scheme, &found.limits);
    }
    let total = found.schemes.first().and_then(|scheme| scheme.total).unwrap_or(0);
    for number in 1..=usize::from(total) {
        node(&mut out, number, found, answers);
    }
    out
}

fn vip(out: &mut String, number: usize, scheme: &Scheme, limits: &[ImportedLimit]) {
    let name = if number == 0 { "login".to_owned() } else { format!("login{}", number + 1) };
    let _ = writeln!(out, "\n[[vip]]\nname = \"{name}\"\naddresses = [{}]", quoted(&scheme.addresses));
    if let Some(interface) = &scheme.interface {
        let _ = writeln!(out, "interface = \"{interface}\"");
    }
    let hash = match scheme.mode {
        HashMode::SourceIp | HashMode::SourceNet { .. } => "source-ip",
        HashMode::SourceIpPort => "source-ip-port",
        HashMode::SourceIpPortDestPort => "source-ip-port-dest-port",
    };
    let seed = scheme.seed.unwrap_or(0);
    let _ = writeln!(out, "mapping = \"clusterip\"\nhash = \"{hash}\"\nseed = {seed}{}", in_hex(seed));
    let order = match scheme.order {
        AddressOrder::Host => "\"host\"     # as CLUSTERIP hashed it",
        AddressOrder::Memory => "\"memory\"",
    };
    let _ = writeln!(out, "address_order = {order}");
    if let Some(mac) = scheme.mac {
        if !mac.is_multicast() {
            out.push_str("delivery = \"flood\"\n");
        }
        let _ = writeln!(out, "mac = \"{mac}\"");
    }
    let mut services = scheme.services.clone();
    if services.is_empty() {
        services.push((Transport::Tcp, 22));
    }
    for (transport, port) in services {
        let protocol = transport.as_str();
        let _ = writeln!(out, "\n[[vip.service]]\nprotocol = \"{protocol}\"\nport = {port}");
        let of_this = |limit: &&ImportedLimit| {
            transport == Transport::Tcp && limit.port.is_none_or(|other| other == port)
        };
        if let Some(limit) = limits.iter().find(of_this) {
            service_limit(out, limit);
        }
    }
}

fn service_limit(out: &mut String, limit: &ImportedLimit) {
    let refused = if limit.counts_refused { "count" } else { "ignore" };
    let _ = writeln!(
        out,
        "\n  [vip.service.limit]\n  burst = {}\n  window = \"{}s\"\n  action = \"{}\"\n  refused = \"{refused}\"",
        limit.burst, limit.seconds, limit.action
    );
}

fn node(out: &mut String, number: usize, found: &Found, answers: &Answers) {
    let member = answers.members.get(number - 1);
    let name = member.map(|member| &member.name).or_else(|| found.names.get(number - 1));
    out.push_str("\n[[node]]\n");
    let _ = match name {
        Some(name) => writeln!(out, "name = \"{name}\""),
        None => writeln!(out, "{FILL_IN} name = \"unix{number}\"    # the hostname of node {number}"),
    };
    let _ = writeln!(out, "id = {number}");
    let _ = match member.map(|member| &member.addresses[..]) {
        Some(addresses @ [_, ..]) => writeln!(out, "address = [{}]", quoted(addresses)),
        _ => writeln!(out, "{FILL_IN} address = \"192.0.2.{number}\"    # its own, not the VIP"),
    };
}

fn quoted(addresses: &[IpAddr]) -> String {
    addresses.iter().map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(", ")
}

/// Seeds are known in hex to those who wrote the rules.
fn in_hex(seed: u32) -> String {
    if seed > 9 { format!("     # {seed:#x}") } else { String::new() }
}
