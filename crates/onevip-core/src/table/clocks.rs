//! How much each node would like each bucket: one number per pair, fixed by the seed and by nothing else.
//!
//! In weighted rendezvous hashing every pair of bucket and node has a clock that rings after an exponentially
//! distributed time, a node of twice the weight runs twice as fast, and the first to ring owns the bucket. Independent
//! clocks keep disruption minimal but spread 1024 buckets unevenly. So the clocks here are drawn one node after
//! another, and each draw is *conditioned*: node k+1 takes from every node before it exactly the buckets that an even
//! cluster of k+1 takes, namely those whose clock would have come closest anyway; the clock is drawn again from the
//! same distribution, limited to "before the earliest so far" or "after it". The same is done, as well as whole numbers
//! allow, with second ranks: what a node would leave behind falls evenly on the others.
//!
//! Only [`super`] uses this; whoever computes many tables for one seed may keep the clocks.

use super::Layout;
use crate::ids::{BUCKETS, NODES_MAX, NodeId};
use std::hash::{Hash, Hasher};

/// The clocks of all pairs of bucket and node for one seed: up to 256 KiB, and more work to make than a table.
#[derive(Clone)]
pub struct Clocks {
    seed: u32,
    /// For each node index the times of all buckets, in units of 2⁻²⁴.
    times: Vec<Times>,
}

/// When one node's clocks ring, by bucket.
type Times = [u32; BUCKETS];

impl Clocks {
    /// The clocks for this seed, for every node number there can be.
    pub fn new(seed: u32) -> Self {
        Self::up_to(NODES_MAX, seed)
    }

    /// As many as tables of these nodes need, which is quicker. They are the same as those of [`Clocks::new`].
    pub fn for_nodes(nodes: impl IntoIterator<Item = NodeId>, seed: u32, layout: Layout) -> Self {
        let largest = nodes.into_iter().map(|node| node.index() + 1).max().unwrap_or(0);
        let needed = match layout {
            Layout::Balanced => largest,
            Layout::ClusterIp { total } => largest.max(usize::from(total).clamp(1, NODES_MAX)),
        };
        Self::up_to(needed, seed)
    }

    /// Whether a node is among those whose clocks they are.
    pub fn are_of(&self, node: NodeId) -> bool {
        node.index() < self.times.len()
    }

    /// The clocks of the nodes 1 to `nodes` only.
    pub(super) fn up_to(nodes: usize, seed: u32) -> Self {
        let mut podium = Podium::new();
        Self { seed, times: (0..nodes).map(|node| podium.admit(node, seed)).collect() }
    }

    /// The times of one node, by bucket.
    pub(super) fn of(&self, node: usize) -> &Times {
        &self.times[node]
    }
}

/// The times follow from the seed and the number of nodes.
impl PartialEq for Clocks {
    fn eq(&self, other: &Self) -> bool {
        (self.seed, self.times.len()) == (other.seed, other.times.len())
    }
}

impl Eq for Clocks {}

impl Hash for Clocks {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.seed, self.times.len()).hash(state);
    }
}

impl std::fmt::Debug for Clocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "clocks of {} nodes", self.times.len())
    }
}

/// How many of the buckets the node at `index` has in an even cluster of `nodes`: the lower numbers have one more.
pub(super) const fn even_quota(index: usize, nodes: usize) -> usize {
    (BUCKETS - 1 - index) / nodes + 1
}

/// How early a new node's clock rings for a bucket, among all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rank {
    First,
    Second,
    Later,
}

/// The earliest two clocks of each bucket among the nodes admitted so far.
struct Podium {
    /// Node index and time of the earliest.
    first: [(u8, u32); BUCKETS],
    /// Node index and time of the one after it; meaningless before two nodes are admitted.
    second: [(u8, u32); BUCKETS],
}

impl Podium {
    fn new() -> Self {
        Self { first: [(0, u32::MAX); BUCKETS], second: [(0, u32::MAX); BUCKETS] }
    }

