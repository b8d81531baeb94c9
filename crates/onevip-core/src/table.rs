//! The table: bucket → wanted owner, a pure function of the alive nodes, their weights and the seed.
//!
//! Every node computes it from the same information and gets the same; nothing is agreed upon, and nothing of the past
//! enters. Integers only, so that all machines round alike. What a node *claims* of what it wants is decided elsewhere.
//!
//! # How [`Layout::Balanced`] works
//!
//! 1. **Quotas.** 1024 buckets are shared by weight with the largest remainder method (Hamilton's apportionment).
//! 2. **Race.** Each bucket goes to the node whose clock for it rings first; a node of twice the weight has clocks of
//!    twice the speed. This is weighted rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to
//!    increase hit rates", 1998): when a node leaves, its buckets go to whoever is next, and no other moves.
//! 3. **Settle.** Independent clocks would leave nodes above and below their quotas (a third above at 32 nodes). What is
//!    above moves to nodes below, cheapest first: capacity limits as in "Consistent hashing with bounded loads"
//!    (Mirrokni, Thorup and Zadimoghaddam 2016), but exact. Buckets of nodes that are not there go first.
//!
//! Settling costs disruption, since who is above or below changes with every change of the cluster. Therefore the clocks
//! are conditioned (see [`Clocks`]): the nodes 1..=n at equal weights *race* to an exact balance, for every n, and what one
//! of them leaves behind is spread as evenly as whole numbers allow, so that next to nothing is left to settle.
//!
//! # What that promises
//!
//! Shares are exact for all weights: equal weights differ by at most one bucket. Disruption is counted in moved buckets
//! per bucket that *must* move because shares shrink; 1.05 is the aim. For **equal weights** it is exactly 1 when the
//! nodes are 1..=n and any one of them leaves or returns, or node n + 1 joins. (Settling touches only what the missing
//! node left: all others' shares from the race are at most their quotas.) That is by far the most frequent change.
//! Otherwise it holds on average in small clusters only. Measured with `examples/table_report.rs`:
//!
//! | moved / must move, mean                  | N=3   | N=4   | N=8   | N=16  | N=32  | N=64  |
//! | ---------------------------------------- | ----- | ----- | ----- | ----- | ----- | ----- |
//! | equal: any of all leaves, n + 1 joins    | 1     | 1     | 1     | 1     | 1     | 1     |
//! | equal: one of all goes to weight 50      | 1     | 1     | 1     | 1     | 1     | 1     |
//! | equal: one is missing, another leaves    | 1.000 | 1.002 | 1.008 | 1.040 | 1.134 | 1.239 |
//! | equal: of a random half one leaves       | 1.000 | 1.001 | 1.014 | 1.070 | 1.247 | 1.727 |
//! | equal: one goes to weight 200            | 1.012 | 1.020 | 1.049 | 1.109 | 1.252 | 1.040 |
//! | half 100, half 200: one leaves           | 1.009 | 1.020 | 1.105 | 1.264 | 1.686 | 2.845 |
//! | weights 50..=200: one leaves or joins    | 1.012 | 1.028 | 1.10  | 1.26  | 1.68  | 2.88  |
//! | weights 50..=200: one is reweighted      | 1.027 | 1.063 | 1.19  | 1.54  | 2.4   | 4.1   |
//!
//! For comparison, when one of N equal nodes leaves: bucket modulo N moves N − 1 times what must; plain rendezvous
//! hashing 1.0, but gives some node 1.10 (N=4) to 1.44 (N=64) times the mean; dealing all pairs greedily by score while
//! quota is left moves 1.04 (N=4), 1.13 (8), 1.32 (16), 2.7 (64), because an orphan takes the place of another.
//!
//! # Where 1.05 cannot hold
//!
//! With 1024 buckets on 64 equal nodes, *no* function of the alive nodes with exact shares moves only what must in every
//! step. When node a leaves, its 16 buckets must go to 16 different nodes R(a). When b leaves as well, those stay where
//! they are, and by symmetry b's 16 stay at R(b). A node in both sets would have 18 of at most 17. So all 64 sets of 16
//! would have to be pairwise disjoint; there is room for four. On average two of them share at least 7680 / 2016 nodes,
//! and each shared one costs a move in one of two steps: at least 1.117 for the second loss, if the first is exact.
//! The same happens wherever a node leaves fewer buckets than some multiple of the number of nodes that take them over, and unequal weights
//! add the rounding of every share. Only a table that remembers its past could do better, and nodes with different pasts
//! would then disagree. A node that is back moves only what it had before: the way out and the way in are the same.
//!
//! # How [`Layout::ClusterIp`] works
//!
//! Home blocks are fixed; only the buckets of absent blocks race, and settle against quotas that even out the whole.
//! Each bucket uses the clocks of some bucket that its home node wins in an even cluster, so what is said above about a
//! leaving node holds here, too: exactly 1 for the first, 1.002 (N=4), 1.01 (8), 1.04 (16), 1.2 (64) for the second.
//!
//! # Cost
//!
//! With the clocks kept, [`Table::compute_with`] takes 0.05 ms for 4 unequal nodes and 0.25 ms for 64;
//! [`Table::compute`], which makes them, 0.1 and 1.3 ms. The engine keeps them, and computes a table per change.

