//! One scenario of the benchmark, and the figures that come of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::aim::FailoverAim;
use crate::load::connections::RETRANSMITTED;
use crate::load::{ProbeOutcome, SessionLog, TcpConnection};
use crate::plan::Host;
use crate::testbed::Testbed;

/// A window in time, and whom it is about.
pub struct Scenario<'a> {
    /// What happens, as the report names it.
    pub name: &'a str,
    /// What is wanted.
    pub aim: FailoverAim,
    /// The nodes that it happens to.
    pub nodes: &'a [u8],
    /// Which sessions are "on the node" (or out of reach); all others are "elsewhere".
    pub own: &'a dyn Fn(Ipv4Addr, u8) -> bool,
    /// The clients whose gap counts.
    pub clients: &'a [Ipv4Addr],
    /// When it began.
    pub from: Instant,
    /// Until when it was watched.
    pub until: Instant,
}

/// What was measured in one scenario. Times in seconds.
#[derive(Clone, Debug, Serialize)]
pub struct FailoverMeasurement {
    /// What happened.
    #[serde(rename = "act")]
    pub scenario: String,
    /// Which time, from 0.
    pub repeat: u32,
    /// The nodes it happened to.
    pub nodes: Vec<u8>,
    /// How long it was watched.
    pub watched: f64,
    /// The longest time without an answer, for each client that it is about; none for one that was not served again.
    pub gaps: BTreeMap<Ipv4Addr, Option<f64>>,
    /// The same for the worst of all other clients.
    pub gap_elsewhere: Option<f64>,
    /// What became of the sessions.
    #[serde(flatten)]
    pub sessions: SessionFigures,
    /// Probes of clients that it is not about, and how many of them were not answered.
    #[serde(rename = "knocks")]
    pub probes: (usize, usize),
    /// SYNs that two nodes answered: client, first and second node.
    pub twice: Vec<(Ipv4Addr, u8, u8)>,
    /// The most often that the node of one client changed.
    pub moves: usize,
    /// When the node last answered anybody; none if it did not while it was watched.
    pub last_answer: Option<f64>,
    /// News of nodes that are out, where they are counted.
    pub outs: Vec<String>,
    /// Connections begun, failed and delayed by a retransmitted SYN; told later, for a connection may last a while.
    #[serde(rename = "calls")]
    pub connections: (usize, usize, usize),
    /// Why connections failed, some of them.
    pub failures: Vec<String>,
    #[serde(skip)]
    pub(super) aim: FailoverAim,
    #[serde(skip)]
    pub(super) window: (Instant, Instant),
}

/// What became of the sessions in one scenario. Times in seconds.
#[derive(Clone, Debug, Serialize)]
pub struct SessionFigures {
    /// How many were on the node before, those with `ssh` included.
    #[serde(rename = "sessions_node")]
    pub on_node: usize,
    /// Of these, lost.
    pub lost_node: usize,
    /// Those elsewhere that were lost, by name.
    pub lost_elsewhere: Vec<String>,
    /// From the client's next packet to the reset, for each one that was lost on the node.
    pub resets: Vec<f64>,
    /// Those on the node that were neither lost nor answering at the end.
    pub hanging: usize,
    /// The longest silence of one on the node that lived.
    pub pause_node: f64,
    /// The longest silence of one elsewhere.
    pub pause_elsewhere: f64,
}

impl SessionFigures {
    /// Those of the testbed's sessions, and of its users of `ssh`.
    fn measure(testbed: &Testbed, scenario: &Scenario) -> Self {
        let (from, until) = (scenario.from, scenario.until);
        let logs = testbed.sessions.logs();
        let (own, other): (Vec<_>, Vec<_>) =
            logs.iter().partition(|log| (scenario.own)(log.client, log.node));
        let is_lost = |log: &&&SessionLog| log.lost.as_ref().is_some_and(|(at, _)| *at >= from);
        let lives = |log: &&&SessionLog| log.lost.is_none();
        let longest = |logs: &[&SessionLog]| {
            let pauses = logs.iter().filter(lives).map(|log| pause(log, from, until));
            pauses.max().unwrap_or_default().as_secs_f64()
        };
        let mut figures = Self {
            on_node: own.len(),
            lost_node: own.iter().filter(is_lost).count(),
            lost_elsewhere: other.iter().filter(is_lost).map(|log| obituary(log, from)).collect(),
            resets: own.iter().filter(is_lost).filter_map(|log| reset_after(log, from)).collect(),
            hanging: own.iter().filter(lives).filter(|log| silence(log, until) > STILL).count(),
            pause_node: longest(&own),
            pause_elsewhere: longest(&other),
        };
        figures.count_users(testbed, scenario);
        figures
    }

    fn count_users(&mut self, testbed: &Testbed, scenario: &Scenario) {
        for user in &testbed.users {
            let lost = user.log().lost.is_some_and(|at| at >= scenario.from);
            let node = user.host.parse().ok().and_then(Host::node_id);
            let own = match (user.client, node) {
                (IpAddr::V4(client), Some(node)) => (scenario.own)(client, node),
                _ => false,
            };
            if own {
                self.on_node += 1;
                self.lost_node += usize::from(lost);
            } else if lost {
                self.lost_elsewhere.push(format!("ssh from {} on {}", user.client, user.host));
            }
        }
    }
}

