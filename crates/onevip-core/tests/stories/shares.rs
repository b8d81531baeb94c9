//! Who gets which share: joining, draining, moving, leaving.

use crate::segment::{BEAT, Segment, config, node, settled};
use onevip_core::BucketSet;
use onevip_core::beat::Health;
use onevip_core::membership::{EngineConfig, Event, Failback, Output, WhyOut};

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
            EngineConfig { nodes: [1, 2].map(node).into_iter().collect(), ..config(number, Failback::Idle) },
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
    segment.tell(1, |engine, now| engine.sessions_scanned(now, busy, now));
    segment.start(2, 10);
    segment.run(60);
    let kept = segment.engine(1).claims();
    assert_eq!(kept.and(&busy), busy, "busy buckets stay");
    assert!(segment.claims()[1] > 400, "idle ones move: {:?}", segment.claims());
    segment.tell(1, |engine, now| engine.sessions_scanned(now, BucketSet::EMPTY, now));
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
    let mut segment = settled();
    for (number, level) in [(1, 3), (2, 1), (3, 2)] {
        segment.tell(number, |engine, now| engine.health_changed(now, Health::new(level)));
    }
    segment.run(10);
    assert_eq!(segment.claims(), [0, 1024, 0]);
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
