//! Who should own which bucket: a pure function of the eligible nodes, their weights and a seed.
//!
//! Every node computes it from what it knows; nodes that know the same compute the same. Nothing here knows who
//! claims what at the moment: that is `membership`.

use crate::hash::block_start;
use crate::ids::{BUCKETS, Bucket, BucketSet, NodeId};

/// How much of the table a node gets, relative to the others; 100 is normal, 0 is nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Weight(pub u16);

impl Weight {
    /// The weight of a node that nobody configured otherwise.
    pub const NORMAL: Self = Self(100);
}

/// How buckets are dealt to nodes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Mapping {
    /// By hash score and quota: balanced, and little moves when a node comes or goes.
    #[default]
    Balanced,
    /// In contiguous blocks, as `CLUSTERIP` numbers its nodes.
    ClusterIp {
        /// How many blocks: the `total nodes` of the old configuration, 1 to 64.
        total: u8,
    },
}

/// The wanted owner of every bucket.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Table {
    owners: Vec<Option<NodeId>>,
}

impl Table {
    /// Deals all buckets to `nodes`. Nodes of weight 0 get none; without any other node, nobody owns anything.
    pub fn compute(nodes: &[(NodeId, Weight)], seed: u32, mapping: Mapping) -> Self {
        let mut nodes: Vec<_> = nodes.iter().copied().filter(|(_, weight)| weight.0 > 0).collect();
        nodes.sort_unstable();
        let mut owners = vec![None; BUCKETS];
        if nodes.is_empty() {
            return Self { owners };
        }
        let mut left = quotas(&nodes);
        if let Mapping::ClusterIp { total } = mapping {
            for (i, (node, _)) in nodes.iter().enumerate() {
                let block = u32::from(node.get()) - 1;
                if block >= u32::from(total) {
                    continue;
                }
                for bucket in block_start(block, total)..block_start(block + 1, total) {
                    owners[bucket as usize] = Some(*node);
                    left[i] = left[i].saturating_sub(1);
                }
            }
        }
        for bucket in 0..BUCKETS {
            if owners[bucket].is_some() {
                continue;
            }
            let best = (0..nodes.len())
                .filter(|&i| left[i] > 0)
                .max_by_key(|&i| score(bucket as u32, nodes[i].0, seed))
                .unwrap_or(bucket % nodes.len());
            left[best] = left[best].saturating_sub(1);
            owners[bucket] = Some(nodes[best].0);
        }
        Self { owners }
    }

    /// The wanted owner of `bucket`; `None` when no node is eligible.
    pub fn owner(&self, bucket: Bucket) -> Option<NodeId> {
        self.owners[bucket.index()]
    }

    /// The buckets that `node` should own.
    pub fn owned_by(&self, node: NodeId) -> BucketSet {
        Bucket::all().filter(|&bucket| self.owner(bucket) == Some(node)).collect()
    }
}

/// Quotas that add up to all buckets, by largest remainder.
fn quotas(nodes: &[(NodeId, Weight)]) -> Vec<usize> {
    let total: usize = nodes.iter().map(|(_, w)| usize::from(w.0)).sum();
    let mut quotas: Vec<usize> = nodes.iter().map(|(_, w)| usize::from(w.0) * BUCKETS / total).collect();
    let missing = BUCKETS - quotas.iter().sum::<usize>();
    let len = quotas.len();
    for i in 0..missing {
        quotas[i % len] += 1;
    }
    quotas
}

/// A well mixed number for a bucket and a node.
fn score(bucket: u32, node: NodeId, seed: u32) -> u32 {
    crate::hash::jhash2(&[bucket, u32::from(node.get())], seed)
}
