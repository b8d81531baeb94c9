//! The wire, byte for byte: a sealed beat and a sealed message must come out as they did when the vectors were
//! recorded. Another result is another protocol, and needs another version number.
#![allow(clippy::unwrap_used)] // A test may panic, its helpers included.

use onevip_core::beat::{
    Beat, Facts, Health, Incarnation, Key, Keyring, NodeState, PeerReport, Rulings, Sealer, Seq, Standing,
    Testimony,
};
use onevip_core::rpc::{Endpoint, MessageKind};
use onevip_core::{Bucket, BucketSet, NodeId, NodeSet, Weight};

fn node(number: u8) -> NodeId {
    NodeId::new(number).unwrap()
}

fn buckets(step: usize) -> BucketSet {
    Bucket::all().step_by(step).collect()
}

fn keyring() -> Keyring {
    Keyring::new(Key::from_bytes([7; 32]), [])
}

fn hex(bytes: &[u8]) -> String {
    let lines: Vec<String> =
        bytes.chunks(48).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    lines.join("\n")
}

fn beat() -> Beat {
    let standing =
        Standing { state: NodeState::Draining, health: Health::new(2), weight: Weight::new(150).unwrap() };
    let report = |number, heard, lossy| PeerReport {
        node: node(number),
        incarnation: Incarnation(70 + u32::from(number)),
        seq: Seq(1000),
        heard,
        lossy,
        standing: Standing { state: NodeState::Serving, health: Health::GOOD, weight: Weight::NORMAL },
    };
    Beat {
        from: node(3),
        incarnation: Incarnation(77),
        seq: Seq(123_456),
        host: 0x0102_0304,
        standing,
        answer: true,
        view: 0xdead_beef,
        rebalance: 5,
        facts: Facts { config_digest: 1, host_keys_digest: 2, sessions: 3, load_percent: 4 },
        claims: buckets(3),
        intents: buckets(5),
        sessions: buckets(7),
        testimony: Testimony {
            able: [1, 2].into_iter().map(node).collect::<NodeSet>(),
            suspects: NodeSet::EMPTY.with(node(2)),
            convicted: NodeSet::EMPTY.with(node(2)),
        },
        peers: vec![report(1, true, false), report(2, false, true)],
        rulings: Rulings { from: 0, to: 900, first: vec![(Bucket::new(17).unwrap(), node(1))] },
    }
}

#[test]
fn a_beat_is_sealed_as_it_always_was() {
    let sealed = Sealer::new(&keyring(), "prod", "login").seal(&beat());
    assert_eq!(hex(&sealed), include_str!("beat.hex").trim_end());
    assert_eq!(Sealer::new(&keyring(), "prod", "login").open(&sealed).unwrap(), beat());
}

#[test]
fn messages_are_sealed_as_they_always_were() {
    let mut endpoint = Endpoint::new(&keyring(), ("prod", "login"), node(1), 0x0a0b_0c0d, Incarnation(5));
    let request = endpoint.seal(node(2), 42, MessageKind::Request { page: 0 }, b"{\"what\":\"sessions\"}");
    let page = endpoint.seal(node(2), 43, MessageKind::Response { page: 3, pages: 4 }, b"good morning");
    assert_eq!(format!("{}\n\n{}", hex(&request), hex(&page)), include_str!("messages.hex").trim_end());
}
