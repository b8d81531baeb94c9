//! Whether what comes in to open something is answered: judged by what was counted going in and coming out, whatever
//! keeps the answers back.
//!
//! A node that lets questions in and from which no answer leaves serves nobody. Once it is out it hears no more clients,
//! so nothing would ever show that it can serve again: after a while it is tried again, and after each vain try the
//! while is twice as long (the exponential backoff of circuit breakers; M. Nygard, Release It!, 2nd ed., 2018, ch. 5).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// So many have to come in without one answer: what Linux sends of a SYN or a neighbour's question within about 3 s
/// (`mcast_solicit` is 3; SYNs are repeated after 1 and 3 s).
const ENOUGH: u64 = 3;
/// For so long the first has to wait: any kernel that answers at all does within milliseconds.
const WAITS: Duration = Duration::from_secs(1);
/// After so long without a verdict it begins anew: old questions are no evidence about now.
const FORGET: Duration = Duration::from_secs(10);
/// When a node that was found mute is tried again; after each vain try twice as late, up to [`RETRY_MAX`].
const RETRY: Duration = Duration::from_secs(15);
/// The longest time without a try.
const RETRY_MAX: Duration = Duration::from_secs(300);
/// Who answered for so long after a try begins anew with [`RETRY`].
const SOUND: Duration = Duration::from_secs(600);

/// How many came in, and how many answers left, since the counters were made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Openings {
    /// Came in.
    pub asked: u64,
    /// Left.
    pub answered: u64,
    /// Who asked last, where that is known.
    pub source: Option<IpAddr>,
}

/// What a look at one kind of questions shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Evidence {
    /// Nobody asked, or not for long enough.
    Nothing,
    /// An answer left.
    Answered,
    /// Enough came in, and no answer left.
    Mute,
}

/// Watches one kind of questions, as SYNs of clients behind a router to one address.
#[derive(Clone, Debug)]
pub struct Gauge {
    /// What is asked, as in "no SYN-ACK leaves 198.51.100.10 for routed clients".
    pub words: String,
    /// How many different sources have to ask: a filter may well drop what one of them sends.
    sources_min: usize,
    last: Option<Openings>,
    asked: u64,
    since: Option<Instant>,
    sources: BTreeSet<IpAddr>,
}

impl Gauge {
    /// Of questions whose want of an answer these words tell; `sources_min` is how many sources make evidence, 0 where
    /// they are not known.
    pub fn new(words: String, sources_min: usize) -> Self {
        Self { words, sources_min, last: None, asked: 0, since: None, sources: BTreeSet::new() }
    }

    fn forget(&mut self) {
        (self.asked, self.since) = (0, None);
        self.sources.clear();
    }

    fn look(&mut self, now: Instant, openings: Openings) -> Evidence {
        let last = self.last.replace(openings).unwrap_or(openings);
        // Counters that were made anew say nothing.
        let (Some(asked), Some(answered)) =
            (openings.asked.checked_sub(last.asked), openings.answered.checked_sub(last.answered))
        else {
            self.forget();
            return Evidence::Nothing;
        };
        if answered > 0 {
            self.forget();
            return Evidence::Answered;
        }
        if self.since.is_some_and(|since| now.duration_since(since) > FORGET) {
            self.forget();
        }
        if asked > 0 {
            self.asked += asked;
            self.since.get_or_insert(now);
            self.sources.extend(openings.source);
        }
        let waited = self.since.is_some_and(|since| now.duration_since(since) >= WAITS);
        let enough = self.asked >= ENOUGH && self.sources.len() >= self.sources_min;
        if waited && enough { Evidence::Mute } else { Evidence::Nothing }
    }
}

/// Finds out whether the resets of this host's stack leave: a filter that wants to see a connection's beginning keeps them
/// back, and sessions whose node died would freeze.
#[derive(Clone, Debug, Default)]
pub struct ResetWatch {
    last: Option<(u64, u64)>,
    since: Option<Instant>,
}

impl ResetWatch {
    /// Takes in how many orphans were let in and how many resets left, since the counters were made; whether the resets
    /// are missing: none left for [`WAITS`] after an orphan was let in.
    pub fn look(&mut self, now: Instant, orphans: u64, resets: u64) -> bool {
        let (orphans_before, resets_before) =
            self.last.replace((orphans, resets)).unwrap_or((orphans, resets));
        if resets != resets_before {
            self.since = None;
        } else if orphans > orphans_before {
            self.since.get_or_insert(now);
        }
        self.since.is_some_and(|since| now.duration_since(since) >= WAITS)
    }
}

/// A change of the verdict.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Turn {
    /// What comes in is not answered, in words.
    Mute(String),
    /// An answer left again.
    Answers,
    /// It is time to see whether it answers again.
    Retry,
}

/// Since when a node is mute, and what about.
#[derive(Debug)]
struct Muteness {
    gauge: usize,
    until: Instant,
}

/// Judges all kinds of questions together.
#[derive(Debug)]
pub struct AnswersHysteresis {
    gauges: Vec<Gauge>,
    mute: Option<Muteness>,
    retry: Duration,
    since: Option<Instant>,
}

impl AnswersHysteresis {
    /// By these gauges.
    pub fn new(gauges: Vec<Gauge>) -> Self {
        Self { gauges, mute: None, retry: RETRY, since: None }
    }

