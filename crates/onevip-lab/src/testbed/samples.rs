//! What the clients saw, as it comes in, and the questions that are asked of it.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::load::{Knock, Outcome};

/// How long knocks are kept before [`ProbeSamples::cut_before`] says they may go.
const STEADY: Duration = Duration::from_millis(300);
/// A client whose last answer is older than this is not served.
const FRESH: Duration = Duration::from_millis(120);

/// Knocks of every client, in the order in which their outcomes were known.
#[derive(Default)]
pub struct ProbeSamples {
    knocks: BTreeMap<Ipv4Addr, VecDeque<Knock>>,
}

impl ProbeSamples {
    /// Notes a knock.
    pub fn note(&mut self, knock: Knock) {
        self.knocks.entry(knock.client).or_default().push_back(knock);
    }

    /// Forgets what was over before a moment.
    pub fn cut_before(&mut self, moment: Instant) {
        for knocks in self.knocks.values_mut() {
            while knocks.front().is_some_and(|knock| knock.at < moment) {
                knocks.pop_front();
            }
        }
    }

    /// The clients there are knocks of.
    pub fn clients(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.knocks.keys().copied()
    }

    /// Who serves a client, if one and the same node has answered all its knocks for a while.
    pub fn server(&self, client: Ipv4Addr, now: Instant) -> Option<u8> {
        let recent = self.knocks.get(&client)?.iter().rev().take_while(|knock| now - knock.at <= STEADY);
        let mut server = None;
        let mut newest = None;
        for knock in recent {
            let Outcome::Answered(node) = knock.outcome else { return None };
            if server.is_some_and(|server| server != node) {
                return None;
            }
            server = Some(node);
            newest = newest.max(Some(knock.at));
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
        let knocks = self.knocks.get(&client)?;
        let mut last = None;
        let mut longest = Duration::ZERO;
        for knock in knocks.iter().filter(|knock| knock.at <= until) {
            if !matches!(knock.outcome, Outcome::Answered(_)) {
                continue;
            }
            if knock.at >= from {
                longest = longest.max(knock.at - last.unwrap_or(from).max(from - FRESH));
            }
            last = Some(knock.at);
        }
        last.filter(|&last| until - last <= FRESH).map(|_| longest)
    }

    /// How often the node that answers a client changed in a window.
    pub fn moves(&self, client: Ipv4Addr, from: Instant, until: Instant) -> usize {
        let knocks = self.knocks.get(&client).into_iter().flatten();
        let nodes = knocks
            .filter(|knock| (from..=until).contains(&knock.at))
            .filter_map(|knock| if let Outcome::Answered(node) = knock.outcome { Some(node) } else { None });
        let mut before = None;
        nodes.filter(|&node| before.replace(node).is_some_and(|before| before != node)).count()
    }

    /// When one of `nodes` last answered a knock of this window.
    pub fn last_answer(&self, nodes: &[u8], from: Instant, until: Instant) -> Option<Instant> {
        let by_them =
            |knock: &&Knock| matches!(knock.outcome, Outcome::Answered(node) if nodes.contains(&node));
        self.within(from, until).filter(by_them).map(|knock| knock.at).max()
    }

    /// Knocks sent in a window by clients that `of` picks: all of them, and those missed or refused.
    pub fn missed(&self, from: Instant, until: Instant, of: impl Fn(Ipv4Addr) -> bool) -> (usize, usize) {
        let sent = self.within(from, until).filter(|knock| of(knock.client));
        sent.fold((0, 0), |(all, missed), knock| match knock.outcome {
            Outcome::Answered(_) => (all + 1, missed),
            Outcome::Missed | Outcome::Refused(_) => (all + 1, missed + 1),
            Outcome::Twice(..) => (all, missed),
        })
    }

    /// Knocks sent in a window that were answered by two nodes.
    pub fn twice(&self, from: Instant, until: Instant) -> Vec<Knock> {
        let twice = |knock: &&Knock| matches!(knock.outcome, Outcome::Twice(..));
        self.within(from, until).filter(twice).copied().collect()
    }

    fn within(&self, from: Instant, until: Instant) -> impl Iterator<Item = &Knock> {
        self.knocks.values().flatten().filter(move |knock| (from..=until).contains(&knock.sent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 101);

    /// Samples of which each (milliseconds, outcome) is known at once.
    fn samples(start: Instant, knocks: impl IntoIterator<Item = (u64, Outcome)>) -> ProbeSamples {
        let mut samples = ProbeSamples::default();
        for (at, outcome) in knocks {
            let at = start + Duration::from_millis(at);
            samples.note(Knock { client: CLIENT, sent: at, at, outcome });
        }
        samples
    }

    fn answers(span: std::ops::Range<u64>, node: u8) -> impl Iterator<Item = (u64, Outcome)> {
        span.step_by(20).map(move |at| (at, Outcome::Answered(node)))
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
    fn a_client_has_a_server_when_all_knocks_say_so() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let both = samples(start, answers(0..500, 1).chain(answers(500..1000, 2)));
        assert_eq!(both.server(CLIENT, at(600)), None, "the other one answered just now");
        assert_eq!(both.server(CLIENT, at(1000)), Some(2));
        assert_eq!(both.server(CLIENT, at(1300)), None, "nothing for a while");
        let missed = samples(start, answers(0..500, 1).chain([(510, Outcome::Missed)]));
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
