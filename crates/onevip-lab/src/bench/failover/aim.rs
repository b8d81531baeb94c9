//! What is wanted of a cluster during a disruption.

use super::disruption::Disruption;

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
pub struct FailoverAim {
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

impl FailoverAim {
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
    pub fn of_fault(disruption: Disruption) -> Self {
        let node = match disruption {
            Disruption::PowerOff | Disruption::Cut | Disruption::Mute => NodeAim::Reset(1.0),
            // It still says that it has them, and so it has.
            Disruption::Deaf => NodeAim::OutOfReach,
            // A message every 100 ms, and one retransmission.
            Disruption::KillOnevip | Disruption::FreezeOnevip => NodeAim::NoPause(0.35),
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

    /// Under loss: its share is soon served elsewhere (64 beats count, which is 3.2 s), and it is
    /// out and in again at most twice.
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
    fn sessions_are_lost_only_where_the_node_is_gone() {
        assert_eq!(FailoverAim::of_fault(Disruption::Cut).node, NodeAim::Reset(1.0));
        assert_eq!(FailoverAim::of_fault(Disruption::Freeze).node, NodeAim::Kept);
        assert!(matches!(FailoverAim::of_fault(Disruption::KillOnevip).node, NodeAim::NoPause(_)));
    }
}
