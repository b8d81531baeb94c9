//! `onevip-lab bench reject`: what a foreign packet costs the node that drops it, over the whole receive path.
//!
//! Every host of such a cluster receives every packet, so this is the price of the idea. Frames are sent into the
//! interface of a node as a driver would find them in its ring (`frame_sender.rs`), faster than the node can take them. Its
//! receive path runs in a kernel thread of its own (threaded NAPI), whose processor time the scheduler counts in
//! nanoseconds (`receive_path.rs`): that, divided by the frames taken, is the figure. The sender's work is not in it, and
//! neither is what other tasks do meanwhile.
//!
//! The peers' rules are those that Pacemaker's agent `IPaddr2` installs for a cluster address (resource-agents since
//! June 2026, `clusterip_firewall`): at prerouting, priority mangle, accept what hashes to this node, drop the rest.

mod frame_sender;
mod frames;
mod receive_path;
mod rules;

use std::path::Path;

use anyhow::{Result, ensure};

use self::frame_sender::FrameSender;
use self::frames::{SOURCES, frames};
use self::receive_path::ReceivePath;
use super::access::IpFamily;
use super::results::{Aim, BenchResults};
use super::rounds::{Progress, take_turns};
use crate::lab::{Lab, Options};

/// Frames a turn, over all sources. (What is more than the node can take is lost in its ring.)
pub const FRAMES: u32 = 400_000;
const METRIC: &str = "processor time per foreign packet";
const FILTER: &str = "of that, above the floor";

impl IpFamily {
    fn scenario(self) -> &'static str {
        match self {
            Self::V4 => "foreign TCP packet",
            Self::V6 => "foreign TCP packet, IPv6",
        }
    }

    fn iptables(self) -> &'static str {
        match self {
            Self::V4 => "iptables",
            Self::V6 => "ip6tables",
        }
    }
}

/// Who drops the packet, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    Native,
    Generic,
    Tc,
    Iptables,
    Nft,
    /// No filter at all; the frame is for another host's MAC, and the IP layer drops it first of all.
    Floor,
}

impl Filter {
    const ALL: [Self; 6] = [Self::Native, Self::Generic, Self::Tc, Self::Iptables, Self::Nft, Self::Floor];

    fn word(self) -> &'static str {
        match self {
            Self::Native => "onevip, XDP native",
            Self::Generic => "onevip, XDP generic",
            Self::Tc => "onevip, tc",
            Self::Iptables => "iptables -m cluster",
            Self::Nft => "nft jhash",
            Self::Floor => "no filter, another's MAC",
        }
    }
}

/// One contestant on its node.
struct ContestantNode {
    contestant: Filter,
    receiver: ReceivePath,
    sender: FrameSender,
}

/// Measures in a lab of its own.
///
/// # Errors
/// When the lab cannot be built, the kernel lacks what the measurement needs (threaded NAPI on veth, live frames), a
/// frame was not dropped, or the user interrupts.
pub fn run(lab_name: &str, rounds: usize, count: u32, command: String) -> Result<BenchResults> {
    let mut results = BenchResults::new("reject", command);
    results.set("frames per turn", count);
    results.set("rounds", rounds);
    let lab = Lab::up(Options::new(lab_name).nodes(Filter::ALL.len()).clients(1).no_onevip())?;
    for (name, program) in [("iptables", "iptables"), ("nftables", "nft")] {
        results.set(name, lab.exec_ok("unix1", &[program, "--version"])?.trim());
    }
    let mut nodes = Vec::new();
    for (contestant, id) in Filter::ALL.into_iter().zip(1..) {
        rules::prepare(&lab, contestant, id)?;
        let receiver = ReceivePath::prepare(&lab, id)?;
        let sender = FrameSender::new(&lab, id)?;
        nodes.push(ContestantNode { contestant, receiver, sender });
    }
    let progress = Progress::new("reject");
    for family in IpFamily::ALL {
        // The first turn of each fills caches and pools.
        nodes.iter_mut().try_for_each(|node| turn(&lab, node, family, count / 10).map(drop))?;
        take_turns(&progress, family.scenario(), rounds, &mut nodes, |node| {
            let ns = turn(&lab, node, family, count)?;
            results.note(METRIC, family.scenario(), node.contestant.word(), "ns", ns);
            Ok(())
        })?;
    }
    lab.down()?;
    IpFamily::ALL.into_iter().for_each(|family| note_filters(&mut results, family.scenario()));
    for peer in [Filter::Iptables, Filter::Nft] {
        results.aims.push(Aim::at_most(METRIC, Filter::Native.word(), Some(peer.word()), 0.2));
        results.aims.push(Aim::at_most(METRIC, Filter::Tc.word(), Some(peer.word()), 0.5));
    }
    results.finish();
    Ok(results)
}

/// What is left when the floor is taken away: the price of filtering alone, for those who filter behind the allocation of
/// an `sk_buff`, which costs all of them the same.
fn note_filters(results: &mut BenchResults, scenario: &str) {
    let of = |results: &BenchResults, contestant: Filter| {
        let series = results.find(METRIC, scenario, contestant.word());
        series.map_or_else(Vec::new, |series| series.samples.clone())
    };
    let floor = of(results, Filter::Floor);
    for contestant in [Filter::Tc, Filter::Iptables, Filter::Nft] {
        for (ns, floor) in of(results, contestant).into_iter().zip(&floor) {
            results.note(FILTER, scenario, contestant.word(), "ns", ns - floor);
        }
    }
}

/// Sends, and returns what each frame that was taken has cost, in ns.
fn turn(lab: &Lab, node: &mut ContestantNode, family: IpFamily, count: u32) -> Result<f64> {
    let before = node.receiver.read(lab)?;
    for frame in frames(family, node.contestant != Filter::Floor) {
        node.sender.send(lab, &frame, count / SOURCES as u32)?;
    }
    let after = node.receiver.settle(lab)?;
    let (name, taken) = (node.contestant.word(), after.frames - before.frames);
    ensure!(
        taken >= u64::from(count) / 50,
        "{name}: of {count} frames only {taken} were taken: live frames do not reach the node"
    );
    let passed = after.segments - before.segments;
    ensure!(passed == 0, "{name}: {passed} of {taken} frames passed that should have been dropped");
    Ok((after.busy_ns - before.busy_ns) as f64 / taken as f64)
}

/// A file of the calling thread's network namespace.
fn read_net(name: &str) -> Result<String> {
    Ok(std::fs::read_to_string(Path::new("/proc/thread-self/net").join(name))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_taken_away_round_by_round() {
        let mut results = BenchResults::new("test", String::new());
        for (floor, tc) in [(500.0, 550.0), (700.0, 740.0)] {
            results.note(METRIC, "x", Filter::Tc.word(), "ns", tc);
            results.note(METRIC, "x", Filter::Floor.word(), "ns", floor);
        }
        note_filters(&mut results, "x");
        assert_eq!(results.find(FILTER, "x", Filter::Tc.word()).unwrap().samples, [50.0, 40.0]);
        assert!(results.find(FILTER, "x", Filter::Floor.word()).is_none());
    }
}
