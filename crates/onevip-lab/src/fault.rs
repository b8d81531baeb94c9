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
pub enum LabFault {
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
    /// The node's interface has another MAC ([`LabPlan::other_mac`](crate::plan::LabPlan::other_mac)).
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

impl LabFault {
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
            "power-off" => LabFault::PowerOff(node()?),
            "freeze" => LabFault::Freeze(node()?),
            "freeze-onevip" => LabFault::FreezeOnevip(node()?),
            "freeze-sshd" => LabFault::FreezeSshd(node()?),
            "kill-onevip" => LabFault::KillOnevip(node()?),
            "kill-sshd" => LabFault::KillSshd(node()?),
            "sshd-slow" => LabFault::SshdSlow(node()?),
            "sshd-maxstartups" => LabFault::SshdMaxstartups(node()?),
            "nologin" => LabFault::Nologin(node()?),
            "fork-bomb" => LabFault::ForkBomb(node()?),
            "memory-hog" => LabFault::MemoryHog(node()?),
            "cpu-hog" => LabFault::CpuHog(node()?),
            "disk-full" => LabFault::DiskFull(node()?),
            "cut" => LabFault::Cut(node()?),
            "mute" => LabFault::Mute(node()?),
            "deaf" => LabFault::Deaf(node()?),
            "no-interface" => LabFault::NoInterface(node()?),
            "other-mac" => LabFault::OtherMac(node()?),
            "split" => LabFault::Split(sides(target.unwrap_or_default())?),
            "snoop" => LabFault::Snoop,
            _ => match kind.strip_prefix("loss=") {
                Some(percent) => LabFault::Loss { percent: percentage(percent)?, node: node()? },
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
            LabFault::PowerOff(node)
            | LabFault::Freeze(node)
            | LabFault::FreezeOnevip(node)
            | LabFault::FreezeSshd(node)
            | LabFault::KillOnevip(node)
            | LabFault::KillSshd(node)
            | LabFault::SshdSlow(node)
            | LabFault::SshdMaxstartups(node)
            | LabFault::Nologin(node)
            | LabFault::ForkBomb(node)
            | LabFault::MemoryHog(node)
            | LabFault::CpuHog(node)
            | LabFault::DiskFull(node)
            | LabFault::Cut(node)
            | LabFault::Mute(node)
            | LabFault::Deaf(node)
            | LabFault::NoInterface(node)
            | LabFault::OtherMac(node)
            | LabFault::Loss { node, .. } => Some(node),
            LabFault::Split(_) | LabFault::Snoop => None,
        }
    }

    /// The word for its kind, without the percentage.
    pub fn kind(&self) -> &'static str {
        match self {
            LabFault::PowerOff(_) => "power-off",
            LabFault::Freeze(_) => "freeze",
            LabFault::FreezeOnevip(_) => "freeze-onevip",
            LabFault::FreezeSshd(_) => "freeze-sshd",
            LabFault::KillOnevip(_) => "kill-onevip",
            LabFault::KillSshd(_) => "kill-sshd",
            LabFault::SshdSlow(_) => "sshd-slow",
            LabFault::SshdMaxstartups(_) => "sshd-maxstartups",
            LabFault::Nologin(_) => "nologin",
            LabFault::ForkBomb(_) => "fork-bomb",
            LabFault::MemoryHog(_) => "memory-hog",
            LabFault::CpuHog(_) => "cpu-hog",
            LabFault::DiskFull(_) => "disk-full",
            LabFault::Cut(_) => "cut",
            LabFault::Mute(_) => "mute",
            LabFault::Deaf(_) => "deaf",
            LabFault::NoInterface(_) => "no-interface",
            LabFault::OtherMac(_) => "other-mac",
            LabFault::Loss { .. } => "loss",
            LabFault::Split(_) => "split",
            LabFault::Snoop => "snoop",
        }
    }

    /// True for what is wrong with processes: it ends with the processes, when the power goes.
    pub fn is_of_processes(&self) -> bool {
        match self {
            LabFault::Freeze(_)
            | LabFault::FreezeOnevip(_)
            | LabFault::FreezeSshd(_)
            | LabFault::KillOnevip(_) => true,
            LabFault::KillSshd(_) | LabFault::SshdSlow(_) | LabFault::SshdMaxstartups(_) => true,
            LabFault::ForkBomb(_) | LabFault::MemoryHog(_) | LabFault::CpuHog(_) => true,
            LabFault::Nologin(_) | LabFault::DiskFull(_) => false,
            LabFault::PowerOff(_) | LabFault::Cut(_) | LabFault::Mute(_) | LabFault::Deaf(_) => false,
            LabFault::NoInterface(_) | LabFault::OtherMac(_) => false,
            LabFault::Loss { .. } | LabFault::Split(_) | LabFault::Snoop => false,
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

impl fmt::Display for LabFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        if let LabFault::Loss { percent, .. } = self {
            write!(f, "={percent}")?;
        }
        if let Some(node) = self.node() {
            write!(f, " {}", Host::Node(node))?;
        }
        if let LabFault::Split(sides) = self {
            let side =
                |hosts: &BTreeSet<Host>| hosts.iter().map(Host::to_string).collect::<Vec<_>>().join(",");
            write!(f, " {}", sides.iter().map(side).collect::<Vec<_>>().join("|"))?;
        }
        Ok(())
    }
}

impl FromStr for LabFault {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(' ') {
            Some((kind, target)) => LabFault::parse(kind, Some(target)),
            None => LabFault::parse(text, None),
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
            assert_eq!(text.parse::<LabFault>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        let reason = |kind, target| LabFault::parse(kind, target).unwrap_err().to_string();
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
        let loss = |percent, node| LabFault::Loss { percent, node };
        assert!(loss(10, 1).replaces(&loss(20, 1)));
        assert!(!loss(10, 1).replaces(&loss(10, 2)));
        assert!(!LabFault::Cut(1).replaces(&LabFault::Mute(1)));
    }
}
