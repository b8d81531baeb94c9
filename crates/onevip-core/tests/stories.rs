//! Small stories about two or three engines, told beat by beat.
#![allow(clippy::unwrap_used)] // A test may panic, its helpers included.

use onevip_core::beat::{Beat, Incarnation, NodeState};
use onevip_core::membership::{Config, Engine, Event, Failback, Family, Output, Timing, WhyOut};
use onevip_core::{BucketSet, Mapping, NodeId, NodeSet, Time, Weight};
use std::time::Duration;

const BEAT: Duration = Duration::from_millis(50);

fn node(number: u8) -> NodeId {
    NodeId::new(number).unwrap()
}

fn config(number: u8, failback: Failback) -> Config {
    Config {
        me: node(number),
        host: u32::from(number),
        nodes: (1..=3).map(node).collect::<NodeSet>(),
        weight: Weight::NORMAL,
        mapping: Mapping::Balanced,
        pinned: NodeSet::EMPTY,
        seed: 0,
        failback,
        timing: Timing::new(BEAT),
    }
}

/// Engines on one perfect segment without delay.
struct Segment {
    now: Time,
    engines: Vec<Option<Engine>>,
    events: Vec<(usize, Event)>,
    /// What engines said of orphans (`Settled`), and when.
    settlings: Vec<(usize, Time, Time)>,
    /// What engines had watched, each time that changed.
    watches: Vec<(usize, BucketSet)>,
    /// Everything that was ever sent.
    tape: Vec<Beat>,
    /// Beats from or to this node are lost so often, in percent.
    loss: Option<(u8, u32)>,
    dice: u32,
    /// The VIP has both families.
    both_families: bool,
    /// The segment withholds this family from these nodes.
    withheld: Option<(Family, &'static [u8])>,
    /// The kernels of these nodes live, daemon or not.
    kernels: &'static [u8],
    /// The kernels of these answer no questions.
    unaskable: &'static [u8],
    /// The questions of these cannot be sent.
    cannot_ask: &'static [u8],
    /// The beats of these cannot be sent.
    cannot_send: &'static [u8],
    /// Nobody takes the beats of these.
    rejected: &'static [u8],
}

impl Segment {
    fn new() -> Self {
        let engines = (0..3).map(|_| None).collect();
        let now = Time::from_nanos(5_000_000_000);
        Self {
            now,
            engines,
            events: Vec::new(),
            settlings: Vec::new(),
            watches: Vec::new(),
            tape: Vec::new(),
            loss: None,
            dice: 1,
            both_families: false,
            withheld: None,
            kernels: &[],
            unaskable: &[],
            cannot_ask: &[],
            cannot_send: &[],
            rejected: &[],
        }
    }

    fn start(&mut self, number: u8, incarnation: u32) {
        self.start_with(config(number, Failback::Idle), incarnation);
    }

    fn start_with(&mut self, config: Config, incarnation: u32) {
        let index = config.me.index();
        let mut engine = Engine::new(config, Incarnation(incarnation), BucketSet::EMPTY, self.now);
        if self.both_families {
            engine.expect_both_families();
        }
        self.engines[index] = Some(engine);
        self.flush();
    }

    fn engine(&mut self, number: u8) -> &mut Engine {
        self.engines[number as usize - 1].as_mut().unwrap()
    }

    fn tell(&mut self, number: u8, input: impl FnOnce(&mut Engine, Time)) {
        let now = self.now;
        input(self.engine(number), now);
        self.flush();
    }

