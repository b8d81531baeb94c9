//! How each event is brought about, watched and undone.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::event::{Aim, Event};
use super::stage::Stage;
use super::take::{Act, Take};
use super::watchers::Watchers;
use crate::fault::Fault;
use crate::plan::Host;
use crate::process::run_ok;

/// A fault is watched at least so long: its reset sessions and the second thoughts of the others included.
const FAULT_LEAST: Duration = Duration::from_millis(900);
/// A cluster that has not taken over by now will not.
const FAULT_MOST: Duration = Duration::from_secs(4);
/// A change that nobody should notice is watched at least so long.
const PLANNED_LEAST: Duration = Duration::from_millis(600);
/// How long a node has to come back.
const BACK_WITHIN: Duration = Duration::from_secs(8);
/// How long a command of the daemon may take.
const COMMAND_WITHIN: Duration = Duration::from_secs(20);
/// The weight that a node gets for a while when the configuration changes.
const LIGHT: u16 = 60;

/// What of the settings the acts need.
#[derive(Clone, Copy, Debug)]
pub struct Lengths {
    /// How long frames are lost.
    pub loss: Duration,
    /// How long the processors are busy.
    pub stress: Duration,
}

/// Plays one event once.
///
/// # Errors
/// When it cannot be brought about or undone.
pub fn play(stage: &mut Stage, event: Event, repeat: u32, lengths: Lengths) -> Result<Vec<Take>> {
    let node = 1 + (repeat % u32::from(stage.lab.plan().nodes)) as u8;
    match event {
        Event::Drain => drain(stage, node, repeat),
        Event::Restart => restart(stage, repeat),
        Event::Reload => reload(stage, node, repeat),
        Event::Add => add(stage, node, repeat),
        Event::Split => split(stage, repeat),
        Event::Loss => loss(stage, node, repeat, lengths.loss),
        Event::Stress => stress(stage, repeat, lengths.stress),
        _ => {
            let fault = event.fault(node).context("an event that is none of the above is a fault")?;
            with_fault(stage, event, &fault, node, repeat)
        }
    }
}

fn with_fault(stage: &mut Stage, event: Event, fault: &Fault, node: u8, repeat: u32) -> Result<Vec<Take>> {
    let clients = stage.clients_of(node)?;
    let resets = matches!(event, Event::PowerOff | Event::Cut | Event::Mute);
    let from = Instant::now();
    stage.lab.fault(fault)?;
    let least = Instant::now() + FAULT_LEAST;
    stage.watch(from + FAULT_MOST, |stage| {
        let gone = |stage: &Stage| {
            let logs = stage.sessions.glance();
            logs.iter().filter(|log| log.node == node).all(|log| log.lost.is_some())
        };
        Instant::now() >= least && stage.served().is_some() && (!resets || gone(stage))
    })?;
    let nodes = [node];
    let own = |_, other| other == node;
    let aim = Aim::of_fault(event);
    let act = Act {
        name: event.word(),
        aim,
        nodes: &nodes,
        own: &own,
        clients: &clients,
        from,
        until: Instant::now(),
    };
    let fault_take = Take::measure(stage, &act, repeat);

    let from = Instant::now();
    stage.lab.heal(None)?;
    let until = back(stage, node, from)?;
    let name = format!("{}, heal", event.word());
    let act =
        Act { name: &name, aim: Aim::of_planned(), nodes: &nodes, own: &own, clients: &clients, from, until };
    Ok(vec![fault_take, Take::measure(stage, &act, repeat)])
}

/// Watches until a node is back: it claims something, everybody is served, and the sessions that live answer.
fn back(stage: &mut Stage, node: u8, from: Instant) -> Result<Instant> {
    let mut asked = from;
    let mut claims = false;
    stage.watch(from + BACK_WITHIN, |stage| {
        if !claims && asked.elapsed() > Duration::from_millis(100) {
            claims = stage.lab.node(node).claims().is_some_and(|claims| claims > 0);
            asked = Instant::now();
        }
        let heard = |log: &crate::load::SessionLog| log.heard.back().is_some_and(|&heard| heard > from);
        let go_on = || stage.sessions.glance().iter().all(|log| log.lost.is_some() || heard(log));
        claims && from.elapsed() >= PLANNED_LEAST && stage.served().is_some() && go_on()
    })?;
    Ok(Instant::now())
}

