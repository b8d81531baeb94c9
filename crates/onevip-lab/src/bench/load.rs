//! `onevip-lab bench load`: a cluster full of people, whose nodes fail and return at random.
//!
//! As many real `ssh` sessions as wanted, or as the machine has memory for, then light ones up to the number wanted;
//! all of them carry data. Beside them go the clients of [`crate::testbed`], who say how long nobody answered. After each
//! fault those who were on the failed node log in again, so the load stays as large as it was.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::results::{Aim, BenchResults};
use super::rounds::Progress;
use crate::fault::LabFault;
use crate::lab::{Lab, Options};
use crate::load::{SessionLog, Sessions, SshLoad, connections};
use crate::plan::Host;
use crate::process::check_interrupt;
use crate::random::Random;
use crate::testbed::Testbed;

/// What befalls nodes.
const FAULTS: [&str; 6] = ["power-off", "cut", "mute", "freeze", "freeze-onevip", "kill-onevip"];
/// In each ssh session a line is typed this often, and each light session says something.
const INTERVAL: Duration = Duration::from_secs(5);
/// Between what befalls one node and the next.
const REST: Duration = Duration::from_secs(2);
/// A fault lasts so long, at least, and at most so much longer.
const FAULT_LEAST: Duration = Duration::from_secs(3);
const FAULT_SPREAD_MS: u32 = 10_000;
/// How long a healed node has to come back.
const BACK_WITHIN: Duration = Duration::from_secs(20);
/// A daemon whose memory counts has lived so long.
const GROWN: Duration = Duration::from_secs(180);
/// Whoever still says nothing by then after a fault is healed has a session that is as good as lost.
const SILENT: Duration = Duration::from_secs(30);

/// The gap that was asked of failover; no connection may be refused for longer.
const GAP_S: f64 = 0.6;
const OWN: &str = "clients of the failed node";
const OTHERS: &str = "all other clients";

/// What to measure.
#[derive(Clone, Debug)]
pub struct LoadBenchSettings {
    /// The lab: its name, nodes and clients.
    pub options: Options,
    /// Sessions wanted.
    pub sessions: usize,
    /// At most so many of them with `ssh`.
    pub ssh: usize,
    /// How long nodes fail and return.
    pub length: Duration,
    /// What chance follows from.
    pub seed: u64,
}

/// Measures.
///
/// # Errors
/// When the lab cannot be built, somebody cannot log in, or a node does not come back.
pub fn run(settings: &LoadBenchSettings, command: String) -> Result<BenchResults> {
    let mut results = BenchResults::new("load", command);
    results.set("seed", settings.seed);
    results.set("nodes", settings.options.nodes);
    results.set("seconds of faults", settings.length.as_secs());
    let progress = Progress::new("load");
    let testbed = Testbed::set_up(settings.options.clone(), &[Host::Client])?;
    let clients = testbed.lab.plan().addresses4(Host::Client);
    let mut load = LoadRun {
        ssh_load: SshLoad::start(INTERVAL)?,
        light: Sessions::every(INTERVAL)?,
        addresses: clients.iter().copied().map(IpAddr::from).collect(),
        clients,
        wanted: (settings.ssh, settings.sessions),
        memory: BTreeMap::new(),
        totals: Totals::default(),
        testbed,
    };
    progress.tell("everybody logs in", true);
    let (ssh, all) = load.fill()?;
    progress.tell(&format!("{ssh} with ssh, {all} in all"), true);
    let mut chance = Random(settings.seed);
    let end = Instant::now() + settings.length;
    let mut number = 0;
    while Instant::now() < end {
        check_interrupt()?;
        let kind = FAULTS[chance.below(FAULTS.len() as u32) as usize];
        let node = 1 + chance.below(settings.options.nodes as u32) as u8;
        let length = FAULT_LEAST + Duration::from_millis(chance.below(FAULT_SPREAD_MS).into());
        number += 1;
        progress.tell(&format!("{number}: {kind} unix{node} for {:.0} s", length.as_secs_f64()), true);
        load.one_fault(kind, node, length, &mut results).with_context(|| format!("{kind} unix{node}"))?;
        let (ssh, all) = load.fill()?;
        results.note("sessions with ssh", "all", "open", "", ssh as f64);
        results.note("sessions", "all", "open", "", all as f64);
    }
    load.conclude(&mut results);
    let LoadRun { ssh_load, light, testbed, .. } = load;
    drop((ssh_load, light));
    testbed.take_down()?;
    results.finish();
    Ok(results)
}

