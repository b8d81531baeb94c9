//! Beats as hostile input: what is written can be read, and nothing else gets in.
#![allow(clippy::unwrap_used)] // A test may panic, its helpers included.

use onevip_core::beat::codec::{BEAT_MAX, Header, rulings_room};
use onevip_core::beat::replay::{Admitted, Door, Rejection};
use onevip_core::beat::seal::{Key, Keyring};
use onevip_core::beat::{
    Beat, Facts, Health, Incarnation, NodeState, PeerReport, Rulings, Seq, Standing, codec,
};
use onevip_core::membership::Family;
use onevip_core::{Bucket, BucketSet, NodeId, Time, Weight};
use proptest::prelude::*;
use std::time::Duration;

fn node(number: u8) -> NodeId {
    NodeId::new(number).unwrap()
}

fn standing(state: NodeState, health: u8, weight: u16) -> Standing {
    Standing { state, health: Health::new(health), weight: Weight::new(weight).unwrap() }
}

fn plain(from: u8, incarnation: u32, seq: u32) -> Beat {
    Beat {
        from: node(from),
        incarnation: Incarnation(incarnation),
        seq: Seq(seq),
        host: u32::from(from) * 10,
        standing: standing(NodeState::Serving, 0, 100),
        answer: false,
        view: 1,
        rebalance: 0,
        facts: Facts::default(),
        claims: BucketSet::EMPTY,
        intents: BucketSet::EMPTY,
        guests: BucketSet::EMPTY,
        peers: Vec::new(),
        rulings: Rulings::NONE,
    }
}

fn keyring(key: u8) -> Keyring {
    Keyring::new(7, Key::new(&[key; 32]), Vec::new())
}

fn door() -> Door {
    Door::new(keyring(1), node(1), 10)
}

const NOW: Time = Time::from_nanos(1_000_000_000);

fn any_state() -> impl Strategy<Value = NodeState> {
    prop::sample::select(vec![
        NodeState::Joining,
        NodeState::Serving,
        NodeState::Draining,
        NodeState::Leaving,
    ])
}

fn any_standing() -> impl Strategy<Value = Standing> {
    (any_state(), 0u8..4, 0..=Weight::MAX).prop_map(|(state, health, weight)| standing(state, health, weight))
}

fn any_buckets() -> impl Strategy<Value = BucketSet> {
    prop::array::uniform16(any::<u64>()).prop_map(BucketSet::from_words)
}

prop_compose! {
    fn any_peers()(chosen in prop::collection::btree_map(1u8..=64, (any::<(u32, u32, bool)>(), any_standing()), 0..64))
        -> Vec<PeerReport> {
        let report = |(number, ((incarnation, seq, heard), standing))| PeerReport {
            node: node(number), incarnation: Incarnation(incarnation), seq: Seq(seq), heard, standing,
        };
        chosen.into_iter().map(report).collect()
    }
}

prop_compose! {
    fn any_rulings(room: usize)(ends in (0u16..=1024, 0u16..=1024),
                                chosen in prop::collection::btree_map(0u16..1024, 1u8..=64, 0..=room)) -> Rulings {
        let (from, to) = (ends.0.min(ends.1), ends.0.max(ends.1));
        let inside = chosen.into_iter().filter(|(bucket, _)| (from..to).contains(bucket));
        Rulings { from, to, first: inside.map(|(b, n)| (Bucket::new(b).unwrap(), node(n))).collect() }
    }
}

prop_compose! {
    fn any_beat()(peers in any_peers())(
        rulings in any_rulings(rulings_room(peers.len())), peers in Just(peers),
        from in 1u8..=64, numbers in any::<(u32, u32, u32, u32, u32, bool)>(), standing in any_standing(),
        facts in any::<(u64, u64, u32, u16)>(), sets in (any_buckets(), any_buckets(), any_buckets()),
    ) -> Beat {
        let (incarnation, seq, host, view, rebalance, answer) = numbers;
        let (config_digest, host_keys_digest, sessions, load_percent) = facts;
        Beat {
            from: node(from), incarnation: Incarnation(incarnation), seq: Seq(seq), host, standing, answer, view,
            rebalance, facts: Facts { config_digest, host_keys_digest, sessions, load_percent },
            claims: sets.0, intents: sets.1, guests: sets.2, peers, rulings,
        }
    }
}

proptest! {
    #[test]
    fn what_is_sealed_can_be_opened_and_fits_a_frame(beat in any_beat()) {
        let bytes = keyring(1).seal(&beat);
        prop_assert!(bytes.len() <= BEAT_MAX);
        let header = Header::read(&bytes).unwrap();
        prop_assert_eq!(keyring(1).open(&header, &bytes), Ok(beat));
    }

    #[test]
    fn a_body_of_any_bytes_is_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..1500)) {
        let bytes = keyring(1).seal(&plain(2, 1, 1));
        let header = Header::read(&bytes).unwrap();
        if let Ok(beat) = codec::read_body(&header, &body) {
            let written = codec::write_body(&beat);
            prop_assert_eq!(codec::read_body(&header, &written), Ok(beat));
        }
    }

    #[test]
    fn one_flipped_bit_anywhere_is_refused(beat in any_beat(), at: prop::sample::Index, bit in 0u8..8) {
        let mut bytes = keyring(1).seal(&beat);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(door().admit(NOW, Family::V4, &bytes).is_err());
    }

    #[test]
    fn any_bytes_at_the_door_change_nothing(bytes in prop::collection::vec(any::<u8>(), 0..1600)) {
        let mut door = door();
        prop_assert!(door.admit(NOW, Family::V4, &bytes).is_err());
        prop_assert_eq!(Rejection::ALL.iter().map(|why| door.rejected(*why)).sum::<u64>(), 1);
    }

    #[test]
    fn a_truncated_beat_is_refused(beat in any_beat(), at: prop::sample::Index) {
        let bytes = keyring(1).seal(&beat);
        let at = at.index(bytes.len());
        prop_assert!(door().admit(NOW, Family::V4, &bytes[..at]).is_err());
    }
}

