//! When `sshd` is looked at, when it is asked, and what that proves.
//!
//! - Clients that came and were served since the last look are a good answer: nobody is asked.
//! - Where nobody came, a probe is a good answer when it is taken from the accept queue in time.
//! - Doubt asks for the banner: a probe that is not taken within [`DOUBT`], a client that waits for longer than that while
//!   nobody is served, a crowd on which nobody has logged in while nobody is served (`MaxStartups`), an answer that was bad just now.
//! - A client that waited for longer than `timeout` is one bad answer, but never the last one: for that somebody has to be asked.
//! - An accept queue of which nobody is taken for `fall` eighths of `timeout` makes ill at once, if a good
//!   answer came before (it may be starting): taking connections is up to `sshd` alone.
//! - While `sshd` is ill only the banner, or served clients, count as good.

use super::probe::ProbeOutcome;
use super::queue::{Queue, Remote};
use super::socket_snapshot::SocketSnapshot;
use crate::hysteresis::Hysteresis;
use crate::impact::{DEAD, Finding, Impact, POORLY};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// A probe, or a client, that waits for longer raises doubt. A healthy `sshd` takes it in under a millisecond.
pub const DOUBT: Duration = Duration::from_millis(250);
/// So many clients without a login, while nobody is served, may be too many for `MaxStartups`, whose default begins to
/// refuse at ten.
const CROWD: usize = 10;
/// The queue may stand still for so long, `fall` times, however short `timeout` is: an `sshd` that has to wait for a
/// processor takes tens of milliseconds.
const STANDS_STILL_LEAST: Duration = Duration::from_millis(100);

/// How fast, and how patient.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckPace {
    /// Between two looks while all is well.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Bad answers in a row that make ill.
    pub fall: u32,
    /// Good answers in a row that make well.
    pub rise: u32,
    /// Between two calls to an `sshd` that nobody else connects to.
    pub banner_every: Duration,
}

/// What to ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SshdAsk {
    /// Connect, and say nothing.
    Connect,
    /// Wait for the banner.
    Banner,
}

/// The state of the check.
#[derive(Debug)]
pub struct CheckRun {
    pace: CheckPace,
    hysteresis: Hysteresis,
    next_look: Instant,
    banner_due: Instant,
    connected: Option<Instant>,
    asked: Option<Instant>,
    /// Whoever waited before then waits for something else than `sshd`.
    cleared: Option<Instant>,
    /// The last bad answer was a client's waiting.
    only_seen: bool,
    /// Length of the accept queue at the last look.
    length: u32,
    queue: Queue,
    /// There was a good answer.
    has_answered: bool,
    good: String,
    bad: String,
    took: Option<Duration>,
}

impl CheckRun {
    /// Begins with a call, and with a verdict (of an examination before this one).
    pub fn new(pace: CheckPace, verdict: Impact, now: Instant) -> Self {
        Self {
            pace,
            hysteresis: Hysteresis::new(pace.fall, pace.rise, verdict),
            next_look: now,
            banner_due: now,
            connected: None,
            asked: None,
            cleared: None,
            only_seen: false,
            length: 0,
            queue: Queue::new(now),
            has_answered: false,
            good: "not asked yet".to_owned(),
            bad: "not well when it was last asked".to_owned(),
            took: None,
        }
    }

    /// When the next look at all sockets is due.
    pub fn next_look(&self) -> Instant {
        self.next_look
    }

    /// Since when a probe has not been taken.
    pub fn connected_since(&self) -> Option<Instant> {
        self.connected
    }

    /// Whether nothing is outstanding.
    pub fn is_quiet(&self) -> bool {
        self.connected.is_none() && self.asked.is_none()
    }

    /// What is known, and what it costs.
    pub fn finding(&self) -> Finding {
        let finding = match self.hysteresis.verdict() {
            Impact::None => Finding::well(&self.good),
            impact => Finding::ill(impact, &self.bad),
        };
        finding.after(self.took)
    }

