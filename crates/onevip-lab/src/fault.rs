//! What can go wrong in a lab on purpose, in words: `onevip-lab fault KIND NODE`.
//!
//! A fault is a value that can be written down and read back; the faults in force are kept in the lab's directory, so
//! that any later command can heal them. How they are brought about is in `inject.rs` and `switch.rs`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

use crate::plan::Host;

/// Something that goes wrong. Numbers are nodes'.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The node loses its power: from one moment to the next it sends nothing, and its processes and its kernel's
    /// state are gone. Healing boots it.
    PowerOff(u8),
    /// Every process of the node is stopped; its kernel lives.
    Freeze(u8),
    /// The daemon is stopped.
    FreezeOnevip(u8),
    /// The `sshd` that listens is stopped: connections are accepted by the kernel and stay mute. Sessions go on, for
    /// they are processes of their own.
    FreezeSshd(u8),
    /// The daemon is killed. Healing starts it again.
    KillOnevip(u8),
    /// The `sshd` that listens is killed; sessions go on. Healing starts it again.
    KillSshd(u8),
    /// Ten seconds pass before `sshd` sends its banner.
    SshdSlow(u8),
    /// All of the `MaxStartups` that `sshd` allows are taken by clients that do not log in.
    SshdMaxstartups(u8),
    /// The node has a `/run/nologin`, as `shutdown` makes it.
    Nologin(u8),
    /// Something makes processes until there can be no more.
    ForkBomb(u8),
    /// Something takes nearly all memory of the node.
    MemoryHog(u8),
    /// Something keeps more processors busy than there are.
    CpuHog(u8),
    /// The node's root file system is full.
    DiskFull(u8),
    /// The node's link is down.
    Cut(u8),
    /// Nothing that the node sends arrives.
    Mute(u8),
    /// The node hears nothing.
    Deaf(u8),
    /// The node's interface is deleted. Healing makes it anew under its name, with the node's own addresses.
    NoInterface(u8),
    /// The node's interface has another MAC ([`Plan::other_mac`](crate::plan::Plan::other_mac)).
    OtherMac(u8),
    /// So many percent (1 to 100) of all frames to the node, and of all frames from it, are lost.
    Loss {
        /// Percent of frames lost in each direction.
        percent: u8,
        /// The node.
        node: u8,
    },
    /// Hosts on different sides do not hear each other. A client that is named on no side belongs to the first
    /// (`client`) or the second (`client2`); a node on no side hears, and is heard by, all.
    Split(Vec<BTreeSet<Host>>),
    /// The bridge snoops and, being a querier, withholds IP packets in multicast frames that nobody asked for.
    Snoop,
}

impl Fault {
    /// Reads a fault from the words of the command line, e.g. `loss=30` and `unix2`, or `split` and `unix1|unix2`.
    ///
    /// # Errors
    /// When the kind is unknown, or does not go with the target.
    pub fn parse(kind: &str, target: Option<&str>) -> Result<Self> {
        let node = || -> Result<u8> {
            let name = target.with_context(|| format!("{kind} needs a node, e.g. `fault {kind} unix2`"))?;
            name.parse::<Host>()?
                .node_id()
                .with_context(|| format!("{kind} is for nodes, and {name} is none"))
        };
        Ok(match kind {
            "power-off" => Fault::PowerOff(node()?),
            "freeze" => Fault::Freeze(node()?),
            "freeze-onevip" => Fault::FreezeOnevip(node()?),
            "freeze-sshd" => Fault::FreezeSshd(node()?),
            "kill-onevip" => Fault::KillOnevip(node()?),
            "kill-sshd" => Fault::KillSshd(node()?),
            "sshd-slow" => Fault::SshdSlow(node()?),
            "sshd-maxstartups" => Fault::SshdMaxstartups(node()?),
            "nologin" => Fault::Nologin(node()?),
            "fork-bomb" => Fault::ForkBomb(node()?),
            "memory-hog" => Fault::MemoryHog(node()?),
            "cpu-hog" => Fault::CpuHog(node()?),
            "disk-full" => Fault::DiskFull(node()?),
            "cut" => Fault::Cut(node()?),
            "mute" => Fault::Mute(node()?),
            "deaf" => Fault::Deaf(node()?),
            "no-interface" => Fault::NoInterface(node()?),
            "other-mac" => Fault::OtherMac(node()?),
            "split" => Fault::Split(sides(target.unwrap_or_default())?),
            "snoop" => Fault::Snoop,
            _ => match kind.strip_prefix("loss=") {
                Some(percent) => Fault::Loss { percent: percentage(percent)?, node: node()? },
                None => bail!(
                    "there is no fault {kind:?}; there are: power-off, freeze, freeze-onevip, freeze-sshd, \
                     kill-onevip, kill-sshd, sshd-slow, sshd-maxstartups, nologin, fork-bomb, memory-hog, cpu-hog, disk-full, cut, \
                     mute, deaf, no-interface, other-mac, loss=PERCENT, split, snoop"
                ),
            },
        })
    }

