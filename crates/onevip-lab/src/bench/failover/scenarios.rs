//! How each disruption is brought about, watched and undone.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::aim::FailoverAim;
use super::disruption::Disruption;
use super::measurement::{FailoverMeasurement, Scenario};
use crate::fault::LabFault;
use crate::plan::Host;
use crate::process::run_ok;
use crate::testbed::Testbed;
use crate::testbed::watchers::EventWatchers;

/// A fault is watched at least so long: its reset sessions and the second thoughts of the others included.
const FAULT_LEAST: Duration = Duration::from_millis(900);
/// A cluster that has not taken over by now will not.
const FAULT_MOST: Duration = Duration::from_secs(4);
/// A change that nobody should notice is watched at least so long.
const PLANNED_LEAST: Duration = Duration::from_millis(600);
/// How long a node has to come back.
const BACK_WITHIN: Duration = Duration::from_secs(8);
/// How long a command of the daemon may last.
const COMMAND_WITHIN: Duration = Duration::from_secs(20);
/// The weight that a node gets for a while when the configuration changes.
const LIGHT: u16 = 60;

/// What of the settings the scenarios need.
#[derive(Clone, Copy, Debug)]
pub struct Lengths {
    /// How long frames are lost.
    pub loss: Duration,
    /// How long the processors are busy.
    pub stress: Duration,
}

/// Brings one disruption about once.
///
/// # Errors
/// When it cannot be brought about or undone.
pub fn run(
    testbed: &mut Testbed,
    disruption: Disruption,
    repeat: u32,
    lengths: Lengths,
) -> Result<Vec<FailoverMeasurement>> {
    let node = 1 + (repeat % u32::from(testbed.lab.plan().nodes)) as u8;
    match disruption {
        Disruption::Drain => drain(testbed, node, repeat),
        Disruption::Restart => restart(testbed, repeat),
        Disruption::Reload => reload(testbed, node, repeat),
        Disruption::Add => add(testbed, node, repeat),
        Disruption::Split => split(testbed, repeat),
        Disruption::Loss => loss(testbed, node, repeat, lengths.loss),
        Disruption::Stress => stress(testbed, repeat, lengths.stress),
        _ => {
            let fault =
                disruption.fault(node).context("a disruption that is none of the above is a fault")?;
            with_fault(testbed, disruption, &fault, node, repeat)
        }
    }
}

fn with_fault(
    testbed: &mut Testbed,
    disruption: Disruption,
    fault: &LabFault,
    node: u8,
    repeat: u32,
) -> Result<Vec<FailoverMeasurement>> {
    let clients = testbed.clients_of(node)?;
    let resets = matches!(disruption, Disruption::PowerOff | Disruption::Cut | Disruption::Mute);
    let from = Instant::now();
    testbed.lab.fault(fault)?;
    let least = Instant::now() + FAULT_LEAST;
    testbed.watch(from + FAULT_MOST, |testbed| {
        let gone = |testbed: &Testbed| {
            let logs = testbed.sessions.glance();
            logs.iter().filter(|log| log.node == node).all(|log| log.lost.is_some())
        };
        Instant::now() >= least && testbed.served().is_some() && (!resets || gone(testbed))
    })?;
    let nodes = [node];
    let own = |_, other| other == node;
    let aim = FailoverAim::of_fault(disruption);
    let scenario = Scenario {
        name: disruption.word(),
        aim,
        nodes: &nodes,
        own: &own,
        clients: &clients,
        from,
        until: Instant::now(),
    };
    let during = FailoverMeasurement::measure(testbed, &scenario, repeat);

    let from = Instant::now();
    testbed.lab.heal(None)?;
    let until = back(testbed, node, from)?;
    let name = format!("{}, heal", disruption.word());
    let scenario = Scenario {
        name: &name,
        aim: FailoverAim::of_planned(),
        nodes: &nodes,
        own: &own,
        clients: &clients,
        from,
        until,
    };
    Ok(vec![during, FailoverMeasurement::measure(testbed, &scenario, repeat)])
}

/// Watches until a node is back: it claims something, everybody is served, and the sessions that live answer.
fn back(testbed: &mut Testbed, node: u8, from: Instant) -> Result<Instant> {
    let mut asked = from;
    let mut claims = false;
    testbed.watch(from + BACK_WITHIN, |testbed| {
        if !claims && asked.elapsed() > Duration::from_millis(100) {
            claims = testbed.lab.node(node).claims().is_some_and(|claims| claims > 0);
            asked = Instant::now();
        }
        let heard = |log: &crate::load::SessionLog| log.heard.back().is_some_and(|&heard| heard > from);
        let go_on = || testbed.sessions.glance().iter().all(|log| log.lost.is_some() || heard(log));
        claims && from.elapsed() >= PLANNED_LEAST && testbed.served().is_some() && go_on()
    })?;
    Ok(Instant::now())
}

