//! Beats as they are seen on the wire, and beats of somebody who means no good.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use onevip_lab::{Lab, Options, wait_until};

use super::PATIENCE;

/// Where beats arrive unless the file says otherwise.
const BEAT_PORT: [u8; 2] = 7077_u16.to_be_bytes();

fn up(name: &str) -> Lab {
    Lab::up(Options::test(name).nodes(3).clients(8)).unwrap()
}

/// The beats among frames: UDP to the VIP and the beat port.
fn beats(frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let vip = Ipv4Addr::new(198, 51, 100, 10).octets();
    let is_beat = |frame: &Vec<u8>| {
        frame.len() > 42
            && frame[12..15] == [0x08, 0x00, 0x45]
            && frame[23] == 17
            && frame[30..34] == vip
            && frame[36..38] == BEAT_PORT
    };
    frames.into_iter().filter(is_beat).collect()
}

/// What a client of the cluster can overhear in a while.
fn overhear(lab: &Lab) -> Vec<Vec<u8>> {
    let tap = lab.tap("client", "eth0").unwrap();
    let mut heard = Vec::new();
    wait_until(PATIENCE, "fifty beats", || {
        heard.extend(beats(tap.until(Instant::now() + Duration::from_millis(100)).unwrap()));
        heard.len() >= 50
    })
    .unwrap();
    heard
}

#[test]
fn beats_go_the_way_of_a_clients_packet_and_are_sealed() {
    let lab = up("sealed");
    let mut senders = std::collections::BTreeSet::new();
    for frame in overhear(&lab) {
        let mac: String = frame[..6].iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":");
        assert_eq!(mac, lab.cluster_mac());
        senders.insert(frame[11]);
        assert!(frame.len() <= 1514, "one Ethernet frame");
        // After the header nothing has a pattern: a bitmap of 1024 buckets in the clear has long runs.
        let body = &frame[42 + 38..];
        let run = body.chunk_by(|a, b| a == b).map(<[u8]>::len).max().unwrap();
        assert!(run < 8, "{run} equal bytes in a row: {body:02x?}");
        let name = lab.name().as_str().as_bytes();
        assert!(!frame.windows(name.len()).any(|bytes| bytes == name), "the cluster's name is not told");
    }
    assert_eq!(senders.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
}

/// How many beats a node has rejected for a reason.
fn rejected(lab: &Lab, node: u8, why: &str) -> u64 {
    let status = lab.node(node).onevip_status().unwrap();
    status["vips"][0]["membership"]["beats_rejected"][why].as_u64().unwrap_or(0)
}

fn share(lab: &Lab) -> Vec<Option<u64>> {
    (1..=3).map(|id| lab.node(id).claims()).collect()
}

fn all_is_shared(lab: &Lab) -> bool {
    share(lab).iter().flatten().sum::<u64>() == 1024
}

#[test]
fn replayed_beats_change_nothing_also_after_a_restart() {
    let lab = up("replay");
    wait_until(PATIENCE, "every bucket to be claimed once", || all_is_shared(&lab)).unwrap();
    let before = share(&lab);
    let old = overhear(&lab);
    let tap = lab.tap("client", "eth0").unwrap();
    let replay = || {
        for frame in &old {
            let mut frame = frame.clone();
            // Whoever replays has a MAC of its own: the switch shall not look for the node there.
            frame[6..12].copy_from_slice(&[2, 0, 0, 0, 2, 1]);
            tap.send(&frame).unwrap();
        }
    };
    replay();
    let counted = |node| rejected(&lab, node, "replayed") + rejected(&lab, node, "old-incarnation");
    wait_until(PATIENCE, "the replay to be noticed", || (1..=3).all(|node| counted(node) > 0)).unwrap();
    assert_eq!(share(&lab), before);

    // A receiver that has forgotten everything, while the sender of the old beats is dead.
    lab.node(2).stop_onevip();
    lab.node(3).stop_onevip();
    lab.node(3).start_onevip().unwrap();
    let alone = || matches!(share(&lab)[..], [Some(a), None, Some(b)] if a > 0 && b > 0 && a + b == 1024);
    wait_until(PATIENCE, "unix1 and unix3 to share everything", alone).unwrap();
    let before = share(&lab);
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        replay();
        let status = lab.node(3).onevip_status().unwrap();
        let nodes = status["vips"][0]["nodes"].as_array().unwrap();
        let unix2 = nodes.iter().find(|node| node["name"] == "unix2").unwrap();
        assert_eq!(unix2["peer"]["heard"], false, "the dead do not speak: {unix2}");
    }
    assert_eq!(share(&lab), before);
    assert!(lab.ssh(None, "true").unwrap().status.success());
}