    /// Carries out everything that is to be done at this instant.
    fn flush(&mut self) {
        loop {
            let (mut sent, mut asked) = (Vec::new(), Vec::new());
            for (index, engine) in self.engines.iter_mut().enumerate() {
                while let Some(output) = engine.as_mut().and_then(Engine::poll_output) {
                    match output {
                        Output::Send(beat) => {
                            let works = !self.cannot_send.contains(&(index as u8 + 1));
                            engine.as_mut().unwrap().speaks(self.now, works);
                            sent.extend(works.then_some((index, *beat)));
                        }
                        Output::Probe(node) => asked.push((index, node)),
                        Output::Event(event) => self.events.push((index, event)),
                        Output::Watch(buckets) => self.watches.push((index, buckets)),
                        Output::Settled(since) => self.settlings.push((index, self.now, since)),
                        _ => {}
                    }
                }
            }
            if sent.is_empty() && asked.is_empty() {
                return;
            }
            for (from, node) in asked {
                self.ask(from, node);
            }
            for (from, beat) in sent {
                for to in (0..3).filter(|to| *to != from) {
                    let lost = self.loses(from, to) || self.rejected.contains(&(from as u8 + 1));
                    let (families, withheld) = (self.families(), self.withheld);
                    let Some(engine) = self.engines[to].as_mut().filter(|_| !lost) else { continue };
                    for &family in families {
                        let deaf =
                            |(what, whom): (Family, &[u8])| what == family && whom.contains(&(to as u8 + 1));
                        if !withheld.is_some_and(deaf) {
                            engine.beat_received(self.now, family, &beat);
                        }
                    }
                }
                self.tape.push(beat);
            }
        }
    }

    /// A question for a node's kernel: whether it leaves, and whether it is answered.
    fn ask(&mut self, from: usize, node: NodeId) {
        let (now, number) = (self.now, node.get());
        let Some(engine) = self.engines[from].as_mut() else { return };
        if self.cannot_ask.contains(&(from as u8 + 1)) {
            return;
        }
        engine.kernel_asked(now, node);
        let cut =
            self.loss.is_some_and(|(of, percent)| percent == 100 && [from as u8 + 1, number].contains(&of));
        let lives = self.engines[node.index()].is_some() || self.kernels.contains(&number);
        if lives && !cut && !self.unaskable.contains(&number) {
            self.engines[from].as_mut().unwrap().kernel_answered(now, node);
        }
    }

    fn families(&self) -> &'static [Family] {
        if self.both_families { &[Family::V4, Family::V6] } else { &[Family::V4] }
    }

    fn loses(&mut self, from: usize, to: usize) -> bool {
        let Some((node, percent)) = self.loss.filter(|(node, _)| [from, to].contains(&(*node as usize - 1)))
        else {
            return false;
        };
        assert!(node > 0);
        self.dice = self.dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223); // Numerical Recipes
        (self.dice >> 8) % 100 < percent
    }

    fn run(&mut self, beats: u32) {
        let end = self.now + BEAT * beats;
        while self.now < end {
            let due = self.engines.iter().flatten().map(Engine::poll_timeout).min().unwrap_or(end);
            self.now = due.clamp(self.now + Duration::from_micros(10), end);
            for (index, engine) in self.engines.iter_mut().enumerate() {
                let Some(engine) = engine else { continue };
                // Somebody else's frames always arrive on this segment, unless a cable is out.
                if self.loss != Some((index as u8 + 1, 100)) {
                    engine.others_arrive(self.now);
                }
                if engine.poll_timeout() <= self.now {
                    engine.timeout(self.now);
                }
            }
            self.flush();
        }
    }

    fn claims(&self) -> Vec<usize> {
        self.engines.iter().map(|engine| engine.as_ref().map_or(0, |engine| engine.claims().len())).collect()
    }
}

