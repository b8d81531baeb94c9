//! `onevip-lab bench throughput`: bulk data up and down, through the VIP, straight to the node, and through HAProxy.
//!
//! With several nodes on one machine every node's share of an upload (receiving and dropping it) is done by the same
//! processors; in a real cluster each node has its own. Therefore the same is measured with a single node, where only
//! the path through the VIP differs from the direct one, and to a node's own address while the switch floods
//! ([`AccessPath::Flooded`]).

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;

use super::access::{AccessPath, AccessPaths, IpFamily, plural};
use super::results::{Aim, BenchResults};
use super::rounds::{Progress, take_turns};
use crate::service::bulk::{self, Direction};

/// Client addresses, over which flows are spread.
const CLIENTS: usize = 64;

/// How many flows there are side by side.
fn flows(family: IpFamily) -> &'static [usize] {
    match family {
        IpFamily::V4 => &[1, 8, 64],
        IpFamily::V6 => &[1, 8],
    }
}

/// Who takes part. In front of a single node there is nothing to balance; what IPv4 shows of others need not be shown
/// again.
fn contestants(nodes: usize, family: IpFamily) -> Vec<AccessPath> {
    let takes_part = |path: &AccessPath| match path {
        AccessPath::Direct | AccessPath::Flooded | AccessPath::Onevip => true,
        AccessPath::Haproxy => family == IpFamily::V4 && nodes > 1,
    };
    AccessPath::ALL.into_iter().filter(takes_part).collect()
}

/// Measures with each number of nodes, in a lab of its own.
///
/// # Errors
/// When a lab cannot be built, a flow breaks, or the user interrupts.
pub fn run(
    name: &str,
    nodes: &[usize],
    rounds: usize,
    seconds: f64,
    command: String,
) -> Result<BenchResults> {
    let mut results = BenchResults::new("throughput", command);
    results.set("rounds", rounds);
    results.set("seconds per turn", seconds);
    let progress = Progress::new("throughput");
    let length = Duration::from_secs_f64(seconds);
    for &nodes in nodes {
        let mut paths = AccessPaths::open(name, nodes, CLIENTS)?;
        for family in IpFamily::ALL {
            for (direction, &flows) in [Direction::Up, Direction::Down]
                .into_iter()
                .flat_map(|d| flows(family).iter().map(move |f| (d, f)))
            {
                let scenario = scenario(nodes, family, direction, flows);
                let mut contestants = contestants(nodes, family);
                take_turns(&progress, &scenario, rounds, &mut contestants, |&mut path| {
                    paths.prepare(path)?;
                    let ends = ends(&paths, family, path, flows);
                    let bytes = paths.lab.inside("client", || bulk::flows(&ends, direction, length))??;
                    results.note(METRIC, &scenario, path.word(), "Gbit/s", bytes * 8.0 / 1e9);
                    Ok(())
                })?;
            }
        }
        paths.lab.down()?;
    }
    results.aims.push(Aim::at_least(
        METRIC,
        AccessPath::Onevip.word(),
        Some(AccessPath::Direct.word()),
        0.97,
    ));
    results.finish();
    Ok(results)
}

const METRIC: &str = "throughput";

fn scenario(nodes: usize, family: IpFamily, direction: Direction, flows: usize) -> String {
    let (nodes, flows) = (plural(nodes, "node"), plural(flows, "flow"));
    format!("{nodes}, {}, {}, {flows}", family.word(), direction.word())
}

fn ends(paths: &AccessPaths, family: IpFamily, path: AccessPath, flows: usize) -> Vec<(IpAddr, IpAddr)> {
    let clients = paths.clients(family);
    clients.iter().cycle().take(flows).map(|&client| (client, paths.target(path, client))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_told_in_words() {
        assert_eq!(scenario(1, IpFamily::V4, Direction::Up, 8), "1 node, IPv4, up, 8 flows");
        assert_eq!(scenario(4, IpFamily::V6, Direction::Down, 1), "4 nodes, IPv6, down, 1 flow");
    }

    #[test]
    fn the_direct_way_and_the_vip_are_always_compared() {
        for (nodes, family) in [(1, IpFamily::V4), (1, IpFamily::V6), (4, IpFamily::V4), (4, IpFamily::V6)] {
            let all = contestants(nodes, family);
            assert!(
                all.contains(&AccessPath::Direct) && all.contains(&AccessPath::Onevip),
                "{nodes} nodes, {family:?}"
            );
        }
        assert_eq!(contestants(4, IpFamily::V4), AccessPath::ALL);
        assert_eq!(
            contestants(4, IpFamily::V6),
            [AccessPath::Direct, AccessPath::Flooded, AccessPath::Onevip]
        );
        assert!(!contestants(1, IpFamily::V4).contains(&AccessPath::Haproxy));
    }
}
