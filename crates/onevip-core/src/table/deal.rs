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

/// Who wins each bucket when the clock of each node runs at the speed `weights` says; of equal ones the highest number.
pub(super) fn race(clocks: &Clocks, weights: &PerNode) -> Owners {
    let mut owners = [NOBODY; BUCKETS];
    // The earliest time so far is best.0 / best.1; compared by cross multiplication, without dividing.
    let mut best = [(u64::from(u32::MAX), 1u64); BUCKETS];
    for node in (0..NODES_MAX).filter(|&node| weights[node] > 0) {
        let weight = u64::from(weights[node]);
        for ((owner, best), &time) in owners.iter_mut().zip(&mut best).zip(clocks.of(node)) {
            let time = u64::from(time);
            if time * best.1 <= best.0 * weight {
                (*owner, *best) = (node as u8, (time, weight));
            }
        }
    }
    owners
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
pub(super) fn settle(
    owners: &mut Owners,
    home: &Owners,
    quotas: &PerNode,
    weights: &PerNode,
    clocks: &Clocks,
) {
    let mut shares = shares(owners);
    let takers: Vec<usize> = (0..NODES_MAX).filter(|&node| shares[node] < quotas[node]).collect();
    let offer = |owners: &Owners, shares: &PerNode, bucket: usize| {
        let clock = |node: usize| (u64::from(clocks.of(node)[bucket]), u64::from(weights[node]));
        let to =
            takers.iter().copied().filter(|&node| shares[node] < quotas[node]).reduce(|best, node| {
                let ((best_time, best_weight), (time, weight)) = (clock(best), clock(node));
                if time * best_weight <= best_time * weight { node } else { best }
            })?;
        let ((time, weight), (own_time, own_weight)) = (clock(to), clock(usize::from(owners[bucket])));
        let loss = ((time * own_weight) << 16) / (own_time * weight).max(1);
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
