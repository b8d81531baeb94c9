//! What the benchmark makes happen, and what is wanted of the cluster meanwhile.

use std::str::FromStr;

use anyhow::{Result, bail};

use crate::fault::Fault;

/// Something that happens to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
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

impl Event {
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
    pub fn fault(self, node: u8) -> Option<Fault> {
        match self {
            Self::PowerOff => Some(Fault::PowerOff(node)),
            Self::Cut => Some(Fault::Cut(node)),
            Self::Mute => Some(Fault::Mute(node)),
            Self::Deaf => Some(Fault::Deaf(node)),
            Self::Freeze => Some(Fault::Freeze(node)),
            Self::FreezeOnevip => Some(Fault::FreezeOnevip(node)),
            Self::KillOnevip => Some(Fault::KillOnevip(node)),
            Self::Drain | Self::Restart | Self::Reload | Self::Add => None,
            Self::Split | Self::Loss | Self::Stress => None,
        }
    }

    /// True for what lasts a minute or more: it happens once, however many repeats are asked for.
    pub fn is_long(self) -> bool {
        matches!(self, Self::Loss | Self::Stress)
    }
}

impl FromStr for Event {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|event| event.word() == word) {
            Some(event) => Ok(event),
            None => {
                bail!("there is no event {word:?}; there are: {}", Self::ALL.map(Self::word).join(", "))
            }
        }
    }
}

/// What is wanted of sessions on the node that something happens to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NodeAim {
    /// Reset at most so many seconds after the client's next packet, as far as that can be.
    Reset(f64),
    /// Anything: they cannot be reached.
    OutOfReach,
    /// None lost: they go on when the node does.
    Kept,
    /// None lost, and none pauses longer than this many seconds.
    NoPause(f64),
}

/// What is wanted of the cluster during one kind of scenario. Always wanted: no session elsewhere is lost, and (but in the
/// healing of a split) no SYN is answered twice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Aim {
    /// The gap in new connections, in seconds: median and worst.
    pub gap: Option<(f64, f64)>,
    /// Sessions on the node.
    pub node: NodeAim,
    /// Whether no connection may fail, and at most one in a thousand be delayed.
    pub no_failure: bool,
    /// The most often that a client may be moved to another node.
    pub moves_max: Option<usize>,
    /// After so many seconds the node answers nobody any more.
    pub rehomed: Option<f64>,
    /// The most news of nodes that are out.
    pub outs_max: Option<usize>,
    /// Whether SYNs may be answered twice.
    pub twice_allowed: bool,
}

impl Aim {
    const NOTHING: Self = Self {
        gap: None,
        node: NodeAim::Kept,
        no_failure: false,
        moves_max: None,
        rehomed: None,
        outs_max: None,
        twice_allowed: false,
    };

    /// While a fault is there.
    pub fn of_fault(event: Event) -> Self {
        let node = match event {
            Event::PowerOff | Event::Cut | Event::Mute => NodeAim::Reset(1.0),
            // It still says that it has them, and so it has.
            Event::Deaf => NodeAim::OutOfReach,
            // A message every 100 ms, and one retransmission.
            Event::KillOnevip | Event::FreezeOnevip => NodeAim::NoPause(0.35),
            _ => NodeAim::Kept,
        };
        Self { gap: Some((0.3, 0.6)), node, ..Self::NOTHING }
    }

    /// Where nobody may notice anything.
    pub fn of_planned() -> Self {
        Self { no_failure: true, ..Self::NOTHING }
    }

    /// When the network falls apart: each side serves its clients soon.
    pub fn of_split() -> Self {
        Self { gap: Some((0.6, 0.6)), node: NodeAim::OutOfReach, ..Self::NOTHING }
    }

    /// When it comes together: for a moment both sides answer.
    pub fn of_split_heal() -> Self {
        Self { twice_allowed: true, node: NodeAim::Kept, ..Self::of_split() }
    }

    /// Under loss: its share is soon served elsewhere (64 beats are judged, which is 3.2 s), and it is out and in again at most twice.
    pub fn of_loss() -> Self {
        Self { rehomed: Some(5.0), moves_max: Some(4), ..Self::NOTHING }
    }

    /// Under load: nobody falls out.
    pub fn of_stress() -> Self {
        Self { outs_max: Some(0), ..Self::NOTHING }
    }

    /// In words, for the report.
    pub fn words(&self) -> String {
        let mut words = Vec::new();
        if let Some((median, worst)) = self.gap {
            words.push(format!("gap {median}/{worst} s"));
        }
        match self.node {
            NodeAim::Reset(seconds) => words.push(format!("reset in {seconds} s")),
            NodeAim::OutOfReach => words.push("0 lost that can be reached".into()),
            NodeAim::Kept => words.push("0 lost".into()),
            NodeAim::NoPause(_) => words.push("0 lost, no pause".into()),
        }
        if self.no_failure {
            words.push("0 failed, 1/1000 delayed".into());
        }
        if let Some(seconds) = self.rehomed {
            words.push(format!("re-homed in {seconds} s"));
        }
        if self.moves_max.is_some() {
            words.push("out at most twice".into());
        }
        if self.outs_max.is_some() {
            words.push("0 false failovers".into());
        }
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_back() {
        for event in Event::ALL {
            assert_eq!(event.word().parse::<Event>().unwrap(), event);
        }
        assert!("explode".parse::<Event>().unwrap_err().to_string().contains("power-off, cut"));
    }

    #[test]
    fn sessions_are_lost_only_where_the_node_is_gone() {
        assert_eq!(Aim::of_fault(Event::Cut).node, NodeAim::Reset(1.0));
        assert_eq!(Aim::of_fault(Event::Freeze).node, NodeAim::Kept);
        assert!(matches!(Aim::of_fault(Event::KillOnevip).node, NodeAim::NoPause(_)));
    }
}