impl FailoverMeasurement {
    /// Works the figures out of what the clients saw.
    pub fn measure(testbed: &Testbed, scenario: &Scenario, repeat: u32) -> Self {
        let (from, until) = (scenario.from, scenario.until);
        let seconds = |gap: Duration| gap.as_secs_f64();
        let about = |client: &Ipv4Addr| scenario.clients.contains(client);
        let gap = |client| testbed.samples.gap(client, from, until).map(seconds);
        let others: Vec<Ipv4Addr> = testbed.samples.clients().filter(|client| !about(client)).collect();
        let twice = testbed.samples.twice(from, until);
        Self {
            scenario: scenario.name.to_owned(),
            repeat,
            nodes: scenario.nodes.to_vec(),
            watched: seconds(until - from),
            gaps: scenario.clients.iter().map(|&client| (client, gap(client))).collect(),
            gap_elsewhere: others.iter().filter_map(|&client| gap(client)).reduce(f64::max),
            sessions: SessionFigures::measure(testbed, scenario),
            probes: testbed.samples.missed(from, until, |client| !scenario.clients.contains(&client)),
            twice: twice
                .iter()
                .filter_map(|probe| match probe.outcome {
                    ProbeOutcome::Twice(first, second) => Some((probe.client, first, second)),
                    _ => None,
                })
                .collect(),
            moves: testbed
                .samples
                .clients()
                .map(|c| testbed.samples.moves(c, from, until))
                .max()
                .unwrap_or(0),
            last_answer: testbed
                .samples
                .last_answer(scenario.nodes, from, until)
                .map(|at| seconds(at - from)),
            outs: vec![],
            connections: (0, 0, 0),
            failures: vec![],
            aim: scenario.aim,
            window: (from, until),
        }
    }

    /// Counts the connections that were begun while it was watched.
    pub fn count_connections(&mut self, connections: &[TcpConnection]) {
        let (from, until) = self.window;
        let own: Vec<&TcpConnection> =
            connections.iter().filter(|connection| (from..=until).contains(&connection.begun)).collect();
        let failures: Vec<String> = own
            .iter()
            .filter_map(|connection| {
                let why = connection.outcome.as_ref().err()?;
                let at = (connection.begun - from).as_secs_f64();
                Some(format!("{} after {at:.3} s: {why}", connection.client))
            })
            .collect();
        let delayed = own.iter().filter(|c| c.outcome.as_ref().is_ok_and(|(took, _)| *took > RETRANSMITTED));
        self.connections = (own.len(), failures.len(), delayed.count());
        self.failures = failures.into_iter().take(10).collect();
    }
}

/// Longer without an answer than any session is that lives.
const STILL: Duration = Duration::from_millis(600);

/// The longest silence of a session in a window.
fn pause(log: &SessionLog, from: Instant, until: Instant) -> Duration {
    let mut last = None;
    let mut longest = Duration::ZERO;
    for &at in log.heard.iter().filter(|&&at| at <= until).chain([&until]) {
        if at >= from {
            longest = longest.max(at - last.unwrap_or(from));
        }
        last = Some(at);
    }
    longest
}

fn silence(log: &SessionLog, until: Instant) -> Duration {
    log.heard.back().map_or(Duration::MAX, |&heard| until.saturating_duration_since(heard))
}

/// From the first packet that a client sent after `from` to the end of its session, in seconds.
fn reset_after(log: &SessionLog, from: Instant) -> Option<f64> {
    let (lost, _) = log.lost.as_ref()?;
    let first = log.sent.iter().find(|&&sent| sent >= from)?;
    Some(lost.saturating_duration_since(*first).as_secs_f64())
}

fn obituary(log: &SessionLog, from: Instant) -> String {
    let (at, why) = log.lost.as_ref().map_or((from, ""), |(at, why)| (*at, why.as_str()));
    let after = at.saturating_duration_since(from).as_secs_f64();
    format!("{} on unix{} after {after:.3} s: {why}", log.client, log.node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    fn log(start: Instant, sent: &[u64], heard: &[u64], lost: Option<u64>) -> SessionLog {
        let at = |ms: &u64| start + Duration::from_millis(*ms);
        SessionLog {
            client: Ipv4Addr::new(198, 51, 100, 101),
            node: 1,
            sent: sent.iter().map(at).collect(),
            heard: heard.iter().map(at).collect::<VecDeque<_>>(),
            lost: lost.map(|ms| (at(&ms), "reset".into())),
        }
    }

    #[test]
    fn a_reset_is_timed_from_the_clients_next_packet() {
        let start = Instant::now();
        let log = log(start, &[0, 100, 200, 300], &[0, 100], Some(650));
        assert_eq!(reset_after(&log, start + Duration::from_millis(150)), Some(0.45));
        assert_eq!(
            reset_after(&log, start + Duration::from_millis(400)),
            None,
            "nothing was sent after that"
        );
    }

    #[test]
    fn a_pause_counts_until_the_end_of_the_window() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let log = log(start, &[], &[0, 100, 200, 500, 600], None);
        assert_eq!(pause(&log, at(150), at(650)), Duration::from_millis(300));
        assert_eq!(pause(&log, at(150), at(1000)), Duration::from_millis(400));
    }
}
