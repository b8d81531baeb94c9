//! `onevip-lab bench balance`: how evenly clients are spread over nodes, and how many move when something changes.
//!
//! Pure computation, the same everywhere: clients and trials come from fixed seeds. Two different questions are asked.
//! *Buckets*: how evenly the table deals its own slices, which is what a table can be blamed for. *Clients*: how evenly
//! real addresses fall, where few heavy ones (a university behind one NAT) spoil every method that keeps a client on
//! one host. What moves is counted in clients, against what has to move because a node's own share shrinks.

pub mod clients;
pub mod methods;

use anyhow::Result;

use self::clients::{Population, WeightedClient};
use self::methods::{Cluster, Method, NODES_MAX, PreparedMethod, WHOLE};
use super::results::{Aim, BenchResults};
use super::rounds::{Progress, take_turns};

/// Numbers of nodes.
const SIZES: [usize; 9] = [2, 3, 4, 8, 12, 16, 32, 48, 64];
/// Trials of each, with seeds of their own.
pub const TRIALS: usize = 5;
const OVER_MEAN: &str = "buckets, most / mean";
const OVER_LEAST: &str = "buckets, most / ⌈1024/N⌉";

/// What happens to a cluster of N nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// One leaves.
    Loss,
    /// One more joins.
    Join,
    /// One gets half its weight.
    Reweight,
}

impl Change {
    const ALL: [Self; 3] = [Self::Loss, Self::Join, Self::Reweight];

    fn word(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Join => "join",
            Self::Reweight => "half the weight",
        }
    }

    /// The cluster afterwards; none where it would have too many nodes.
    fn after(self, before: &Cluster, nodes: usize, trial: usize) -> Option<Cluster> {
        let mut after = *before;
        let chosen = (trial * 7 + 1) % nodes;
        match self {
            Self::Loss => after[chosen] = 0,
            Self::Join if nodes < NODES_MAX => after[nodes] = WHOLE,
            Self::Join => return None,
            Self::Reweight => after[chosen] = WHOLE / 2,
        }
        Some(after)
    }
}

/// Computes everything.
///
/// # Errors
/// When the user interrupts.
pub fn run(trials: usize, command: String) -> Result<BenchResults> {
    let mut results = BenchResults::new("balance", command);
    results.set("trials", trials);
    let progress = Progress::new("balance");
    let mut methods = Method::ALL;
    for (population, clients) in Population::ALL.map(|population| (population, population.clients())) {
        for nodes in SIZES {
            let scenario = format!("{}, N = {nodes}", population.word());
            let mut trial = 0;
            take_turns(&progress, &scenario, trials, &mut [()], |()| {
                for &mut method in &mut methods {
                    examine(&mut results, &scenario, method, nodes, &clients, trial);
                }
                trial += 1;
                Ok(())
            })?;
        }
    }
    for nodes in SIZES {
        for trial in 0..trials {
            let shares = methods::bucket_shares(&methods::equal(nodes), trial as u32);
            let most = f64::from(shares.into_iter().max().unwrap_or(0));
            let scenario = format!("N = {nodes}");
            let over_mean = most * nodes as f64 / onevip_core::BUCKETS as f64;
            results.note(OVER_MEAN, &scenario, Method::Onevip.word(), "", over_mean);
            let over_least = most / onevip_core::BUCKETS.div_ceil(nodes) as f64;
            results.note(OVER_LEAST, &scenario, Method::Onevip.word(), "", over_least);
        }
    }
    results.aims.push(Aim::at_most(OVER_MEAN, Method::Onevip.word(), None, 1.01));
    results.aims.push(Aim::at_most(OVER_LEAST, Method::Onevip.word(), None, 1.0));
    for change in Change::ALL {
        results.aims.push(Aim::at_most(&moved(change), Method::Onevip.word(), None, 1.05));
    }
    results.finish();
    Ok(results)
}

fn moved(change: Change) -> String {
    format!("moved / had to move, {}", change.word())
}