    /// Draws the clocks of the next node.
    fn admit(&mut self, node: usize, seed: u32) -> Times {
        let mut times = [0; BUCKETS];
        let draws: [Draw; BUCKETS] = std::array::from_fn(|bucket| Draw::new(seed, node, bucket));
        let ranks = self.ranks(node, &draws);
        for (bucket, draw) in draws.iter().enumerate() {
            let (first, second) = (self.first[bucket], self.second[bucket]);
            let time = match ranks[bucket] {
                Rank::First => draw.until(first.1),
                Rank::Second => draw.between(first.1, second.1),
                Rank::Later => draw.after(if node < 2 { first.1 } else { second.1.max(first.1) }),
            };
            times[bucket] = time;
            match ranks[bucket] {
                Rank::First => {
                    self.second[bucket] = first;
                    self.first[bucket] = (node as u8, time);
                }
                Rank::Second => self.second[bucket] = (node as u8, time),
                Rank::Later if node == 1 => self.second[bucket] = (node as u8, time),
                Rank::Later => {}
            }
        }
        times
    }

    /// Where the new node comes first and where second.
    fn ranks(&self, node: usize, draws: &[Draw; BUCKETS]) -> [Rank; BUCKETS] {
        if node == 0 {
            return [Rank::First; BUCKETS];
        }
        let mut ranks = [Rank::Later; BUCKETS];
        let by_owner = self.by_owner(node);
        let mut rest = &by_owner[..];
        let quotas = std::array::from_fn(|n| if n <= node { even_quota(n, node + 1) } else { 0 });
        for owner in 0..node {
            let (owned, others) = rest.split_at(even_quota(owner, node));
            rest = others;
            self.place_first(owned, owned.len() - quotas[owner], draws, &mut ranks);
            if node >= 2 {
                self.place_second(owned, owner, node, quotas, draws, &mut ranks);
            }
        }
        ranks
    }

    /// All buckets, those of the first of `nodes` owners in front; ascending within each.
    fn by_owner(&self, nodes: usize) -> [u16; BUCKETS] {
        let mut next = [0; NODES_MAX];
        for owner in 1..nodes {
            next[owner] = next[owner - 1] + even_quota(owner - 1, nodes);
        }
        let mut sorted = [0; BUCKETS];
        for (bucket, &(owner, _)) in self.first.iter().enumerate() {
            let place = &mut next[usize::from(owner)];
            sorted[*place] = bucket as u16;
            *place += 1;
        }
        sorted
    }

    /// Of the buckets of one owner, gives `wanted` to the new node: those where its clock is most ahead.
    fn place_first(
        &self,
        owned: &[u16],
        wanted: usize,
        draws: &[Draw; BUCKETS],
        ranks: &mut [Rank; BUCKETS],
    ) {
        // The bucket number makes keys unique: which ones are chosen must not depend on the selection algorithm.
        let mut lead = owned.iter().map(|&bucket| {
            let b = usize::from(bucket);
            (i64::from(draws[b].wish) - i64::from(self.first[b].1), bucket)
        });
        if wanted <= 1 {
            // By far the most frequent in large clusters.
            if let Some((_, bucket)) = (&mut lead).min().filter(|_| wanted == 1) {
                ranks[usize::from(bucket)] = Rank::First;
            }
            return;
        }
        let mut lead: Vec<_> = lead.collect();
        lead.select_nth_unstable(wanted - 1);
        for &(_, bucket) in &lead[..wanted] {
            ranks[usize::from(bucket)] = Rank::First;
        }
    }

    /// Of the buckets that `owner` keeps, makes the new node second where others would inherit too many.
    fn place_second(
        &self,
        owned: &[u16],
        owner: usize,
        node: usize,
        quotas: [usize; NODES_MAX],
        draws: &[Draw; BUCKETS],
        ranks: &mut [Rank; BUCKETS],
    ) {
        // What each would have if the owner left.
        let mut load = quotas;
        for &bucket in owned {
            if ranks[usize::from(bucket)] == Rank::Later {
                load[usize::from(self.second[usize::from(bucket)].0)] += 1;
            }
        }
        let total = load.iter().sum::<usize>() - load[owner];
        let (low, high) = (total / node, total.div_ceil(node));
        // First where the clock is early enough by itself, then wherever it helps.
        for (natural, level) in [(true, high), (true, low), (false, high), (false, low)] {
            for &bucket in owned {
                let bucket = usize::from(bucket);
                if load[node] >= level {
                    break;
                }
                let (runner_up, time) = self.second[bucket];
                let early = !natural || draws[bucket].wish <= time;
                if early && load[usize::from(runner_up)] > level && ranks[bucket] == Rank::Later {
                    ranks[bucket] = Rank::Second;
                    load[usize::from(runner_up)] -= 1;
                    load[node] += 1;
                }
            }
        }
    }
}