    /// Takes in a look; says what to ask.
    pub fn looked(&mut self, now: Instant, snapshot: &SocketSnapshot) -> Option<SshdAsk> {
        let stuck = self.length > 0 && snapshot.queue >= self.length;
        self.length = snapshot.queue;
        // Whoever came before the last banner and still waits has a trouble of their own.
        let of_late = |wait: &&Duration| self.cleared.is_none_or(|at| now.duration_since(at) > **wait);
        let longest = snapshot.waits.iter().filter(of_late).max().copied();
        let ask = if let Some(wait) = longest.filter(|wait| *wait >= self.pace.timeout) {
            if !self.only_seen {
                self.bad(format!("a client has waited {} for its first bytes", show(wait)));
                self.only_seen = true;
            }
            self.ask_if_idle(SshdAsk::Banner)
        } else if snapshot.served > 0 {
            self.banner_due = now + self.pace.banner_every;
            // Where the queue stands still they were taken before.
            if self.queue.still().is_zero() {
                self.good(format!("clients are served ({} since the last look)", snapshot.served));
            }
            None
        } else if longest.is_some_and(|wait| wait >= self.doubt()) {
            self.ask_if_idle(SshdAsk::Banner)
        } else if !self.is_well() && stuck {
            // Every further question would only lengthen its queue.
            self.bad(format!("{} connections wait, and none is taken", snapshot.queue));
            None
        } else if !self.is_well()
            || now >= self.banner_due
            || snapshot.strangers >= CROWD
            || !snapshot.listens
        {
            self.ask_if_idle(SshdAsk::Banner)
        } else {
            self.ask_if_idle(SshdAsk::Connect)
        };
        let pause = if self.hysteresis.is_settled() { self.pace.interval } else { self.pace.interval / 4 };
        // Whoever waits is looked at again when that is too long.
        let limit = |wait| if wait < self.doubt() { self.doubt() } else { self.pace.timeout };
        let too_long = longest.map(|wait| limit(wait).saturating_sub(wait)).filter(|left| !left.is_zero());
        self.next_look = now + too_long.map_or(pause, |left| left.min(pause));
        ask
    }

    /// A question was put; its answer is to come.
    pub fn asked(&mut self, now: Instant, ask: SshdAsk) {
        match ask {
            SshdAsk::Connect => self.connected = Some(now),
            SshdAsk::Banner => self.asked = Some(now),
        }
    }

    /// The accept queue was seen empty after a probe.
    pub fn taken(&mut self, now: Instant) {
        let Some(since) = self.connected.take() else { return };
        self.took = Some(now - since);
        if self.asked.is_none() && self.is_well() {
            self.good(format!("takes connections (in {})", show(now - since)));
        }
    }

    /// Takes in who waits in the accept queue.
    pub fn queued(&mut self, now: Instant, waiting: HashSet<Remote>) {
        self.queue.look(now, waiting);
        let limit = (self.pace.timeout / 8).max(STANDS_STILL_LEAST) * self.pace.fall;
        if self.queue.still() >= limit && self.has_answered && self.hysteresis.verdict() == Impact::None {
            let (waiting, still) = (self.queue.waiting(), show(self.queue.still()));
            for _ in 0..self.pace.fall {
                self.bad(format!("takes nobody from its queue ({waiting} wait) for {still}"));
            }
        }
    }

    /// Whether somebody waits to be accepted.
    pub fn is_queueing(&self) -> bool {
        self.queue.waiting() > 0
    }

    /// What a call, or a probe that failed at once, brought.
    pub fn answered(&mut self, now: Instant, answer: ProbeOutcome) {
        let since = self.asked.take().or(self.connected.take()).unwrap_or(now);
        self.took = Some(now - since);
        self.only_seen = false;
        match answer {
            ProbeOutcome::Banner(banner) => {
                self.connected = None;
                self.cleared = Some(since);
                self.banner_due = now + self.pace.banner_every;
                self.good(format!("{banner} (in {})", show(now - since)));
            }
            ProbeOutcome::Penalised => {
                self.banner_due = now + self.pace.banner_every;
                self.good(
                    "takes connections, but not from this host: put its VIPs into PerSourcePenaltyExemptList"
                        .into(),
                );
            }
            ProbeOutcome::Full => {
                self.count(Impact::Out(POORLY), "turns connections away: MaxStartups is reached".into())
            }
            ProbeOutcome::Refused => self.bad("nothing listens".into()),
            ProbeOutcome::Closed => self.bad("closes connections without a word".into()),
            ProbeOutcome::Stranger(said) => self.bad(format!("something else answers: \"{said}\"")),
            // Our own trouble proves nothing about sshd.
            ProbeOutcome::Unasked(why) => self.good = format!("cannot be asked: {why}"),
        }
        if !self.hysteresis.is_settled() {
            self.next_look = self.next_look.min(now + self.pace.interval / 4);
        }
    }

