//! One number, several lives: restarts, recordings, twins, and nodes that nobody takes for who they are.

use crate::segment::{Segment, config, node, settled, told};
use onevip_core::beat::{Beat, Incarnation, NodeState};
use onevip_core::membership::{Engine, EngineConfig, Event, Failback, Family, Output, WhyOut};
use onevip_core::{BucketSet, NodeSet};

#[test]
fn recordings_from_before_a_restart_change_nothing() {
    let mut segment = settled();
    let recorded: Vec<Beat> = segment.sent.iter().filter(|beat| beat.from != node(1)).cloned().collect();
    segment.engines = (0..3).map(|_| None).collect();
    segment.run(40);
    segment.start(1, 11);
    segment.tell(1, |engine, _| engine.expect_answers(NodeSet::from_word(7)));
    // An attacker plays back what nodes 2 and 3 said, over and over; nobody but node 1 lives.
    for beat in recorded.iter().rev().take(100).rev() {
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
        EngineConfig { host: 77, ..config(2, Failback::Idle) },
        Incarnation(99),
        BucketSet::EMPTY,
        segment.now,
    );
    let mut heard_twin = false;
    for _ in 0..60 {
        let from = segment.sent.len();
        segment.run(1);
        for beat in &segment.sent[from..] {
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
        segment.tell(2, |engine, now| engine.reincarnate(now, Incarnation(11)));
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
    segment.tell(2, |engine, now| engine.reincarnate(now, Incarnation(11)));
    segment.run(60);
    let now = segment.now;
    assert_eq!(segment.engine(2).status(now).why_out, Some(WhyOut::Drained));
    assert_eq!(segment.claims()[1], 0);
}