#[derive(Default)]
struct Totals {
    lost_elsewhere: usize,
    lost_with_their_node: usize,
    connections: usize,
    calls_failed_of_others: usize,
}

struct LoadRun {
    ssh_load: SshLoad,
    light: Sessions,
    addresses: Vec<IpAddr>,
    clients: Vec<Ipv4Addr>,
    wanted: (usize, usize),
    /// By node and process: since when it is known, and its first and newest resident memory in kB.
    memory: BTreeMap<(u8, i32), (Instant, u64, u64)>,
    totals: Totals,
    testbed: Testbed,
}

/// What became of a session since a node was healed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SessionState {
    Heard,
    /// As good as lost if it stays so.
    Silent,
    Lost,
}

fn state_of(log: &SessionLog, healed: Instant) -> SessionState {
    match log.lost {
        Some(_) => SessionState::Lost,
        None if log.heard.back().is_some_and(|&at| at > healed) => SessionState::Heard,
        None => SessionState::Silent,
    }
}

impl LoadRun {
    /// Lets people log in until there are as many as wanted. Returns how many there are with `ssh`, and in all.
    fn fill(&mut self) -> Result<(usize, usize)> {
        let (ssh, wanted) = self.wanted;
        self.ssh_load.end(|log| log.lost.is_some());
        self.light.close(|log| log.lost.is_some());
        let ssh = self.ssh_load.fill(&self.testbed.lab, &self.addresses, ssh.min(wanted))?;
        let there = self.light.glance().len();
        let missing = wanted.saturating_sub(ssh + there);
        let turns: Vec<Ipv4Addr> = self.clients.iter().copied().cycle().take(missing).collect();
        for some in turns.chunks(100) {
            self.light.open(&self.testbed.lab, Host::Client, some)?;
        }
        self.note_memory()?;
        Ok((ssh, ssh + there + missing))
    }

    fn one_fault(
        &mut self,
        kind: &str,
        node: u8,
        length: Duration,
        results: &mut BenchResults,
    ) -> Result<()> {
        let testbed = &mut self.testbed;
        testbed.watch(Instant::now() + REST, |_| false)?;
        let fault = LabFault::parse(kind, Some(&Host::Node(node).to_string()))?;
        let own = testbed.clients_of(node)?;
        let from = Instant::now();
        testbed.samples.cut_before(from - Duration::from_secs(1));
        testbed.lab.fault(&fault)?;
        testbed.watch(from + length, |_| false)?;
        let healed = Instant::now();
        testbed.lab.heal(None)?;
        let lab = &testbed.lab;
        let serves = |lab: &Lab| lab.node(node).claims().is_some_and(|claims| claims > 0);
        let mut asked = healed;
        let mut claims = serves(lab);
        let back = testbed.watch(healed + BACK_WITHIN, |testbed| {
            if !claims && asked.elapsed() > Duration::from_millis(200) {
                claims = serves(&testbed.lab);
                asked = Instant::now();
            }
            claims && testbed.served().is_some()
        })?;
        ensure!(back, "it has not come back within {BACK_WITHIN:?}");
        let until = Instant::now();
        for &client in &self.clients {
            let whose = if own.contains(&client) { OWN } else { OTHERS };
            let gap = testbed.samples.gap(client, from, until);
            let gap = gap.map_or(until.duration_since(from), |gap| gap).as_secs_f64();
            results.note("time without an answer", kind, whose, "s", gap);
        }
        for (client, why) in self.count_connections(&own, from, until)? {
            results
                .remarks
                .push(format!("{kind} unix{node}: a connection of {client}, not its client, failed: {why}"));
        }
        self.count_losses(node, healed)?;
        // The testbed's own clients and sessions go home as well; it says so when they cannot.
        self.testbed.restore()
    }