fn drain(stage: &mut Stage, node: u8, repeat: u32) -> Result<Vec<Take>> {
    let clients = stage.clients_of(node)?;
    let nodes = [node];
    let own = |_, other| other == node;
    let from = Instant::now();
    run_ok(&mut stage.lab.node(node).onevip_command("drain")?, COMMAND_WITHIN)?;
    let drained = |stage: &mut Stage| {
        stage.served().is_some_and(|served| !served.values().any(|&server| server == node))
    };
    let least = from + PLANNED_LEAST;
    let moved = stage.watch(from + FAULT_MOST, |stage| Instant::now() >= least && drained(stage))?;
    let until = Instant::now();
    let aim = Aim::of_planned();
    let act = Act { name: "drain", aim, nodes: &nodes, own: &own, clients: &clients, from, until };
    let drain = Take::measure(stage, &act, repeat);

    let from = Instant::now();
    run_ok(&mut stage.lab.node(node).onevip_command("undrain")?, COMMAND_WITHIN)?;
    let until = back(stage, node, from)?;
    ensure!(moved, "unix{node} was drained, and still answers after {FAULT_MOST:?}");
    let act = Act { name: "undrain", aim, nodes: &nodes, own: &own, clients: &clients, from, until };
    Ok(vec![drain, Take::measure(stage, &act, repeat)])
}

fn restart(stage: &mut Stage, repeat: u32) -> Result<Vec<Take>> {
    let nodes: Vec<u8> = stage.lab.plan().node_ids().collect();
    let clients: Vec<Ipv4Addr> = stage.home.keys().copied().collect();
    let from = Instant::now();
    for &node in &nodes {
        stage.lab.node(node).stop_onevip();
        stage.lab.node(node).start_onevip()?;
        back(stage, node, Instant::now())?;
    }
    let until = Instant::now();
    let aim = Aim::of_planned();
    let own = |_, _| true;
    let act = Act { name: "restart of all", aim, nodes: &nodes, own: &own, clients: &clients, from, until };
    Ok(vec![Take::measure(stage, &act, repeat)])
}

fn reload(stage: &mut Stage, node: u8, repeat: u32) -> Result<Vec<Take>> {
    let path = stage.lab.dir().join("onevip.toml");
    let before = std::fs::read_to_string(&path)?;
    let id = format!("\nid = {node}\n");
    ensure!(before.contains(&id), "{} has no node {node}", path.display());
    let after = before.replace(&id, &format!("{id}weight = {LIGHT}\n"));
    let nodes: Vec<u8> = stage.lab.plan().node_ids().collect();
    let clients: Vec<Ipv4Addr> = stage.home.keys().copied().collect();
    let from = Instant::now();
    for text in [&after, &before] {
        stage.lab.write_config(text)?;
        for node in stage.lab.nodes() {
            run_ok(&mut node.onevip_command("reload")?, COMMAND_WITHIN)?;
        }
        let least = Instant::now() + PLANNED_LEAST;
        stage.watch(least + FAULT_MOST, |stage| Instant::now() >= least && stage.served().is_some())?;
    }
    let until = Instant::now();
    let aim = Aim::of_planned();
    let own = |_, _| true;
    let act = Act { name: "reload", aim, nodes: &nodes, own: &own, clients: &clients, from, until };
    Ok(vec![Take::measure(stage, &act, repeat)])
}

/// A node that was never there: without kernel part, address or sessions until its daemon starts.
fn add(stage: &mut Stage, node: u8, repeat: u32) -> Result<Vec<Take>> {
    let clients = stage.clients_of(node)?;
    stage.lab.node(node).stop_onevip();
    run_ok(&mut stage.lab.node(node).onevip_command("teardown")?, COMMAND_WITHIN)?;
    stage.watch(Instant::now() + FAULT_MOST, |stage| stage.served().is_some())?;
    stage.sessions.close(|log| log.node == node);
    stage.typists.retain(|typist| typist.host != Host::Node(node).to_string());
    let from = Instant::now();
    stage.lab.node(node).start_onevip()?;
    let until = back(stage, node, from)?;
    let aim = Aim::of_planned();
    let own = |_, other| other == node;
    let act = Act { name: "node added", aim, nodes: &[node], own: &own, clients: &clients, from, until };
    Ok(vec![Take::measure(stage, &act, repeat)])
}

