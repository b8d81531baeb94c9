//! One way to write each beat.

use super::arbitrary::{beat, full_beat, node};
use onevip_core::beat::codec::{BODY_MIN, DecodeError, Origin, decode, encode, rulings_room};
use onevip_core::beat::envelope::{DATAGRAM_MAX, DATAGRAM_SENT_MAX, OVERHEAD};
use onevip_core::beat::{Incarnation, Rulings, Seq};
use onevip_core::{BUCKETS, Bucket, NodeId};
use proptest::prelude::*;

proptest! {
    #[test]
    fn every_beat_is_read_back_as_it_was_written(beat in beat()) {
        let body = encode(&beat);
        prop_assert!(body.len() + OVERHEAD <= DATAGRAM_MAX);
        prop_assert_eq!(decode(Origin::of(&beat), &body), Ok(beat));
    }

    #[test]
    fn what_can_be_read_is_written_in_exactly_that_way(
        beat in beat(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut body = encode(&beat);
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Ok(read) = decode(Origin::of(&beat), &body) {
            prop_assert_eq!(encode(&read), body);
        }
    }

    #[test]
    fn any_bytes_at_all_are_read_or_refused(
        from in node(),
        seq in 0..3u32,
        body in proptest::collection::vec(any::<u8>(), 0..2 * DATAGRAM_MAX),
    ) {
        let origin = Origin { from, host: 1, incarnation: Incarnation(1), seq: Seq(seq) };
        if let Ok(read) = decode(origin, &body) {
            prop_assert_eq!(encode(&read), body);
        }
    }
}

#[test]
fn a_full_beat_of_64_nodes_fits_one_frame() {
    let beat = full_beat();
    assert_eq!((beat.peers.len(), beat.rulings.first.len()), (63, 71));
    let sealed = encode(&beat).len() + OVERHEAD;
    assert!(sealed <= DATAGRAM_MAX && sealed > DATAGRAM_MAX - 2, "{sealed}");
    let (ipv6, udp, mtu) = (40, 8, 1500);
    assert!(DATAGRAM_MAX + ipv6 + udp <= mtu - 50, "there is room for an overlay's headers");
}

#[test]
fn there_is_room_for_rulings_whatever_the_number_of_peers() {
    assert_eq!((rulings_room(0), rulings_room(1), rulings_room(48), rulings_room(49)), (365, 359, 77, 71));
    assert_eq!((rulings_room(63), rulings_room(1000)), (71, 71));
    for peers in 0..64 {
        let used = OVERHEAD + BODY_MIN + 12 * peers + 2 * rulings_room(peers);
        assert!(used <= if peers < 50 { DATAGRAM_SENT_MAX } else { DATAGRAM_MAX }, "{peers}: {used}");
    }
}

#[test]
fn as_many_rulings_are_read_as_earlier_versions_sent() {
    let mut beat = full_beat();
    beat.peers.clear();
    beat.rulings = Rulings {
        from: 0,
        to: BUCKETS as u16,
        first: Bucket::all().map(|bucket| (bucket, beat.from)).take(rulings_room(0)).collect(),
    };
    let mut body = encode(&beat);
    for (room, read) in [(449_u16, true), (450, false)] {
        body.truncate(BODY_MIN + 2 * rulings_room(0));
        for bucket in rulings_room(0) as u16..room {
            body.extend((bucket | (beat.from.index() as u16) << 10).to_le_bytes());
        }
        body[38..40].copy_from_slice(&room.to_le_bytes());
        let found = decode(Origin::of(&beat), &body).map(|beat| beat.rulings.first.len());
        assert_eq!(found.ok(), read.then_some(room.into()));
    }
}

#[test]
fn every_truncation_and_every_extension_is_refused() {
    let beat = full_beat();
    let mut body = encode(&beat);
    for length in 0..body.len() {
        assert_eq!(decode(Origin::of(&beat), &body[..length]), Err(DecodeError::Length), "{length}");
    }
    body.push(0);
    assert_eq!(decode(Origin::of(&beat), &body), Err(DecodeError::Length));
}

#[test]
fn everything_out_of_place_is_refused_by_name() {
    let report = |n: usize| BODY_MIN + 12 * n;
    let ruling = |n: usize| BODY_MIN + 12 * 63 + 2 * n;
    let last = [1023u16.to_le_bytes(); 1].concat();
    let rows: [(&str, usize, &[u8], DecodeError); 21] = [
        ("a reserved bit", 0, &[0x20], DecodeError::ReservedBits),
        ("the highest bit", 0, &[0x80], DecodeError::ReservedBits),
        ("64 reports", 1, &[64], DecodeError::Length),
        ("fewer reports than there are", 1, &[62], DecodeError::Length),
        ("weight 10001", 2, &10_001u16.to_le_bytes(), DecodeError::Weight),
        ("bucket 1025 as the end of the rulings", 36, &1025u16.to_le_bytes(), DecodeError::Range),
        ("rulings that end before they begin", 34, &[0, 4, 255, 3], DecodeError::Range),
        ("a ruling before the range", 34, &[1, 0], DecodeError::Range),
        ("a ruling after the range", 36, &[70, 0], DecodeError::Range),
        ("one ruling more than there is", 38, &[72, 0], DecodeError::Length),
        ("65535 rulings", 38, &[255, 255], DecodeError::Length),
        ("a say about itself", 424 + 2, &[255], DecodeError::Testimony),
        ("a vote without a say", 424, &[0], DecodeError::Testimony),
        ("a report of node 0", report(0), &[0], DecodeError::Node),
        ("a report of node 65", report(62), &[65], DecodeError::Node),
        ("a report of the sender", report(15), &[17], DecodeError::Node),
        ("the same node twice", report(1), &[1], DecodeError::Order),
        ("a reserved bit in a report", report(5) + 1, &[0x40], DecodeError::ReservedBits),
        ("a weight in a report", report(5) + 2, &[0xff, 0xff], DecodeError::Weight),
        ("a report of beat 0", report(5) + 8, &[0, 0, 0, 0], DecodeError::Seq),
        ("rulings that descend", ruling(0), &last, DecodeError::Order),
    ];
    let beat = full_beat();
    for (what, at, bytes, expected) in rows {
        let mut body = encode(&beat);
        body[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(decode(Origin::of(&beat), &body), Err(expected), "{what}");
    }
    let unnumbered = Origin { seq: Seq(0), ..Origin::of(&beat) };
    assert_eq!(decode(unnumbered, &encode(&beat)), Err(DecodeError::Seq));
}

#[test]
fn the_layout_is_the_one_that_is_documented() {
    let mut beat = full_beat();
    beat.claims = [Bucket::new(9).unwrap()].into_iter().collect();
    beat.rulings.first = vec![(Bucket::new(1023).unwrap(), NodeId::new(64).unwrap())];
    assert_eq!(beat.rulings.to, BUCKETS as u16);
    let body = encode(&beat);
    assert_eq!(body[..4], [0x11, 63, 100, 0], "serving, healthy, answer; 63 reports; weight 100");
    assert_eq!(body[34..40], [0, 0, 0, 4, 1, 0], "rulings from 0 to 1024, one");
    assert_eq!(body[40..43], [0, 2, 0], "bucket 9 is bit 1 of byte 1");
    assert_eq!(body[424..428], [255, 255, 254, 255], "a say about all but node 17, the sender");
    assert_eq!(body[448..452], [1, 0x11, 100, 0], "node 1, serving, healthy, heard, weight 100");
    assert_eq!(body[body.len() - 2..], [255, 255], "bucket 1023 to node 64");
}
