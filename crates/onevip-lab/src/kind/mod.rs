//! Kinds of hosts: nodes that are not like the lab's plain ones, but like those that people have.
//!
//! A kind is made before the node's services start, and again when the node boots. What is right for each is part of
//! the list: [`matrix`](crate::matrix) runs the same stories over all of them. How they are made is in `hosts.rs`.

mod hosts;

use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

use crate::plan::{Host, Name};

/// What is right for nodes of a kind. To serve and break a promise in silence is right for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RightOutcome {
    /// Every promise holds, and `onevip doctor` finds nothing.
    Keeps,
    /// Every promise holds but one, and `onevip doctor` names this check beforehand: sessions of a node that died end when
    /// it is back, or by `onevip forget`.
    Waits(&'static str),
}

impl RightOutcome {
    /// In words, for a table.
    pub fn words(self) -> String {
        match self {
            Self::Keeps => "all promises".to_owned(),
            Self::Waits(check) => {
                format!(
                    "all, but sessions of a dead node wait for its return or `forget`; `doctor` says `{check}`"
                )
            }
        }
    }
}

/// A kind of host.
#[derive(Debug)]
pub struct HostKind {
    /// How it is called on the command line.
    pub name: &'static str,
    /// What such a host has, in a line.
    pub about: &'static str,
    /// What is right.
    pub right: RightOutcome,
    make: fn(&Name, u8) -> Result<()>,
}

/// All kinds of hosts there are.
pub const HOST_KINDS: &[HostKind] = &[
    HostKind {
        name: "plain",
        about: "one interface, no firewall, the kernel's defaults",
        right: RightOutcome::Keeps,
        make: |_, _| Ok(()),
    },
    HostKind {
        name: "hardened",
        about: "network settings as hardening guides have them: strict rp_filter, arp_ignore, martians logged",
        right: RightOutcome::Keeps,
        make: hosts::hardened,
    },
    HostKind {
        name: "two-nics",
        about: "a second interface in the VIP's LAN, without an address",
        right: RightOutcome::Keeps,
        make: hosts::two_nics,
    },
    HostKind {
        name: "nft-default-drop",
        about: "an input policy of drop; SSH, ping and what belongs to a connection are let in",
        right: RightOutcome::Keeps,
        make: hosts::default_drop,
    },
    HostKind {
        name: "conntrack-strict",
        about: "a stateful firewall that drops whatever did not begin with a SYN it saw (tcp_loose=0)",
        right: RightOutcome::Keeps,
        make: hosts::conntrack_strict,
    },
    HostKind {
        name: "arp-filter",
        about: "questions for the node's own addresses (ARP, ND) are dropped",
        right: RightOutcome::Waits("kernel-unaskable"),
        make: hosts::arp_filter,
    },
    HostKind {
        name: "mtu-1280",
        about: "an interface that carries no more than IPv6 asks for, as of a tunnel",
        right: RightOutcome::Keeps,
        make: hosts::mtu_1280,
    },
    HostKind {
        name: "own-slash-32",
        about: "the node's own IPv4 address is a /32, with a route to the LAN",
        right: RightOutcome::Keeps,
        make: hosts::own_slash_32,
    },
];

/// The kind of this name.
///
/// # Errors
/// When there is none: then with the names that there are.
pub fn find(name: &str) -> Result<&'static HostKind> {
    let known = || HOST_KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
    HOST_KINDS
        .iter()
        .find(|kind| kind.name == name)
        .with_context(|| format!("there is no kind of host {name:?}; there are: {}", known()))
}

/// Which nodes are of which kinds, as it is written on the command line: `hardened,unix2=two-nics`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostKinds(Vec<(Option<u8>, &'static str)>);

impl HostKinds {
    /// Makes these nodes what they are to be, among them only those that are named or meant by all.
    ///
    /// # Errors
    /// When a program that it takes (`ip`, `nft`) is missing or refuses.
    pub(crate) fn make(&self, name: &Name, hosts: &[Host]) -> Result<()> {
        for id in hosts.iter().filter_map(|host| host.node_id()) {
            for (_, kind) in self.0.iter().filter(|(only, _)| only.is_none_or(|only| only == id)) {
                let made = (find(kind)?.make)(name, id);
                made.with_context(|| format!("cannot make unix{id} a host of the kind {kind}"))?;
            }
        }
        Ok(())
    }

    /// Makes sure that a lab of so many nodes has all that are named.
    ///
    /// # Errors
    /// Names the first that it has not.
    pub(crate) fn check(&self, nodes: u8) -> Result<()> {
        let missing = self.0.iter().filter_map(|(only, _)| *only).find(|&id| id > nodes);
        match missing {
            Some(id) => bail!("--host names unix{id}, but the lab has {nodes} nodes; set --nodes"),
            None => Ok(()),
        }
    }
}

impl FromStr for HostKinds {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut all = Vec::new();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            let (node, kind) = word.split_once('=').map_or((None, word), |(node, kind)| (Some(node), kind));
            let id = node.map(|node| {
                let id = node.parse::<Host>()?.node_id();
                id.with_context(|| format!("kinds are for nodes, and {node} is none"))
            });
            all.push((id.transpose()?, find(kind)?.name));
        }
        ensure!(!all.is_empty(), "no kind is named; `onevip-lab kinds` lists them");
        Ok(Self(all))
    }
}

impl std::fmt::Display for HostKinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word =
            |(id, kind): &(Option<u8>, &str)| id.map_or((*kind).into(), |id| format!("unix{id}={kind}"));
        f.write_str(&self.0.iter().map(word).collect::<Vec<String>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_for_all_nodes_or_for_one_and_read_back_as_written() {
        let kinds: HostKinds = "hardened,unix2=two-nics".parse().unwrap();
        assert_eq!(kinds.0, [(None, "hardened"), (Some(2), "two-nics")]);
        assert_eq!(kinds.to_string(), "hardened,unix2=two-nics");
        assert!(kinds.check(2).is_ok());
        assert!(kinds.check(1).unwrap_err().to_string().contains("unix2"));
    }

    #[test]
    fn mistakes_are_refused_with_what_there_is() {
        let refused = |text: &str| text.parse::<HostKinds>().unwrap_err().to_string();
        assert!(refused("hard").contains("there are: plain, hardened"));
        assert!(refused("client=plain").contains("client is none"));
        assert!(refused("").contains("onevip-lab kinds"));
    }
}