    /// Time has passed: counts what was not answered in time; says what to ask. Calls that took too long are given up.
    pub fn timeout(&mut self, now: Instant) -> (Option<SshdAsk>, bool) {
        let late =
            |since: Option<Instant>, limit| since.is_some_and(|since| now.duration_since(since) >= limit);
        let mut give_up = false;
        if late(self.asked, self.pace.timeout) {
            (self.asked, self.only_seen, give_up) = (None, false, true);
            self.took = Some(self.pace.timeout);
            self.bad(format!("no banner within {}", show(self.pace.timeout)));
            self.next_look = now;
        }
        if late(self.connected, self.pace.timeout) {
            (self.connected, self.only_seen) = (None, false);
            self.bad(format!("takes no connection within {}", show(self.pace.timeout)));
        }
        let doubt = late(self.connected, self.doubt()) && self.asked.is_none();
        (doubt.then_some(SshdAsk::Banner), give_up)
    }

    fn doubt(&self) -> Duration {
        DOUBT.min(self.pace.timeout / 2)
    }

    fn is_well(&self) -> bool {
        self.hysteresis.verdict() == Impact::None && self.hysteresis.is_settled()
    }

    fn ask_if_idle(&self, ask: SshdAsk) -> Option<SshdAsk> {
        (self.asked.is_none() && (ask == SshdAsk::Banner || self.connected.is_none())).then_some(ask)
    }

    fn good(&mut self, words: String) {
        self.good = words;
        (self.has_answered, self.only_seen) = (true, false);
        self.hysteresis.hear(Impact::None);
    }

    fn bad(&mut self, words: String) {
        self.count(Impact::Out(DEAD), words);
    }

    fn count(&mut self, impact: Impact, words: String) {
        self.bad = words;
        self.hysteresis.hear(impact);
    }
}

