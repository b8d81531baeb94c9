//! `onevip-lab bench throughput`: bulk data up and down, through the VIP, straight to the node, and through HAProxy.
//!
//! With several nodes on one machine every node's share of an upload (receiving and dropping it) is done by the same
//! processors; in a real cluster each node has its own. Therefore the same is measured with a single node, where only
//! the way through the VIP differs from the direct one.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;

use super::rounds::{Progress, take_turns};
use super::sheet::{Aim, Sheet};
use super::ways::{Way, Ways};
use crate::load::bulk::{self, Way as Direction};

/// Client addresses, over which flows are spread.
const CLIENTS: usize = 64;
const FLOWS: [usize; 3] = [1, 8, 64];

/// Measures with each number of nodes, in a lab of its own.
///
/// # Errors
/// When a lab cannot be built, a flow breaks, or the user interrupts.
pub fn run(name: &str, nodes: &[usize], rounds: usize, seconds: f64, command: String) -> Result<Sheet> {
    let mut sheet = Sheet::new("throughput", command);
    sheet.set("rounds", rounds);
    sheet.set("seconds per turn", seconds);
    let progress = Progress::new("throughput");
    for &nodes in nodes {
        let ways = Ways::open(name, nodes, CLIENTS)?;
        for direction in [Direction::Up, Direction::Down] {
            for flows in FLOWS {
                let scenario = scenario(nodes, direction, flows);
                take_turns(&progress, &scenario, rounds, &mut Way::ALL.clone(), |&mut way| {
                    let ends = ends(&ways, way, flows);
                    let length = Duration::from_secs_f64(seconds);
                    let bytes = ways.lab.inside("client", || bulk::flows(&ends, direction, length))??;
                    sheet.note(METRIC, &scenario, way.word(), "Gbit/s", bytes * 8.0 / 1e9);
                    Ok(())
                })?;
            }
        }
        ways.lab.down()?;
    }
    sheet.aims.push(Aim::at_least(METRIC, Way::Onevip.word(), Some(Way::Direct.word()), 0.97));
    sheet.finish();
    Ok(sheet)
}

const METRIC: &str = "throughput";

fn scenario(nodes: usize, direction: Direction, flows: usize) -> String {
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    format!("{}, {}, {}", plural(nodes, "node"), direction.word(), plural(flows, "flow"))
}

fn ends(ways: &Ways, way: Way, flows: usize) -> Vec<(Ipv4Addr, Ipv4Addr)> {
    let clients = ways.clients();
    clients.iter().cycle().take(flows).map(|&client| (client, ways.target(way, client))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_told_in_words() {
        assert_eq!(scenario(1, Direction::Up, 8), "1 node, up, 8 flows");
        assert_eq!(scenario(4, Direction::Down, 1), "4 nodes, down, 1 flow");
    }
}
