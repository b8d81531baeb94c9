//! `onevip-lab bench scale`: what a node costs as clusters grow.
//!
//! What is to be expected is said beforehand, and stands beside what was measured: every node sends 20 beats a second
//! (one each 50 ms, a copy for each address of the VIP), so it hears 20 (N − 1) of each; processor time follows in a straight line, drawn through the two smallest
//! clusters before the larger ones are measured; memory and the gap after a loss of power do not grow. Beyond what the
//! lab can hold, the simulator drives the same engines in virtual time (`simulate --scale` of `onevip-core`).

use std::fs;
use std::net::SocketAddrV4;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::peers::samples::AttemptSamples;
use super::resident_kb;
use super::results::BenchResults;
use super::rounds::Progress;
use super::stats::{median, sorted};
use crate::fault::LabFault;
use crate::lab::{Lab, Options};
use crate::load::attempts::{Attempts, Target};
use crate::net::INTERFACE;
use crate::plan::{Host, vip4};
use crate::process::{pause, run_ok};
use crate::service::echo;

const BEATS_PER_SECOND: f64 = 20.0;
/// A node asks one other each second for news of bans, and answers one.
const LETTERS_PER_SECOND: f64 = 2.0;
const CLIENTS: usize = 64;
const HEARD: &str = "frames a node hears at rest";
const TIME: &str = "processor time of a daemon at rest";
const MEMORY: &str = "resident memory of a daemon";
const GAP: &str = "gap after a power-off";
const SENT: &str = "beats a node sends";
const LONGEST: &str = "longest beat";
const OPENED: &str = "beats a node opens";
const ENGINE: &str = "processor time of an engine";
const MEASURED: &str = "measured";
const PREDICTED: &str = "predicted";
const SIMULATED: &str = "simulated";

/// A line of what the simulator says.
#[derive(Deserialize)]
struct Simulated {
    nodes: u32,
    beats_per_second: f64,
    beat_bytes: f64,
    engine_us_per_second: f64,
    gap_s: f64,
}

impl Simulated {
    /// What a node has to open: a beat of each of the others, at most so long, in MB/s.
    fn opened(&self) -> f64 {
        f64::from(self.nodes.saturating_sub(1)) * self.beats_per_second * self.beat_bytes / 1e6
    }
}

/// Measures clusters of these sizes (in growing order), each in a lab of its own, and asks the simulator if there is one.
///
/// # Errors
/// When a lab cannot be built, somebody is not served, or the user interrupts.
pub fn run(
    name: &str,
    sizes: &[usize],
    rest: Duration,
    simulator: Option<&Path>,
    command: String,
) -> Result<BenchResults> {
    let mut results = BenchResults::new("scale", command);
    results.set("seconds at rest", rest.as_secs_f64());
    results.remarks.push(
        "Predicted: 22 (N − 1) frames a second for each address of the VIP, which are 20 beats and 2 letters about bans; processor time on the straight line through the two smallest clusters; \
         memory and gap as in the smallest. In the simulator: 20 beats a second; length of a beat and processor time of an engine on the straight line \
         through the two smallest; the gap as in the smallest."
            .into(),
    );
    let progress = Progress::new("scale");
    for &nodes in sizes {
        progress.tell(&format!("{nodes} nodes"), true);
        let lab = Lab::up(Options::new(name).nodes(nodes).clients(CLIENTS).echo())?;
        predict(&mut results, nodes, lab.vip().len());
        at_rest(&lab, rest, &mut results)?;
        let gap = power_off(&lab)?;
        results.note(GAP, &scenario(nodes), MEASURED, "s", gap);
        lab.down()?;
    }
    if let Some(simulator) = simulator {
        progress.tell("simulator", true);
        let text = run_ok(Command::new(simulator).arg("--scale"), Duration::from_secs(300))?;
        simulated(&text, &mut results)?;
    }
    results.finish();
    Ok(results)
}

fn scenario(nodes: usize) -> String {
    format!("N = {nodes}")
}