#[test]
fn a_family_that_does_not_come_is_named_and_not_claimed_blindly() {
    let mut segment = Segment { both_families: true, ..Segment::new() };
    for number in 1..=3 {
        segment.start(number, 1);
    }
    segment.run(60);
    let all = segment.claims();
    assert!(all.iter().sum::<usize>() == 1024 && all.iter().all(|&claims| claims > 0), "{all:?}");
    let said = |segment: &Segment, who: usize, lost: bool| {
        let is = |event: &Event| matches!(event, Event::FamilyLost { family: Family::V6, lost: l, .. } if *l == lost);
        segment.events.iter().filter(|(index, event)| *index + 1 == who && is(event)).count()
    };
    assert_eq!(said(&segment, 2, true), 0);

    segment.withheld = Some((Family::V6, &[2]));
    segment.run(60);
    assert_eq!(said(&segment, 2, true), 2, "of both others, once each");
    assert_eq!(segment.engine(2).deaf_to(), Some(Family::V6));
    assert_eq!(segment.claims()[1], 0, "others hear it, so they take its share");
    assert_eq!(segment.claims().iter().sum::<usize>(), 1024);
    let now = segment.now;
    assert_eq!(segment.engine(2).status(now).why_out, Some(WhyOut::Deaf(Family::V6)));

    segment.withheld = Some((Family::V6, &[1, 2, 3]));
    segment.run(100);
    let claims = segment.claims();
    assert!(
        claims.iter().all(|&claims| claims > 300),
        "if nobody hears it, the other is served by all: {claims:?}"
    );

    segment.withheld = None;
    segment.run(100);
    assert_eq!((said(&segment, 1, false), said(&segment, 2, false)), (2, 2));
    assert_eq!(segment.claims().iter().sum::<usize>(), 1024);
    assert_eq!(segment.engine(1).deaf_to(), None);
}

fn settled() -> Segment {
    let mut segment = Segment::new();
    for number in 1..=3 {
        segment.start(number, 10);
    }
    segment.run(60);
    segment
}

#[test]
fn three_nodes_share_everything() {
    let segment = settled();
    assert_eq!(segment.claims().iter().sum::<usize>(), 1024);
    assert!(segment.claims().iter().all(|&claims| claims > 300), "{:?}", segment.claims());
}

#[test]
fn a_node_that_is_not_in_everybodys_file_yet_gets_its_share() {
    let mut segment = Segment::new();
    for number in [1, 2] {
        segment.start_with(
            Config { nodes: [1, 2].map(node).into_iter().collect(), ..config(number, Failback::Idle) },
            1,
        );
    }
    segment.run(40);
    segment.start(3, 1);
    segment.run(60);
    assert_eq!(segment.claims(), [342, 341, 341]);
    assert!(segment.events.contains(&(0, Event::NotInFile(node(3)))));
}

#[test]
fn a_node_alone_serves_after_six_beats() {
    let mut segment = Segment::new();
    segment.start(1, 10);
    segment.run(5);
    assert_eq!(segment.claims()[0], 0);
    segment.run(3);
    assert_eq!(segment.claims()[0], 1024);
}

