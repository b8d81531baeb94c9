//! Dealing the buckets: the race of the clocks, and then the fewest changes that make every share exact.

use super::clocks::Clocks;
use crate::ids::{BUCKETS, NODES_MAX};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// No node, in place of a node index.
pub(super) const NOBODY: u8 = u8::MAX;

/// Node indices by bucket, or [`NOBODY`].
pub(super) type Owners = [u8; BUCKETS];

/// A number for each node index: weights, quotas.
pub(super) type PerNode = [u32; NODES_MAX];

/// The node whose clock rings first in `bucket` when each runs at the speed `weights` says and only nodes that `may`
/// take part; of equal ones the highest number.
pub(super) fn winner(clocks: &Clocks, bucket: usize, weights: &PerNode, may: impl Fn(usize) -> bool) -> Option<usize> {
    let times = clocks.of(bucket);
    let mut best: Option<(usize, u64, u64)> = None;
    for (node, &time) in times.iter().enumerate() {
        let weight = u64::from(weights[node]);
        if weight == 0 || !may(node) {
            continue;
        }
        // time / weight against time / weight, without dividing.
        let time = u64::from(time);
        if best.is_none_or(|(_, best_time, best_weight)| time * best_weight <= best_time * weight) {
            best = Some((node, time, weight));
        }
    }
    best.map(|(node, ..)| node)
}

/// How many buckets each node has.
pub(super) fn shares(owners: &Owners) -> PerNode {
    let mut shares = [0; NODES_MAX];
    for &owner in owners.iter().filter(|&&owner| owner != NOBODY) {
        shares[usize::from(owner)] += 1;
    }
    shares
}

/// Moves buckets from nodes above their quota to nodes below it until all have exactly theirs.
///
/// Buckets that are not with their `home` go first, then those that lose least by it. The sum of the quotas must be the
/// number of buckets owned.
pub(super) fn settle(owners: &mut Owners, home: &Owners, quotas: &PerNode, weights: &PerNode, clocks: &Clocks) {
    let mut shares = shares(owners);
    let offer = |owners: &Owners, shares: &PerNode, bucket: usize| {
        let owner = usize::from(owners[bucket]);
        let to = winner(clocks, bucket, weights, |node| shares[node] < quotas[node])?;
        let times = clocks.of(bucket);
        let slower = u64::from(times[to]) * u64::from(weights[owner]) << 16;
        let loss = slower / (u64::from(times[owner]) * u64::from(weights[to])).max(1);
        Some(Reverse((home[bucket] == owners[bucket], loss, bucket, to)))
    };
    let above = |owners: &Owners, shares: &PerNode, bucket: usize| {
        let owner = owners[bucket];
        owner != NOBODY && shares[usize::from(owner)] > quotas[usize::from(owner)]
    };
    let mut offers: BinaryHeap<_> = (0..BUCKETS)
        .filter(|&bucket| above(owners, &shares, bucket))
        .filter_map(|bucket| offer(owners, &shares, bucket))
        .collect();
    while let Some(Reverse((_, _, bucket, to))) = offers.pop() {
        if !above(owners, &shares, bucket) {
            continue;
        }
        if shares[to] >= quotas[to] {
            // Full meanwhile: the next best, which can only be worse, so the order of the heap stays right.
            offers.extend(offer(owners, &shares, bucket));
            continue;
        }
        shares[usize::from(owners[bucket])] -= 1;
        shares[to] += 1;
        owners[bucket] = to as u8;
    }
}
