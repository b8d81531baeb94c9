//! Each beat counts once by each family, whatever is copied, delayed or made up in between.

use super::arbitrary::beat_numbered;
use super::{key, receiver, sealer, sealer_with};
use onevip_core::beat::codec::Origin;
use onevip_core::beat::replay::{HOSTS_MAX, ReplayGuard, WINDOW};
use onevip_core::beat::{Beat, Incarnation, Receiver, Rejected, Seq};
use onevip_core::membership::Family::{self, V4, V6};
use onevip_core::{NODES_MAX, NodeId};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn origin(seq: u32) -> Origin {
    Origin { from: NodeId::new(3).unwrap(), host: 1, incarnation: Incarnation(10), seq: Seq(seq) }
}

fn take(guard: &mut ReplayGuard, origin: &Origin, family: Family) -> Result<(), Rejected> {
    guard.check(origin, family)?;
    guard.accept(origin, family);
    Ok(())
}

proptest! {
    #[test]
    fn the_window_lets_each_number_in_once_unless_it_is_too_old(
        start in prop_oneof![Just(0u32), Just(u32::MAX - 400)],
        steps in proptest::collection::vec((1..400u32, any::<bool>()), 1..300),
    ) {
        let mut guard = ReplayGuard::new();
        let mut seen = [BTreeSet::new(), BTreeSet::new()];
        for (step, by_v6) in steps {
            let family = if by_v6 { V6 } else { V4 };
            let seen = &mut seen[family.index()];
            let seq = start + step;
            let too_old = seen.last().is_some_and(|newest: &u32| newest.saturating_sub(seq) >= WINDOW);
            let expected = !too_old && !seen.contains(&seq);
            prop_assert_eq!(take(&mut guard, &origin(seq), family).is_ok(), expected, "{}", seq);
            if expected {
                seen.insert(seq);
            }
        }
    }
}

#[test]
fn a_beat_counts_once_by_each_family() {
    let (mut receiver, sealed) = (receiver(), sealer().seal(&beat_numbered(1)));
    assert!(receiver.receive(V4, &sealed).is_ok());
    assert!(receiver.receive(V6, &sealed).is_ok());
    assert_eq!(receiver.receive(V4, &sealed), Err(Rejected::Replayed));
    assert_eq!(receiver.receive(V6, &sealed), Err(Rejected::Replayed));
    assert_eq!(receiver.counters().accepted(), [1, 1]);
    assert_eq!(receiver.counters().rejected(Rejected::Replayed), 2);
}

#[test]
fn a_copy_by_the_other_family_must_be_the_same_to_the_last_bit() {
    let (mut receiver, mut sealed) = (receiver(), sealer().seal(&beat_numbered(1)));
    assert!(receiver.receive(V4, &sealed).is_ok());
    for bit in 0..sealed.len() * 8 {
        sealed[bit / 8] ^= 1 << (bit % 8);
        assert!(receiver.receive(V6, &sealed).is_err(), "bit {bit}");
        sealed[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(receiver.receive(V6, &sealed), Ok(beat_numbered(1)));
    assert_eq!(receiver.counters().accepted(), [1, 1]);
}

#[test]
fn beats_that_overtake_each_other_all_count_once() {
    let mut receiver = receiver();
    for seq in [5, 3, 130, 4, 131] {
        assert!(receiver.receive(V4, &sealer().seal(&beat_numbered(seq))).is_ok(), "{seq}");
        assert_eq!(
            receiver.receive(V4, &sealer().seal(&beat_numbered(seq))),
            Err(Rejected::Replayed),
            "{seq}"
        );
    }
    assert_eq!(
        receiver.receive(V4, &sealer().seal(&beat_numbered(2))),
        Err(Rejected::Replayed),
        "too old to tell"
    );
}

#[test]
fn an_earlier_life_is_over_once_a_later_one_was_heard_by_either_family() {
    let mut receiver = receiver();
    let life = |incarnation, seq| {
        sealer().seal(&Beat { incarnation: Incarnation(incarnation), ..beat_numbered(seq) })
    };
    assert!(receiver.receive(V4, &life(1, 100)).is_ok());
    assert!(receiver.receive(V4, &life(2, 1)).is_ok());
    assert_eq!(receiver.receive(V4, &life(1, 101)), Err(Rejected::OldIncarnation));
    assert_eq!(receiver.receive(V6, &life(1, 100)), Err(Rejected::OldIncarnation));
    assert!(receiver.receive(V6, &life(2, 1)).is_ok());
}

#[test]
fn what_is_made_up_is_not_remembered() {
    let mut receiver = receiver();
    let mut forged = sealer().seal(&Beat { incarnation: Incarnation(u32::MAX), ..beat_numbered(u32::MAX) });
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(receiver.receive(V4, &forged), Err(Rejected::Forged));
    assert!(receiver.receive(V4, &sealer().seal(&beat_numbered(1))).is_ok());
}

#[test]
fn of_two_hosts_with_one_number_both_are_let_in_for_the_engine_to_see() {
    let mut receiver = receiver();
    let host = |host, incarnation, seq| {
        sealer().seal(&Beat { host, incarnation: Incarnation(incarnation), ..beat_numbered(seq) })
    };
    for seq in 1..5 {
        assert!(receiver.receive(V4, &host(1, 100, seq)).is_ok());
        assert!(receiver.receive(V4, &host(2, 200, seq)).is_ok());
    }
    assert_eq!(receiver.receive(V4, &host(1, 100, 4)), Err(Rejected::Replayed));
}

#[test]
fn only_so_many_hosts_are_remembered_and_the_quietest_is_forgotten() {
    let mut guard = ReplayGuard::new();
    let host = |host| Origin { host, ..origin(1) };
    for number in 0..=HOSTS_MAX as u32 {
        assert_eq!(take(&mut guard, &host(number), V4), Ok(()));
    }
    assert_eq!(guard.check(&host(1), V4), Err(Rejected::Replayed));
    assert_eq!(guard.check(&host(0), V4), Ok(()), "forgotten");
}

#[test]
fn every_node_has_a_place() {
    let mut guard = ReplayGuard::new();
    for node in NodeId::all() {
        assert_eq!(take(&mut guard, &Origin { from: node, ..origin(1) }, V4), Ok(()));
        assert_eq!(take(&mut guard, &Origin { from: node, ..origin(1) }, V4), Err(Rejected::Replayed));
    }
    assert_eq!(NodeId::all().count(), NODES_MAX);
}

#[test]
fn other_keys_make_nobody_forget_what_was_received() {
    let mut receiver = receiver();
    let sealed = sealer().seal(&beat_numbered(1));
    assert!(receiver.receive(V4, &sealed).is_ok());
    receiver.rekey(sealer_with(8));
    assert_eq!(receiver.receive(V4, &sealed), Err(Rejected::UnknownKey(key(7).id())));
    receiver.rekey(sealer());
    assert_eq!(receiver.receive(V4, &sealed), Err(Rejected::Replayed));
}

#[test]
fn only_nodes_of_this_cluster_that_cannot_be_read_hint_at_another_key() {
    let mut receiver: Receiver = receiver();
    let stranger = receiver.receive(V4, &sealer_with(8).seal(&beat_numbered(1))).unwrap_err();
    assert!(stranger.is_unreadable());
    let unreadable: Vec<&str> =
        Rejected::ALL.into_iter().filter(|why| why.is_unreadable()).map(Rejected::label).collect();
    assert_eq!(unreadable, ["version", "unknown-key"]);
    assert_eq!(receiver.counters().by_reason().find(|(label, _)| *label == "unknown-key").unwrap().1, 1);
}
