//! A daemon that restarts remembers no beats. Recorded ones pass its guard, and change nothing all the same.

use super::receiver;
use onevip_core::beat::{Incarnation, Receiver};
use onevip_core::membership::{Engine, EngineConfig, Failback, Family, Mutation, Output, Timing};
use onevip_core::{BucketSet, Layout, NodeId, NodeSet, Time, Weight};
use std::time::Duration;

const STEP: Duration = Duration::from_millis(5);

fn node(number: u8) -> NodeId {
    NodeId::new(number).unwrap()
}

/// A daemon with its engine, and what its kernel was told.
struct Node {
    engine: Engine,
    receiver: Receiver,
    claims: BucketSet,
}

impl Node {
    fn start(number: u8, incarnation: u32, now: Time) -> Self {
        let config = EngineConfig {
            me: node(number),
            host: u32::from(number),
            nodes: [node(1), node(2)].into_iter().collect::<NodeSet>(),
            weight: Weight::NORMAL,
            layout: Layout::Balanced,
            pinned: NodeSet::EMPTY,
            seed: 0,
            failback: Failback::Idle,
            timing: Timing::default(),
        };
        let engine = Engine::new(config, Incarnation(incarnation), BucketSet::EMPTY, now);
        Self { engine, receiver: receiver(), claims: BucketSet::EMPTY }
    }

    /// Carries out what the engine wants; returns what it sends.
    fn carry_out(&mut self) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Release(buckets) => self.claims = self.claims.minus(&buckets),
                Output::Gain(buckets) => self.claims = self.claims.or(&buckets),
                Output::Send(beat) => sent.push(self.receiver.sealer().seal(&beat)),
                Output::Lease(_)
                | Output::Settled(_)
                | Output::Watch(_)
                | Output::Elsewhere(_)
                | Output::Probe(_)
                | Output::Event(_)
                | Output::Left => {}
            }
        }
        sent
    }

    fn step(&mut self, now: Time, arrived: &[Vec<u8>]) -> Vec<Vec<u8>> {
        for datagram in arrived {
            if let Ok(beat) = self.receiver.receive(Family::V4, datagram) {
                self.engine.beat_received(now, Family::V4, &beat);
            }
        }
        // Somebody else's frames always arrive on this LAN.
        self.engine.frames_arrive(now);
        self.engine.timeout(now);
        self.carry_out()
    }
}

/// Two nodes live together for three seconds; all that the first one said, and the time after.
fn record() -> (Vec<Vec<u8>>, Time) {
    let mut now = Time::from_nanos(1_000_000_000);
    let (mut one, mut two) = (Node::start(1, 1, now), Node::start(2, 1, now));
    let (mut from_one, mut from_two, mut recorded) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..600 {
        now = now + STEP;
        let said = one.step(now, &from_two);
        from_two = two.step(now, &from_one);
        recorded.extend(said.iter().cloned());
        from_one = said;
    }
    assert!(one.engine.hears(node(2)) && two.engine.hears(node(1)));
    assert_eq!((one.claims.len(), two.claims.len()), (512, 512));
    (recorded, now)
}

#[test]
fn recorded_beats_make_a_restarted_node_believe_nothing() {
    let (recorded, mut now) = record();
    assert!(recorded.len() > 50);
    now = now + Duration::from_secs(1);
    let (mut restarted, mut control) = (Node::start(2, 2, now), Node::start(2, 2, now));
    let mut replays = recorded.iter();
    let mut last = now;
    for _ in 0..600 {
        now = now + STEP;
        let replay: Vec<Vec<u8>> = replays.next().cloned().into_iter().collect();
        last = if replay.is_empty() { last } else { now };
        restarted.step(now, &replay);
        control.step(now, &[]);
        assert!(!restarted.engine.hears(node(1)), "a recording is not a node");
        assert!(!restarted.engine.alive().contains(node(1)));
        // Somebody seems to be there who does not know this node: for as long as the recording lasts, and no longer.
        let waits = restarted.claims.is_empty() && now <= last + Timing::default().death + STEP;
        assert!(waits || restarted.claims == control.claims, "claims as if nothing had been replayed");
    }
    assert_eq!(
        restarted.receiver.counters().accepted(),
        [recorded.len() as u64, 0],
        "the guard let all of it in"
    );
    assert_eq!(restarted.claims, BucketSet::FULL);
}

#[test]
fn without_mutual_freshness_the_recording_would_be_believed() {
    let (recorded, now) = record();
    let mut restarted = Node::start(2, 2, now);
    restarted.engine.mutate(Mutation::NoFreshness);
    restarted.step(now + STEP, &recorded[recorded.len() - 1..]);
    assert!(restarted.engine.hears(node(1)), "so the test above sees something");
}

#[test]
fn recorded_beats_of_an_earlier_life_do_not_disturb_the_present_one() {
    let (recorded, mut now) = record();
    now = now + Duration::from_secs(1);
    let (mut one, mut two) = (Node::start(1, 2, now), Node::start(2, 2, now));
    let (mut from_one, mut from_two) = (Vec::new(), Vec::new());
    let mut replays = recorded.iter().cycle();
    for step in 0..1200 {
        now = now + STEP;
        // The recording comes after the real beat, so that it would have the last word.
        let mut heard_by_two = from_one;
        heard_by_two.extend(replays.next().cloned());
        from_one = one.step(now, &from_two);
        from_two = two.step(now, &heard_by_two);
        if step > 600 {
            assert!(two.engine.hears(node(1)) && one.engine.hears(node(2)));
            assert_eq!((one.claims.len(), two.claims.len()), (512, 512));
            assert_eq!(one.claims.and(&two.claims), BucketSet::EMPTY);
        }
    }
    assert!(
        two.receiver.counters().by_reason().any(|(label, count)| label == "old-incarnation" && count > 0)
    );
}

#[test]
fn our_own_beats_come_back_without_harm() {
    let mut now = Time::from_nanos(1_000_000_000);
    let (mut echoed, mut control) = (Node::start(1, 1, now), Node::start(1, 1, now));
    let mut echo = Vec::new();
    for _ in 0..600 {
        now = now + STEP;
        echo = echoed.step(now, &echo);
        control.step(now, &[]);
        assert_eq!(echoed.claims, control.claims);
    }
    assert_eq!(echoed.claims, BucketSet::FULL);
    assert!(echoed.receiver.counters().accepted()[0] > 50, "the guard let the echoes in");
}
