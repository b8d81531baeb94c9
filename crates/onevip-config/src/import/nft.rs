//! `nft list ruleset`: rules that choose by `jhash`.
//!
//! A rule is a line, as nft prints it. Only what has to do with the choice is read: the hash, the address, the interface,
//! the node, and the ARP rule that names the cluster MAC.

use super::found::{Found, Scheme};
use super::iptables::understand;
use super::tokens::{Token, lines, number, place_of_line, tokens};
use crate::{Diagnostic, SourceFile, Span};
use onevip_core::MacAddr;
use onevip_core::{AddressOrder, HashMode, NODES_MAX, Transport};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Reads a file.
pub(super) fn read(source: &Arc<SourceFile>, found: &mut Found) {
    let sets = sets(source);
    let mut device = None;
    for (start, line) in lines(source) {
        let tokens = tokens(source, start, line, "{},");
        let place = place_of_line(source, start, line);
        let token = |text: &str| tokens.iter().position(|token| token.text == text);
        if tokens.first().is_some_and(|token| token.text.starts_with('#')) {
            continue;
        }
        if token("hook").is_some() {
            device = token("device").and_then(|at| tokens.get(at + 1)).map(|token| token.text.clone());
        } else if let Some(at) = token("jhash") {
            let rule = Rule { tokens: &tokens, sets: &sets, place: &place };
            rule.read(at, device.clone(), found);
        } else if token("symhash").is_some() || token("numgen").is_some() {
            let reason = "this rule chooses by chance or by the whole flow";
            found.out.mistake(
                &place,
                reason,
                "no other system could choose the same; onevip has no such mapping",
            );
        } else {
            arp(&tokens, &place, found);
        }
    }
}

/// The elements of the sets of addresses, by name.
fn sets(source: &Arc<SourceFile>) -> BTreeMap<String, Vec<IpAddr>> {
    let (mut sets, mut name) = (BTreeMap::new(), None);
    for (start, line) in lines(source) {
        let tokens = tokens(source, start, line, "{},");
        match tokens.first().map(|token| token.text.as_str()) {
            Some("set") => name = tokens.get(1).map(|token| token.text.clone()),
            Some("chain" | "map" | "table") => name = None,
            _ => {}
        }
        if let (Some(name), true) = (&name, tokens.iter().any(|token| token.text == "elements")) {
            let addresses: Vec<IpAddr> = tokens.iter().filter_map(|token| token.text.parse().ok()).collect();
            sets.insert(name.clone(), addresses);
        }
    }
    sets
}

/// `arp saddr ip A arp saddr ether set M`, in whatever order.
fn arp(tokens: &[Token], place: &Span, found: &mut Found) {
    let after = |names: &[&str]| {
        let at = tokens
            .windows(names.len())
            .position(|window| window.iter().zip(names).all(|(token, name)| token.text == *name))?;
        tokens.get(at + names.len())
    };
    let Some(token) = after(&["arp", "saddr", "ether", "set"]) else { return };
    let Ok(mac) = token.text.parse::<MacAddr>() else {
        found.refuse(token, "this is no MAC", "write six bytes in hex, like 01:00:5e:33:64:0a");
        return;
    };
    let address = after(&["arp", "saddr", "ip"]).and_then(|token| token.text.parse().ok());
    found.understand(place, format!("the cluster MAC is {mac}"));
    found.macs.push((address, mac, place.clone()));
}

struct Rule<'a> {
    tokens: &'a [Token],
    sets: &'a BTreeMap<String, Vec<IpAddr>>,
    place: &'a Span,
}

/// What stands behind `jhash`.
struct Hash {
    v6: bool,
    modulus: u32,
    seed: Option<u32>,
    offset: u32,
    /// Index of the first token behind it.
    end: usize,
}