    /// Counts the connections of everybody else; returns those that failed, and why.
    fn count_connections(
        &mut self,
        own: &[Ipv4Addr],
        from: Instant,
        until: Instant,
    ) -> Result<Vec<(Ipv4Addr, String)>> {
        self.testbed.settle_connections()?;
        let of_others = |connection: &&crate::load::TcpConnection| {
            (from..=until).contains(&connection.begun) && !own.contains(&connection.client)
        };
        let mut failed = Vec::new();
        for connection in self.testbed.connections.iter().filter(of_others) {
            self.totals.connections += 1;
            match &connection.outcome {
                Ok((took, _)) if *took < connections::LIMIT => {}
                Ok((took, _)) => {
                    failed.push((connection.client, format!("a greeting after {:.1} s", took.as_secs_f64())))
                }
                Err(why) => failed.push((connection.client, why.clone())),
            }
        }
        self.totals.calls_failed_of_others += failed.len();
        Ok(failed)
    }

    /// Whoever was on the failed node may have lost the session; nobody else may, and everybody else must be heard.
    fn count_losses(&mut self, node: u8, healed: Instant) -> Result<()> {
        // In each ssh session a line is typed within the interval, so each that lives is heard soon.
        let deadline = healed + SILENT;
        while self.states(healed).any(|(_, state)| state == SessionState::Silent) && Instant::now() < deadline
        {
            self.testbed.watch(Instant::now() + Duration::from_millis(200), |_| false)?;
        }
        let gone: Vec<u8> = self
            .states(healed)
            .filter(|(_, state)| *state != SessionState::Heard)
            .map(|(at, _)| at)
            .collect();
        let with_it = gone.iter().filter(|at| **at == node).count();
        self.totals.lost_with_their_node += with_it;
        self.totals.lost_elsewhere += gone.len() - with_it;
        // Counted; they do not begin the next fault.
        self.ssh_load.end(|log| log.lost.is_some() || log.heard <= healed);
        let silent = |log: &SessionLog| state_of(log, healed) != SessionState::Heard;
        self.light.close(silent);
        self.testbed.sessions.close(silent);
        Ok(())
    }

    /// Every session, the testbed's own among them: its node, and what became of it.
    fn states(&self, healed: Instant) -> impl Iterator<Item = (u8, SessionState)> {
        let ssh_load = self.ssh_load.logs().into_iter().map(move |log| match log.lost {
            Some(_) => (log.node, SessionState::Lost),
            None if log.heard > healed => (log.node, SessionState::Heard),
            None => (log.node, SessionState::Silent),
        });
        let light = self.light.glance().into_iter().chain(self.testbed.sessions.glance());
        ssh_load.chain(light.map(move |log| (log.node, state_of(&log, healed))))
    }

    fn note_memory(&mut self) -> Result<()> {
        for node in self.testbed.lab.plan().node_ids() {
            let Some(pid) = self.testbed.lab.node(node).onevip() else { continue };
            let now = super::resident_kb(pid)?;
            let entry = self.memory.entry((node, pid)).or_insert((Instant::now(), now, now));
            entry.2 = now;
        }
        Ok(())
    }

    fn conclude(&self, results: &mut BenchResults) {
        let totals = &self.totals;
        let mut one = |metric: &str, contestant: &str, unit: &str, figure: f64| {
            results.note(metric, "all", contestant, unit, figure);
        };
        let (lost, innocent) = ("sessions lost", "nodes that had not failed");
        one(lost, innocent, "", totals.lost_elsewhere as f64);
        one(lost, "nodes that had", "", totals.lost_with_their_node as f64);
        one("connections begun", OTHERS, "", totals.connections as f64);
        one("connections failed", OTHERS, "", totals.calls_failed_of_others as f64);
        for ((node, _), (since, first, last)) in &self.memory {
            if since.elapsed() >= GROWN {
                let grown = *last as f64 - *first as f64;
                results.note("memory a daemon has grown by", &format!("unix{node}"), "onevip", "kB", grown);
            }
        }
        let worst = |results: &BenchResults, whose: &str| {
            let own = results
                .series
                .iter()
                .filter(|s| s.metric == "time without an answer" && s.contestant == whose);
            own.flat_map(|series| series.samples.iter().copied()).fold(0.0, f64::max)
        };
        for whose in [OWN, OTHERS] {
            let figure = worst(results, whose);
            results.note("longest time without an answer", "all", whose, "s", figure);
            results.aims.push(Aim::at_most("longest time without an answer", whose, None, GAP_S));
        }
        results.aims.push(Aim::at_most(lost, innocent, None, 0.0));
        results.aims.push(Aim::at_most("connections failed", OTHERS, None, 0.0));
        results.aims.push(Aim::at_most("memory a daemon has grown by", "onevip", None, 1024.0));
    }
}