    /// The node it befalls; none for those of the switch.
    pub fn node(&self) -> Option<u8> {
        match *self {
            Fault::PowerOff(node)
            | Fault::Freeze(node)
            | Fault::FreezeOnevip(node)
            | Fault::FreezeSshd(node)
            | Fault::KillOnevip(node)
            | Fault::KillSshd(node)
            | Fault::SshdSlow(node)
            | Fault::SshdMaxstartups(node)
            | Fault::Nologin(node)
            | Fault::ForkBomb(node)
            | Fault::MemoryHog(node)
            | Fault::CpuHog(node)
            | Fault::DiskFull(node)
            | Fault::Cut(node)
            | Fault::Mute(node)
            | Fault::Deaf(node)
            | Fault::NoInterface(node)
            | Fault::OtherMac(node)
            | Fault::Loss { node, .. } => Some(node),
            Fault::Split(_) | Fault::Snoop => None,
        }
    }

    /// The word for its kind, without the percentage.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::PowerOff(_) => "power-off",
            Fault::Freeze(_) => "freeze",
            Fault::FreezeOnevip(_) => "freeze-onevip",
            Fault::FreezeSshd(_) => "freeze-sshd",
            Fault::KillOnevip(_) => "kill-onevip",
            Fault::KillSshd(_) => "kill-sshd",
            Fault::SshdSlow(_) => "sshd-slow",
            Fault::SshdMaxstartups(_) => "sshd-maxstartups",
            Fault::Nologin(_) => "nologin",
            Fault::ForkBomb(_) => "fork-bomb",
            Fault::MemoryHog(_) => "memory-hog",
            Fault::CpuHog(_) => "cpu-hog",
            Fault::DiskFull(_) => "disk-full",
            Fault::Cut(_) => "cut",
            Fault::Mute(_) => "mute",
            Fault::Deaf(_) => "deaf",
            Fault::NoInterface(_) => "no-interface",
            Fault::OtherMac(_) => "other-mac",
            Fault::Loss { .. } => "loss",
            Fault::Split(_) => "split",
            Fault::Snoop => "snoop",
        }
    }

    /// True for what is wrong with processes: it ends with the processes, when the power goes.
    pub fn is_of_processes(&self) -> bool {
        match self {
            Fault::Freeze(_) | Fault::FreezeOnevip(_) | Fault::FreezeSshd(_) | Fault::KillOnevip(_) => true,
            Fault::KillSshd(_) | Fault::SshdSlow(_) | Fault::SshdMaxstartups(_) => true,
            Fault::ForkBomb(_) | Fault::MemoryHog(_) | Fault::CpuHog(_) => true,
            Fault::Nologin(_) | Fault::DiskFull(_) => false,
            Fault::PowerOff(_) | Fault::Cut(_) | Fault::Mute(_) | Fault::Deaf(_) => false,
            Fault::NoInterface(_) | Fault::OtherMac(_) => false,
            Fault::Loss { .. } | Fault::Split(_) | Fault::Snoop => false,
        }
    }

    /// True when both say the same kind of thing about the same node, so that one takes the other's place.
    pub fn replaces(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.node() == other.node()
    }

    /// True when `heal TARGET` means this fault: a node's name, or `split` or `snoop`.
    pub fn is_meant_by(&self, target: &str) -> bool {
        match self.node() {
            Some(node) => Host::Node(node).to_string() == target,
            None => self.kind() == target,
        }
    }
}

