//! What the clients saw, as it comes in, and the questions that are asked of it.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::load::{ProbeOutcome, SynProbe};

/// So long one and the same node has to have answered before it counts as the server.
const STEADY: Duration = Duration::from_millis(300);
/// A client whose last answer is older than this is not served.
const FRESH: Duration = Duration::from_millis(120);

/// Probes of every client, in the order in which their outcomes were known.
#[derive(Default)]
pub struct ProbeSamples {
    probes: BTreeMap<Ipv4Addr, VecDeque<SynProbe>>,
}

impl ProbeSamples {
    /// Notes a probe.
    pub fn note(&mut self, probe: SynProbe) {
        self.probes.entry(probe.client).or_default().push_back(probe);
    }

    /// Forgets what was over before a moment.
    pub fn cut_before(&mut self, moment: Instant) {
        for probes in self.probes.values_mut() {
            while probes.front().is_some_and(|probe| probe.at < moment) {
                probes.pop_front();
            }
        }
    }

    /// The clients there are probes of.
    pub fn clients(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.probes.keys().copied()
    }

    /// Who serves a client, if one and the same node has answered all its probes for a while.
    pub fn server(&self, client: Ipv4Addr, now: Instant) -> Option<u8> {
        let recent = self.probes.get(&client)?.iter().rev().take_while(|probe| now - probe.at <= STEADY);
        let mut server = None;
        let mut newest = None;
        for probe in recent {
            let ProbeOutcome::Answered(node) = probe.outcome else { return None };
            if server.is_some_and(|server| server != node) {
                return None;
            }
            server = Some(node);
            newest = newest.max(Some(probe.at));
        }
        server.filter(|_| newest.is_some_and(|newest| now - newest <= FRESH))
    }

    /// Who serves whom; none while anybody is not served steadily.
    pub fn servers(&self, now: Instant) -> Option<BTreeMap<Ipv4Addr, u8>> {
        self.clients().map(|client| Some((client, self.server(client, now)?))).collect()
    }

    /// Clients that are not served steadily.
    pub fn unserved(&self, now: Instant) -> usize {
        self.clients().filter(|&client| self.server(client, now).is_none()).count()
    }

    /// The longest time without an answer that a client saw in a window (and from its last answer before that). None
    /// when it was not served at the end.
    pub fn gap(&self, client: Ipv4Addr, from: Instant, until: Instant) -> Option<Duration> {
        let probes = self.probes.get(&client)?;
        let mut last = None;
        let mut longest = Duration::ZERO;
        for probe in probes.iter().filter(|probe| probe.at <= until) {
            if !matches!(probe.outcome, ProbeOutcome::Answered(_)) {
                continue;
            }
            if probe.at >= from {
                longest = longest.max(probe.at - last.unwrap_or(from).max(from - FRESH));
            }
            last = Some(probe.at);
        }
        last.filter(|&last| until - last <= FRESH).map(|_| longest)
    }

    /// How often the node that answers a client changed in a window.
    pub fn moves(&self, client: Ipv4Addr, from: Instant, until: Instant) -> usize {
        let probes = self.probes.get(&client).into_iter().flatten();
        let nodes = probes.filter(|probe| (from..=until).contains(&probe.at)).filter_map(|probe| {
            if let ProbeOutcome::Answered(node) = probe.outcome { Some(node) } else { None }
        });
        let mut before = None;
        nodes.filter(|&node| before.replace(node).is_some_and(|before| before != node)).count()
    }

    /// When one of `nodes` last answered a probe of this window.
    pub fn last_answer(&self, nodes: &[u8], from: Instant, until: Instant) -> Option<Instant> {
        let by_them = |probe: &&SynProbe| matches!(probe.outcome, ProbeOutcome::Answered(node) if nodes.contains(&node));
        self.within(from, until).filter(by_them).map(|probe| probe.at).max()
    }

    /// Probes sent in a window by clients that `of` picks: all of them, and those missed or refused.
    pub fn missed(&self, from: Instant, until: Instant, of: impl Fn(Ipv4Addr) -> bool) -> (usize, usize) {
        let sent = self.within(from, until).filter(|probe| of(probe.client));
        sent.fold((0, 0), |(all, missed), probe| match probe.outcome {
            ProbeOutcome::Answered(_) => (all + 1, missed),
            ProbeOutcome::Missed | ProbeOutcome::Refused(_) => (all + 1, missed + 1),
            ProbeOutcome::Twice(..) => (all, missed),
        })
    }

    /// Probes sent in a window that were answered by two nodes.
    pub fn twice(&self, from: Instant, until: Instant) -> Vec<SynProbe> {
        let twice = |probe: &&SynProbe| matches!(probe.outcome, ProbeOutcome::Twice(..));
        self.within(from, until).filter(twice).copied().collect()
    }

    fn within(&self, from: Instant, until: Instant) -> impl Iterator<Item = &SynProbe> {
        self.probes.values().flatten().filter(move |probe| (from..=until).contains(&probe.sent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 101);

    /// Samples of which each (milliseconds, outcome) is known at once.
    fn samples(start: Instant, probes: impl IntoIterator<Item = (u64, ProbeOutcome)>) -> ProbeSamples {
        let mut samples = ProbeSamples::default();
        for (at, outcome) in probes {
            let at = start + Duration::from_millis(at);
            samples.note(SynProbe { client: CLIENT, sent: at, at, outcome });
        }
        samples
    }

    fn answers(span: std::ops::Range<u64>, node: u8) -> impl Iterator<Item = (u64, ProbeOutcome)> {
        span.step_by(20).map(move |at| (at, ProbeOutcome::Answered(node)))
    }

    #[test]
    fn a_gap_runs_from_the_last_answer_to_the_next() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let samples = samples(start, answers(0..500, 1).chain(answers(740..1000, 2)));
        assert_eq!(samples.gap(CLIENT, at(500), at(990)), Some(Duration::from_millis(260)));
        assert_eq!(samples.gap(CLIENT, at(800), at(990)), Some(Duration::from_millis(20)));
        assert_eq!(samples.gap(CLIENT, at(500), at(700)), None, "not served at the end");
        assert_eq!(samples.moves(CLIENT, at(0), at(1000)), 1);
    }

    #[test]
    fn a_client_has_a_server_when_all_probes_say_so() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let both = samples(start, answers(0..500, 1).chain(answers(500..1000, 2)));
        assert_eq!(both.server(CLIENT, at(600)), None, "the other one answered just now");
        assert_eq!(both.server(CLIENT, at(1000)), Some(2));
        assert_eq!(both.server(CLIENT, at(1300)), None, "nothing for a while");
        let missed = samples(start, answers(0..500, 1).chain([(510, ProbeOutcome::Missed)]));
        assert_eq!(missed.server(CLIENT, at(520)), None);
        assert_eq!((missed.unserved(at(520)), missed.missed(at(0), at(600), |_| true)), (1, (26, 1)));
    }

    #[test]
    fn what_is_cut_is_gone() {
        let start = Instant::now();
        let mut samples = samples(start, answers(0..100, 1));
        samples.cut_before(start + Duration::from_millis(60));
        assert_eq!(samples.missed(start, start + Duration::from_secs(1), |_| true).0, 2);
    }
}
