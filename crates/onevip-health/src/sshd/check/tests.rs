//! What looks, probes and banners prove, told as stories of one `sshd`.

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
    let probes = asked.len() - 1;
    assert!((8..=12).contains(&probes), "{probes} probes in five minutes: each costs a process");
}

#[test]
fn doubt_and_blindness_probe_an_idle_sshd_at_once() {
    for doubtful in [SocketSnapshot { queue: 1, ..idle() }, SocketSnapshot { blind: true, ..idle() }] {
        let mut story = Story::new();
        assert_eq!(story.look(&idle()), Some(SshdAsk::Connect));
        story.check_run.taken(story.now + MS);
        story.check_run.probe_again.0 = story.now + Duration::from_secs(60);
        assert_eq!(story.look(&idle()), None, "it is quiet");
        assert_eq!(story.look(&doubtful), Some(SshdAsk::Connect), "{doubtful:?}");
    }
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

#[test]
fn who_is_turned_away_without_a_word_makes_doubt_and_two_such_answers_make_ill() {
    let mut story = Story::new();
    story.now += Duration::from_secs(5);
    let turned_away = SocketSnapshot { ended: 1, ..idle() };
    let came = story.now;
    assert_eq!(story.look(&turned_away), Some(SshdAsk::Banner), "doubt");
    story.answer(ProbeOutcome::Closed);
    assert_eq!(story.impact(), Impact::None);
    assert_eq!(story.look(&idle()), Some(SshdAsk::Banner));
    story.answer(ProbeOutcome::Closed);
    assert_eq!(story.impact(), Impact::Out(DEAD));
    assert!(story.now - came <= 2 * story.check_run.pace.interval, "{:?}", story.now - came);
}

#[test]
fn a_flood_of_clients_that_are_turned_away_costs_few_calls() {
    let mut story = Story::new();
    let start = story.now;
    let (mut calls, turned_away) = (0, SocketSnapshot { ended: 9, ..idle() });
    while story.now < start + Duration::from_secs(120) {
        if story.look(&turned_away) == Some(SshdAsk::Banner) {
            calls += 1;
            story.answer(ProbeOutcome::Banner("SSH-2.0-x".into()));
        } else {
            story.check_run.taken(story.now);
        }
    }
    assert!((3..=8).contains(&calls), "{calls} calls in two minutes");
    let mut story = Story::new();
    story.now += Duration::from_secs(5);
    let among_others = SocketSnapshot { served: 1, ended: 9, ..idle() };
    assert_eq!(story.look(&among_others), None, "others are served");
}
