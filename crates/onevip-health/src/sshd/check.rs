//! When `sshd` is looked at, when it is asked, and what that proves.
//!
//! - Clients that came and were served since the last look are a good answer: nobody is asked.
//! - Where nobody came, a probe is a good answer when it is taken from the accept queue in time. The longer all is quiet
//!   and well, the rarer it is: whoever comes and is not served is seen by the sockets.
//! - Doubt asks for the banner: a probe that is not taken within [`DOUBT`], a client that waits for longer than that while
//!   nobody is served, a crowd on which nobody has logged in while nobody is served (`MaxStartups`), an answer that was bad just now.
//! - So does a client whose connection this side has ended, while nobody is served: a relay without a backend does that.
//! - A client that waited for longer than `timeout` is one bad answer, but never the last one: for that somebody has to be asked.
//! - An accept queue of which nobody is taken for `fall` eighths of `timeout` makes ill at once, if a good
//!   answer came before (it may be starting): taking connections is up to `sshd` alone.
//! - While `sshd` is ill only the banner, or served clients, count as good.

use super::probe::ProbeOutcome;
use super::queue::{Queue, Remote};
use super::socket_snapshot::SocketSnapshot;
use crate::hysteresis::Hysteresis;
use crate::impact::{DEAD, Finding, Impact, POORLY};
use crate::results::NO_ROOM;
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
/// Between two doubts because of clients that this side turned away: at first, at most, and what makes it begin anew. As
/// with the doubts of peers (docs/health.md).
const ENDED_PAUSE: Duration = Duration::from_secs(2);
const ENDED_PAUSE_MOST: Duration = Duration::from_secs(30);
const ENDED_FORGOTTEN: Duration = Duration::from_secs(60);
/// An idle `sshd` is probed at longer and longer pauses, up to this one: each probe costs it a process, and some servers a
/// line in the log.
const PROBE_PAUSE_MOST: Duration = Duration::from_secs(60);

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
    /// When clients that were turned away without a word make doubt again, and the pause after that: floods look like
    /// it, and a call costs a line in the log.
    ended_again: (Instant, Duration),
    /// When an idle `sshd` is probed again, and the pause before the probe after that.
    probe_again: (Instant, Duration),
    /// There was a good answer.
    has_answered: bool,
    good: String,
    bad: String,
    took: Option<Duration>,
}

impl CheckRun {
    /// Begins with a call, and with a verdict (of an check before this one).
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
            ended_again: (now, ENDED_PAUSE),
            probe_again: (now, pace.interval),
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

    /// Makes a look and a call due.
    pub fn call_soon(&mut self, now: Instant) {
        (self.next_look, self.banner_due) = (self.next_look.min(now), self.banner_due.min(now));
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
        } else if longest.is_some_and(|wait| wait >= self.doubt()) || self.ended_makes_doubt(now, snapshot) {
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
        } else if snapshot.blind || snapshot.queue > 0 || now >= self.probe_again.0 {
            self.ask_if_idle(SshdAsk::Connect)
        } else {
            // Whoever comes in vain is seen in the queue, or waiting.
            None
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
            SshdAsk::Connect => {
                let pause = self.probe_again.1;
                self.connected = Some(now);
                self.probe_again = (now + pause, (pause * 2).min(PROBE_PAUSE_MOST.max(pause)));
            }
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
            ProbeOutcome::Full => self.count(Impact::Out(POORLY), NO_ROOM.into()),
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

    /// Clients came, and this side ended it, while nobody is served.
    fn ended_makes_doubt(&mut self, now: Instant, snapshot: &SocketSnapshot) -> bool {
        let (again, pause) = self.ended_again;
        let doubt = snapshot.ended > 0 && now >= again && self.asked.is_none();
        if doubt {
            let calm = now.duration_since(again) > ENDED_FORGOTTEN;
            let pause = if calm { ENDED_PAUSE } else { pause };
            self.ended_again = (now + pause, (pause * 2).min(ENDED_PAUSE_MOST));
        }
        doubt
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
        self.probe_again = (self.next_look, self.pace.interval);
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
mod tests;