    /// Takes in the openings of each gauge. `pardoned` gauges are not judged now: their silence is somebody else's finding.
    pub fn look(
        &mut self,
        now: Instant,
        openings: &[Openings],
        pardoned: impl Fn(usize) -> bool,
    ) -> Option<Turn> {
        let mut found = None;
        for (index, (gauge, counted)) in self.gauges.iter_mut().zip(openings).enumerate() {
            let evidence = gauge.look(now, *counted);
            if pardoned(index) {
                gauge.forget();
                continue;
            }
            match evidence {
                Evidence::Mute => _ = found.get_or_insert(index),
                Evidence::Answered if self.mute.as_ref().is_some_and(|mute| mute.gauge == index) => {
                    self.mute = None;
                    self.since = Some(now);
                    return Some(Turn::Answers);
                }
                Evidence::Answered | Evidence::Nothing => {}
            }
        }
        match (&mut self.mute, found) {
            (None, Some(gauge)) => {
                if self.since.is_none_or(|since| now.duration_since(since) >= SOUND) {
                    self.retry = RETRY;
                }
                self.mute = Some(Muteness { gauge, until: now + self.retry });
                self.retry = (self.retry * 2).min(RETRY_MAX);
                Some(Turn::Mute(self.gauges[gauge].words.clone()))
            }
            // All nodes are ill alike, so it serves on: to be well again it has to answer.
            (Some(mute), Some(_)) => {
                mute.until = mute.until.max(now + WAITS);
                None
            }
            (Some(mute), None) if now >= mute.until => {
                self.mute = None;
                self.since = Some(now);
                self.gauges.iter_mut().for_each(Gauge::forget);
                Some(Turn::Retry)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_are_missing_when_an_orphan_was_let_in_and_none_left() {
        let (mut watch, begin) = (ResetWatch::default(), Instant::now());
        let mut at = |ms, orphans, resets| watch.look(begin + Duration::from_millis(ms), orphans, resets);
        assert!(!at(0, 5, 3), "what was before says nothing");
        assert!(!at(2000, 5, 3), "nor does quiet");
        assert!(!at(3000, 6, 3) && !at(3900, 6, 3));
        assert!(at(4000, 6, 3), "a second without a reset");
        assert!(!at(4100, 7, 4) && !at(9000, 7, 4), "one left");
    }

    /// Plays seconds in tenths: `(asked, answered)` in each.
    struct Play {
        hysteresis: AnswersHysteresis,
        now: Instant,
        openings: Openings,
    }

    impl Play {
        fn new() -> Self {
            let hysteresis = AnswersHysteresis::new(vec![Gauge::new("mute".into(), 2)]);
            let mut play = Self { hysteresis, now: Instant::now(), openings: Openings::default() };
            assert_eq!(play.step(0, 0, 1), None);
            play
        }

        fn step(&mut self, asked: u64, answered: u64, source: u8) -> Option<Turn> {
            self.now += Duration::from_millis(100);
            self.openings.asked += asked;
            self.openings.answered += answered;
            self.openings.source = Some([198, 51, 100, source].into());
            self.hysteresis.look(self.now, &[self.openings], |_| false)
        }

        fn quiet(&mut self, tenths: u64) -> Vec<Turn> {
            (0..tenths).filter_map(|_| self.step(0, 0, 1)).collect()
        }

        fn falls_mute(&mut self) -> Vec<Turn> {
            let asked = [1, 2, 3].map(|source| self.step(1, 0, source));
            asked.into_iter().flatten().chain(self.quiet(10)).collect()
        }
    }

    #[test]
    fn who_lets_in_and_answers_nobody_for_a_second_is_mute() {
        let mut play = Play::new();
        assert_eq!(play.falls_mute(), [Turn::Mute("mute".into())]);
        assert_eq!(play.step(1, 1, 1), Some(Turn::Answers));
    }

    #[test]
    fn one_answer_one_source_or_old_questions_are_no_evidence() {
        let mut play = Play::new();
        (0..3).for_each(|source| assert_eq!(play.step(1, 0, source), None));
        assert_eq!(play.step(0, 1, 1), None);
        assert_eq!(play.quiet(50), []);
        (0..50).for_each(|_| assert_eq!(play.step(1, 0, 7), None, "one that a filter drops"));
        assert_eq!(play.quiet(150), []);
        for source in 1..20 {
            assert_eq!(play.step(1, 0, source), None, "one in 11 s");
            assert_eq!(play.quiet(110), []);
        }
    }

    #[test]
    fn it_is_tried_again_and_later_after_each_vain_try() {
        let mut play = Play::new();
        let mut waits = Vec::new();
        for _ in 0..7 {
            assert_eq!(play.falls_mute(), [Turn::Mute("mute".into())]);
            let from = play.now;
            while play.step(0, 0, 1) != Some(Turn::Retry) {}
            waits.push((play.now - from).as_secs_f64().round() as u64);
        }
        assert_eq!(waits, [15, 30, 60, 120, 240, 300, 300]);
        play.quiet(6000);
        play.falls_mute();
        assert_eq!(play.quiet(160), [Turn::Retry], "after ten sound minutes it begins anew");
    }

    #[test]
    fn counters_made_anew_and_what_others_find_are_no_evidence() {
        let mut play = Play::new();
        (0..3).for_each(|source| assert_eq!(play.step(1, 0, source), None));
        play.openings = Openings::default();
        assert_eq!(play.quiet(30), []);
        (0..30).for_each(|source| {
            play.now += Duration::from_millis(100);
            play.openings.asked += 1;
            play.openings.source = Some([198, 51, 100, source].into());
            assert_eq!(play.hysteresis.look(play.now, &[play.openings], |_| true), None);
        });
    }
}