/// One method, one trial: its balance, and what each change moves.
fn examine(
    results: &mut BenchResults,
    scenario: &str,
    method: Method,
    nodes: usize,
    clients: &[WeightedClient],
    trial: usize,
) {
    let before = methods::equal(nodes);
    let seed = trial as u32;
    let map = PreparedMethod::new(method, &before, seed);
    let owners: Vec<usize> = clients.iter().map(|client| map.owner(client)).collect();
    let shares = shares(&owners, clients);
    let (most, all) = (shares.iter().max().copied().unwrap_or(0), shares.iter().sum::<u64>());
    results.note(
        "clients, most / mean",
        scenario,
        method.word(),
        "",
        most as f64 * nodes as f64 / all as f64,
    );
    for change in Change::ALL {
        let Some(after) = change.after(&before, nodes, trial) else { continue };
        let map = PreparedMethod::new(method, &after, seed);
        let later: Vec<usize> = clients.iter().map(|client| map.owner(client)).collect();
        if let Some(ratio) = movement(&owners, &later, clients) {
            results.note(&moved(change), scenario, method.word(), "", ratio);
        }
    }
}

fn shares(owners: &[usize], clients: &[WeightedClient]) -> [u64; NODES_MAX] {
    let mut shares = [0; NODES_MAX];
    owners.iter().zip(clients).for_each(|(&owner, client)| shares[owner] += u64::from(client.weight));
    shares
}

/// What moved, relative to what had to because shares shrank.
fn movement(before: &[usize], after: &[usize], clients: &[WeightedClient]) -> Option<f64> {
    let moves = before.iter().zip(after).zip(clients).filter(|((a, b), _)| a != b);
    let moved: u64 = moves.map(|(_, client)| u64::from(client.weight)).sum();
    let (from, to) = (shares(before, clients), shares(after, clients));
    let needed: u64 = from.iter().zip(to).map(|(&from, to)| from.saturating_sub(to)).sum();
    (needed > 0).then(|| moved as f64 / needed as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(weights: &[u32]) -> Vec<WeightedClient> {
        let address = |i: usize| std::net::Ipv4Addr::from(0x0a00_0000 + i as u32).into();
        weights
            .iter()
            .enumerate()
            .map(|(i, &weight)| WeightedClient { address: address(i), weight })
            .collect()
    }

    #[test]
    fn what_had_to_move_is_what_shares_shrank_by() {
        let clients = clients(&[1, 1, 1, 3]);
        // Node 0 loses one of two clients, which goes to node 1: just what had to move.
        assert_eq!(movement(&[0, 0, 1, 1], &[0, 1, 1, 1], &clients), Some(1.0));
        // Two clients that change places need not have moved at all.
        assert_eq!(movement(&[0, 0, 1, 1], &[0, 1, 0, 1], &clients), None);
        // As before, and two others change places.
        assert_eq!(movement(&[0, 0, 1, 2], &[1, 1, 0, 2], &clients), Some(3.0));
    }

    #[test]
    fn ours_moves_only_what_it_must_and_modulo_nearly_everything() {
        let clients = Population::Campus.clients();
        let ratio = |method| {
            let (before, trial) = (methods::equal(8), 2);
            let after = Change::Loss.after(&before, 8, trial).unwrap();
            let owners = |cluster: &Cluster| {
                let map = PreparedMethod::new(method, cluster, 0);
                clients.iter().map(|client| map.owner(client)).collect::<Vec<_>>()
            };
            movement(&owners(&before), &owners(&after), &clients).unwrap()
        };
        assert!((ratio(Method::Onevip) - 1.0).abs() < 1e-9);
        assert!((ratio(Method::Rendezvous) - 1.0).abs() < 1e-9);
        assert!((ratio(Method::Ring) - 1.0).abs() < 1e-9);
        assert!(ratio(Method::Maglev) < 2.0);
        assert!(ratio(Method::Modulo) > 4.0);
    }

    /// docs/benchmarks.md says where 1.01 can be reached at all.
    #[test]
    fn whole_numbers_allow_a_percent_for_some_sizes_only() {
        let allows = |nodes: &usize| {
            onevip_core::BUCKETS.div_ceil(*nodes) as f64 * *nodes as f64 / onevip_core::BUCKETS as f64 <= 1.01
        };
        let all: Vec<usize> = (2..=NODES_MAX).filter(allows).collect();
        let beyond = [16, 18, 19, 21, 22, 24, 25, 27, 32, 38, 41, 43, 47, 49, 54, 57, 64];
        assert_eq!(all, (2..=13).chain(beyond).collect::<Vec<_>>());
    }

    #[test]
    fn a_cluster_that_is_full_takes_nobody_in() {
        assert_eq!(Change::Join.after(&methods::equal(NODES_MAX), NODES_MAX, 0), None);
    }
}