impl Rule<'_> {
    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }

    fn after(&self, names: &[&str]) -> Option<&Token> {
        let at = self
            .tokens
            .windows(names.len())
            .position(|window| window.iter().zip(names).all(|(token, name)| token.text == *name))?;
        self.tokens.get(at + names.len())
    }

    fn read(&self, at: usize, device: Option<String>, found: &mut Found) {
        let Some(hash) = self.hash(at, found) else { return };
        if hash.modulus > NODES_MAX as u32 {
            let reason = format!("the rule deals to {} nodes; onevip has at most {NODES_MAX}", hash.modulus);
            let remedy = "if these are the 1024 buckets of `onevip render`, use the configuration that it was rendered from";
            found.out.mistake(self.place, reason, remedy);
            return;
        }
        if hash.seed.is_none() {
            let reason = "the rule has no seed, so the kernel chose one by chance and does not tell it";
            let remedy = "nobody can keep this mapping, it changes with every load; to go on with some mapping say --seed 0";
            found.out.push(Diagnostic::advice(self.place, reason, remedy));
        }
        let addresses = self.addresses(hash.v6);
        let scheme = Scheme {
            origin: "nftables jhash",
            addresses,
            interface: self.interface().or(device),
            mac: None,
            total: Some(hash.modulus as u8),
            local: self.local(&hash),
            seed: hash.seed,
            mode: HashMode::SourceIp,
            order: AddressOrder::Memory,
            services: self.services(),
            place: self.place.clone(),
        };
        understand(&scheme, found);
        found.schemes.push(scheme);
    }

    /// `jhash ip saddr mod 4 seed 0xdeadbeef offset 1`; a hash of anything else is refused.
    fn hash(&self, at: usize, found: &mut Found) -> Option<Hash> {
        let Some(of) = (at..self.tokens.len()).find(|&at| self.text(at) == "mod") else {
            found.out.mistake(
                self.place,
                "jhash without `mod`",
                "nft prints one; look where this rule comes from",
            );
            return None;
        };
        let hashed: Vec<&str> = (at + 1..of).map(|at| self.text(at)).collect();
        let v6 = match hashed.as_slice() {
            ["ip", "saddr"] | ["ct", "original", "ip", "saddr"] | ["ct", "original", "saddr"] => false,
            ["ip6", "saddr"] | ["ct", "original", "ip6", "saddr"] => true,
            // What chooses who answers ARP is the same choice.
            ["arp", "saddr", "ip"] => false,
            other if other.contains(&".") => {
                let reason = format!("the rule hashes `{}`", other.join(" "));
                let remedy = "nft hashes ports in the order of the wire, onevip as numbers: clients could not keep their nodes";
                found.refuse(&self.tokens[at], reason, remedy);
                return None;
            }
            other => {
                let reason = format!("the rule hashes `{}`", other.join(" "));
                found.refuse(
                    &self.tokens[at],
                    reason,
                    "onevip hashes the source address: `ip saddr` or `ip6 saddr`",
                );
                return None;
            }
        };
        let modulus = number(self.text(of + 1)).filter(|&modulus| modulus > 0);
        let Some(modulus) = modulus else {
            found.refuse(
                &self.tokens[of],
                "`mod` without a number",
                "nft prints one; look where this rule comes from",
            );
            return None;
        };
        let mut hash = Hash { v6, modulus, seed: None, offset: 0, end: of + 2 };
        loop {
            let value = number(self.text(hash.end + 1));
            match (self.text(hash.end), value) {
                ("seed", Some(seed)) => hash.seed = Some(seed),
                ("offset", Some(offset)) => hash.offset = offset,
                _ => return Some(hash),
            }
            hash.end += 2;
        }
    }

    /// The nodes whose packets get through here, as far as the line tells.
    fn local(&self, hash: &Hash) -> Vec<u8> {
        let (mut at, mut inverted) = (hash.end, false);
        match self.text(at) {
            "==" | "eq" => at += 1,
            "!=" | "ne" => (at, inverted) = (at + 1, true),
            "vmap" => return self.accepted(at, hash),
            _ => {}
        }
        let mut hits = Vec::new();
        if self.text(at) == "{" {
            at += 1;
            while at < self.tokens.len() && self.text(at) != "}" {
                hits.extend(range(self.text(at)));
                at += 1;
            }
        } else {
            hits.extend(range(self.text(at)));
        }
        if hits.is_empty() {
            return Vec::new();
        }
        let drops = self.tokens[at..].iter().any(|token| token.text == "drop" || token.text == "reject");
        let all = hash.offset..hash.offset + hash.modulus;
        let passing = all.filter(|value| hits.contains(value) != (inverted != drops));
        passing.map(|value| (value - hash.offset + 1) as u8).collect()
    }

    /// `vmap { 0 : accept, 1 : drop }`
    fn accepted(&self, at: usize, hash: &Hash) -> Vec<u8> {
        let pairs =
            self.tokens[at..].windows(3).filter(|three| three[1].text == ":" && three[2].text == "accept");
        let values = pairs.flat_map(|three| range(&three[0].text));
        values.filter_map(|value| Some((value.checked_sub(hash.offset)? + 1) as u8)).collect()
    }

    fn addresses(&self, v6: bool) -> Vec<IpAddr> {
        let named = self.after(&["ip", "daddr"]).or_else(|| self.after(&["ip6", "daddr"]));
        let named = named.or_else(|| self.after(&["arp", "daddr", "ip"]));
        let Some(token) = named else { return Vec::new() };
        let all: Vec<IpAddr> = match token.text.as_str() {
            "{" => {
                let from = self.tokens.iter().position(|other| other.place.bytes() == token.place.bytes());
                let inside = self.tokens[from.unwrap_or(0)..].iter().take_while(|token| token.text != "}");
                inside.filter_map(|token| token.text.parse().ok()).collect()
            }
            text => match text.strip_prefix('@') {
                Some(set) => self.sets.get(set).cloned().unwrap_or_default(),
                None => text.parse().into_iter().collect(),
            },
        };
        all.into_iter().filter(|address: &IpAddr| address.is_ipv6() == v6).collect()
    }

    fn interface(&self) -> Option<String> {
        let token = self.after(&["iifname"]).or_else(|| self.after(&["iif"]))?;
        (!token.text.starts_with(['!', '{', '@']) && !token.text.ends_with('*')).then(|| token.text.clone())
    }

    fn services(&self) -> Vec<(Transport, u16)> {
        [(Transport::Tcp, "tcp"), (Transport::Udp, "udp")]
            .into_iter()
            .filter_map(|(protocol, name)| Some((protocol, self.after(&[name, "dport"])?.text.parse().ok()?)))
            .collect()
    }
}

/// `2`, or `0-3`.
fn range(text: &str) -> Vec<u32> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (number(first), number(last)) {
        (Some(first), Some(last)) if last - first.min(last) < 1024 => (first..=last).collect(),
        _ => Vec::new(),
    }
}
