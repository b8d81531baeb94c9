//! The course of asking one node whether it serves: when, and what the answers mean. No socket, no clock.
//!
//! A node is asked only when there is a doubt, by a call that waits for the banner. Silence means something only where
//! the node took a connection of ours before, so that no filter on the way is taken for a sick `sshd`: for that, a *touch*
//! now and then, a connection that is reset before the handshake is complete, of which `sshd` never hears. A node that
//! refuses touches (its `sshd` listens at the VIP alone) cannot be judged from here, and we have no say about it.

use onevip_health::sshd::check::CheckPace;
use onevip_health::sshd::probe::ProbeOutcome;
use std::time::{Duration, Instant};

/// How often a node is touched.
const TOUCH_EVERY: Duration = Duration::from_secs(60);
/// And while it refuses.
const TOUCH_AGAIN: Duration = Duration::from_secs(5);
/// A touch that it took counts for so long.
const REACHED_FOR: Duration = Duration::from_secs(150);
/// After a doubt without reason the next one waits for so long, and each further one for twice as long, up to the second:
/// each costs a line in a log.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// So long without a doubt, and all of that is forgotten.
const CALM: Duration = Duration::from_secs(60);
/// A call that is not answered for so long is made anew.
const REDIAL: Duration = Duration::from_secs(60);

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Nothing.
    Wait,
    /// Open a connection and end it before `sshd` hears of it.
    Touch,
    /// Open a connection and wait for the banner.
    Call,
    /// End the call without an answer.
    HangUp,
}

/// What is known of one node.
#[derive(Clone, Debug)]
pub struct PeerCheck {
    pace: CheckPace,
    reached: Option<Instant>,
    next_touch: Instant,
    /// When the running call began.
    calling: Option<Instant>,
    next_call: Instant,
    patience: Duration,
    doubted: Option<Instant>,
    /// Times `timeout` that the running call has waited.
    bad: u32,
    good: u32,
    suspects: bool,
}

impl PeerCheck {
    /// Of a node of which nothing is known.
    pub fn new(pace: CheckPace, now: Instant) -> Self {
        Self {
            pace,
            reached: None,
            next_touch: now,
            calling: None,
            next_call: now,
            patience: PATIENCE.0,
            doubted: None,
            bad: 0,
            good: 0,
            suspects: false,
        }
    }

    /// Whether we have a say.
    pub fn able(&self, now: Instant) -> bool {
        self.reached.is_some_and(|reached| now < reached + REACHED_FOR)
    }

    /// Whether it does not serve.
    pub fn suspects(&self, now: Instant) -> bool {
        self.suspects && self.able(now)
    }

    /// We were stopped ourselves: what did not come meanwhile proves nothing.
    pub fn forgive(&mut self, now: Instant) {
        self.calling = self.calling.map(|_| now);
        self.bad = 0;
    }

    /// What to do now. `doubt`: there is a reason to ask.
    pub fn next(&mut self, now: Instant, doubt: bool) -> Step {
        if doubt {
            self.doubted = Some(now);
        } else if self.doubted.is_some_and(|doubted| now >= doubted + CALM) {
            (self.doubted, self.patience) = (None, PATIENCE.0);
        }
        if let Some(begun) = self.calling {
            return self.waits(now, begun);
        }
        if self.able(now) && now >= self.next_call && (doubt || self.suspects) {
            self.calling = Some(now);
            return Step::Call;
        }
        // While it is suspected the calls tell more.
        if now >= self.next_touch && !self.suspects {
            self.next_touch = now + TOUCH_EVERY;
            return Step::Touch;
        }
        Step::Wait
    }

    fn waits(&mut self, now: Instant, begun: Instant) -> Step {
        let waited = now.saturating_duration_since(begun);
        self.bad = self.bad.max((waited.as_nanos() / self.pace.timeout.as_nanos().max(1)) as u32);
        if self.bad > 0 {
            self.good = 0;
        }
        self.suspects |= self.bad >= self.pace.fall;
        if waited >= REDIAL {
            self.calling = None;
            self.next_call = now;
            return Step::HangUp;
        }
        Step::Wait
    }

    /// A touch was taken, or not.
    pub fn touched(&mut self, now: Instant, taken: bool) {
        if taken {
            self.reached = Some(now);
        } else {
            self.next_touch = now + TOUCH_AGAIN;
        }
    }

    /// The call was answered.
    pub fn answered(&mut self, now: Instant, answer: &ProbeOutcome) {
        let late = self.calling.take().is_none_or(|begun| now >= begun + self.pace.timeout);
        self.bad = 0;
        match answer {
            // It speaks. That it has no room, or not for us, is its own business to tell.
            ProbeOutcome::Banner(_)
            | ProbeOutcome::Full
            | ProbeOutcome::Penalised
            | ProbeOutcome::Stranger(_)
                if !late =>
            {
                self.reached = Some(now);
                self.serves(now);
            }
            // Too late; at once it is asked again, for it may have woken up.
            ProbeOutcome::Banner(_)
            | ProbeOutcome::Full
            | ProbeOutcome::Penalised
            | ProbeOutcome::Stranger(_) => {
                self.reached = Some(now);
                self.good = 0;
                self.next_call = now;
            }
            // That says nothing of its clients: it may speak at the VIP alone, or to others alone.
            ProbeOutcome::Refused | ProbeOutcome::Closed | ProbeOutcome::Unasked(_) => {
                self.good = 0;
                self.next_call = now + self.pace.interval.max(PATIENCE.0);
            }
        }
    }

