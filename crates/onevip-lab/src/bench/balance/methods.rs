//! Ways to choose a node for a client: ours, and four that everybody knows, in their plainest form.

use std::net::IpAddr;

use onevip_core::{BUCKETS, Bucket, Hasher, NodeId, Table, Weight};

use super::clients::WeightedClient;
use crate::random::Random;

/// Most nodes.
pub const NODES_MAX: usize = 64;
/// What a node weighs that has its full share.
pub const WHOLE: u16 = 100;
/// Slots of Maglev's table: the smaller of the two primes in the paper.
const MAGLEV_SLOTS: usize = 65_537;
/// Points of a node on the ring, as in `libketama` (40 hashes of 4 points).
const RING_POINTS: u64 = 160;

/// Weights by node index; 0 is not there.
pub type Cluster = [u16; NODES_MAX];

/// Nodes that are all alike.
pub fn equal(nodes: usize) -> Cluster {
    std::array::from_fn(|i| if i < nodes { WHOLE } else { 0 })
}

/// A way to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Hash to one of 1024 buckets, which a table deals to nodes.
    Onevip,
    /// Hash modulo the number of nodes; a weight of one half is one of two places.
    Modulo,
    /// The node whose hash with the client is best: Thaler and Ravishankar, "Using name-based mappings to increase hit
    /// rates", IEEE/ACM Transactions on Networking 6(1), 1998; with weights as in Schindelhauer and Schomaker,
    /// "Weighted distributed hash tables", SPAA 2005.
    Rendezvous,
    /// Eisenbud et al., "Maglev: a fast and reliable software network load balancer", NSDI 2016, section 3.4.
    Maglev,
    /// Karger et al., "Consistent hashing and random trees", STOC 1997, with as many points a node as `libketama`.
    Ring,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Onevip, Self::Modulo, Self::Rendezvous, Self::Maglev, Self::Ring];

    /// In words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Onevip => "onevip",
            Self::Modulo => "modulo",
            Self::Rendezvous => "rendezvous",
            Self::Maglev => "Maglev",
            Self::Ring => "ring",
        }
    }
}

/// A method with everything it prepares for a cluster.
pub enum PreparedMethod {
    /// See [`Method::Onevip`].
    Onevip(Hasher, Box<Table>),
    /// Node by place.
    Modulo(u64, Vec<usize>),
    /// Nodes and their weights.
    Rendezvous(u64, Vec<(usize, f64)>),
    /// Node by slot.
    Maglev(u64, Vec<u8>),
    /// Points in order, with their nodes.
    Ring(u64, Vec<(u64, usize)>),
}

impl PreparedMethod {
    /// Prepares.
    pub fn new(method: Method, cluster: &Cluster, seed: u32) -> Self {
        let salt = u64::from(seed) << 32;
        let there: Vec<usize> = (0..NODES_MAX).filter(|&node| cluster[node] > 0).collect();
        match method {
            Method::Onevip => {
                Self::Onevip(Hasher { seed, ..Hasher::DEFAULT }, Box::new(table(cluster, seed)))
            }
            Method::Modulo => {
                let common = there.iter().fold(0, |common, &node| greatest_divisor(common, cluster[node]));
                let places = |&node: &usize| vec![node; usize::from(cluster[node] / common.max(1))];
                Self::Modulo(salt, there.iter().flat_map(places).collect())
            }
            Method::Rendezvous => {
                let weighted = there.iter().map(|&node| (node, f64::from(cluster[node])));
                Self::Rendezvous(salt, weighted.collect())
            }
            Method::Maglev => Self::Maglev(salt, maglev(cluster, &there)),
            Method::Ring => {
                let points = |&node: &usize| {
                    let count = RING_POINTS * u64::from(cluster[node]) / u64::from(WHOLE);
                    (0..count).map(move |k| (mix((node as u64) << 32 | k | 1 << 63), node))
                };
                let mut ring: Vec<(u64, usize)> = there.iter().flat_map(points).collect();
                ring.sort_unstable();
                Self::Ring(salt, ring)
            }
        }
    }

    /// The node of a client.
    pub fn owner(&self, client: &WeightedClient) -> usize {
        match self {
            Self::Onevip(hasher, table) => {
                table.owner(hasher.bucket(client.address, 0, 0)).map_or(0, NodeId::index)
            }
            Self::Modulo(salt, places) => {
                places[(hash(client.address, *salt) % places.len() as u64) as usize]
            }
            Self::Rendezvous(salt, nodes) => {
                let own = hash(client.address, *salt);
                let score = |&(node, weight): &(usize, f64)| -unit(mix(own ^ mix(node as u64))).ln() / weight;
                let best = nodes.iter().min_by(|a, b| score(a).total_cmp(&score(b)));
                best.map_or(0, |&(node, _)| node)
            }
            Self::Maglev(salt, slots) => {
                usize::from(slots[(hash(client.address, *salt) % slots.len() as u64) as usize])
            }
            Self::Ring(salt, points) => {
                let own = hash(client.address, *salt);
                let next = points.partition_point(|&(point, _)| point < own);
                points[next % points.len()].1
            }
        }
    }
}

