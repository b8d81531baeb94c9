//! `onevip-lab bench health`: how long an ill node goes on getting new users, and what its sessions notice.
//!
//! A fault befalls one node of a cluster with clients at work. Measured are the time from the command that brings it about
//! to the last answer that this node gives to a new connection (of one that only sheds load: until a quarter of its
//! share is gone), the connections to SSH that had no banner within three
//! seconds, the sessions lost, and the time from healing until the node serves again.

mod peer_check;

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use self::peer_check::{BACKGROUND, UNCHECKED};
use super::stats::{percentile, sorted};
use crate::fault::LabFault;
use crate::lab::{Lab, Options};
use crate::lease_slack::{self, SlackHistogram};
use crate::load::{BannerClients, banner_clients};
use crate::plan::Host;
use crate::process::check_interrupt;
use crate::testbed::Testbed;
use crate::testbed::watchers::EventWatchers;

/// The kinds of faults, in the order of the report.
pub const KINDS: [&str; 11] = [
    "kill-sshd",
    "freeze-sshd",
    "sshd-slow",
    "sshd-maxstartups",
    "nologin",
    "fork-bomb",
    "memory-hog",
    "disk-full",
    "cpu-hog",
    UNCHECKED,
    BACKGROUND,
];
/// A node that gets all its new users by now will go on doing so; shedding for want of a processor is slow.
const GIVES_UP: Duration = Duration::from_secs(60);
/// How long a healed node has to come back.
const BACK_WITHIN: Duration = Duration::from_secs(60);
/// How often a node is asked for its share.
const ASK: Duration = Duration::from_millis(250);
/// Nothing is measured while something else is going on.
const REST: Duration = Duration::from_secs(1);

/// What to measure.
#[derive(Clone, Debug)]
pub struct HealthBenchSettings {
    /// The lab: its name, nodes and clients.
    pub options: Options,
    /// Kinds of faults.
    pub kinds: Vec<String>,
    /// How often each happens; the background traffic once.
    pub repeat: u32,
    /// How long the background traffic lasts.
    pub background: Duration,
}

/// One fault, once. Times in seconds.
#[derive(Clone, Debug, Serialize)]
pub struct HealthMeasurement {
    /// What was wrong.
    pub fault: String,
    /// Where.
    pub node: u8,
    /// Until the node's last answer to a new connection, or, where it only sheds load, until a quarter of its share
    /// was gone; none when that did not come to pass.
    pub moved: Option<f64>,
    /// Connections to SSH from the node's clients while it lasted, and how many had no banner.
    #[serde(rename = "visits")]
    pub banners: (usize, usize),
    /// Sessions lost, anywhere.
    pub lost: usize,
    /// On every node more than this was left of the lease whenever it was renewed meanwhile, in milliseconds.
    #[serde(rename = "least_margin_ms")]
    pub least_slack_ms: u64,
    /// Renewals that came when the lease had run out, anywhere.
    pub too_late: u64,
    /// News of nodes that are out: none, for daemons and beats are well.
    pub outs: Vec<String>,
    /// From healing until it served somebody again.
    pub back: Option<f64>,
}

/// All measurements.
#[derive(Clone, Debug, Serialize)]
pub struct HealthReport {
    /// Number of nodes.
    pub nodes: u8,
    /// Number of client addresses.
    pub clients: usize,
    /// By fault.
    #[serde(rename = "takes")]
    pub measurements: Vec<HealthMeasurement>,
}

/// Measures, telling on standard error how far it is.
///
/// # Errors
/// When the lab cannot be built, a fault cannot be brought about, or the cluster does not come to order between two.
pub fn run(settings: &HealthBenchSettings) -> Result<HealthReport> {
    if let Some(kind) = settings.kinds.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
        bail!("{kind:?} is no fault of health; there are: {}", KINDS.join(", "));
    }
    let options = settings.options.clone().edit_config(lease_slack::with_metrics)?;
    let mut testbed = Testbed::set_up(options, &[Host::Client])?;
    let banner_clients = BannerClients::start(&testbed.lab)?;
    let mut measurements = Vec::new();
    for kind in &settings.kinds {
        if kind == BACKGROUND {
            eprintln!("{kind} for {} s", settings.background.as_secs());
            measurements.push(peer_check::background_traffic(
                &mut testbed,
                &banner_clients,
                settings.background,
            )?);
            continue;
        }
        if kind == UNCHECKED {
            peer_check::check_sshd(&testbed.lab, false)?;
        }
        for repeat in 0..settings.repeat {
            check_interrupt()?;
            let nodes = u32::from(testbed.lab.plan().nodes);
            let node = 1 + (repeat % nodes) as u8;
            eprintln!("{kind} {} of {}", repeat + 1, settings.repeat);
            let fault = LabFault::parse(fault_of(kind), Some(&Host::Node(node).to_string()))?;
            let measured =
                measure(&mut testbed, &banner_clients, &fault, node).with_context(|| fault.to_string())?;
            measurements.push(HealthMeasurement { fault: kind.clone(), ..measured });
            testbed.restore().with_context(|| format!("after {fault}"))?;
        }
        if kind == UNCHECKED {
            peer_check::check_sshd(&testbed.lab, true)?;
        }
    }
    drop(banner_clients);
    let (nodes, clients) = (testbed.lab.plan().nodes, settings.options.clients);
    testbed.take_down()?;
    Ok(HealthReport { nodes, clients, measurements })
}