use crate::ids::{BUCKETS, Bucket, BucketSet, NODES_MAX, NodeId};
use crate::words::words;
use std::cmp::{Ordering, Reverse};

mod clocks;
mod deal;
mod reserve;
#[cfg(test)]
mod tests;

pub use clocks::Clocks;
use deal::{NOBODY, Owners, PerNode};
pub use reserve::{RESERVED, Reserve};

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

/// How buckets are laid out over the nodes, as the configuration names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Mapping {
    /// Exactly balanced by weight, and a change moves little.
    #[default]
    Balanced,
    /// Contiguous blocks, as the old systems number their nodes.
    ClusterIp,
}

words!(Mapping { Balanced = "balanced", ClusterIp = "clusterip" });

impl Mapping {
    /// The layout over this many nodes, 1 to 64.
    pub const fn layout(self, nodes: usize) -> Layout {
        match self {
            Self::Balanced => Layout::Balanced,
            Self::ClusterIp => Layout::ClusterIp { total: if nodes < 64 { nodes as u8 } else { 64 } },
        }
    }
}

/// How a table lays buckets out over the nodes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Layout {
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
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Table {
    owners: Owners,
}

impl Table {
    /// The table for these nodes. Every node that passes the same arguments gets the same table.
    ///
    /// The order of `nodes` does not matter; when a node is named twice, its highest weight counts. With no node of a
    /// weight above 0 no bucket has an owner. `seed` is that of the hash; it makes different clusters' tables differ.
    pub fn compute(nodes: &[(NodeId, Weight)], seed: u32, layout: Layout) -> Self {
        Self::compute_reserved(nodes, seed, layout, &Reserve::default())
    }

    /// The same, where each node that is alive and has a weight gets what is reserved for it. `reserve` is of the same
    /// seed and layout.
    pub fn compute_reserved(
        nodes: &[(NodeId, Weight)],
        seed: u32,
        layout: Layout,
        reserve: &Reserve,
    ) -> Self {
        let weighty = nodes.iter().filter(|(_, weight)| weight.0 > 0).map(|(node, _)| *node);
        Self::compute_with(&Clocks::for_nodes(weighty, seed, layout), nodes, layout, reserve)
    }

