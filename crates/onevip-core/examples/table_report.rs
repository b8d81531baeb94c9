//! Prints how evenly tables are balanced, how much each kind of change moves, and what computing them costs; next to it
//! the same for three well-known ways to do it.
//!
//! Run it with `cargo run --release -p onevip-core --example table_report`. All figures but the times are the same
//! everywhere: the random numbers come from a fixed seed.

use onevip_core::{BUCKETS, Bucket, Clocks, Layout, NodeId, Reserve, Table, Weight};
use std::time::Instant;

/// A cluster: weight by node index; 0 is not alive.
type Cluster = [u16; 64];
/// Owner by bucket, as node index.
type Owners = [usize; BUCKETS];
/// A way to compute a table from a cluster and a seed.
type Method = fn(&Cluster, u32) -> Owners;
/// A kind of change: draws a cluster of up to `n` nodes before and after it.
type Change = fn(usize, &mut Random) -> (Cluster, Cluster);

const SIZES: [usize; 9] = [2, 3, 4, 8, 12, 16, 32, 48, 64];
const METHODS: [(&str, Method); 4] =
    [("onevip", onevip), ("modulo", modulo), ("rendezvous", rendezvous), ("greedy with quotas", greedy)];
const CHANGES: [(&str, Change); 12] = [
    ("equal: one of all leaves (or returns)", |n, r| (equal(n), without_one(equal(n), r))),
    ("equal: node n joins", |n, _| (without(equal(n), n - 1), equal(n))),
    ("equal: one is missing, another leaves", |n, r| {
        let one = without_one(equal(n), r);
        (one, without_one(one, r))
    }),
    ("equal: of a random half one leaves", |n, r| {
        let half = random_half(n, r);
        (half, without_one(half, r))
    }),
    ("equal: one goes to weight 50", |n, r| (equal(n), with_weight(equal(n), 50, r))),
    ("equal: one goes to weight 200", |n, r| (equal(n), with_weight(equal(n), 200, r))),
    ("half 100, half 200: one leaves", |n, r| {
        let mixed = weights(n, |_| [100, 200][r.below(2)]);
        (mixed, without_one(mixed, r))
    }),
    ("weights 50..=200: one leaves", |n, r| {
        let any = weights(n, |_| 50 + r.below(151) as u16);
        (any, without_one(any, r))
    }),
    ("weights 50..=200: node n joins", |n, r| {
        let any = weights(n, |_| 50 + r.below(151) as u16);
        (without(any, n - 1), any)
    }),
    ("weights 1..=1000: one leaves", |n, r| {
        let any = weights(n, |_| 1 + r.below(1000) as u16);
        (any, without_one(any, r))
    }),
    ("weights 1..=1000: node n joins", |n, r| {
        let any = weights(n, |_| 1 + r.below(1000) as u16);
        (without(any, n - 1), any)
    }),
    ("weights 50..=200: one is reweighted", |n, r| {
        let any = weights(n, |_| 50 + r.below(151) as u16);
        let weight = 50 + r.below(151) as u16;
        (any, with_weight(any, weight, r))
    }),
];

fn main() {
    println!(
        "Balance, equal weights: most buckets on one node / mean (exact shares: at most one bucket apart)\n"
    );
    header("");
    for (name, method) in METHODS {
        print!("{name:40}");
        for n in SIZES {
            let owners = method(&equal(n), 1);
            let most = shares(&owners).into_iter().max().unwrap_or(0);
            print!("{:>15.3}", most as f64 * n as f64 / BUCKETS as f64);
        }
        println!();
    }
    println!("\nMoved buckets / buckets that must move because shares change: over all trials (worst trial)");
    for (name, method) in METHODS {
        // The greedy one takes 5 ms per table.
        let trials = if name == "greedy with quotas" { 20 } else { 200 };
        println!();
        header(name);
        for (kind, change) in CHANGES {
            print!("{kind:40}");
            for n in SIZES {
                print!("{:>15}", ratio(method, change, n, trials));
            }
            println!();
        }
    }
    println!("\nTime for one table with unequal weights, in microseconds, the quickest of 300\n");
    header("");
    for (name, ready) in [("Table::compute", false), ("Table::compute_with, clocks kept", true)] {
        print!("{name:40}");
        for n in SIZES {
            print!("{:>15.1}", microseconds(n, ready));
        }
        println!();
    }
}

fn header(title: &str) {
    print!("{title:40}");
    for n in SIZES {
        print!("{:>15}", format!("N={n}"));
    }
    println!();
}

/// Moved over unavoidable moves, in sum and in the worst trial.
fn ratio(method: Method, change: Change, n: usize, trials: u32) -> String {
    let mut random = Random(n as u64);
    let (mut all_moved, mut all_needed, mut worst) = (0, 0, 0f64);
    for seed in 0..trials {
        let (before, after) = change(n, &mut random);
        if total(&before) == 0 || total(&after) == 0 {
            continue;
        }
        let (a, b) = (method(&before, seed), method(&after, seed));
        let moved = a.iter().zip(&b).filter(|(a, b)| a != b).count();
        let needed: usize = shares(&a).iter().zip(shares(&b)).map(|(&a, b)| a.saturating_sub(b)).sum();
        all_moved += moved;
        all_needed += needed;
        if needed > 0 {
            worst = worst.max(moved as f64 / needed as f64);
        }
    }
    if all_needed == 0 {
        return "-".into();
    }
    format!("{:.3} ({worst:.2})", all_moved as f64 / all_needed as f64)
}