/// A time as people read it.
fn show(span: Duration) -> String {
    if span < Duration::from_secs(1) {
        format!("{:.1} ms", span.as_secs_f64() * 1e3)
    } else {
        format!("{:.1} s", span.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Virtual time, and an `sshd` of which only what it does is known.
    struct Story {
        check_run: CheckRun,
        now: Instant,
    }

    impl Story {
        fn new() -> Self {
            let now = Instant::now();
            let second = Duration::from_secs(1);
            let pace =
                CheckPace { interval: second, timeout: second, fall: 2, rise: 2, banner_every: 300 * second };
            let mut story = Self { check_run: CheckRun::new(pace, Impact::None, now), now };
            assert_eq!(story.look(&idle()), Some(SshdAsk::Banner), "it begins with a call");
            story.answer(ProbeOutcome::Banner("SSH-2.0-x".into()));
            story
        }

        fn look(&mut self, snapshot: &SocketSnapshot) -> Option<SshdAsk> {
            self.now = self.now.max(self.check_run.next_look());
            let ask = self.check_run.looked(self.now, snapshot);
            ask.into_iter().for_each(|ask| self.check_run.asked(self.now, ask));
            ask
        }

        fn pass(&mut self, span: Duration) -> Option<SshdAsk> {
            self.now += span;
            let (ask, _) = self.check_run.timeout(self.now);
            ask.into_iter().for_each(|ask| self.check_run.asked(self.now, ask));
            ask
        }

        fn answer(&mut self, answer: ProbeOutcome) {
            self.now += MS;
            self.check_run.answered(self.now, answer);
        }

        fn impact(&self) -> Impact {
            self.check_run.finding().impact
        }
    }

    fn idle() -> SocketSnapshot {
        SocketSnapshot { listens: true, ..SocketSnapshot::default() }
    }

    fn waiting(wait: Duration) -> SocketSnapshot {
        SocketSnapshot { waits: vec![wait], strangers: 1, ..idle() }
    }

    #[test]
    fn an_idle_sshd_is_connected_to_and_asked_once_in_a_while() {
        let mut story = Story::new();
        let start = story.now;
        let mut asked = Vec::new();
        while story.now < start + Duration::from_secs(301) {
            asked.extend(story.look(&idle()));
            match asked.last() {
                Some(SshdAsk::Connect) => story.check_run.taken(story.now + MS),
                _ => story.answer(ProbeOutcome::Banner("SSH-2.0-x".into())),
            }
        }
        assert_eq!(asked.iter().filter(|ask| **ask == SshdAsk::Banner).count(), 1);
        assert!((295..=305).contains(&asked.len()), "{}", asked.len());
    }

    #[test]
    fn a_busy_sshd_is_not_asked_at_all() {
        let mut story = Story::new();
        for _ in 0..1000 {
            assert_eq!(story.look(&SocketSnapshot { served: 1, strangers: 30, ..idle() }), None);
        }
        assert_eq!(story.impact(), Impact::None);
    }

    #[test]
    fn a_frozen_listener_is_out_within_two_and_a_half_seconds() {
        let mut story = Story::new();
        let frozen = story.now; // just after a good answer: the worst moment
        assert_eq!(story.look(&idle()), Some(SshdAsk::Connect));
        assert_eq!(story.pass(100 * MS), None);
        assert_eq!(story.pass(150 * MS), Some(SshdAsk::Banner), "doubt");
        story.pass(750 * MS);
        assert_eq!(story.impact(), Impact::None, "one bad answer is none");
        story.pass(250 * MS);
        assert_eq!(story.impact(), Impact::Out(DEAD));
        assert!(story.now - frozen <= 2500 * MS, "{:?}", story.now - frozen);
    }

    impl Story {
        /// For this long the queue is seen, with those who wait.
        fn queue(&mut self, span: Duration, clients: impl Fn(u16) -> std::ops::Range<u16>) {
            for round in 0..(span.as_millis() / 50) as u16 {
                self.now += 50 * MS;
                let name = |port| (std::net::Ipv4Addr::LOCALHOST.into(), port);
                self.check_run.queued(self.now, clients(round).map(name).collect());
            }
        }
    }

    #[test]
    fn a_queue_that_nobody_is_taken_from_is_out_in_a_quarter_of_a_second() {
        let mut story = Story::new();
        story.queue(250 * MS, |round| 0..1 + round);
        assert_eq!(story.impact(), Impact::None, "the first was seen 200 ms ago");
        story.queue(50 * MS, |round| 0..6 + round);
        assert_eq!(story.impact(), Impact::Out(DEAD));
        assert!(story.check_run.finding().words.contains("takes nobody from its queue"));
    }

    #[test]
    fn who_was_served_before_the_queue_stood_still_says_nothing_about_it() {
        let mut story = Story::new();
        story.queue(200 * MS, |_| 0..1);
        assert_eq!(story.look(&SocketSnapshot { served: 3, ..waiting(200 * MS) }), None);
        story.queue(100 * MS, |_| 0..1);
        assert_eq!(story.impact(), Impact::Out(DEAD));
        for _ in 0..2 {
            story.look(&SocketSnapshot { served: 3, ..idle() });
        }
        assert_eq!(story.impact(), Impact::Out(DEAD), "nor does it make well");
    }

    #[test]
    fn a_queue_that_moves_is_no_bad_answer_however_long_or_slow_it_is() {
        let mut story = Story::new();
        story.queue(60_000 * MS, |round| round / 4..round / 4 + 100);
        assert_eq!(story.impact(), Impact::None);
    }

    #[test]
    fn an_sshd_that_is_just_starting_may_let_the_queue_stand() {
        let now = Instant::now();
        let mut story = Story::new();
        story.check_run = CheckRun::new(story.check_run.pace, Impact::None, now);
        story.queue(900 * MS, |_| 0..2);
        assert_eq!(story.impact(), Impact::None, "there was no good answer yet");
    }

    #[test]
    fn while_its_queue_does_not_drain_no_more_is_put_into_it() {
        let mut story = Story::new();
        story.look(&idle());
        story.pass(250 * MS);
        story.pass(1000 * MS);
        assert_eq!(story.impact(), Impact::Out(DEAD));
        let full = SocketSnapshot { queue: 2, ..idle() };
        story.look(&full);
        story.pass(1000 * MS);
        for _ in 0..100 {
            assert_eq!(story.look(&full), None);
        }
        assert_eq!(story.look(&idle()), Some(SshdAsk::Banner), "it drains again");
        story.answer(ProbeOutcome::Banner("SSH-2.0-x".into()));
        assert_eq!(story.impact(), Impact::Out(DEAD), "rise is 2");
        story.look(&idle());
        story.answer(ProbeOutcome::Banner("SSH-2.0-x".into()));
        assert_eq!(story.impact(), Impact::None);
    }

    #[test]
    fn a_killed_sshd_is_out_at_once_and_a_restart_is_forgiven() {
        let mut story = Story::new();
        story.look(&SocketSnapshot::default());
        story.answer(ProbeOutcome::Refused);
        assert_eq!(story.impact(), Impact::None);
        let asked_again = story.check_run.next_look() - story.now;
        assert!(asked_again <= 250 * MS, "{asked_again:?}");
        assert_eq!(story.look(&SocketSnapshot::default()), Some(SshdAsk::Banner));
        story.answer(ProbeOutcome::Refused);
        assert_eq!(story.impact(), Impact::Out(DEAD));

        let mut story = Story::new();
        story.look(&SocketSnapshot::default());
        story.answer(ProbeOutcome::Refused);
        story.look(&idle());
        story.answer(ProbeOutcome::Banner("SSH-2.0-x".into()));
        assert_eq!(story.impact(), Impact::None);
    }

    #[test]
    fn a_client_that_waits_raises_doubt_but_does_not_decide() {
        let mut story = Story::new();
        story.now += Duration::from_secs(5);
        assert_eq!(story.look(&waiting(100 * MS)), Some(SshdAsk::Connect), "that is soon enough");
        story.check_run.taken(story.now);
        assert_eq!(story.check_run.next_look() - story.now, 150 * MS, "but looked at again");
        assert_eq!(story.look(&waiting(250 * MS)), Some(SshdAsk::Banner), "doubt");
        assert_eq!(story.check_run.next_look() - story.now, 750 * MS);
        for _ in 0..3 {
            story.look(&waiting(1000 * MS));
        }
        assert_eq!(story.impact(), Impact::None, "seen waiting too long three times, and still one answer");
        story.pass(1000 * MS);
        assert_eq!(story.impact(), Impact::Out(DEAD), "the call was not answered either");
    }

    #[test]
    fn a_moments_wait_among_clients_that_are_served_is_no_doubt() {
        let mut story = Story::new();
        story.now += Duration::from_secs(5);
        assert_eq!(story.look(&SocketSnapshot { served: 3, ..waiting(300 * MS) }), None);
    }

    #[test]
    fn one_client_that_hangs_for_ever_is_its_own_affair() {
        let mut story = Story::new();
        story.now += Duration::from_secs(5);
        let mut calls = 0;
        for seconds in 2..100 {
            let snapshot = waiting(Duration::from_secs(seconds));
            match story.look(&snapshot) {
                Some(SshdAsk::Banner) => {
                    calls += 1;
                    story.answer(ProbeOutcome::Banner("SSH-2.0-x".into()));
                }
                _ => story.check_run.taken(story.now),
            }
        }
        assert_eq!((calls, story.impact()), (1, Impact::None));
    }

    #[test]
    fn full_is_less_bad_than_dead_and_penalised_is_not_bad_at_all() {
        let mut story = Story::new();
        for _ in 0..2 {
            let crowd = SocketSnapshot { strangers: CROWD, ..idle() };
            assert_eq!(story.look(&crowd), Some(SshdAsk::Banner));
            story.answer(ProbeOutcome::Full);
        }
        assert_eq!(story.impact(), Impact::Out(POORLY));
        let mut story = Story::new();
        for _ in 0..5 {
            story.check_run.asked(story.now, SshdAsk::Banner);
            story.answer(ProbeOutcome::Penalised);
        }
        assert_eq!(story.impact(), Impact::None);
        assert!(story.check_run.finding().words.contains("PerSourcePenaltyExemptList"));
    }
}
