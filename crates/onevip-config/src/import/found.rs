//! What the readers find, and one whole made of it.

use super::tokens::Token;
use crate::{Diagnostic, Diagnostics, SourceFile, Span};
use onevip_core::MacAddr;
use onevip_core::{AddressOrder, HashMode, Transport};
use std::net::IpAddr;
use std::sync::Arc;

/// What the person who imports says, because the input cannot.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Name of the cluster.
    pub cluster: String,
    /// Addresses of the VIP, where the rules name none.
    pub vip: Vec<IpAddr>,
    /// The cluster MAC.
    pub mac: Option<MacAddr>,
    /// The seed.
    pub seed: Option<u32>,
    /// How many nodes there are.
    pub nodes: Option<u8>,
    /// The nodes, in the order of their numbers.
    pub members: Vec<Member>,
    /// Whether a Pacemaker agent is one that makes CLUSTERIP rules.
    pub clusterip_agent: Option<bool>,
}

/// A node, as far as it is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its hostname.
    pub name: String,
    /// Its own addresses; may be empty.
    pub addresses: Vec<IpAddr>,
}

/// How an old system deals the clients of an address to its nodes.
#[derive(Clone, Debug)]
pub struct Scheme {
    /// The old system, in words.
    pub origin: &'static str,
    /// The shared addresses; empty when the rule does not say.
    pub addresses: Vec<IpAddr>,
    /// The interface.
    pub interface: Option<String>,
    /// The cluster MAC.
    pub mac: Option<MacAddr>,
    /// How many nodes share it; `None` when that is not said here.
    pub total: Option<u8>,
    /// The numbers for which this host answers.
    pub local: Vec<u8>,
    /// Seed of the hash; `None` when that is not said here.
    pub seed: Option<u32>,
    /// What is hashed.
    pub mode: HashMode,
    /// How the address is hashed.
    pub order: AddressOrder,
    /// What is served, where the rule is about a port.
    pub services: Vec<(Transport, u16)>,
    /// Where it stands.
    pub place: Span,
}

/// A limit on new connections of a source.
#[derive(Clone, PartialEq, Debug)]
pub struct ImportedLimit {
    /// Port of the service; `None`: all.
    pub port: Option<u16>,
    /// So many are let in …
    pub burst: u32,
    /// … within so many seconds.
    pub seconds: u32,
    /// The word of the configuration for what becomes of the others.
    pub action: &'static str,
    /// Whether what is refused counts as well.
    pub counts_refused: bool,
}

/// Everything that was found.
#[derive(Debug, Default)]
pub struct Found {
    /// The schemes; after [`Found::settle`] one for each address.
    pub schemes: Vec<Scheme>,
    /// Limits.
    pub limits: Vec<ImportedLimit>,
    /// Cluster MACs of which it is said elsewhere for which address they are, or not at all.
    pub macs: Vec<(Option<IpAddr>, MacAddr, Span)>,
    /// Names of the nodes, where the input has them.
    pub names: Vec<String>,
    /// What was understood.
    pub understood: Vec<(Span, String)>,
    /// What was not.
    pub out: Diagnostics,
}

impl Found {
    /// Notes what was understood.
    pub(super) fn understand(&mut self, place: &Span, what: impl Into<String>) {
        self.understood.push((place.clone(), what.into()));
    }

    /// Refuses a token.
    pub(super) fn refuse(&mut self, token: &Token, reason: impl Into<String>, remedy: impl Into<String>) {
        self.out.mistake(&token.place, reason, remedy);
    }

    /// Makes one scheme per address of what several rules and files say, and fills in what only a person knows.
    pub(super) fn settle(&mut self, sources: &[Arc<SourceFile>], answers: &Answers) {
        if self.schemes.is_empty() && !self.out.has_mistakes() {
            let place = sources.first().map(Span::whole);
            if let Some(place) = place {
                let remedy = "look for CLUSTERIP, `-m cluster`, `jhash` or an IPaddr2 clone in it; rules of one node are enough";
                self.out.mistake(&place, "no rule here deals clients to nodes", remedy);
            }
        }
        self.give_addresses(answers);
        let schemes = std::mem::take(&mut self.schemes);
        for scheme in schemes {
            self.add_to_known(scheme);
        }
        let mut schemes = std::mem::take(&mut self.schemes);
        for scheme in &mut schemes {
            self.fill_in(scheme, answers);
        }
        self.schemes = schemes;
        self.compare_totals();
    }

    /// Rules that name no address are about the one that others name, or that the person named.
    fn give_addresses(&mut self, answers: &Answers) {
        let mut known: Vec<IpAddr> =
            self.schemes.iter().flat_map(|scheme| scheme.addresses.clone()).collect();
        known.extend(self.macs.iter().filter_map(|(address, ..)| *address));
        known.sort_unstable();
        known.dedup();
        let known = if answers.vip.is_empty() { known } else { answers.vip.clone() };
        for scheme in &mut self.schemes {
            if !scheme.addresses.is_empty() {
                continue;
            }
            if known.len() == 1 || (!answers.vip.is_empty() && !known.is_empty()) {
                scheme.addresses.clone_from(&known);
            } else {
                let reason = "this rule does not say for which address it is";
                self.out.mistake(&scheme.place, reason, "name the shared address: --vip 198.51.100.10");
            }
        }
    }