#[test]
fn busy_buckets_wait_for_their_sessions_to_end() {
    let mut segment = Segment::new();
    segment.start(1, 10);
    segment.run(10);
    let busy = BucketSet::from_words([u64::MAX, u64::MAX, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    segment.tell(1, |engine, now| engine.guests_scanned(now, busy, now));
    segment.start(2, 10);
    segment.run(60);
    let kept = segment.engine(1).claims();
    assert_eq!(kept.and(&busy), busy, "busy buckets stay");
    assert!(segment.claims()[1] > 400, "idle ones move: {:?}", segment.claims());
    segment.tell(1, |engine, now| engine.guests_scanned(now, BucketSet::EMPTY, now));
    segment.run(10);
    assert_eq!(segment.claims(), [512, 512, 0]);
}

#[test]
fn rebalance_moves_what_manual_failback_keeps() {
    let mut segment = Segment::new();
    segment.start_with(config(1, Failback::Manual), 10);
    segment.run(10);
    segment.start_with(config(2, Failback::Manual), 10);
    segment.run(60);
    assert_eq!(segment.claims(), [1024, 0, 0]);
    segment.tell(2, |engine, now| engine.rebalance(now));
    segment.run(10);
    assert_eq!(segment.claims(), [512, 512, 0]);
}

#[test]
fn a_drained_node_keeps_nothing_and_gets_it_back() {
    let mut segment = settled();
    segment.tell(2, |engine, now| engine.drain(now));
    segment.run(10);
    assert_eq!(segment.claims()[1], 0);
    assert_eq!(segment.claims().iter().sum::<usize>(), 1024);
    let now = segment.now;
    assert_eq!(segment.engine(2).status(now).why_out, Some(WhyOut::Drained));
    segment.tell(2, |engine, now| engine.undrain(now));
    segment.run(10);
    assert!(segment.claims()[1] > 300);
}

#[test]
fn when_all_are_ill_the_least_ill_serve() {
    use onevip_core::beat::Health;
    let mut segment = settled();
    for (number, level) in [(1, 3), (2, 1), (3, 2)] {
        segment.tell(number, |engine, now| engine.health_changed(now, Health::new(level)));
    }
    segment.run(10);
    assert_eq!(segment.claims(), [0, 1024, 0]);
}

#[test]
fn recordings_from_before_a_restart_change_nothing() {
    let mut segment = settled();
    let tape: Vec<Beat> = segment.tape.iter().filter(|beat| beat.from != node(1)).cloned().collect();
    segment.engines = (0..3).map(|_| None).collect();
    segment.run(40);
    segment.start(1, 11);
    segment.tell(1, |engine, _| engine.expect_answers(NodeSet::from_word(7)));
    // An attacker plays back what nodes 2 and 3 said, over and over; nobody but node 1 lives.
    for beat in tape.iter().rev().take(100).rev() {
        segment.run(1);
        segment.tell(1, |engine, now| engine.beat_received(now, Family::V4, beat));
        assert!(segment.engine(1).alive().len() == 1, "nobody is believed to live");
    }
    assert_eq!(segment.claims()[0], 0, "for as long as it lasts, somebody seems to be there");
    segment.run(6);
    assert_eq!(segment.claims()[0], 1024, "and not for longer");
    let now = segment.now;
    let status = segment.engine(1).status(now);
    assert!(status.peers.iter().all(|peer| !peer.heard && !peer.alive && peer.kernel_gone), "{status:#?}");
    assert_eq!(segment.engine(1).elsewhere(), BucketSet::EMPTY);
}

#[test]
fn a_second_host_with_our_number_waits_until_the_first_is_gone() {
    let mut segment = settled();
    let mut twin = Engine::new(
        Config { host: 77, ..config(2, Failback::Idle) },
        Incarnation(99),
        BucketSet::EMPTY,
        segment.now,
    );
    let mut heard_twin = false;
    for _ in 0..60 {
        let from = segment.tape.len();
        segment.run(1);
        for beat in &segment.tape[from..] {
            twin.beat_received(segment.now, Family::V4, beat);
        }
        twin.timeout(segment.now);
        while let Some(output) = twin.poll_output() {
            match output {
                Output::Send(beat) => {
                    segment.tell(1, |engine, now| engine.beat_received(now, Family::V4, &beat))
                }
                Output::Event(Event::Twin { host: 2 }) => heard_twin = true,
                _ => {}
            }
        }
    }
    assert!(heard_twin);
    assert_eq!(twin.status(segment.now).standing.state, NodeState::Joining);
    assert!(twin.claims().is_empty());
    assert_eq!(segment.claims().iter().sum::<usize>(), 1024, "the cluster goes on");
    assert!(segment.events.contains(&(0, Event::Duplicate { node: node(2), host: 77 })));
}

#[test]
fn a_node_that_cannot_read_the_others_does_not_begin_alone() {
    let mut segment = Segment::new();
    segment.start(1, 10);
    for _ in 0..100 {
        segment.run(1);
        segment.tell(1, Engine::unreadable_beat);
    }
    assert_eq!(segment.claims()[0], 0);
    assert!(segment.events.contains(&(0, Event::Unreadable)));
    segment.run(25);
    assert_eq!(segment.claims()[0], 1024, "it begins when they fall silent");
}

#[test]
fn a_node_to_which_nothing_at_all_arrives_does_not_take_itself_for_the_last_one() {
    let mut segment = settled();
    for number in [2, 3] {
        segment.engines[number - 1] = None;
    }
    let engine = segment.engine(1);
    let mut now = engine.poll_timeout();
    for _ in 0..400 {
        engine.timeout(now);
        now = engine.poll_timeout();
    }
    assert!(engine.claims().is_empty(), "its own cable may be out");
    for _ in 0..400 {
        engine.others_arrive(now);
        engine.timeout(now);
        now = engine.poll_timeout();
    }
    assert_eq!(engine.claims().len(), 1024, "frames arrive, and none of a node: it is the last one");
}

#[test]
fn a_family_whose_copies_do_not_come_is_shown() {
    let mut segment = settled();
    let now = segment.now;
    let peer = segment.engine(1).status(now).peers.remove(0);
    assert_eq!(peer.by_family, [true, false]);
    let newest = segment.tape.iter().rfind(|beat| beat.from == node(2)).cloned().unwrap();
    segment.tell(1, |engine, now| engine.beat_received(now, Family::V6, &newest));
    let peer = segment.engine(1).status(now).peers.remove(0);
    assert_eq!(peer.by_family, [true, true]);
}

#[test]
fn a_stopped_daemon_gives_up_its_claims_before_it_renews_its_lease() {
    let mut segment = settled();
    let later = segment.now + BEAT * 20;
    let engine = segment.engine(1);
    assert!(!engine.claims().is_empty());
    engine.timeout(later);
    let outputs: Vec<Output> = std::iter::from_fn(|| engine.poll_output()).collect();
    let released = outputs.iter().position(|output| matches!(output, Output::Release(_)));
    let renewed = outputs.iter().position(|output| matches!(output, Output::Lease(_)));
    assert!(released.is_some(), "{outputs:?}");
    assert!(renewed.is_none() || renewed > released);
    assert!(engine.claims().is_empty());
}

#[test]
fn goodbye_ends_within_ten_beats_even_if_nobody_takes_over() {
    let mut segment = Segment::new();
    segment.start(1, 10);
    segment.run(10);
    let now = segment.now;
    segment.engine(1).leave(now);
    let mut left = false;
    for i in 1..=12u32 {
        let engine = segment.engine(1);
        engine.timeout(now + BEAT * i);
        left |= std::iter::from_fn(|| engine.poll_output()).any(|output| output == Output::Left);
    }
    assert!(left);
}

#[test]
fn what_was_seen_of_orphans_before_a_node_fell_silent_or_came_back_says_nothing() {
    let mut segment = settled();
    let timing = Timing::new(BEAT);
    let silent_from = segment.now;
    let third = segment.engines[2].take();
    segment.settlings.clear();
    segment.run(20);
    assert!(segment.engine(1).kernel_gone(node(3)));
    let (_, told, since) = *segment.settlings.iter().find(|(index, ..)| *index == 0).unwrap();
    assert!(told >= silent_from + timing.probe_after + timing.probe_every * 12, "once its kernel is gone");
    let heard_last = since.since(silent_from).checked_sub(timing.probe_after).unwrap_or_default();
    assert!(
        since < told && heard_last <= BEAT,
        "counted from its silence, not from when that was understood"
    );

    segment.settlings.clear();
    segment.engines[2] = third;
    let back = segment.now;
    segment.run(4);
    assert!(!segment.engine(1).kernel_gone(node(3)));
    let (_, told, since) = *segment.settlings.iter().find(|(index, ..)| *index == 0).unwrap();
    assert!(told == since && since >= back && since <= back + BEAT * 2, "its first beat starts it anew");
}

#[test]
fn a_node_that_loses_frames_gives_its_share_away_once_and_takes_it_back_when_they_come_again() {
    let mut segment = settled();
    segment.loss = Some((2, 30));
    segment.run(20 * 5);
    assert_eq!(segment.claims()[1], 0);
    assert_eq!(segment.claims().iter().sum::<usize>(), 1024);
    let now = segment.now;
    assert_eq!(segment.engine(2).status(now).why_out, Some(WhyOut::Lossy));
    let lost = segment.engine(1).status(now).peers[0].lost;
    assert!((7..40).contains(&lost), "{lost}");
    segment.events.clear();
    segment.run(20 * 120);
    let news = |segment: &Segment| {
        segment.events.iter().filter(|(_, event)| matches!(event, Event::Lossy(_) | Event::Claims(_))).count()
    };
    assert_eq!(news(&segment), 0, "and there it stays for two minutes");
    segment.loss = None;
    segment.run(20 * 5);
    assert!(segment.claims().iter().all(|&claims| claims > 300), "{:?}", segment.claims());
}

#[test]
fn a_little_loss_moves_nothing() {
    let mut segment = settled();
    segment.events.clear();
    segment.loss = Some((2, 5));
    segment.run(20 * 120);
    assert!(!segment.events.iter().any(|(_, event)| matches!(event, Event::Lossy(_) | Event::Claims(_))));
}

#[test]
fn a_node_that_falls_out_again_and_again_is_held_back() {
    let mut segment = settled();
    let claims = |segment: &Segment| segment.claims()[1];
    for fall in 1..=4 {
        segment.loss = Some((2, 100));
        segment.run(10);
        segment.loss = None;
        segment.run(9);
        assert_eq!(claims(&segment) > 300, fall < 3, "after fall {fall}: {:?}", segment.claims());
        let now = segment.now;
        let why = segment.engine(2).status(now).why_out;
        assert_eq!(why, (fall >= 3).then_some(WhyOut::HeldBack), "after fall {fall}");
        segment.run(20);
    }
    segment.run(100);
    assert!(claims(&segment) > 300, "but not for ever");
}

#[test]
fn what_a_silent_node_claimed_is_watched_until_somebody_else_claims_it() {
    let mut segment = settled();
    let left_behind = segment.engine(3).claims();
    segment.engines[2] = None;
    segment.watches.clear();
    segment.run(4);
    for index in 0..2 {
        let (_, watched) = segment.watches.iter().rfind(|(by, _)| *by == index).expect("it is watched");
        assert_eq!(watched.and(&left_behind), left_behind, "before anybody takes over");
    }
    segment.run(4);
    assert_eq!(segment.claims().iter().sum::<usize>(), 1024);
    let claims = [segment.engine(1).claims(), segment.engine(2).claims()];
    for index in 0..2 {
        let (_, watched) = segment.watches.iter().rfind(|(by, _)| *by == index).unwrap();
        assert!(watched.and(&claims[1 - index]).is_empty(), "what the other claims concerns nobody else");
    }
}

/// Three nodes that serve and have a say about each other.
fn watched_segment() -> Segment {
    let mut segment = Segment::new();
    for number in 1..=3 {
        segment.start(number, 1);
    }
    segment.run(60);
    for number in 1..=3 {
        segment.tell(number, |engine, now| engine.testify(now, NodeSet::from_word(7), NodeSet::EMPTY));
    }
    segment
}

#[test]
fn a_majority_votes_a_node_out_and_one_voice_does_not() {
    let all = NodeSet::from_word(7);
    let against = |number| NodeSet::EMPTY.with(node(number));
    let mut segment = watched_segment();
    segment.tell(1, |engine, now| engine.testify(now, all, against(3)));
    segment.run(20);
    assert!(segment.claims()[2] > 300, "one of two is no majority");
    segment.tell(2, |engine, now| engine.testify(now, all, against(3)));
    segment.run(10);
    assert_eq!((segment.claims()[2], segment.claims().iter().sum::<usize>()), (0, 1024));
    let now = segment.now;
    assert_eq!(segment.engine(3).status(now).why_out, Some(WhyOut::VotedOut));
    let told = |who: usize| {
        let by = NodeSet::from_word(3);
        let is = |event: &Event| matches!(event, Event::Votes { node: n, by: Some(b) } if *n == node(3) && *b == by);
        segment.events.iter().filter(|(index, event)| *index == who && is(event)).count()
    };
    assert_eq!((told(0), told(1), told(2)), (1, 1, 1));

    segment.tell(1, |engine, now| engine.testify(now, all, NodeSet::EMPTY));
    segment.run(10);
    assert!(segment.claims()[2] > 300, "and it is back");
}

#[test]
fn who_has_no_say_does_not_count_and_if_all_are_voted_out_all_serve() {
    let mut segment = watched_segment();
    let against = |number| NodeSet::EMPTY.with(node(number));
    segment.tell(2, |engine, now| engine.testify(now, NodeSet::EMPTY, NodeSet::EMPTY));
    segment.tell(1, |engine, now| engine.testify(now, NodeSet::from_word(7), against(3)));
    segment.run(10);
    assert_eq!(segment.claims()[2], 0, "the only one who can tell decides");
    segment.tell(1, |engine, now| engine.testify(now, NodeSet::from_word(4), against(2)));
    segment.run(10);
    assert!(segment.claims()[1] > 300, "a vote without a say is none");
    for number in 1..=3 {
        let others = NodeSet::from_word(7).without(node(number));
        segment.tell(number, |engine, now| engine.testify(now, others, others));
    }
    segment.run(20);
    assert!(segment.claims().iter().all(|&claims| claims > 300), "{:?}", segment.claims());
}

#[test]
fn a_vote_ends_with_whoever_cast_it() {
    let mut segment = watched_segment();
    for number in [1, 2] {
        let against = NodeSet::EMPTY.with(node(3));
        segment.tell(number, |engine, now| engine.testify(now, NodeSet::from_word(7), against));
    }
    segment.run(10);
    assert_eq!(segment.claims()[2], 0);
    segment.engines[0] = None;
    segment.run(20);
    assert_eq!(segment.claims()[2], 0, "the other one's voice is all that is left");
    segment.engines[1] = None;
    segment.run(20);
    assert_eq!(segment.claims()[2], 1024, "nobody is left who says so, and nobody else who serves");
}

/// The daemon of node 3 stops after 60 beats, its kernel lives; what the others make of it after 100 more.
fn daemon_of_3_stops(mut segment: Segment) -> Segment {
    segment.kernels = &[3];
    for number in 1..=3 {
        segment.start(number, 10);
    }
    segment.run(60);
    segment.engines[2] = None;
    segment.run(100);
    segment
}

fn told(segment: &Segment, wanted: &Event) -> usize {
    segment.events.iter().filter(|(_, event)| event == wanted).count()
}

#[test]
fn who_cannot_be_asked_is_never_found_gone() {
    let mut segment = daemon_of_3_stops(Segment { unaskable: &[3], ..Segment::new() });
    assert_eq!(told(&segment, &Event::KernelGone(node(3))), 0);
    for number in [1, 2] {
        assert!(!segment.engine(number).kernel_gone(node(3)));
        assert!(!segment.engine(number).elsewhere().is_empty(), "its sessions are kept");
    }
    assert_eq!(told(&segment, &Event::Askable(node(3), false)), 2, "said once by each, and beforehand");
    let now = segment.now;
    let askable = |segment: &mut Segment| {
        segment.engine(1).status(now).peers.iter().map(|p| p.askable).collect::<Vec<_>>()
    };
    assert_eq!(askable(&mut segment), [Some(true), Some(false)]);

    segment.unaskable = &[];
    segment.run(40);
    assert_eq!(told(&segment, &Event::Askable(node(3), true)), 2);
    segment.kernels = &[];
    segment.run(40);
    assert!(segment.engine(1).kernel_gone(node(3)), "now its silence means something");
}

#[test]
fn a_question_that_could_not_be_sent_is_no_unanswered_one() {
    let mut segment = settled();
    segment.cannot_ask = &[1];
    segment.kernels = &[3];
    segment.engines[2] = None;
    segment.run(100);
    assert!(!segment.engine(1).kernel_gone(node(3)));
    segment.kernels = &[];
    segment.run(40);
    assert!(segment.engine(2).kernel_gone(node(3)));
    assert!(!segment.engine(1).kernel_gone(node(3)));
    segment.cannot_ask = &[];
    segment.run(20);
    assert!(segment.engine(1).kernel_gone(node(3)));
}

#[test]
fn a_filter_that_comes_later_is_noticed_while_the_node_is_well() {
    let mut segment = settled();
    segment.unaskable = &[3];
    segment.run(700);
    assert_eq!(told(&segment, &Event::Askable(node(3), false)), 2);
    segment.kernels = &[3];
    segment.engines[2] = None;
    segment.run(100);
    assert!(!segment.engine(1).kernel_gone(node(3)));
}

#[test]
fn a_node_never_heard_is_found_gone_only_if_an_earlier_life_knew_it_to_answer() {
    for known in [false, true] {
        let mut segment = Segment::new();
        segment.start(1, 10);
        if known {
            segment.tell(1, |engine, _| engine.expect_answers(NodeSet::EMPTY.with(node(2)).with(node(3))));
        }
        segment.run(40);
        assert_eq!([2, 3].map(|n| segment.engine(1).kernel_gone(node(n))), [known; 2]);
        assert_eq!(segment.engine(1).elsewhere().is_empty(), known);
    }
}

#[test]
fn who_is_forgotten_by_order_is_remembered_when_it_comes_back() {
    let mut segment = daemon_of_3_stops(Segment { unaskable: &[3], ..Segment::new() });
    let now = segment.now;
    assert!(!segment.engine(1).forget(now, node(2)), "it lives");
    assert!(segment.engine(1).forget(now, node(3)));
    segment.run(10);
    assert!(segment.engine(1).kernel_gone(node(3)) && segment.engine(1).elsewhere().len() < 1024);
    segment.start(3, 11);
    segment.run(2);
    assert!(!segment.engine(1).kernel_gone(node(3)));
}

#[test]
fn who_cannot_speak_claims_nothing_and_finds_nobody_gone() {
    let mut segment = settled();
    segment.cannot_send = &[1, 2, 3];
    segment.run(60);
    assert_eq!(segment.claims(), [0, 0, 0]);
    let now = segment.now;
    assert_eq!(segment.engine(1).status(now).why_out, Some(WhyOut::Mute));
    segment.unaskable = &[1, 2, 3];
    segment.run(60);
    assert!(!segment.engine(1).kernel_gone(node(2)));
    (segment.unaskable, segment.cannot_send) = (&[], &[]);
    segment.run(20);
    assert!(segment.claims().iter().all(|&claims| claims > 300), "{:?}", segment.claims());
}

#[test]
fn a_full_queue_now_and_then_is_no_failure() {
    let mut segment = Segment::new();
    segment.start(1, 10);
    segment.run(10);
    for _ in 0..50 {
        segment.cannot_send = &[1];
        segment.run(1);
        segment.cannot_send = &[];
        segment.run(1);
        assert_eq!(segment.claims()[0], 1024);
    }
}

#[test]
fn who_is_heard_by_nobody_and_hears_others_claims_nothing() {
    let mut segment = settled();
    segment.engines[1] = None;
    segment.run(20);
    segment.rejected = &[2];
    segment.start(2, 11);
    for _ in 0..100 {
        segment.run(1);
        assert_eq!(segment.claims()[1], 0);
    }
    assert_eq!(segment.claims().iter().sum::<usize>(), 1024);
    let now = segment.now;
    assert_eq!(segment.engine(2).status(now).why_out, Some(WhyOut::Ignored));
    segment.rejected = &[];
    segment.run(40);
    assert!(segment.claims()[1] > 300);
}

#[test]
fn who_learns_of_a_later_life_of_its_own_begins_anew() {
    for number in [5, 10] {
        let mut segment = settled();
        segment.engines[1] = None;
        segment.run(20);
        segment.start(2, number);
        segment.run(3);
        assert_eq!(told(&segment, &Event::Outlived(Incarnation(10))), 1, "said once");
        assert!(
            segment.events.iter().all(|(index, event)| *index == 1 || !matches!(event, Event::Outlived(_)))
        );
        segment.run(20);
        assert_eq!(segment.claims()[1], 0);
        segment.tell(2, |engine, now| engine.begin_anew(now, Incarnation(11)));
        segment.run(40);
        assert!(segment.claims().iter().all(|&claims| claims > 300), "{:?}", segment.claims());
        assert_eq!(told(&segment, &Event::Outlived(Incarnation(10))), 1);
    }
}

#[test]
fn what_people_said_holds_in_another_life() {
    let mut segment = settled();
    segment.tell(2, |engine, now| engine.drain(now));
    segment.run(10);
    segment.tell(2, |engine, now| engine.begin_anew(now, Incarnation(11)));
    segment.run(60);
    let now = segment.now;
    assert_eq!(segment.engine(2).status(now).why_out, Some(WhyOut::Drained));
    assert_eq!(segment.claims()[1], 0);
}
