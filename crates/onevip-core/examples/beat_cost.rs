//! What a beat costs: `cargo run --release -p onevip-core --example beat_cost`.
//!
//! Prints a table: size and time to seal and to open beats of clusters of several sizes, then what it costs to turn
//! away each kind of datagram that is none.

use onevip_core::beat::codec::rulings_room;
use onevip_core::beat::envelope::DATAGRAM_MAX;
use onevip_core::beat::{
    Beat, Facts, Health, Incarnation, Key, Keyring, NodeState, PeerReport, Receiver, Rulings, Sealer, Seq,
    Standing, Testimony,
};
use onevip_core::membership::Family;
use onevip_core::{BUCKETS, Bucket, BucketSet, NodeId, Weight};
use std::hint::black_box;
use std::time::Instant;

const BATCHES: u32 = 500;
const BATCH: u32 = 50;

fn main() {
    println!("beat                     bytes    seal ns    open ns");
    for (nodes, rulings) in [(2, 0), (4, 0), (64, 0), (64, rulings_room(63))] {
        let beat = beat(nodes, rulings);
        let sealer = sealer(7, "ssh");
        let sealed = sealer.seal(&beat);
        let seal_ns = nanos(|| black_box(sealer.seal(black_box(&beat))).len());
        let open_ns = nanos(|| usize::from(black_box(sealer.open(black_box(&sealed))).is_ok()));
        println!("{nodes:2} nodes, {rulings:3} rulings  {:8} {seal_ns:10} {open_ns:10}", sealed.len());
    }
    println!("\nthe copy by the other family {:4} ns", copy_ns());
    println!("\nturned away                    ns");
    for (what, datagram) in garbage() {
        let mut receiver = Receiver::new(sealer(7, "ssh"));
        let real = sealer(7, "ssh").seal(&beat(64, rulings_room(63)));
        assert!(receiver.receive(Family::V4, &real).is_ok());
        let ns =
            nanos(|| usize::from(black_box(receiver.receive(Family::V4, black_box(&datagram))).is_err()));
        println!("{what:24} {ns:8}");
    }
}

/// Time that `work` takes when nothing else runs: the fastest of many short batches. It must return something above 0.
fn nanos(mut work: impl FnMut() -> usize) -> u128 {
    let mut batch = || {
        let began = Instant::now();
        assert_eq!((0..BATCH).filter(|_| work() > 0).count(), BATCH as usize);
        began.elapsed().as_nanos() / u128::from(BATCH)
    };
    (0..BATCHES).map(|_| batch()).min().unwrap_or(0)
}

/// Time to let in a full beat that came by the other family already.
fn copy_ns() -> u128 {
    let mut receiver = Receiver::new(sealer(7, "ssh"));
    let mut beat = beat(64, rulings_room(63));
    let mut fastest = u128::MAX;
    for seq in 1..=BATCHES {
        beat.seq = Seq(seq);
        let sealed = receiver.sealer().seal(&beat);
        assert!(receiver.receive(Family::V4, &sealed).is_ok());
        let began = Instant::now();
        assert!(black_box(receiver.receive(Family::V6, black_box(&sealed))).is_ok());
        fastest = fastest.min(began.elapsed().as_nanos());
    }
    fastest
}

fn garbage() -> [(&'static str, Vec<u8>); 6] {
    let full = beat(64, rulings_room(63));
    let real = sealer(7, "ssh").seal(&full);
    let mut newer = full.clone();
    newer.seq = Seq(2);
    let mut forged = sealer(7, "ssh").seal(&newer);
    forged[DATAGRAM_MAX / 2] ^= 1;
    [
        ("another program's", vec![0; DATAGRAM_MAX]),
        ("cut short", real[..40].to_vec()),
        ("another VIP's", sealer(7, "git").seal(&full)),
        ("another key's", sealer(8, "ssh").seal(&full)),
        ("a copy", real),
        ("forged", forged),
    ]
}

fn sealer(key: u8, vip: &str) -> Sealer {
    Sealer::new(&Keyring::new(Key::from_bytes([key; 32]), []), "login", vip)
}

fn beat(nodes: usize, rulings: usize) -> Beat {
    let standing = Standing { state: NodeState::Serving, health: Health::GOOD, weight: Weight::NORMAL };
    let report = |node| PeerReport {
        node,
        incarnation: Incarnation(1),
        seq: Seq(1),
        heard: true,
        lossy: false,
        standing,
    };
    let mut all = NodeId::all();
    let from = all.next().expect("there is a node 1");
    Beat {
        from,
        incarnation: Incarnation(1),
        seq: Seq(1),
        host: 1,
        standing,
        answer: false,
        view: 1,
        rebalance: 0,
        facts: Facts::default(),
        claims: BucketSet::FULL,
        intents: BucketSet::EMPTY,
        sessions: BucketSet::FULL,
        testimony: Testimony::default(),
        peers: all.take(nodes - 1).map(report).collect(),
        rulings: Rulings {
            from: 0,
            to: BUCKETS as u16,
            first: Bucket::all().take(rulings).map(|bucket| (bucket, from)).collect(),
        },
    }
}
