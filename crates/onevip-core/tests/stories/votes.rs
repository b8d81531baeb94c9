//! Nodes that answer beats but not their clients.

use crate::segment::{Segment, node};
use onevip_core::NodeSet;
use onevip_core::membership::{Event, WhyOut};

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
