//! How an engine is set up.

use super::Timing;
use crate::ids::{NodeId, NodeSet};
use crate::table::{Clocks, Layout, Reserve, Weight};
use crate::words::words;
use std::sync::Arc;

/// When a claimer gives a bucket to the node that the table wants to have it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Failback {
    /// When the sessions in it have ended: a user's second session meets the host of the first.
    #[default]
    Idle,
    /// At once.
    Now,
    /// Only when somebody asks for a rebalance.
    Manual,
}

words!(Failback { Idle = "idle", Now = "now", Manual = "manual" });

/// What does not change while an engine lives, or only by [`Engine::reconfigure`](super::Engine::reconfigure).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct EngineConfig {
    /// This node.
    pub me: NodeId,
    /// Tells hosts with the same node number apart; see [`Beat::host`](crate::beat::Beat::host).
    pub host: u32,
    /// The nodes in the file. Others are heard all the same; these have their kernels asked even if never heard.
    pub nodes: NodeSet,
    /// This node's weight.
    pub weight: Weight,
    /// How buckets are dealt.
    pub layout: Layout,
    /// Seed of the table; alike on all nodes.
    pub seed: u32,
    /// The nodes that sources are pinned to; alike on all nodes.
    pub pinned: NodeSet,
    /// When planned moves happen.
    pub failback: Failback,
    /// All timers.
    pub timing: Timing,
}

impl EngineConfig {
    /// The clocks that the tables of these nodes need.
    pub(super) fn clocks(&self) -> Arc<Clocks> {
        self.clocks_with(&[])
    }

    /// The same with nodes that the file does not name, or not yet.
    pub(super) fn clocks_with(&self, others: &[(NodeId, Weight)]) -> Arc<Clocks> {
        let nodes = self.nodes.iter().chain(others.iter().map(|(node, _)| *node));
        Arc::new(Clocks::for_nodes(nodes, self.seed, self.layout))
    }

    /// What is reserved for the nodes that sources are pinned to.
    pub(super) fn reserve(&self) -> Reserve {
        Reserve::of(self.pinned, self.seed, self.layout)
    }
}