fn percentage(text: &str) -> Result<u8> {
    let percent = text.trim_end_matches('%').parse().ok().filter(|p| (1..=100).contains(p));
    percent.with_context(|| format!("loss={text} is no percentage: use loss=1 to loss=100"))
}

fn sides(text: &str) -> Result<Vec<BTreeSet<Host>>> {
    let side =
        |names: &str| -> Result<BTreeSet<Host>> { names.split(',').map(|n| n.trim().parse()).collect() };
    ensure!(text.contains('|'), "split needs its sides, e.g. `fault split 'unix1,unix2|unix3,unix4'`");
    let sides: Vec<_> = text.split('|').map(side).collect::<Result<_>>()?;
    let mut seen = BTreeSet::new();
    for host in sides.iter().flatten() {
        ensure!(*host != Host::Switch, "the switch cannot be on a side of a split");
        ensure!(seen.insert(*host), "{host} is named twice in the split {text:?}");
    }
    Ok(sides)
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        if let Fault::Loss { percent, .. } = self {
            write!(f, "={percent}")?;
        }
        if let Some(node) = self.node() {
            write!(f, " {}", Host::Node(node))?;
        }
        if let Fault::Split(sides) = self {
            let side =
                |hosts: &BTreeSet<Host>| hosts.iter().map(Host::to_string).collect::<Vec<_>>().join(",");
            write!(f, " {}", sides.iter().map(side).collect::<Vec<_>>().join("|"))?;
        }
        Ok(())
    }
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(' ') {
            Some((kind, target)) => Fault::parse(kind, Some(target)),
            None => Fault::parse(text, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_read_back_as_it_is_shown() {
        let words = "power-off unix1, freeze unix2, freeze-onevip unix3, freeze-sshd unix4, kill-onevip unix1, \
                     cut unix2, mute unix3, deaf unix4, loss=30 unix1, snoop, kill-sshd unix1, sshd-slow unix2, \
                     sshd-maxstartups unix3, nologin unix4, fork-bomb unix1, memory-hog unix2, cpu-hog unix3, \
                     disk-full unix4, no-interface unix1, other-mac unix2";
        let split = "split unix1,unix2|unix3,unix4,client2";
        for text in words.split(", ").chain([split]) {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        let reason = |kind, target| Fault::parse(kind, target).unwrap_err().to_string();
        assert!(reason("explode", Some("unix1")).contains("there are: power-off"));
        assert!(reason("cut", None).contains("needs a node"));
        assert!(reason("cut", Some("client")).contains("is none"));
        assert!(reason("loss=0", Some("unix1")).contains("loss=1"));
        assert!(reason("split", Some("unix1,unix2")).contains("sides"));
        assert!(reason("split", Some("unix1|unix1")).contains("twice"));
        assert!(reason("split", Some("unix1|switch")).contains("switch"));
    }

    #[test]
    fn a_new_percentage_replaces_the_old_one_of_the_same_node_only() {
        let loss = |percent, node| Fault::Loss { percent, node };
        assert!(loss(10, 1).replaces(&loss(20, 1)));
        assert!(!loss(10, 1).replaces(&loss(10, 2)));
        assert!(!Fault::Cut(1).replaces(&Fault::Mute(1)));
    }
}
