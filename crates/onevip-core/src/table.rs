//! TODO
use crate::hash::block_start;
use crate::ids::{BUCKETS, Bucket, BucketSet, NODES_MAX, NodeId};

mod clocks;
mod deal;
#[cfg(test)]
mod tests;

pub use clocks::Clocks;
use deal::{NOBODY, Owners, PerNode};

/// How much of the whole a node wants, relative to the others: 100 is normal, 200 twice that, 0 wants nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Weight(u16);

impl Weight {
    /// The largest weight.
    pub const MAX: u16 = 10_000;
    /// What a node weighs that says nothing about it: 100.
    pub const NORMAL: Self = Self(100);
    /// Wants nothing: alive, but draining or ill.
    pub const ZERO: Self = Self(0);

    /// This weight, or `None` above [`Weight::MAX`].
    pub const fn new(weight: u16) -> Option<Self> {
        if weight <= Self::MAX { Some(Self(weight)) } else { None }
    }

    /// The number, 0 to 10,000.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::NORMAL
    }
}

/// How buckets are laid out over the nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mapping {
    /// Exactly balanced by weight, and a change moves little. The default.
    #[default]
    Balanced,
    /// Contiguous blocks, numbered as `CLUSTERIP`, `xt_cluster` and nftables' `jhash` number their nodes.
    ///
    /// A node from 1 to `total` with a weight above 0 has its own block, whatever the weight. The blocks of the others
    /// are dealt to all nodes, those above `total` included: each bucket to the one that has least for its weight.
    /// While all are up, nodes above `total` therefore have nothing: they are spares.
    ClusterIp {
        /// How many nodes the old system had, 1 to 64. The hash must be told the same number
        /// ([`Hasher::blocks`](crate::Hasher::blocks)). Out of range values count as the nearest in range.
        total: u8,
    },
}

/// Bucket → wanted owner.
#[derive(Clone, PartialEq, Eq)]
pub struct Table {
    owners: Owners,
}

impl Table {
    /// The table for these nodes. Every node that passes the same arguments gets the same table.
    ///
    /// The order of `nodes` does not matter; when a node is named twice, its highest weight counts. With no node of a
    /// weight above 0 no bucket has an owner. `seed` is that of the hash; it makes different clusters' tables differ.
    pub fn compute(nodes: &[(NodeId, Weight)], seed: u32, mapping: Mapping) -> Self {
        let largest = nodes.iter().filter(|(_, weight)| weight.0 > 0).map(|(node, _)| node.index() + 1).max();
        Self::compute_with(&Clocks::up_to(largest.unwrap_or(0), seed), nodes, mapping)
    }

    /// The same as [`Table::compute`] with the seed of `clocks`, for those who compute many tables: making the clocks
    /// is the greater part of the work.
    pub fn compute_with(clocks: &Clocks, nodes: &[(NodeId, Weight)], mapping: Mapping) -> Self {
        let mut weights = [0; NODES_MAX];
        for &(node, weight) in nodes {
            let known = &mut weights[node.index()];
            *known = u32::from(weight.0).max(*known);
        }
        if weights.iter().all(|&weight| weight == 0) {
            return Self { owners: [NOBODY; BUCKETS] };
        }
        let owners = match mapping {
            Mapping::Balanced => balanced(&weights, clocks),
            Mapping::ClusterIp { total } => blocks(&weights, total.clamp(1, NODES_MAX as u8), clocks),
        };
        Self { owners }
    }

    /// Who wants `bucket`; `None` only when nobody wants anything.
    pub fn owner(&self, bucket: Bucket) -> Option<NodeId> {
        NodeId::from_index(usize::from(self.owners[bucket.index()]))
    }

    /// What `node` wants.
    pub fn owned_by(&self, node: NodeId) -> BucketSet {
        Bucket::all().filter(|&bucket| self.owner(bucket) == Some(node)).collect()
    }

    /// How many buckets each node wants, by ascending number; nodes that want none are left out.
    pub fn shares(&self) -> impl Iterator<Item = (NodeId, usize)> + use<> {
        let shares = deal::shares(&self.owners);
        NodeId::all().map(move |node| (node, shares[node.index()] as usize)).filter(|&(_, share)| share > 0)
    }

    /// How many buckets have different owners in the two tables.
    pub fn moved(&self, other: &Self) -> usize {
        self.owners.iter().zip(&other.owners).filter(|(a, b)| a != b).count()
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("shares ")?;
        f.debug_map().entries(self.shares()).finish()
    }
}

/// [`Mapping::Balanced`].
fn balanced(weights: &PerNode, clocks: &Clocks) -> Owners {
    let largest = weights.iter().rposition(|&weight| weight > 0).map_or(0, |index| index + 1);
    let equal: PerNode = std::array::from_fn(|node| u32::from(node < largest));
    let home = deal::race(clocks, &equal);
    let mut owners = deal::race(clocks, weights);
    let quotas = quotas(weights, &owners, &home);
    deal::settle(&mut owners, &home, &quotas, weights, clocks);
    owners
}

/// Quotas by largest remainder. Of equal remainders those first that already have more than the whole part at home, then
/// those that have more anyway, then the lower number.
fn quotas(weights: &PerNode, owners: &Owners, home: &Owners) -> PerNode {
    let total: u32 = weights.iter().sum();
    let whole = weights.map(|weight| weight * BUCKETS as u32 / total);
    let mut at_home = [0u32; NODES_MAX];
    for (owner, _) in owners.iter().zip(home).filter(|(owner, home)| owner == home) {
        at_home[usize::from(*owner)] += 1;
    }
    let shares = deal::shares(owners);
    let mut order: Vec<usize> = (0..NODES_MAX).filter(|&node| weights[node] > 0).collect();
    order.sort_by_key(|&node| {
        let remainder = weights[node] * BUCKETS as u32 % total;
        std::cmp::Reverse((remainder, at_home[node] > whole[node], shares[node], std::cmp::Reverse(node)))
    });
    let missing = BUCKETS - whole.iter().sum::<u32>() as usize;
    let mut quotas = whole;
    for &node in &order[..missing] {
        quotas[node] += 1;
    }
    quotas
}

/// [`Mapping::ClusterIp`].
fn blocks(weights: &PerNode, total: u8, clocks: &Clocks) -> Owners {
    let mut home = [NOBODY; BUCKETS];
    for node in (0..usize::from(total)).filter(|&node| weights[node] > 0) {
        let (start, end) = (block_start(node as u32, total), block_start(node as u32 + 1, total));
        home[start as usize..end as usize].fill(node as u8);
    }
    let mut quotas = deal::shares(&home);
    let mut dealt = [0; NODES_MAX];
    for _ in home.iter().filter(|&&owner| owner == NOBODY) {
        // Least for its weight after it got this one: (quota + 1) / weight, compared without dividing.
        let next = (0..NODES_MAX).filter(|&node| weights[node] > 0).reduce(|best, node| {
            let less = (quotas[node] + 1) * weights[best] < (quotas[best] + 1) * weights[node];
            if less { node } else { best }
        });
        if let Some(node) = next {
            quotas[node] += 1;
            dealt[node] += 1;
        }
    }
    let mut owners = deal::race(clocks, &dealt);
    for (owner, &home) in owners.iter_mut().zip(&home).filter(|(_, home)| **home != NOBODY) {
        *owner = home;
    }
    deal::settle(&mut owners, &home, &quotas, &dealt, clocks);
    owners
}
