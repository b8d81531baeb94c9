//! `iptables-save`, `ip6tables-save`, `arptables-save` and `ip maddr`: one after the other in one file, if need be.
//!
//! What iptables prints is not what was typed: `--cluster-local-node 2` comes back as `--cluster-local-nodemask
//! 0x00000002`, seeds as hex. Both are read, also rules as a script has them.

use super::found::{Found, Scheme};
use super::recent::{Recent, Step, limits};
use super::tokens::{Token, lines, number, place_of_line, tokens};
use crate::{Diagnostic, SourceFile, Span};
use onevip_core::MacAddr;
use onevip_core::{AddressOrder, HashMode, Transport};
use std::net::IpAddr;
use std::sync::Arc;

/// `CLUSTERIP_MAX_NODES` of the kernel.
const CLUSTERIP_NODES_MAX: u32 = 16;
/// `XT_CLUSTER_NODES_MAX`.
const XT_CLUSTER_NODES_MAX: u32 = 32;

/// Reads a file.
pub(super) fn read(source: &Arc<SourceFile>, found: &mut Found) {
    let mut recent = Vec::new();
    for (start, line) in lines(source) {
        let tokens = tokens(source, start, line, "");
        let place = place_of_line(source, start, line);
        if tokens.first().is_some_and(|token| token.text == "link") {
            member_address(&tokens, &place, found);
        } else if let Some(rule) = Rule::of(&tokens, place) {
            rule.read(&mut recent, found);
        }
    }
    limits(recent, found);
}

/// `link  01:00:5e:33:64:0a static`, as `ip maddr` lists what somebody added by hand.
fn member_address(tokens: &[Token], place: &Span, found: &mut Found) {
    let is_static = tokens.iter().any(|token| token.text == "static");
    if let (true, Some(mac)) = (is_static, tokens.get(1).and_then(|token| token.text.parse().ok())) {
        found.understand(place, format!("the interface listens to {mac}"));
        found.macs.push((None, mac, place.clone()));
    }
}

/// One rule, as pairs of an option and its value.
struct Rule<'a> {
    options: Vec<RuleOption<'a>>,
    place: Span,
}

struct RuleOption<'a> {
    name: &'a str,
    /// Empty where there is none.
    value: &'a str,
    value_token: &'a Token,
    inverted: bool,
}

impl<'a> Rule<'a> {
    /// The rule in these tokens, if they are one: from `-A` or `-I` on, whatever stands before (a program, counters).
    fn of(tokens: &'a [Token], place: Span) -> Option<Self> {
        if tokens.first().is_none_or(|token| token.text.starts_with(['#', ':', '*'])) {
            return None;
        }
        let start = tokens
            .iter()
            .position(|token| matches!(token.text.as_str(), "-A" | "-I" | "--append" | "--insert"))?;
        let tokens = &tokens[start..];
        let (mut options, mut at, mut inverted) = (Vec::new(), 0, false);
        while let Some(token) = tokens.get(at) {
            at += 1;
            if token.text == "!" {
                inverted = true;
                continue;
            }
            if !token.text.starts_with('-') {
                // The number of a rule (-I INPUT 1), or a token that no option takes.
                continue;
            }
            let mut value = tokens.get(at).filter(|value| !value.text.starts_with('-'));
            if value.is_some_and(|value| value.text == "!") {
                // The old way: -d ! 198.51.100.10. A new option may also follow: then it is that which is inverted.
                let after = tokens.get(at + 1).filter(|after| !after.text.starts_with('-'));
                value = after;
                if after.is_some() {
                    (inverted, at) = (true, at + 1);
                }
            }
            at += usize::from(value.is_some());
            options.push(RuleOption {
                name: &token.text,
                value: value.map_or("", |value| value.text.as_str()),
                value_token: value.unwrap_or(token),
                inverted,
            });
            inverted = false;
        }
        Some(Self { options, place })
    }