fn table(cluster: &Cluster, seed: u32) -> Table {
    let weighted = NodeId::all().zip(cluster).filter(|(_, weight)| **weight > 0);
    let nodes: Vec<(NodeId, Weight)> =
        weighted.filter_map(|(id, &weight)| Some((id, Weight::new(weight)?))).collect();
    Table::compute(&nodes, seed, onevip_core::Layout::Balanced)
}

/// How many of the 1024 buckets each node has in our table.
pub fn bucket_shares(cluster: &Cluster, seed: u32) -> [u32; NODES_MAX] {
    let table = table(cluster, seed);
    let mut shares = [0; NODES_MAX];
    Bucket::all().filter_map(|b| table.owner(b)).for_each(|owner| shares[owner.index()] += 1);
    debug_assert!(shares.iter().sum::<u32>() as usize == BUCKETS);
    shares
}

/// Every node in turn takes the next slot of its own permutation that is free; one of half the weight takes every
/// second turn.
fn maglev(cluster: &Cluster, there: &[usize]) -> Vec<u8> {
    const FREE: u8 = u8::MAX;
    let slots = MAGLEV_SLOTS as u64;
    let mut walkers: Vec<(usize, u64, u64, u16)> = there
        .iter()
        .map(|&node| {
            let (offset, skip) = (mix(node as u64) % slots, mix(!(node as u64)) % (slots - 1) + 1);
            (node, offset, skip, 0)
        })
        .collect();
    let (mut table, mut taken) = (vec![FREE; MAGLEV_SLOTS], 0);
    while taken < MAGLEV_SLOTS {
        for (node, at, skip, turn) in &mut walkers {
            *turn += cluster[*node];
            if *turn < WHOLE || taken == MAGLEV_SLOTS {
                continue;
            }
            *turn -= WHOLE;
            while table[*at as usize] != FREE {
                *at = (*at + *skip) % slots;
            }
            table[*at as usize] = *node as u8;
            taken += 1;
        }
    }
    table
}

fn greatest_divisor(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}

fn hash(address: IpAddr, salt: u64) -> u64 {
    match address {
        IpAddr::V4(v4) => mix(u64::from(v4.to_bits()) ^ mix(salt)),
        IpAddr::V6(v6) => mix(v6.to_bits() as u64 ^ mix((v6.to_bits() >> 64) as u64 ^ mix(salt))),
    }
}

fn mix(x: u64) -> u64 {
    Random(x).draw()
}

/// Between 0 and 1, neither included.
fn unit(x: u64) -> f64 {
    ((x >> 11) as f64 + 0.5) / 2f64.powi(53)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn counts(method: Method, cluster: &Cluster) -> [u32; NODES_MAX] {
        let map = PreparedMethod::new(method, cluster, 1);
        let mut counts = [0; NODES_MAX];
        for i in 0..40_000u32 {
            let address = Ipv4Addr::from(0x0a00_0000 + i).into();
            counts[map.owner(&WeightedClient { address, weight: 1 })] += 1;
        }
        counts
    }

    #[test]
    fn every_method_gives_every_node_about_its_weight() {
        let mut cluster = equal(5);
        cluster[2] = WHOLE / 2;
        for method in Method::ALL {
            let counts = counts(method, &cluster);
            for (node, &weight) in cluster.iter().enumerate() {
                let wanted = 40_000.0 * f64::from(weight) / 450.0;
                let off = (f64::from(counts[node]) - wanted).abs();
                assert!(off <= wanted * 0.25, "{method:?} gives node {node} {} of {wanted}", counts[node]);
            }
        }
    }

    #[test]
    fn maglev_is_even_to_one_slot() {
        let table = maglev(&equal(7), &[0, 1, 2, 3, 4, 5, 6]);
        let count = |node| table.iter().filter(|&&owner| owner == node).count();
        let counts: Vec<usize> = (0..7).map(count).collect();
        assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
    }

    #[test]
    fn shares_of_buckets_add_up() {
        let shares = bucket_shares(&equal(3), 0);
        assert_eq!(shares.iter().sum::<u32>() as usize, BUCKETS);
        assert_eq!(shares.iter().max(), Some(&342));
    }
}
