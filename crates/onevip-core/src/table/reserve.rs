//! Buckets reserved for a node: where the sources that are pinned to it hash into.
//!
//! Which they are follows from the seed, the layout and the set of nodes that anything is pinned to, never from weights
//! or from who is alive, so that a source keeps its bucket whatever happens. While the node is alive and has a weight,
//! the table gives them to it; when it is not, they are dealt like all others. Claims, handing over and holding so
//! know nothing of pins.

use super::clocks::Clocks;
use super::deal::{Owners, PerNode};
use super::{Layout, block_of};
use crate::ids::{BUCKETS, Bucket, NODES_MAX, NodeId, NodeSet};
use std::collections::BTreeMap;

/// How many buckets are reserved for a node: as many as each of 64 equal nodes has. When the node is out, as many others
/// at most share its pinned sources.
pub const RESERVED: usize = BUCKETS / NODES_MAX;

/// The buckets reserved for each of the nodes that anything is pinned to.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Reserve {
    buckets: BTreeMap<NodeId, Vec<Bucket>>,
}

impl Reserve {
    /// The reserve for these nodes, of a table with this seed and layout.
    pub fn of(pinned: NodeSet, seed: u32, layout: Layout) -> Self {
        let Some(largest) = pinned.iter().map(NodeId::index).max() else { return Self::default() };
        let mut buckets = BTreeMap::new();
        match layout {
            Layout::Balanced => {
                let clocks = Clocks::up_to(largest + 1, seed);
                let mut taken = [false; BUCKETS];
                for node in pinned.iter() {
                    // What the node likes best it has in nearly every table anyway.
                    let mut order: Vec<Bucket> =
                        Bucket::all().filter(|bucket| !taken[bucket.index()]).collect();
                    order.sort_by_key(|bucket| (clocks.of(node.index())[bucket.index()], *bucket));
                    order.truncate(RESERVED);
                    order.iter().for_each(|bucket| taken[bucket.index()] = true);
                    buckets.insert(node, order);
                }
            }
            // A block is its node's as long as that lives. Spares, which have none, cannot be pinned to.
            Layout::ClusterIp { total } => {
                let total = total.clamp(1, NODES_MAX as u8);
                for node in pinned.iter().filter(|node| node.index() < usize::from(total)) {
                    let block =
                        Bucket::all().filter(|bucket| block_of(bucket.index(), total) == node.index());
                    buckets.insert(node, block.take(RESERVED).collect());
                }
            }
        }
        Self { buckets }
    }

    /// The buckets of a node; none when nothing is pinned to it.
    pub fn buckets(&self, node: NodeId) -> &[Bucket] {
        self.buckets.get(&node).map_or(&[], Vec::as_slice)
    }

    /// Whether nothing is reserved.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Gives each node with a weight its buckets, and for each of them one of its others to the node that had it, so that
    /// all shares stay as they are. (A node that has no other gets more than its share.)
    pub(super) fn apply(&self, owners: &mut Owners, weights: &PerNode, clocks: &Clocks) {
        for (node, buckets) in self.buckets.iter().filter(|(node, _)| weights[node.index()] > 0) {
            let node = node.index() as u8;
            let mut own = [false; BUCKETS];
            buckets.iter().for_each(|bucket| own[bucket.index()] = true);
            for bucket in buckets.iter().map(|bucket| bucket.index()) {
                let loser = owners[bucket];
                if loser == node {
                    continue;
                }
                owners[bucket] = node;
                // What the loser would like best of the node's others. (If that is reserved for a third, whose turn is
                // still to come, it takes it from the loser then.)
                let in_return = (0..BUCKETS)
                    .filter(|&other| owners[other] == node && !own[other])
                    .min_by_key(|&other| (clocks.of(usize::from(loser))[other], other));
                if let Some(other) = in_return {
                    owners[other] = loser;
                }
            }
        }
    }
}