    /// The same with the seed of `clocks`, which must be of no fewer nodes than these, for those who compute many tables:
    /// making the clocks is the greater part of the work.
    pub fn compute_with(
        clocks: &Clocks,
        nodes: &[(NodeId, Weight)],
        layout: Layout,
        reserve: &Reserve,
    ) -> Self {
        let mut weights = [0; NODES_MAX];
        for &(node, weight) in nodes {
            let known = &mut weights[node.index()];
            *known = u32::from(weight.0).max(*known);
        }
        if weights.iter().all(|&weight| weight == 0) {
            return Self { owners: [NOBODY; BUCKETS] };
        }
        let mut owners = match layout {
            Layout::Balanced => balanced(&weights, clocks),
            Layout::ClusterIp { total } => blocks(&weights, total.clamp(1, NODES_MAX as u8), clocks),
        };
        reserve.apply(&mut owners, &weights, clocks);
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

/// [`Layout::Balanced`].
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
        Reverse((remainder, at_home[node] > whole[node], shares[node], Reverse(node)))
    });
    let missing = BUCKETS - whole.iter().sum::<u32>() as usize;
    let mut quotas = whole;
    for &node in &order[..missing] {
        quotas[node] += 1;
    }
    quotas
}

/// [`Layout::ClusterIp`].
fn blocks(weights: &PerNode, total: u8, clocks: &Clocks) -> Owners {
    // The bucket at each column of the clocks, so that blocks profit from the clocks' even second places.
    let buckets = columns(clocks, total);
    let home: Owners = buckets.map(|bucket| {
        let node = block_of(bucket, total);
        if weights[node] > 0 { node as u8 } else { NOBODY }
    });
    let mut owners = deal::race(clocks, weights);
    for (owner, &home) in owners.iter_mut().zip(&home).filter(|(_, home)| **home != NOBODY) {
        *owner = home;
    }
    let quotas = filled_up(deal::shares(&home), &deal::shares(&owners), weights);
    deal::settle(&mut owners, &home, &quotas, weights, clocks);
    let mut by_bucket = [NOBODY; BUCKETS];
    for (bucket, owner) in buckets.into_iter().zip(owners) {
        by_bucket[bucket] = owner;
    }
    by_bucket
}

/// `shares` with the missing buckets added one by one, each to the node that has least for its weight then; of equal ones
/// to that which lacks most of what it would have by the race, then to the lower number.
fn filled_up(mut shares: PerNode, by_race: &PerNode, weights: &PerNode) -> PerNode {
    let nodes: Vec<usize> = (0..NODES_MAX).filter(|&node| weights[node] > 0).collect();
    for _ in shares.iter().sum::<u32>()..BUCKETS as u32 {
        let lacks = |node: usize| i64::from(by_race[node]) - i64::from(shares[node]);
        let next = nodes.iter().copied().reduce(|best, node| {
            // (share + 1) / weight, compared without dividing.
            match ((shares[node] + 1) * weights[best]).cmp(&((shares[best] + 1) * weights[node])) {
                Ordering::Less => node,
                Ordering::Equal if lacks(node) > lacks(best) => node,
                Ordering::Equal | Ordering::Greater => best,
            }
        });
        if let Some(node) = next {
            shares[node] += 1;
        }
    }
    shares
}

/// The node index whose block `bucket` lies in.
fn block_of(bucket: usize, total: u8) -> usize {
    // Block k starts at the first bucket for which bucket * total >= k * BUCKETS; see hash::block_start().
    bucket * usize::from(total) / BUCKETS
}

/// Puts each bucket at a column of the clocks in which the node of its block wins among `total` equal ones, as far as
/// blocks and quotas are of the same size.
fn columns(clocks: &Clocks, total: u8) -> [usize; BUCKETS] {
    let equal: PerNode = std::array::from_fn(|node| u32::from(node < usize::from(total)));
    let mut of_block: Vec<Vec<usize>> = vec![Vec::new(); usize::from(total)];
    for bucket in (0..BUCKETS).rev() {
        of_block[block_of(bucket, total)].push(bucket);
    }
    let winners = deal::race(clocks, &equal);
    let matched = winners.map(|winner| of_block[usize::from(winner)].pop());
    let mut others = of_block.into_iter().flatten();
    matched.map(|bucket| bucket.or_else(|| others.next()).expect("as many buckets as columns"))
}
