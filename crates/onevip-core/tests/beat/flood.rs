//! A flood of anything but real beats: each is turned away for little, and the real ones get through.

use super::arbitrary::beat_numbered;
use super::{CLUSTER, VIP, key, receiver, sealer, sealer_with};
use onevip_core::beat::{Keyring, Sealer};
use onevip_core::membership::Family::V4;
use std::time::{Duration, Instant};

const FLOOD: u32 = 100_000;

/// One of each kind that anybody can send who sees the real beats.
fn garbage() -> Vec<Vec<u8>> {
    let real = sealer().seal(&beat_numbered(1));
    let mut forged = sealer().seal(&beat_numbered(1_000_000_000));
    *forged.last_mut().unwrap() ^= 1;
    vec![
        vec![0; 1400],
        real[..100].to_vec(),
        Sealer::new(&Keyring::new(key(7), []), CLUSTER, "git").seal(&beat_numbered(1)),
        Sealer::new(&Keyring::new(key(7), []), "batch", VIP).seal(&beat_numbered(1)),
        sealer_with(8).seal(&beat_numbered(1)),
        real,
        forged,
    ]
}

#[test]
fn real_beats_get_through_a_flood_of_all_others() {
    let mut receiver = receiver();
    let garbage = garbage();
    let mut spent = Duration::ZERO;
    assert!(receiver.receive(V4, &sealer().seal(&beat_numbered(1))).is_ok());
    for number in 0..FLOOD {
        let datagram = &garbage[number as usize % garbage.len()];
        let began = Instant::now();
        let answer = receiver.receive(V4, datagram);
        spent += began.elapsed();
        assert!(answer.is_err());
        if number % 100 == 0 {
            let seq = 2 + number / 100;
            let real = beat_numbered(seq);
            assert_eq!(receiver.receive(V4, &sealer().seal(&real)), Ok(real), "{seq}");
        }
    }
    let each = spent / FLOOD;
    println!("a datagram of the flood costs {each:?}");
    let rejected: u64 = receiver.counters().by_reason().map(|(_, count)| count).sum();
    assert_eq!(
        (rejected, receiver.counters().accepted()),
        (u64::from(FLOOD), [1 + u64::from(FLOOD) / 100, 0])
    );
    assert!(each < Duration::from_micros(200), "generous: hundreds of times what it takes ({each:?})");
}