fn drain(testbed: &mut Testbed, node: u8, repeat: u32) -> Result<Vec<FailoverMeasurement>> {
    let clients = testbed.clients_of(node)?;
    let nodes = [node];
    let own = |_, other| other == node;
    let from = Instant::now();
    run_ok(&mut testbed.lab.node(node).onevip_command("drain")?, COMMAND_WITHIN)?;
    let drained = |testbed: &mut Testbed| {
        testbed.served().is_some_and(|served| !served.values().any(|&server| server == node))
    };
    let least = from + PLANNED_LEAST;
    let moved = testbed.watch(from + FAULT_MOST, |testbed| Instant::now() >= least && drained(testbed))?;
    let until = Instant::now();
    let aim = FailoverAim::of_planned();
    let scenario = Scenario { name: "drain", aim, nodes: &nodes, own: &own, clients: &clients, from, until };
    let drain = FailoverMeasurement::measure(testbed, &scenario, repeat);

    let from = Instant::now();
    run_ok(&mut testbed.lab.node(node).onevip_command("undrain")?, COMMAND_WITHIN)?;
    let until = back(testbed, node, from)?;
    ensure!(moved, "unix{node} was drained, and still answers after {FAULT_MOST:?}");
    let scenario =
        Scenario { name: "undrain", aim, nodes: &nodes, own: &own, clients: &clients, from, until };
    Ok(vec![drain, FailoverMeasurement::measure(testbed, &scenario, repeat)])
}

fn restart(testbed: &mut Testbed, repeat: u32) -> Result<Vec<FailoverMeasurement>> {
    let nodes: Vec<u8> = testbed.lab.plan().node_ids().collect();
    let clients: Vec<Ipv4Addr> = testbed.home.keys().copied().collect();
    let from = Instant::now();
    for &node in &nodes {
        testbed.lab.node(node).stop_onevip();
        testbed.lab.node(node).start_onevip()?;
        back(testbed, node, Instant::now())?;
    }
    let until = Instant::now();
    let aim = FailoverAim::of_planned();
    let own = |_, _| true;
    let scenario =
        Scenario { name: "restart of all", aim, nodes: &nodes, own: &own, clients: &clients, from, until };
    Ok(vec![FailoverMeasurement::measure(testbed, &scenario, repeat)])
}

fn reload(testbed: &mut Testbed, node: u8, repeat: u32) -> Result<Vec<FailoverMeasurement>> {
    let path = testbed.lab.dir().join("onevip.toml");
    let before = std::fs::read_to_string(&path)?;
    let id = format!("\nid = {node}\n");
    ensure!(before.contains(&id), "{} has no node {node}", path.display());
    let after = before.replace(&id, &format!("{id}weight = {LIGHT}\n"));
    let nodes: Vec<u8> = testbed.lab.plan().node_ids().collect();
    let clients: Vec<Ipv4Addr> = testbed.home.keys().copied().collect();
    let from = Instant::now();
    for text in [&after, &before] {
        testbed.lab.write_config(text)?;
        for node in testbed.lab.nodes() {
            run_ok(&mut node.onevip_command("reload")?, COMMAND_WITHIN)?;
        }
        let least = Instant::now() + PLANNED_LEAST;
        testbed.watch(least + FAULT_MOST, |testbed| Instant::now() >= least && testbed.served().is_some())?;
    }
    let until = Instant::now();
    let aim = FailoverAim::of_planned();
    let own = |_, _| true;
    let scenario = Scenario { name: "reload", aim, nodes: &nodes, own: &own, clients: &clients, from, until };
    Ok(vec![FailoverMeasurement::measure(testbed, &scenario, repeat)])
}

/// A node that was never there: without kernel part, address or sessions until its daemon starts.
fn add(testbed: &mut Testbed, node: u8, repeat: u32) -> Result<Vec<FailoverMeasurement>> {
    let clients = testbed.clients_of(node)?;
    testbed.lab.node(node).stop_onevip();
    run_ok(&mut testbed.lab.node(node).onevip_command("teardown")?, COMMAND_WITHIN)?;
    testbed.watch(Instant::now() + FAULT_MOST, |testbed| testbed.served().is_some())?;
    testbed.sessions.close(|log| log.node == node);
    testbed.users.retain(|user| user.host != Host::Node(node).to_string());
    let from = Instant::now();
    testbed.lab.node(node).start_onevip()?;
    let until = back(testbed, node, from)?;
    let aim = FailoverAim::of_planned();
    let own = |_, other| other == node;
    let scenario =
        Scenario { name: "node added", aim, nodes: &[node], own: &own, clients: &clients, from, until };
    Ok(vec![FailoverMeasurement::measure(testbed, &scenario, repeat)])
}

