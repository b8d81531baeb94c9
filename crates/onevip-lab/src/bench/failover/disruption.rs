//! What the benchmark makes happen to a cluster.

use std::str::FromStr;

use anyhow::{Result, bail};

use crate::fault::LabFault;

/// Something that happens to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Disruption {
    /// A node loses its power, and boots.
    PowerOff,
    /// A node's link is down, and up again.
    Cut,
    /// Nothing that a node sends arrives.
    Mute,
    /// A node hears nothing.
    Deaf,
    /// Every process of a node stands still.
    Freeze,
    /// A node's daemon stands still.
    FreezeOnevip,
    /// A node's daemon is killed, and started again.
    KillOnevip,
    /// A node is drained, and undrained.
    Drain,
    /// Every daemon is restarted, one by one.
    Restart,
    /// Every daemon reads a configuration in which a weight has changed.
    Reload,
    /// A node's daemon starts for the first time.
    Add,
    /// The network falls into two halves with clients on both sides, and heals.
    Split,
    /// Many frames to and from a node are lost.
    Loss,
    /// All processors are busy.
    Stress,
}

impl Disruption {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 14] = [
        Self::PowerOff,
        Self::Cut,
        Self::Mute,
        Self::Deaf,
        Self::Freeze,
        Self::FreezeOnevip,
        Self::KillOnevip,
        Self::Drain,
        Self::Restart,
        Self::Reload,
        Self::Add,
        Self::Split,
        Self::Loss,
        Self::Stress,
    ];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::PowerOff => "power-off",
            Self::Cut => "cut",
            Self::Mute => "mute",
            Self::Deaf => "deaf",
            Self::Freeze => "freeze",
            Self::FreezeOnevip => "freeze-onevip",
            Self::KillOnevip => "kill-onevip",
            Self::Drain => "drain",
            Self::Restart => "restart",
            Self::Reload => "reload",
            Self::Add => "add",
            Self::Split => "split",
            Self::Loss => "loss",
            Self::Stress => "stress",
        }
    }

    /// The fault of one node that it is, if it is one that comes and is healed.
    pub fn fault(self, node: u8) -> Option<LabFault> {
        match self {
            Self::PowerOff => Some(LabFault::PowerOff(node)),
            Self::Cut => Some(LabFault::Cut(node)),
            Self::Mute => Some(LabFault::Mute(node)),
            Self::Deaf => Some(LabFault::Deaf(node)),
            Self::Freeze => Some(LabFault::Freeze(node)),
            Self::FreezeOnevip => Some(LabFault::FreezeOnevip(node)),
            Self::KillOnevip => Some(LabFault::KillOnevip(node)),
            Self::Drain | Self::Restart | Self::Reload | Self::Add => None,
            Self::Split | Self::Loss | Self::Stress => None,
        }
    }

    /// True for what lasts a minute or more: it happens once, however many repeats are asked for.
    pub fn is_long(self) -> bool {
        matches!(self, Self::Loss | Self::Stress)
    }
}

impl FromStr for Disruption {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|disruption| disruption.word() == word) {
            Some(disruption) => Ok(disruption),
            None => {
                bail!("there is no disruption {word:?}; there are: {}", Self::ALL.map(Self::word).join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_back() {
        for disruption in Disruption::ALL {
            assert_eq!(disruption.word().parse::<Disruption>().unwrap(), disruption);
        }
        assert!("explode".parse::<Disruption>().unwrap_err().to_string().contains("power-off, cut"));
    }
}