fn microseconds(n: usize, ready: bool) -> f64 {
    let nodes = nodes(&weights(n, |i| 100 + i as u16));
    let clocks = Clocks::new(1);
    // The quickest of many: what else runs on the machine is not of interest here.
    let once = |seed| {
        let start = Instant::now();
        std::hint::black_box(if ready {
            Table::compute_with(&clocks, &nodes, Layout::Balanced, &Reserve::default())
        } else {
            Table::compute(&nodes, seed, Layout::Balanced)
        });
        start.elapsed()
    };
    (0..300).map(once).min().unwrap_or_default().as_secs_f64() * 1e6
}

fn onevip(cluster: &Cluster, seed: u32) -> Owners {
    let table = Table::compute(&nodes(cluster), seed, Layout::Balanced);
    let mut owners = [usize::MAX; BUCKETS];
    for bucket in Bucket::all() {
        owners[bucket.index()] = table.owner(bucket).map_or(usize::MAX, NodeId::index);
    }
    owners
}

/// The bucket's number modulo the number of nodes; knows no weights.
fn modulo(cluster: &Cluster, _seed: u32) -> Owners {
    let alive: Vec<usize> = (0..64).filter(|&i| cluster[i] > 0).collect();
    std::array::from_fn(|bucket| alive[bucket % alive.len()])
}

/// Weighted rendezvous hashing (Thaler and Ravishankar 1998): minimal disruption, random balance.
fn rendezvous(cluster: &Cluster, seed: u32) -> Owners {
    std::array::from_fn(|bucket| {
        let alive = (0..64).filter(|&i| cluster[i] > 0);
        let time = |node: usize| clock(seed, bucket, node) / f64::from(cluster[node]);
        alive.min_by(|&a, &b| time(a).total_cmp(&time(b))).unwrap_or(usize::MAX)
    })
}

/// All pairs in the order of their clocks, dealt while the node is below its quota: exact balance; orphans cascade.
fn greedy(cluster: &Cluster, seed: u32) -> Owners {
    let mut quotas = [0; 64];
    let mut remainders: Vec<(usize, usize)> = Vec::new();
    for (i, &weight) in cluster.iter().enumerate() {
        let scaled = usize::from(weight) * BUCKETS;
        quotas[i] = scaled / total(cluster);
        remainders.push((scaled % total(cluster), 64 - i));
    }
    remainders.sort_unstable_by(|a, b| b.cmp(a));
    let missing = BUCKETS - quotas.iter().sum::<usize>();
    remainders[..missing].iter().for_each(|&(_, from_end)| quotas[64 - from_end] += 1);
    let mut pairs: Vec<(f64, usize, usize)> = Vec::new();
    for node in (0..64).filter(|&i| cluster[i] > 0) {
        pairs.extend((0..BUCKETS).map(|b| (clock(seed, b, node) / f64::from(cluster[node]), b, node)));
    }
    pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut owners = [usize::MAX; BUCKETS];
    for (_, bucket, node) in pairs {
        if owners[bucket] == usize::MAX && quotas[node] > 0 {
            owners[bucket] = node;
            quotas[node] -= 1;
        }
    }
    owners
}

fn clock(seed: u32, bucket: usize, node: usize) -> f64 {
    let key = u64::from(seed) << 32 | (node as u64) << 16 | bucket as u64;
    -(((Random(key).next() >> 11) as f64 + 0.5) / 2f64.powi(53)).ln()
}

fn nodes(cluster: &Cluster) -> Vec<(NodeId, Weight)> {
    NodeId::all()
        .zip(cluster)
        .filter_map(|(id, &w)| Some((id, Weight::new(w).filter(|w| w.get() > 0)?)))
        .collect()
}

fn shares(owners: &Owners) -> [usize; 64] {
    let mut shares = [0; 64];
    owners.iter().filter(|&&owner| owner < 64).for_each(|&owner| shares[owner] += 1);
    shares
}

fn total(cluster: &Cluster) -> usize {
    cluster.iter().map(|&weight| usize::from(weight)).sum()
}

fn weights(n: usize, mut weight: impl FnMut(usize) -> u16) -> Cluster {
    std::array::from_fn(|i| if i < n { weight(i) } else { 0 })
}

fn equal(n: usize) -> Cluster {
    weights(n, |_| 100)
}

fn random_half(n: usize, random: &mut Random) -> Cluster {
    weights(n, |_| [0, 100][random.below(2)])
}

fn without(mut cluster: Cluster, node: usize) -> Cluster {
    cluster[node] = 0;
    cluster
}

fn without_one(cluster: Cluster, random: &mut Random) -> Cluster {
    match one_of(&cluster, random) {
        Some(node) => without(cluster, node),
        None => cluster,
    }
}

fn with_weight(mut cluster: Cluster, weight: u16, random: &mut Random) -> Cluster {
    if let Some(node) = one_of(&cluster, random) {
        cluster[node] = weight;
    }
    cluster
}

fn one_of(cluster: &Cluster, random: &mut Random) -> Option<usize> {
    let alive: Vec<usize> = (0..64).filter(|&i| cluster[i] > 0).collect();
    if alive.is_empty() { None } else { Some(alive[random.below(alive.len())]) }
}

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}