    /// Adds a scheme, or what it says in addition to one for the same address.
    fn add_to_known(&mut self, scheme: Scheme) {
        let same = |known: &&mut Scheme| known.addresses.iter().any(|one| scheme.addresses.contains(one));
        let Some(known) = self.schemes.iter_mut().find(same) else {
            self.schemes.push(scheme);
            return;
        };
        let differs = differences(known, &scheme);
        if !differs.is_empty() {
            let reason =
                format!("for the same address, another rule has another {}", differs.join(", another "));
            let remedy =
                "clients cannot keep their nodes under both; leave out the rule that is not in force";
            self.out.push(Diagnostic::mistake(&scheme.place, reason, remedy).also(&known.place, "the other"));
            return;
        }
        known.total = known.total.or(scheme.total);
        known.seed = known.seed.or(scheme.seed);
        known.mac = known.mac.or(scheme.mac);
        if known.interface.is_none() {
            known.interface = scheme.interface;
        }
        for service in scheme.services {
            if !known.services.contains(&service) {
                known.services.push(service);
            }
        }
        known.local.extend(scheme.local);
        known.local.sort_unstable();
        known.local.dedup();
    }

    fn fill_in(&mut self, scheme: &mut Scheme, answers: &Answers) {
        let place = scheme.place.clone();
        scheme.seed = answers.seed.or(scheme.seed);
        if scheme.seed.is_none() {
            let reason = "the seed of the hash is not in this input";
            let remedy =
                "add the rules of a node (iptables-save, nft list ruleset) to the files, or say --seed 0x…";
            self.out.mistake(&place, reason, remedy);
        }
        let said = u8::try_from(answers.members.len()).ok().filter(|&count| count > 0);
        let named = u8::try_from(self.names.len()).ok().filter(|&count| count > 0);
        scheme.total = scheme.total.or(answers.nodes).or(said).or(named);
        match (scheme.total, said) {
            (None, _) => {
                let remedy = "say how many there are: --nodes 4";
                self.out.mistake(&place, "the number of nodes is not in this input", remedy);
            }
            (Some(total), Some(said)) if total != said => {
                let reason = format!("{total} nodes share this address, and {said} are named with --host");
                let remedy = "name all of them, in the order of their numbers; a dead one counts";
                self.out.mistake(&place, reason, remedy);
            }
            (Some(_), _) => {}
        }
        let of_this = |(address, ..): &&(Option<IpAddr>, MacAddr, Span)| {
            address.is_none_or(|address| scheme.addresses.contains(&address))
        };
        let macs: Vec<MacAddr> = self.macs.iter().filter(of_this).map(|(_, mac, _)| *mac).collect();
        scheme.mac = answers.mac.or(scheme.mac).or_else(|| match macs.as_slice() {
            [first, rest @ ..] if rest.iter().all(|other| other == first) => Some(*first),
            _ => None,
        });
        if scheme.mac.is_none() {
            let reason = if macs.is_empty() {
                "the cluster MAC is not in this input: the configuration gets the usual one of its address"
            } else {
                "several MACs could be the cluster MAC: the configuration gets the usual one of its address"
            };
            let remedy =
                "if clients or routers know another, say --mac 01:00:5e:…; `ip maddr` and `arp -n` show it";
            self.out.push(Diagnostic::advice(&place, reason, remedy));
        }
        if let [_, _, ..] = scheme.local[..] {
            let numbers: Vec<String> = scheme.local.iter().map(ToString::to_string).collect();
            let reason =
                format!("these rules make one host answer as node {}", numbers.join(" and as node "));
            let remedy = "the configuration has a node for each number; who stands in for whom is onevip's business, with membership = \"living\"";
            self.out.push(Diagnostic::advice(&place, reason, remedy));
        }
    }

    /// All VIPs of a file share its nodes, so they must be as many.
    fn compare_totals(&mut self) {
        let Some((first, rest)) = self.schemes.split_first() else { return };
        for other in rest.iter().filter(|other| other.total != first.total) {
            let reason = "another address is shared by another number of nodes";
            let remedy = "import them one by one, and put `nodes = […]` into each [[vip]]";
            let one = Diagnostic::mistake(&other.place, reason, remedy).also(&first.place, "the other");
            self.out.push(one);
        }
    }
}

/// In what two schemes contradict each other.
fn differences(one: &Scheme, other: &Scheme) -> Vec<&'static str> {
    fn differ<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
        matches!((one, other), (Some(one), Some(other)) if one != other)
    }
    let all = [
        ("number of nodes", differ(one.total, other.total)),
        ("seed", differ(one.seed, other.seed)),
        ("cluster MAC", differ(one.mac, other.mac)),
        ("hash", one.mode != other.mode),
        ("order of the address's bytes", one.order != other.order),
    ];
    all.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}