/// Who is on which side: half of the nodes, and a client host, each.
fn split(testbed: &mut Testbed, repeat: u32) -> Result<Vec<FailoverMeasurement>> {
    let plan = testbed.lab.plan().clone();
    let half = plan.nodes / 2;
    ensure!(half > 0, "a split needs at least 2 nodes");
    let side = |nodes: std::ops::RangeInclusive<u8>| {
        nodes.map(|id| Host::Node(id).to_string()).collect::<Vec<_>>().join(",")
    };
    let sides = format!("{}|{}", side(1..=half), side(half + 1..=plan.nodes));
    let clients: Vec<Ipv4Addr> = testbed.home.keys().copied().collect();
    let nodes: Vec<u8> = plan.node_ids().collect();
    // Sessions across the split are out of reach while it lasts.
    let left = plan.addresses4(Host::Client);
    let across = |client, node| left.contains(&client) != (node <= half);
    let from = Instant::now();
    testbed.lab.fault(&LabFault::parse("split", Some(&sides))?)?;
    let least = Instant::now() + FAULT_LEAST;
    testbed.watch(from + FAULT_MOST, |testbed| Instant::now() >= least && testbed.served().is_some())?;
    let until = Instant::now();
    let aim = FailoverAim::of_split();
    let scenario =
        Scenario { name: "split", aim, nodes: &nodes, own: &across, clients: &clients, from, until };
    let split = FailoverMeasurement::measure(testbed, &scenario, repeat);
    let from = Instant::now();
    testbed.lab.heal(None)?;
    let until = back(testbed, 1, from)?;
    let aim = FailoverAim::of_split_heal();
    let own = |_, _| false;
    let scenario =
        Scenario { name: "split, heal", aim, nodes: &nodes, own: &own, clients: &clients, from, until };
    Ok(vec![split, FailoverMeasurement::measure(testbed, &scenario, repeat)])
}

fn loss(testbed: &mut Testbed, node: u8, repeat: u32, length: Duration) -> Result<Vec<FailoverMeasurement>> {
    let clients = testbed.clients_of(node)?;
    let own = |_, other| other == node;
    let watchers = EventWatchers::start(&testbed.lab)?;
    let from = Instant::now();
    testbed.lab.fault(&LabFault::Loss { percent: 30, node })?;
    testbed.watch(from + length, |_| false)?;
    let until = Instant::now();
    let scenario = Scenario {
        name: "30 % loss",
        aim: FailoverAim::of_loss(),
        nodes: &[node],
        own: &own,
        clients: &clients,
        from,
        until,
    };
    let mut measurement = FailoverMeasurement::measure(testbed, &scenario, repeat);
    measurement.outs = watchers.outs();
    testbed.lab.heal(None)?;
    Ok(vec![measurement])
}

/// Ends a program that is still running when its measurement ends.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn stress(testbed: &mut Testbed, repeat: u32, length: Duration) -> Result<Vec<FailoverMeasurement>> {
    let nodes: Vec<u8> = testbed.lab.plan().node_ids().collect();
    let clients: Vec<Ipv4Addr> = testbed.home.keys().copied().collect();
    let watchers = EventWatchers::start(&testbed.lab)?;
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let mut command = Command::new("stress-ng");
    command.args(["--quiet", "--cpu", &cores.to_string(), "--timeout", &length.as_secs().to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // It belongs to a host, so that nothing of it outlives the lab.
    let _stress = KillOnDrop(testbed.lab.spawn_in("unix1", command).context("is stress-ng installed?")?);
    let from = Instant::now();
    testbed.watch(from + length, |_| false)?;
    let until = Instant::now();
    let own = |_, _| true;
    let scenario = Scenario {
        name: "all CPUs busy",
        aim: FailoverAim::of_stress(),
        nodes: &nodes,
        own: &own,
        clients: &clients,
        from,
        until,
    };
    let mut measurement = FailoverMeasurement::measure(testbed, &scenario, repeat);
    measurement.outs = watchers.outs();
    Ok(vec![measurement])
}