    fn option(&self, names: &[&str]) -> Option<&RuleOption<'a>> {
        self.options.iter().find(|option| names.contains(&option.name))
    }

    fn value(&self, names: &[&str]) -> Option<&'a str> {
        self.option(names).filter(|option| !option.inverted).map(|option| option.value)
    }

    fn target(&self) -> &'a str {
        self.value(&["-j", "--jump"]).unwrap_or("")
    }

    fn matches(&self, module: &str) -> bool {
        self.options.iter().any(|option| ["-m", "--match"].contains(&option.name) && option.value == module)
    }

    fn read(&self, recent: &mut Vec<Recent>, found: &mut Found) {
        if self.target() == "CLUSTERIP" {
            self.clusterip(found);
        } else if self.matches("cluster") {
            self.cluster(found);
        } else if self.matches("recent") {
            recent.extend(self.recent(found));
        } else if let Some(mac) = self.option(&["--mangle-mac-s"]) {
            self.mangled(mac, found);
        } else if self.target() == "NFQUEUE" || self.matches("hashlimit") || self.matches("connlimit") {
            let reason = "this rule also decides what reaches a service, and is not part of the import";
            let remedy = "it stays in force beside onevip; see whether it is still wanted";
            found.out.push(Diagnostic::advice(&self.place, reason, remedy));
        }
    }

    /// A number in a range; what else stands there is refused.
    fn number(&self, names: &[&str], most: u32, found: &mut Found) -> Option<u32> {
        let option = self.option(names)?;
        let read = number(option.value).filter(|&number| (1..=most).contains(&number));
        if read.is_none() {
            let reason = format!("{} is not from 1 to {most}", option.name);
            found.refuse(
                option.value_token,
                reason,
                "the kernel would not have taken this rule; look where it comes from",
            );
        }
        read
    }

    fn addresses(&self, found: &mut Found) -> Vec<IpAddr> {
        let Some(option) = self.option(&["-d", "--destination", "--dst"]) else { return Vec::new() };
        let (address, bits) = option.value.split_once('/').unwrap_or((option.value, ""));
        let whole = matches!(bits, "" | "32" | "128" | "255.255.255.255");
        match address.parse() {
            Ok(address) if whole && !option.inverted => vec![address],
            _ => {
                found.refuse(
                    option.value_token,
                    "the rule is not for one address",
                    "name the shared address: --vip 198.51.100.10",
                );
                Vec::new()
            }
        }
    }

    fn services(&self) -> Vec<(Transport, u16)> {
        let protocol = match self.value(&["-p", "--protocol"]) {
            Some("tcp" | "6") => Transport::Tcp,
            Some("udp" | "17") => Transport::Udp,
            _ => return Vec::new(),
        };
        let ports =
            self.value(&["--dport", "--destination-port", "--dports", "--destination-ports"]).unwrap_or("");
        ports.split(',').filter_map(|port| Some((protocol, port.parse().ok()?))).collect()
    }

    fn interface(&self) -> Option<String> {
        // A + at the end stands for any.
        let name = self.value(&["-i", "--in-interface"])?;
        (!name.ends_with('+')).then(|| name.to_owned())
    }

    fn clusterip(&self, found: &mut Found) {
        if self.option(&["--new"]).is_none() {
            let reason = "a CLUSTERIP rule without --new has no parameters of its own";
            found.out.push(Diagnostic::advice(
                &self.place,
                reason,
                "the rule with --new for this address says it all",
            ));
            return;
        }
        let Some(mode) = self.hash_mode(found) else { return };
        let mac = self.option(&["--clustermac"]);
        let read: Option<MacAddr> = mac.and_then(|option| option.value.parse().ok());
        if let (Some(option), None) = (mac, read) {
            found.refuse(
                option.value_token,
                "this is no MAC",
                "write six bytes in hex, like 01:00:5e:33:64:0a",
            );
        }
        let total = self.number(&["--total-nodes"], CLUSTERIP_NODES_MAX, found);
        let local = self.local_nodes(total, found);
        let seed = self.seed(&["--hash-init"], found);
        let (Some(total), Some(seed)) =
            (total, seed.or(self.option(&["--hash-init"]).is_none().then_some(0)))
        else {
            if self.option(&["--total-nodes"]).is_none() {
                found.out.mistake(
                    &self.place,
                    "--total-nodes is missing",
                    "CLUSTERIP demands it with --new; look where this rule comes from",
                );
            }
            return;
        };
        let scheme = Scheme {
            origin: "CLUSTERIP",
            addresses: self.addresses(found),
            interface: self.interface(),
            mac: read,
            total: Some(total as u8),
            local,
            seed: Some(seed),
            mode,
            order: AddressOrder::Host,
            services: self.services(),
            place: self.place.clone(),
        };
        understand(&scheme, found);
        found.schemes.push(scheme);
    }

    /// What CLUSTERIP hashes.
    fn hash_mode(&self, found: &mut Found) -> Option<HashMode> {
        let Some(option) = self.option(&["--hashmode"]) else {
            found.out.mistake(
                &self.place,
                "--hashmode is missing",
                "CLUSTERIP demands it with --new; look where this rule comes from",
            );
            return None;
        };
        match option.value {
            "sourceip" => Some(HashMode::SourceIp),
            "sourceip-sourceport" => Some(HashMode::SourceIpPort),
            "sourceip-sourceport-destport" => Some(HashMode::SourceIpPortDestPort),
            other => {
                let reason = format!("CLUSTERIP has no --hashmode {other}");
                found.refuse(
                    option.value_token,
                    reason,
                    "it is sourceip, sourceip-sourceport or sourceip-sourceport-destport",
                );
                None
            }
        }
    }

    /// `--local-node 2`, or the list that some versions take and print.
    fn local_nodes(&self, total: Option<u32>, found: &mut Found) -> Vec<u8> {
        let Some(option) = self.option(&["--local-node", "--local-nodes"]) else { return Vec::new() };
        let numbers: Option<Vec<u8>> = option.value.split(',').map(|number| number.parse().ok()).collect();
        let numbers =
            numbers.filter(|all| all.iter().all(|&one| (1..=total.unwrap_or(16)).contains(&one.into())));
        if numbers.is_none() {
            found.refuse(
                option.value_token,
                "this is no number of a node",
                "nodes are numbered from 1 to --total-nodes",
            );
        }
        numbers.unwrap_or_default()
    }

    fn seed(&self, names: &[&str], found: &mut Found) -> Option<u32> {
        let option = self.option(names)?;
        let seed = number(option.value);
        if seed.is_none() {
            found.refuse(
                option.value_token,
                "this is no seed",
                "a seed has 32 bits: a number, or hex with 0x",
            );
        }
        seed
    }

    fn cluster(&self, found: &mut Found) {
        let total = self.number(&["--cluster-total-nodes"], XT_CLUSTER_NODES_MAX, found);
        let seed = self.seed(&["--cluster-hash-seed"], found);
        let (Some(total), Some(seed)) = (total, seed) else {
            if !found.out.has_mistakes() {
                let reason = "--cluster-total-nodes or --cluster-hash-seed is missing";
                found.out.mistake(
                    &self.place,
                    reason,
                    "xt_cluster demands both; look where this rule comes from",
                );
            }
            return;
        };
        let addresses = self.addresses(found);
        if addresses.iter().any(IpAddr::is_ipv6) {
            let reason =
                "xt_cluster looks only at the first 32 bits of an IPv6 source; onevip looks at all of them";
            found.out.push(Diagnostic::advice(
                &self.place,
                reason,
                "IPv6 clients will move once, at the change; IPv4 clients will not",
            ));
        }
        let scheme = Scheme {
            origin: "xt_cluster",
            addresses,
            interface: self.interface(),
            mac: None,
            total: Some(total as u8),
            local: self.cluster_local(total, found),
            seed: Some(seed),
            mode: HashMode::SourceIp,
            order: AddressOrder::Memory,
            services: self.services(),
            place: self.place.clone(),
        };
        understand(&scheme, found);
        found.schemes.push(scheme);
    }

    /// The nodes whose packets get through here.
    fn cluster_local(&self, total: u32, found: &mut Found) -> Vec<u8> {
        let all = u32::MAX >> (32 - total);
        let (option, mask) = if let Some(option) = self.option(&["--cluster-local-node"]) {
            let node = number(option.value).filter(|node| (1..=total).contains(node));
            (option, node.map(|node| 1 << (node - 1)))
        } else if let Some(option) = self.option(&["--cluster-local-nodemask"]) {
            (option, number(option.value).filter(|mask| mask & !all == 0))
        } else {
            found.out.mistake(
                &self.place,
                "--cluster-local-node is missing",
                "xt_cluster demands it; look where this rule comes from",
            );
            return Vec::new();
        };
        let Some(mask) = mask else {
            found.refuse(
                option.value_token,
                "this is no node, or no mask of nodes",
                "nodes are numbered from 1 to --cluster-total-nodes; a mask has a bit for each",
            );
            return Vec::new();
        };
        let drops = matches!(self.target(), "DROP" | "REJECT");
        let passing = if option.inverted != drops { all & !mask } else { mask };
        (1..=total as u8).filter(|node| passing & 1 << (node - 1) != 0).collect()
    }

    /// `arptables … --mangle-mac-s`: what the VIP is said to be at.
    fn mangled(&self, option: &RuleOption<'_>, found: &mut Found) {
        let Ok(mac) = option.value.parse::<MacAddr>() else {
            found.refuse(
                option.value_token,
                "this is no MAC",
                "write six bytes in hex, like 01:00:5e:33:64:0a",
            );
            return;
        };
        let source = self.value(&["-s", "--source", "--src-ip", "--source-ip"]);
        let address: Option<IpAddr> = source.and_then(|text| text.split('/').next()?.parse().ok());
        found.understand(&self.place, format!("the cluster MAC is {mac}"));
        found.macs.push((address, mac, self.place.clone()));
    }

    fn recent(&self, found: &mut Found) -> Option<Recent> {
        let list = self.value(&["--name"]).unwrap_or("DEFAULT").to_owned();
        let port = self.services().first().map(|(_, port)| *port);
        if self.option(&["--rdest"]).is_some() {
            let reason = "this rule counts by destination";
            found.out.push(Diagnostic::advice(
                &self.place,
                reason,
                "onevip limits sources; the rule is left out",
            ));
            return None;
        }
        let step = if self.option(&["--set"]).is_some() {
            Step::Set
        } else if self.option(&["--update", "--rcheck"]).is_some() {
            let seconds = self.number(&["--seconds"], u32::MAX, found)?;
            let hits = if self.option(&["--hitcount"]).is_some() {
                self.number(&["--hitcount"], 255, found)?
            } else {
                1
            };
            let action = match (self.target(), self.value(&["--reject-with"])) {
                ("REJECT", Some("tcp-reset")) => "tcp-reset",
                ("REJECT", _) => "icmp-port-unreachable",
                ("DROP", _) => "drop",
                _ => {
                    let reason = "what becomes of too many connections is decided by another rule";
                    found.out.push(Diagnostic::advice(
                        &self.place,
                        reason,
                        "the limit is left out; write [vip.service.limit] by hand",
                    ));
                    return None;
                }
            };
            Step::Check { seconds, hits, action, renews: self.option(&["--update"]).is_some() }
        } else {
            return None;
        };
        Some(Recent { list, port, step, place: self.place.clone() })
    }
}

/// Says what a scheme is.
pub(super) fn understand(scheme: &Scheme, found: &mut Found) {
    let list = |numbers: &[u8]| numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut what = format!("{}: ", scheme.origin);
    match scheme.addresses.as_slice() {
        [] => what.push_str("an address that it does not name"),
        addresses => what.push_str(&addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
    if let Some(total) = scheme.total {
        what.push_str(&format!(" over {total} nodes"));
    }
    if let Some(seed) = scheme.seed {
        what.push_str(&format!(", seed {seed:#x}"));
    }
    if !scheme.local.is_empty() {
        what.push_str(&format!("; this host is node {}", list(&scheme.local)));
    }
    found.understand(&scheme.place, what);
}