/// The randomness of one pair.
#[derive(Clone, Copy)]
struct Draw {
    /// The time that the clock would ring at if nothing were conditioned.
    wish: u32,
    /// 32 more random bits.
    more: u32,
}

impl Draw {
    fn new(seed: u32, node: usize, bucket: usize) -> Self {
        let bits = mix(u64::from(seed) << 32 | (node as u64) << 16 | bucket as u64);
        Self { wish: exponential((bits >> 32) as u32), more: bits as u32 }
    }

    /// A time in `0..=end`. Equal is early enough: of equal clocks the higher node number counts.
    fn until(self, end: u32) -> u32 {
        if self.wish <= end { self.wish } else { scale(self.more, end) }
    }

    /// A time after `start` and not after `end`, if there is one.
    fn between(self, start: u32, end: u32) -> u32 {
        if self.wish > start && self.wish <= end {
            self.wish
        } else {
            start + 1 + scale(self.more, end.saturating_sub(start + 1))
        }
    }

    /// A time after `start`; the exponential distribution has no memory, so waiting starts afresh there.
    fn after(self, start: u32) -> u32 {
        if self.wish > start { self.wish } else { start + exponential(self.more).max(1) }
    }
}

/// `range` times the fraction `bits` / 2³².
fn scale(bits: u32, range: u32) -> u32 {
    ((u64::from(bits) * u64::from(range)) >> 32) as u32
}

/// The finaliser of `SplitMix64` (Steele, Lea and Flood 2014; constants: Stafford's variant 13).
fn mix(key: u64) -> u64 {
    let mut z = key.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// An exponentially distributed time from 32 uniform bits: −log₂((bits + ½) / 2³²) in units of 2⁻²⁴, below 2³⁰.
fn exponential(bits: u32) -> u32 {
    let odd = u64::from(bits) << 1 | 1;
    let exponent = 63 - odd.leading_zeros();
    // The mantissa as 0.32 fixed point: the upper 8 bits select a table entry, the others interpolate.
    let mantissa = ((odd << (63 - exponent) << 1) >> 32) as u32;
    let (step, within) = ((mantissa >> 24) as usize, u64::from(mantissa & 0xff_ffff));
    let (low, high) = (LOG2[step], LOG2[step + 1]);
    let fraction = low + ((u64::from(high - low) * within) >> 24) as u32;
    (33 << 24) - (exponent << 24) - fraction
}

/// log₂(1 + i / 256) in units of 2⁻²⁴.
static LOG2: [u32; 257] = {
    let mut table = [0; 257];
    let mut i = 0;
    while i < 256 {
        // Bit by bit: squaring doubles the logarithm.
        let mut value = ((256 + i) as u64) << 23;
        let mut bit = 24;
        while bit > 0 {
            bit -= 1;
            value = (value * value) >> 31;
            if value >= 1 << 32 {
                value >>= 1;
                table[i] |= 1 << bit;
            }
        }
        i += 1;
    }
    table[256] = 1 << 24;
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_exponentially_distributed() {
        for bits in [0, 1, 2, 1000, 1 << 20, 1 << 31, u32::MAX - 1, u32::MAX] {
            let exact = -((f64::from(bits) + 0.5) / 2f64.powi(32)).log2();
            let ours = f64::from(exponential(bits)) / f64::from(1 << 24);
            assert!((exact - ours).abs() < 1e-5, "bits {bits}: {ours} instead of {exact}");
        }
    }

    #[test]
    fn fewer_nodes_have_the_same_clocks() {
        let (all, some) = (Clocks::new(7), Clocks::up_to(5, 7));
        assert_eq!(some.times.len(), 5);
        assert!((0..5).all(|node| all.of(node) == some.of(node)));
    }

    #[test]
    fn even_quotas_are_even_and_complete() {
        for nodes in 1..=NODES_MAX {
            let quotas: Vec<usize> = (0..nodes).map(|n| even_quota(n, nodes)).collect();
            assert_eq!(quotas.iter().sum::<usize>(), BUCKETS);
            assert!(quotas[0] - quotas[nodes - 1] <= 1);
        }
    }
}