/// Notes what is to be expected of a cluster that has not been measured yet.
fn predict(results: &mut BenchResults, nodes: usize, addresses: usize) {
    let known = |results: &BenchResults, metric: &str| -> Vec<(f64, f64)> {
        let own = results.series.iter().filter(|s| s.metric == metric && s.contestant == MEASURED);
        let point = |scenario: &str, samples: &[f64]| {
            let nodes = scenario.strip_prefix("N = ")?.parse().ok()?;
            Some((nodes, median(&sorted(samples.iter().copied()))?))
        };
        own.filter_map(|series| point(&series.scenario, &series.samples)).collect()
    };
    let scenario = scenario(nodes);
    let heard = (BEATS_PER_SECOND + LETTERS_PER_SECOND) * addresses as f64 * (nodes as f64 - 1.0);
    results.note(HEARD, &scenario, PREDICTED, "1/s", heard);
    if let [first, second, ..] = known(results, TIME)[..] {
        results.note(TIME, &scenario, PREDICTED, "ms/s", on_the_line(first, second, nodes as f64));
    }
    for (metric, unit) in [(MEMORY, "MB"), (GAP, "s")] {
        if let [(_, first), ..] = known(results, metric)[..] {
            results.note(metric, &scenario, PREDICTED, unit, first);
        }
    }
}

fn on_the_line((x1, y1): (f64, f64), (x2, y2): (f64, f64), x: f64) -> f64 {
    y1 + (y2 - y1) / (x2 - x1) * (x - x1)
}

/// What each node does while nothing happens: a sample a node.
fn at_rest(lab: &Lab, rest: Duration, results: &mut BenchResults) -> Result<()> {
    let read = || -> Result<Vec<(u64, u64)>> { lab.plan().node_ids().map(|id| counters(lab, id)).collect() };
    // Who has just begun to serve still has things to tell.
    pause(Duration::from_secs(2))?;
    let (before, from) = (read()?, Instant::now());
    pause(rest)?;
    let (after, took) = (read()?, from.elapsed().as_secs_f64());
    let scenario = scenario(before.len());
    for (id, (before, after)) in lab.plan().node_ids().zip(before.iter().zip(&after)) {
        results.note(HEARD, &scenario, MEASURED, "1/s", (after.0 - before.0) as f64 / took);
        results.note(TIME, &scenario, MEASURED, "ms/s", (after.1 - before.1) as f64 / 1e6 / took);
        results.note(MEMORY, &scenario, MEASURED, "MB", resident(lab, id)?);
    }
    Ok(())
}

/// Frames that a node has heard, and processor time of its daemon in ns.
fn counters(lab: &Lab, id: u8) -> Result<(u64, u64)> {
    let host = Host::Node(id).to_string();
    let dev = lab.inside(&host, || fs::read_to_string("/proc/thread-self/net/dev"))??;
    let line = dev.lines().find_map(|line| line.trim().strip_prefix(&format!("{INTERFACE}:")));
    let frames = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    let pid = lab.node(id).onevip().with_context(|| format!("no onevip runs on {host}"))?;
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))?.flatten();
    let time = |path: &Path| -> Option<u64> {
        fs::read_to_string(path.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
    };
    Ok((
        frames.context("the node has lost its interface")?,
        tasks.filter_map(|task| time(&task.path())).sum(),
    ))
}

fn resident(lab: &Lab, id: u8) -> Result<f64> {
    let pid = lab.node(id).onevip().with_context(|| format!("no onevip runs on unix{id}"))?;
    Ok(resident_kb(pid)? as f64 * 1024.0 / 1e6)
}

/// How long the clients of a node are not served when it loses its power: the median, in seconds.
fn power_off(lab: &Lab) -> Result<f64> {
    let clients = lab.plan().addresses4(Host::Client);
    let mut own = clients.clone();
    lab.inside("client", || own.retain(|&client| super::peers::greeted_by(client, vip4()) == Some(1)))?;
    ensure!(!own.is_empty(), "unix1 serves none of {} clients", clients.len());
    let target = Target {
        to: SocketAddrV4::new(vip4(), echo::PORT),
        interval: Duration::from_millis(20),
        limit: Duration::from_millis(400),
    };
    let attempts = Attempts::start(lab, &own, target)?;
    let mut samples = AttemptSamples::default();
    let served = |samples: &AttemptSamples| samples.served(&own, target.limit);
    ensure!(samples.watch(&attempts, Duration::from_secs(20), served)?, "unix1 does not serve its clients");
    let from = Instant::now();
    lab.fault(&LabFault::PowerOff(1))?;
    let least = Duration::from_secs(1);
    samples.watch(&attempts, Duration::from_secs(12), |samples| from.elapsed() > least && served(samples))?;
    let gaps: Option<Vec<f64>> = own.iter().map(|&client| samples.gap(client, from)).collect();
    let gaps = gaps.context("clients of unix1 are not served again")?;
    median(&sorted(gaps)).context("no client")
}

