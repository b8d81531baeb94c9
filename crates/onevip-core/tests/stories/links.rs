//! Frames that are lost, families that stay away, hosts that cannot speak or hear.

use crate::segment::{Segment, node, settled};
use onevip_core::membership::{Event, Family, WhyOut};

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

#[test]
fn a_family_whose_copies_do_not_come_is_shown() {
    let mut segment = settled();
    let now = segment.now;
    let peer = segment.engine(1).status(now).peers.remove(0);
    assert_eq!(peer.by_family, [true, false]);
    let newest = segment.sent.iter().rfind(|beat| beat.from == node(2)).cloned().unwrap();
    segment.tell(1, |engine, now| engine.beat_received(now, Family::V6, &newest));
    let peer = segment.engine(1).status(now).peers.remove(0);
    assert_eq!(peer.by_family, [true, true]);
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
        engine.frames_arrive(now);
        engine.timeout(now);
        now = engine.poll_timeout();
    }
    assert_eq!(engine.claims().len(), 1024, "frames arrive, and none of a node: it is the last one");
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
    let changes = |segment: &Segment| {
        segment.events.iter().filter(|(_, event)| matches!(event, Event::Lossy(_) | Event::Claims(_))).count()
    };
    assert_eq!(changes(&segment), 0, "and there it stays for two minutes");
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