/// What befalls the node.
fn fault_of(kind: &str) -> &str {
    if kind == UNCHECKED { "freeze-sshd" } else { kind }
}

fn measure(
    testbed: &mut Testbed,
    banner_clients: &BannerClients,
    fault: &LabFault,
    node: u8,
) -> Result<HealthMeasurement> {
    testbed.watch(Instant::now() + REST, |_| false)?;
    let own = testbed.clients_of(node)?;
    let home = testbed.home.clone();
    let watchers = EventWatchers::start(&testbed.lab)?;
    let sheds = matches!(fault, LabFault::CpuHog(_));
    let before = slack_of(&testbed.lab)?;
    let from = Instant::now();
    testbed.lab.fault(fault)?;
    let (mut first, mut asked) = (None, from);
    let share = testbed.lab.node(node).claims().unwrap_or(0);
    let has_moved = testbed.watch(from + GIVES_UP, |testbed| {
        let now = Instant::now();
        let elsewhere = |client: &_| testbed.samples.server(*client, now).is_some_and(|by| by != node);
        if sheds && asked.elapsed() >= ASK {
            asked = now;
            // Every client of the lab has a session, so its bucket stays; those without one move.
            let less = testbed.lab.node(node).claims().is_some_and(|claims| claims < share * 3 / 4);
            first = less.then(|| from.elapsed());
        }
        own.iter().all(elsewhere) || first.is_some()
    })?;
    let gone = Instant::now();
    let last =
        testbed.samples.last_answer(&[node], from, gone).map(|last| last.saturating_duration_since(from));
    let moved = if sheds { first } else { last.filter(|_| has_moved) };
    // Whoever came at the last moment is waited for.
    testbed.watch(gone + banner_clients::PATIENCE + REST, |_| false)?;
    let during = banner_clients.attempts();
    let during = during.iter().filter(|v| own.contains(&v.client) && (from..=gone).contains(&v.begun));
    let banners = during.fold((0, 0), |(all, none), v| (all + 1, none + usize::from(v.banner.is_none())));
    let since = slack_since(&testbed.lab, &before)?;
    let healed = Instant::now();
    testbed.lab.heal(None)?;
    let is_back = |testbed: &mut Testbed| {
        testbed.served().is_some_and(|served| {
            served.iter().filter(|(client, by)| home.get(client) == Some(by) && **by == node).count() > 0
        })
    };
    let back = testbed.watch(healed + BACK_WITHIN, is_back)?.then(|| healed.elapsed());
    let seconds = |span: Duration| span.as_secs_f64();
    let lost = testbed.sessions.glance().iter().filter(|log| log.lost.is_some()).count()
        + testbed.users.iter().filter(|user| user.log().lost.is_some()).count();
    Ok(HealthMeasurement {
        fault: fault.kind().to_owned(),
        node,
        moved: moved.map(seconds),
        banners,
        lost,
        least_slack_ms: since.iter().map(SlackHistogram::least_ms).min().unwrap_or(0),
        too_late: since.iter().map(SlackHistogram::too_late).sum(),
        outs: watchers.outs(),
        back: back.map(seconds),
    })
}

/// The lease slack of all nodes since their daemons began.
fn slack_of(lab: &Lab) -> Result<Vec<SlackHistogram>> {
    lab.plan().node_ids().map(|id| SlackHistogram::read(lab, id)).collect()
}

/// Those that have come since.
fn slack_since(lab: &Lab, before: &[SlackHistogram]) -> Result<Vec<SlackHistogram>> {
    Ok(slack_of(lab)?.iter().zip(before).map(|(now, before)| now.since(before)).collect())
}