/// Takes in what the simulator said: a JSON object a line, in growing order.
fn simulated(text: &str, results: &mut BenchResults) -> Result<()> {
    let read = |line| serde_json::from_str(line).with_context(|| format!("the simulator said {line:?}"));
    let all: Vec<Simulated> = text.lines().map(read).collect::<Result<_>>()?;
    for (place, of) in all.iter().enumerate() {
        let scenario = scenario(of.nodes as usize);
        let line = |what: fn(&Simulated) -> f64| match &all[..] {
            [a, b, ..] if place > 1 => {
                let point = |of: &Simulated| (f64::from(of.nodes), what(of));
                Some(on_the_line(point(a), point(b), f64::from(of.nodes)))
            }
            _ => None,
        };
        let mut note = |metric: &str, unit, predicted: Option<f64>, figure| {
            // What the lab was predicted to show is what is predicted of the simulator.
            if let Some(predicted) =
                predicted.filter(|_| results.find(metric, &scenario, PREDICTED).is_none())
            {
                results.note(metric, &scenario, PREDICTED, unit, predicted);
            }
            results.note(metric, &scenario, SIMULATED, unit, figure);
        };
        note(SENT, "1/s", Some(BEATS_PER_SECOND), of.beats_per_second);
        note(LONGEST, "bytes", line(|of| of.beat_bytes), of.beat_bytes);
        note(OPENED, "MB/s", line(Simulated::opened), of.opened());
        note(ENGINE, "ms/s", line(|of| of.engine_us_per_second / 1e3), of.engine_us_per_second / 1e3);
        note(GAP, "s", (place > 0).then(|| all[0].gap_s), of.gap_s);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_predicted_comes_from_the_smallest_clusters() {
        let mut results = BenchResults::new("test", String::new());
        for (nodes, time) in [(2, 4.0), (4, 6.0)] {
            results.note(TIME, &scenario(nodes), MEASURED, "ms/s", time);
            results.note(MEMORY, &scenario(nodes), MEASURED, "MB", 10.0 + time);
        }
        predict(&mut results, 16, 2);
        let predicted = |metric| results.find(metric, "N = 16", PREDICTED).unwrap().samples[0];
        assert_eq!((predicted(HEARD), predicted(TIME), predicted(MEMORY)), (660.0, 18.0, 14.0));
    }

    #[test]
    fn the_simulator_is_understood_and_nonsense_is_not() {
        let mut results = BenchResults::new("test", String::new());
        let line = |nodes: u32, bytes: u32, us: u32| {
            format!(
                "{{\"nodes\": {nodes}, \"beats_per_second\": 20.0, \"beat_bytes\": {bytes}, \
                 \"engine_us_per_second\": {us}, \"gap_s\": 0.27}}\n"
            )
        };
        results.note(GAP, "N = 64", PREDICTED, "s", 0.25);
        simulated(&(line(2, 514, 1000) + &line(4, 538, 2000) + &line(64, 1300, 40_000)), &mut results)
            .unwrap();
        let of = |metric, who| results.find(metric, "N = 64", who).unwrap().samples.clone();
        assert_eq!((of(GAP, SIMULATED), of(GAP, PREDICTED)), (vec![0.27], vec![0.25]));
        assert_eq!((of(LONGEST, SIMULATED), of(LONGEST, PREDICTED)), (vec![1300.0], vec![1258.0]));
        assert_eq!((of(ENGINE, SIMULATED), of(ENGINE, PREDICTED)), (vec![40.0], vec![32.0]));
        assert!((of(OPENED, SIMULATED)[0] - 1.638).abs() < 1e-9);
        assert!(results.find(ENGINE, "N = 4", PREDICTED).is_none(), "the line goes through it");
        assert!(simulated("64 nodes", &mut results).is_err());
    }
}