#[test]
fn every_reason_for_refusal_is_counted() {
    let mut door = door();
    let mut refuse = |bytes: &[u8], why: Rejection| {
        assert_eq!(door.admit(NOW, Family::V4, bytes), Err(why));
        assert_eq!(door.rejected(why), 1);
    };
    let good = keyring(1).seal(&plain(2, 5, 5));
    refuse(b"hello", Rejection::NotABeat);
    let mut other_version = good.clone();
    other_version[4] = 9;
    refuse(&other_version, Rejection::Version);
    refuse(&Keyring::new(8, Key::new(&[1; 32]), Vec::new()).seal(&plain(2, 5, 5)), Rejection::ForeignCluster);
    refuse(&keyring(2).seal(&plain(2, 5, 5)), Rejection::UnknownKey);
    refuse(&keyring(1).seal(&plain(1, 5, 5)), Rejection::OwnEcho);
    let mut damaged = good.clone();
    damaged[100] ^= 1;
    refuse(&damaged, Rejection::Forged);
    assert!(matches!(door.admit(NOW, Family::V4, &good), Ok(Admitted::Beat(_))));
    assert_eq!(door.admit(NOW, Family::V4, &good), Err(Rejection::Replayed));
}

#[test]
fn the_second_copy_of_a_beat_is_a_copy_and_the_third_a_replay() {
    let mut door = door();
    let bytes = keyring(1).seal(&plain(2, 5, 5));
    assert!(matches!(door.admit(NOW, Family::V4, &bytes), Ok(Admitted::Beat(_))));
    assert_eq!(door.admit(NOW, Family::V6, &bytes), Ok(Admitted::Copy(node(2))));
    assert_eq!(door.admit(NOW, Family::V6, &bytes), Err(Rejection::Replayed));
}

#[test]
fn recordings_of_an_older_beat_or_incarnation_are_replays() {
    let mut door = door();
    let (old, older) = (keyring(1).seal(&plain(2, 5, 100)), keyring(1).seal(&plain(2, 4, 900)));
    let far = keyring(1).seal(&plain(2, 5, 500));
    assert!(door.admit(NOW, Family::V4, &old).is_ok());
    assert!(door.admit(NOW, Family::V4, &far).is_ok());
    assert_eq!(door.admit(NOW, Family::V4, &old), Err(Rejection::Replayed));
    assert_eq!(door.admit(NOW, Family::V4, &older), Err(Rejection::Replayed));
}

#[test]
fn a_second_host_with_the_same_number_does_not_shadow_the_first() {
    let mut door = door();
    let twin = Beat { host: 999, ..plain(2, 50, 1) };
    assert!(door.admit(NOW, Family::V4, &keyring(1).seal(&plain(2, 5, 5))).is_ok());
    assert!(door.admit(NOW, Family::V4, &keyring(1).seal(&twin)).is_ok());
    assert!(door.admit(NOW, Family::V4, &keyring(1).seal(&plain(2, 5, 6))).is_ok());
}

#[test]
fn a_key_is_replaced_without_a_beat_being_lost() {
    let (old, new) = (Key::new(&[1; 32]), Key::new(&[2; 32]));
    let both = |send: &Key, other: &Key| Keyring::new(7, send.clone(), vec![other.clone()]);
    let steps = [
        Keyring::new(7, old.clone(), Vec::new()),
        both(&old, &new),
        both(&new, &old),
        Keyring::new(7, new.clone(), Vec::new()),
    ];
    for pair in steps.windows(2) {
        for (from, to) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
            let bytes = from.seal(&plain(2, 1, 1));
            assert!(to.open(&Header::read(&bytes).unwrap(), &bytes).is_ok());
        }
    }
}

#[test]
fn a_flood_of_forgeries_is_bounded_and_does_not_starve_real_beats() {
    let mut door = door();
    assert!(door.admit(NOW, Family::V4, &keyring(1).seal(&plain(2, 5, 1))).is_ok());
    let mut forged = keyring(1).seal(&plain(3, 1, 1));
    let last = forged.len() - 1;
    for i in 0..20_000u32 {
        forged[20..24].copy_from_slice(&i.to_le_bytes());
        forged[last] = forged[last].wrapping_add(1);
        assert!(door.admit(NOW, Family::V4, &forged).is_err());
        if i % 1000 == 0 {
            let real = keyring(1).seal(&plain(2, 5, 2 + i));
            assert!(door.admit(NOW, Family::V4, &real).is_ok(), "real beat starved after {i} forgeries");
        }
    }
    assert!(door.rejected(Rejection::Forged) <= 501);
    assert!(door.rejected(Rejection::Flood) > 19_000);
    let newcomer = keyring(1).seal(&plain(4, 1, 1));
    let later = NOW + Duration::from_secs(2);
    assert!(door.admit(later, Family::V4, &newcomer).is_ok(), "a newcomer is heard when the flood ends");
}
