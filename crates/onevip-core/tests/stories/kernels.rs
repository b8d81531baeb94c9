//! Whose kernel still holds sessions, and what is seen of orphans.

use crate::segment::{BEAT, Segment, node, settled, told};
use onevip_core::NodeSet;
use onevip_core::membership::{Event, Timing};

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