impl HealthReport {
    /// What must not be: sessions lost, nodes that were counted out, users that stayed with an ill node.
    pub fn violations(&self) -> Vec<String> {
        let wrong = |measurement: &HealthMeasurement| {
            let mut wrong = Vec::new();
            if measurement.lost > 0 {
                wrong.push(format!("{}: {} sessions lost", measurement.fault, measurement.lost));
            }
            if !measurement.outs.is_empty() {
                wrong.push(format!("{}: {}", measurement.fault, measurement.outs.join(", ")));
            }
            if measurement.too_late > 0 {
                wrong.push(format!("{}: {} renewals came too late", measurement.fault, measurement.too_late));
            }
            // Where all nodes of a lab share the processors, all shed at once, and nothing moves.
            let sheds = measurement.fault == "cpu-hog";
            if measurement.fault == BACKGROUND {
                return wrong;
            }
            if measurement.moved.is_none() && !sheds || measurement.back.is_none() {
                wrong.push(format!(
                    "{}: nobody was served elsewhere, or it never came back",
                    measurement.fault
                ));
            }
            wrong
        };
        self.measurements.iter().flat_map(wrong).collect()
    }
}

impl fmt::Display for HealthReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} nodes, {} client addresses; seconds from the fault, median (worst)\n",
            self.nodes, self.clients
        )?;
        writeln!(
            f,
            "{:<17} {:>5}  {:>13}  {:>15}  {:>13}  {:>13}  {:>12}",
            "fault", "times", "moved", "without banner", "sessions lost", "back", "least margin"
        )?;
        for kind in KINDS {
            let measurements: Vec<&HealthMeasurement> =
                self.measurements.iter().filter(|measurement| measurement.fault == kind).collect();
            if measurements.is_empty() {
                continue;
            }
            // Nothing is to move while nothing is wrong.
            let column = |of: &dyn Fn(&HealthMeasurement) -> Option<f64>| match kind {
                BACKGROUND => "–".to_owned(),
                _ => spread(measurements.iter().map(|measurement| of(measurement)).collect()),
            };
            let banners: (usize, usize) = measurements
                .iter()
                .fold((0, 0), |(a, b), measurement| (a + measurement.banners.0, b + measurement.banners.1));
            writeln!(
                f,
                "{kind:<17} {:>5}  {:>13}  {:>15}  {:>13}  {:>13}  {:>12}",
                measurements.len(),
                column(&|measurement| measurement.moved),
                format!("{} of {}", banners.1, banners.0),
                measurements.iter().map(|measurement| measurement.lost).sum::<usize>(),
                column(&|measurement| measurement.back),
                measurements
                    .iter()
                    .map(|measurement| measurement.least_slack_ms)
                    .min()
                    .map_or(String::new(), |ms| format!("> {ms} ms")),
            )?;
        }
        for violation in self.violations() {
            writeln!(f, "\nbroken: {violation}")?;
        }
        Ok(())
    }
}

/// Median and worst; what never happened is worse than everything.
fn spread(values: Vec<Option<f64>>) -> String {
    let known = sorted(values.iter().copied().flatten());
    let (Some(median), Some(worst)) = (percentile(&known, 0.5), known.last()) else {
        return "never".to_owned();
    };
    let never = values.len() - known.len();
    let worst = if never > 0 { format!("{never} never") } else { format!("{worst:.2}") };
    format!("{median:.2} ({worst})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_a_fault_of_a_node() {
        for kind in KINDS.into_iter().filter(|kind| *kind != BACKGROUND) {
            let kind = fault_of(kind);
            assert_eq!(LabFault::parse(kind, Some("unix1")).unwrap().kind(), kind);
        }
    }

    #[test]
    fn the_keys_of_a_report_stay() {
        let one = HealthMeasurement {
            fault: "kill-sshd".into(),
            node: 1,
            moved: Some(1.0),
            banners: (3, 1),
            lost: 0,
            least_slack_ms: 150,
            too_late: 0,
            outs: vec![],
            back: None,
        };
        let report = HealthReport { nodes: 4, clients: 40, measurements: vec![one] };
        let json = serde_json::to_string(&report).unwrap();
        let wanted = "{\"nodes\":4,\"clients\":40,\"takes\":[{\"fault\":\"kill-sshd\",\"node\":1,\"moved\":1.0,\
                      \"visits\":[3,1],\"lost\":0,\"least_margin_ms\":150,\"too_late\":0,\"outs\":[],\"back\":null}]}";
        assert_eq!(json, wanted);
    }

    #[test]
    fn what_never_happened_is_told() {
        assert_eq!(spread(vec![Some(3.0), Some(1.0), Some(2.0)]), "2.00 (3.00)");
        assert_eq!(spread(vec![Some(1.0), None]), "1.00 (1 never)");
        assert_eq!(spread(vec![None]), "never");
    }
}