    fn serves(&mut self, now: Instant) {
        if !self.suspects {
            self.next_call = now + self.patience;
            self.patience = (self.patience * 2).min(PATIENCE.1);
            return;
        }
        self.good += 1;
        self.next_call = now + self.pace.interval;
        if self.good >= self.pace.rise {
            (self.good, self.suspects) = (0, false);
            self.next_touch = now + TOUCH_EVERY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that is asked every 100 ms.
    struct Story {
        check: PeerCheck,
        now: Instant,
        calls: u32,
    }

    impl Story {
        fn new() -> Self {
            let now = Instant::now();
            let (interval, timeout) = (Duration::from_secs(1), Duration::from_secs(1));
            let pace = CheckPace { interval, timeout, fall: 2, rise: 2, banner_every: interval };
            Self { check: PeerCheck::new(pace, now), now, calls: 0 }
        }

        /// One that has taken a touch.
        fn reached() -> Self {
            let mut story = Self::new();
            assert_eq!(story.check.next(story.now, false), Step::Touch);
            story.check.touched(story.now, true);
            story
        }

        /// Lets time pass; calls are answered like this, touches taken.
        fn passes(&mut self, seconds: u64, doubt: bool, answer: Option<&ProbeOutcome>) {
            for _ in 0..seconds * 10 {
                self.now += Duration::from_millis(100);
                match self.check.next(self.now, doubt) {
                    Step::Call => {
                        self.calls += 1;
                        if let Some(answer) = answer {
                            self.check.answered(self.now, answer);
                        }
                    }
                    Step::Touch => self.check.touched(self.now, true),
                    Step::Wait | Step::HangUp => {}
                }
            }
        }

        fn suspects(&self) -> bool {
            self.check.suspects(self.now)
        }
    }

    fn banner() -> ProbeOutcome {
        ProbeOutcome::Banner("SSH-2.0-x".into())
    }

    #[test]
    fn nobody_is_asked_without_a_doubt() {
        let mut story = Story::reached();
        story.passes(600, false, None);
        assert_eq!(story.calls, 0);
        assert!(story.check.able(story.now), "but touched");
    }

    #[test]
    fn silence_in_doubt_is_suspicious_and_good_answers_end_it() {
        let mut story = Story::reached();
        story.passes(2, true, None);
        assert!(!story.suspects(), "one second of silence is one bad answer");
        story.passes(1, false, None);
        assert!(story.suspects() && story.calls == 1, "the same call goes on waiting: {}", story.calls);
        story.passes(30, false, None);
        assert!(story.suspects() && story.calls == 1);
        // It wakes up and answers what waited: too late to be good, but it is asked again at once.
        story.check.answered(story.now, &banner());
        story.passes(1, false, Some(&banner()));
        assert!(story.suspects(), "one good answer is not enough");
        story.passes(2, false, Some(&banner()));
        assert!(!story.suspects());
        let calls = story.calls;
        story.passes(100, false, Some(&banner()));
        assert_eq!(story.calls, calls, "and nobody asks any more");
    }

    #[test]
    fn a_doubt_without_reason_costs_less_and_less() {
        let mut story = Story::reached();
        story.passes(600, true, Some(&banner()));
        assert!(!story.suspects());
        assert!((15..=30).contains(&story.calls), "{} calls in ten minutes", story.calls);
        story.passes(61, false, None);
        story.passes(1, true, Some(&banner()));
        story.passes(3, true, Some(&banner()));
        assert!(story.calls >= 17, "after a calm minute the first doubt counts again");
    }

    #[test]
    fn who_never_took_a_connection_cannot_be_judged() {
        let mut story = Story::new();
        story.check.next(story.now, false);
        story.check.touched(story.now, false);
        for _ in 0..100 {
            story.now += Duration::from_millis(100);
            match story.check.next(story.now, true) {
                Step::Touch => story.check.touched(story.now, false),
                step => assert_eq!(step, Step::Wait),
            }
        }
        assert!(!story.check.able(story.now) && !story.suspects());
    }

    #[test]
    fn a_refusal_proves_nothing() {
        let mut story = Story::reached();
        story.passes(60, true, Some(&ProbeOutcome::Refused));
        assert!(!story.suspects());
        story.passes(60, true, Some(&ProbeOutcome::Closed));
        assert!(!story.suspects());
    }

    #[test]
    fn a_vote_ends_when_we_lose_our_say() {
        let mut story = Story::reached();
        story.passes(5, true, None);
        assert!(story.suspects());
        story.check.answered(story.now, &ProbeOutcome::Refused);
        story.passes(160, true, Some(&ProbeOutcome::Refused));
        assert!(!story.suspects() && !story.check.able(story.now));
    }

    #[test]
    fn our_own_stall_is_not_its_silence() {
        let mut story = Story::reached();
        story.passes(1, true, None);
        story.now += Duration::from_secs(20);
        story.check.forgive(story.now);
        story.check.next(story.now, true);
        assert!(!story.suspects());
    }
}
