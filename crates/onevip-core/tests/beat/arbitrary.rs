//! Beats of all sizes, as their types document them.

use onevip_core::beat::codec::rulings_room;
use onevip_core::beat::{
    Beat, Facts, Health, Incarnation, NodeState, PeerReport, Rulings, Seq, Standing, Testimony,
};
use onevip_core::{BUCKETS, Bucket, BucketSet, NodeId, NodeSet, Weight};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::collections::BTreeMap;

pub fn node() -> impl Strategy<Value = NodeId> {
    (1..=64u8).prop_map(|number| NodeId::new(number).unwrap())
}

fn seq() -> impl Strategy<Value = Seq> {
    prop_oneof![1..200u32, 1..=u32::MAX].prop_map(Seq)
}

fn incarnation() -> impl Strategy<Value = Incarnation> {
    any::<u32>().prop_map(Incarnation)
}

fn standing() -> impl Strategy<Value = Standing> {
    (0..4u8, 0..4u8, 0..=Weight::MAX).prop_map(|(state, health, weight)| Standing {
        state: NodeState::from_wire(state).unwrap(),
        health: Health::new(health),
        weight: Weight::new(weight).unwrap(),
    })
}

fn facts() -> impl Strategy<Value = Facts> {
    (any::<u64>(), any::<u64>(), any::<u32>(), any::<u16>()).prop_map(
        |(config_digest, host_keys_digest, sessions, load_percent)| Facts {
            config_digest,
            host_keys_digest,
            sessions,
            load_percent,
        },
    )
}

fn buckets() -> impl Strategy<Value = BucketSet> {
    any::<[u64; BUCKETS / 64]>().prop_map(BucketSet::from_words)
}

type Reports = BTreeMap<NodeId, (Incarnation, Seq, bool, bool, Standing)>;

fn reports() -> impl Strategy<Value = Reports> {
    let report = || (incarnation(), seq(), any::<bool>(), any::<bool>(), standing());
    let all = vec(report(), 64).prop_map(|reports| NodeId::all().zip(reports).collect());
    prop_oneof![btree_map(node(), report(), 0..8), all]
}

/// Few or none, or more than there is ever room for.
fn rulings() -> impl Strategy<Value = (BTreeMap<u16, NodeId>, u16, u16)> {
    let few = btree_map(0..BUCKETS as u16, node(), 0..20);
    let many = (buckets(), any::<usize>()).prop_map(|(buckets, add)| {
        let node = |bucket: Bucket| NodeId::from_index(bucket.index().wrapping_add(add) % 64).unwrap();
        buckets.iter().map(|bucket| (bucket.get(), node(bucket))).collect()
    });
    (prop_oneof![few, many], 0..=BUCKETS as u16, 0..=BUCKETS as u16)
}

/// Any beat that an engine could send: peers and rulings up to the full.
pub fn beat() -> impl Strategy<Value = Beat> {
    let head = (node(), incarnation(), seq(), any::<u32>(), standing(), any::<bool>());
    let numbers = (any::<u32>(), any::<u32>(), facts());
    let sets = (buckets(), buckets(), buckets(), any::<[u64; 3]>());
    (head, numbers, sets, reports(), rulings()).prop_map(|(head, numbers, sets, reports, rulings)| {
        let (from, incarnation, seq, host, standing, answer) = head;
        let (view, rebalance, facts) = numbers;
        let (claims, intents, sessions, nodes) = sets;
        let [able, suspects, convicted] = nodes.map(NodeSet::from_word);
        let able = able.without(from);
        let testimony = Testimony { able, suspects: suspects.and(able), convicted };
        let peers = peers(reports, from);
        let rulings = fitting(rulings, rulings_room(peers.len()));
        Beat {
            from,
            incarnation,
            seq,
            host,
            standing,
            answer,
            view,
            rebalance,
            facts,
            claims,
            intents,
            sessions,
            testimony,
            peers,
            rulings,
        }
    })
}

fn peers(reports: Reports, from: NodeId) -> Vec<PeerReport> {
    let report = |(node, (incarnation, seq, heard, lossy, standing))| PeerReport {
        node,
        incarnation,
        seq,
        heard,
        lossy,
        standing,
    };
    reports.into_iter().filter(|(node, _)| *node != from).map(report).collect()
}

fn fitting((first, a, b): (BTreeMap<u16, NodeId>, u16, u16), room: usize) -> Rulings {
    let (from, to) = (a.min(b), a.max(b));
    // All of them now and then, or a full beat would hardly ever occur.
    let (from, to) = if a % 2 == 0 { (0, BUCKETS as u16) } else { (from, to) };
    let inside = first.range(from..to).take(room).map(|(b, node)| (Bucket::new(*b).unwrap(), *node));
    Rulings { from, to, first: inside.collect() }
}

/// The largest beat: 63 peers and all the rulings there is room for.
pub fn full_beat() -> Beat {
    let standing = Standing { state: NodeState::Serving, health: Health::GOOD, weight: Weight::NORMAL };
    let report = |node| PeerReport {
        node,
        incarnation: Incarnation(1_700_000_000),
        seq: Seq(u32::MAX),
        heard: true,
        lossy: false,
        standing,
    };
    let me = NodeId::new(17).unwrap();
    let able = NodeSet::from_word(u64::MAX).without(me);
    let peers: Vec<PeerReport> = NodeId::all().filter(|node| *node != me).map(report).collect();
    let first =
        Bucket::all().zip(NodeId::all().chain(NodeId::all())).take(rulings_room(peers.len())).collect();
    Beat {
        from: me,
        incarnation: Incarnation(1_700_000_000),
        seq: Seq(1),
        host: 0xdead_beef,
        standing,
        answer: true,
        view: u32::MAX,
        rebalance: 3,
        facts: Facts { config_digest: 1, host_keys_digest: 2, sessions: 3, load_percent: 4 },
        claims: BucketSet::FULL,
        intents: BucketSet::FULL,
        sessions: BucketSet::FULL,
        testimony: Testimony { able, suspects: able, convicted: NodeSet::from_word(u64::MAX) },
        peers,
        rulings: Rulings { from: 0, to: BUCKETS as u16, first },
    }
}

/// A small beat with this number.
pub fn beat_numbered(seq: u32) -> Beat {
    let mut beat = full_beat();
    beat.peers.truncate(3);
    beat.rulings = Rulings::NONE;
    beat.seq = Seq(seq);
    beat
}
