//! Nothing but what a node of this cluster sealed for this VIP opens.

use super::arbitrary::{beat, beat_numbered, full_beat};
use super::{CLUSTER, VIP, key, sealer, sealer_with};
use onevip_core::NodeId;
use onevip_core::beat::envelope::{DATAGRAM_MAX, VERSION};
use onevip_core::beat::{Incarnation, Keyring, Rejected, Sealer};
use proptest::prelude::*;

proptest! {
    #[test]
    fn every_beat_opens_as_it_was_sealed(beat in beat()) {
        let sealed = sealer().seal(&beat);
        prop_assert!(sealed.len() <= DATAGRAM_MAX);
        prop_assert_eq!(sealer().open(&sealed), Ok(beat));
    }

    #[test]
    fn any_bytes_at_all_are_rejected(
        mut datagram in proptest::collection::vec(any::<u8>(), 0..1700),
        ours in 0..60usize,
    ) {
        // The more of a real header, the deeper it gets.
        let real = sealer().seal(&beat_numbered(1));
        let ours = ours.min(datagram.len());
        datagram[..ours].copy_from_slice(&real[..ours]);
        prop_assert!(sealer().open(&datagram).is_err());
    }
}

#[test]
fn every_truncation_is_rejected() {
    let sealed = sealer().seal(&full_beat());
    for length in 0..sealed.len() {
        assert!(sealer().open(&sealed[..length]).is_err(), "{length} bytes");
    }
    let longer = [sealed, vec![0]].concat();
    assert!(sealer().open(&longer).is_err());
}

#[test]
fn every_single_flipped_bit_is_rejected() {
    let sealer = sealer();
    for beat in [full_beat(), beat_numbered(9)] {
        let mut sealed = sealer.seal(&beat);
        for bit in 0..sealed.len() * 8 {
            sealed[bit / 8] ^= 1 << (bit % 8);
            assert!(sealer.open(&sealed).is_err(), "bit {bit}");
            sealed[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(sealer.open(&sealed), Ok(beat));
    }
}

#[test]
fn each_kind_of_stranger_is_rejected_by_name() {
    let beat = beat_numbered(1);
    let sealed = sealer().seal(&beat);
    let ours = Keyring::new(key(7), []);
    let changed = |at: usize, byte: u8| {
        let mut datagram = sealed.clone();
        datagram[at] = byte;
        datagram
    };
    let rows = [
        ("nothing", vec![], Rejected::Length),
        ("a header alone", sealed[..38].to_vec(), Rejected::Length),
        ("too long", [sealed.clone(), vec![0; DATAGRAM_MAX]].concat(), Rejected::Length),
        ("another program", vec![b'x'; 500], Rejected::NotABeat),
        ("another cluster", Sealer::new(&ours, "batch", VIP).seal(&beat), Rejected::ForeignCluster),
        ("another VIP", Sealer::new(&ours, CLUSTER, "git").seal(&beat), Rejected::ForeignCluster),
        ("another version", changed(12, VERSION + 1), Rejected::Version(VERSION + 1)),
        ("another key", sealer_with(8).seal(&beat), Rejected::UnknownKey(key(8).id())),
        ("node 0", changed(13, 0), Rejected::Forged),
        ("another node", changed(13, 18), Rejected::Forged),
        ("another host", changed(18, !sealed[18]), Rejected::Forged),
        ("another incarnation", changed(22, !sealed[22]), Rejected::Forged),
        ("another number", changed(26, 2), Rejected::Forged),
        ("another salt", changed(30, !sealed[30]), Rejected::Forged),
        ("another body", changed(38, !sealed[38]), Rejected::Forged),
        ("another tag", changed(sealed.len() - 1, !sealed[sealed.len() - 1]), Rejected::Forged),
    ];
    for (what, datagram, why) in rows {
        assert_eq!(sealer().open(&datagram), Err(why), "{what}");
    }
    let longer_version = [changed(12, VERSION + 1), vec![0; 2000]].concat();
    assert_eq!(
        sealer().open(&longer_version),
        Err(Rejected::Version(VERSION + 1)),
        "told by its version, not its length"
    );
}

#[test]
fn a_body_that_only_a_bug_could_seal_is_malformed() {
    let mut beat = beat_numbered(1);
    beat.peers.swap(0, 1);
    assert!(matches!(sealer().open(&sealer().seal(&beat)), Err(Rejected::Malformed(_))));
}

/// The nonce is node, host, incarnation, number and salt: bytes 13 and 18 to 37.
fn nonce(sealed: &[u8]) -> Vec<u8> {
    [&sealed[13..14], &sealed[18..38]].concat()
}

#[test]
fn no_two_different_beats_share_a_nonce() {
    let one = beat_numbered(1);
    let mut other_content = one.clone();
    other_content.view ^= 1;
    let mut other_node = one.clone();
    other_node.from = NodeId::new(60).unwrap();
    let mut other_life = one.clone();
    other_life.incarnation = Incarnation(one.incarnation.0 + 1);
    let beats = [one.clone(), beat_numbered(2), other_content, other_node, other_life];
    let nonces: Vec<Vec<u8>> = beats.iter().map(|beat| nonce(&sealer().seal(beat))).collect();
    for (i, one) in nonces.iter().enumerate() {
        assert!(nonces[i + 1..].iter().all(|other| other != one));
    }
    assert_eq!(sealer().seal(&one), sealer().seal(&one), "nothing random is in it");
}

#[test]
fn a_sealer_shows_no_secret() {
    assert_eq!(format!("{:?}", sealer()), format!("Sealer {{ keys: [{}], .. }}", key(7).id()));
}

#[test]
fn each_reason_has_a_place_and_a_word_of_its_own() {
    for (i, why) in Rejected::ALL.into_iter().enumerate() {
        assert_eq!(why.index(), i);
        assert!(Rejected::ALL[..i].iter().all(|other| other.label() != why.label()));
        assert!(!why.to_string().is_empty());
    }
}