/// Who is on which side: half of the nodes, and a client host, each.
fn split(stage: &mut Stage, repeat: u32) -> Result<Vec<Take>> {
    let plan = stage.lab.plan().clone();
    let half = plan.nodes / 2;
    ensure!(half > 0, "a split needs at least 2 nodes");
    let side = |nodes: std::ops::RangeInclusive<u8>| {
        nodes.map(|id| Host::Node(id).to_string()).collect::<Vec<_>>().join(",")
    };
    let sides = format!("{}|{}", side(1..=half), side(half + 1..=plan.nodes));
    let clients: Vec<Ipv4Addr> = stage.home.keys().copied().collect();
    let nodes: Vec<u8> = plan.node_ids().collect();
    // Sessions across the split are out of reach while it lasts.
    let left = plan.addresses4(Host::Client);
    let across = |client, node| left.contains(&client) != (node <= half);
    let from = Instant::now();
    stage.lab.fault(&Fault::parse("split", Some(&sides))?)?;
    let least = Instant::now() + FAULT_LEAST;
    stage.watch(from + FAULT_MOST, |stage| Instant::now() >= least && stage.served().is_some())?;
    let until = Instant::now();
    let aim = Aim::of_split();
    let act = Act { name: "split", aim, nodes: &nodes, own: &across, clients: &clients, from, until };
    let split = Take::measure(stage, &act, repeat);
    let from = Instant::now();
    stage.lab.heal(None)?;
    let until = back(stage, 1, from)?;
    let aim = Aim::of_split_heal();
    let own = |_, _| false;
    let act = Act { name: "split, heal", aim, nodes: &nodes, own: &own, clients: &clients, from, until };
    Ok(vec![split, Take::measure(stage, &act, repeat)])
}

fn loss(stage: &mut Stage, node: u8, repeat: u32, length: Duration) -> Result<Vec<Take>> {
    let clients = stage.clients_of(node)?;
    let own = |_, other| other == node;
    let watchers = Watchers::start(&stage.lab)?;
    let from = Instant::now();
    stage.lab.fault(&Fault::Loss { percent: 30, node })?;
    stage.watch(from + length, |_| false)?;
    let until = Instant::now();
    let act = Act {
        name: "30 % loss",
        aim: Aim::of_loss(),
        nodes: &[node],
        own: &own,
        clients: &clients,
        from,
        until,
    };
    let mut take = Take::measure(stage, &act, repeat);
    take.outs = watchers.outs();
    stage.lab.heal(None)?;
    Ok(vec![take])
}

/// Ends a program that is still running when its measurement ends.
struct Hog(Child);

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn stress(stage: &mut Stage, repeat: u32, length: Duration) -> Result<Vec<Take>> {
    let nodes: Vec<u8> = stage.lab.plan().node_ids().collect();
    let clients: Vec<Ipv4Addr> = stage.home.keys().copied().collect();
    let watchers = Watchers::start(&stage.lab)?;
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let mut command = Command::new("stress-ng");
    command.args(["--quiet", "--cpu", &cores.to_string(), "--timeout", &length.as_secs().to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // It belongs to a host, so that nothing of it outlives the lab.
    let _hog = Hog(stage.lab.spawn_in("unix1", command).context("is stress-ng installed?")?);
    let from = Instant::now();
    stage.watch(from + length, |_| false)?;
    let until = Instant::now();
    let own = |_, _| true;
    let act = Act {
        name: "all CPUs busy",
        aim: Aim::of_stress(),
        nodes: &nodes,
        own: &own,
        clients: &clients,
        from,
        until,
    };
    let mut take = Take::measure(stage, &act, repeat);
    take.outs = watchers.outs();
    Ok(vec![take])
}
