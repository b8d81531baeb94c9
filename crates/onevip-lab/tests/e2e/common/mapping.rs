//! Packets from clients all over the Internet, and what a host's firewall noted of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use onevip_core::checksum;
use onevip_lab::plan::LabPlan;
use onevip_lab::wire::Tap;
use onevip_lab::{Host, Lab, wait_until};

/// How long dozens of listings of thousands of addresses may take on a machine that does much else.
pub const MANY_LISTINGS: Duration = Duration::from_secs(180);

/// What a set of nftables (`ip story NAME`) holds: for each source, the number that was marked.
pub type Marked = BTreeMap<Ipv4Addr, u32>;

/// Addresses from all over the Internet, from a seed that changes with every run.
pub fn sources(count: usize) -> Vec<Ipv4Addr> {
    let mut state = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    println!("seed of the sources: {state:#x}");
    let mut sources = BTreeSet::new();
    while sources.len() < count {
        // SplitMix64 (Steele, Lea and Flood 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let source = Ipv4Addr::from((mixed >> 32) as u32);
        let first = source.octets()[0];
        if (1..224).contains(&first) && first != 127 {
            sources.insert(source);
        }
    }
    sources.into_iter().collect()
}

/// Sends a packet from every source until a set of the nodes, taken together, has them all; queues may overflow.
pub fn all_marked(
    lab: &Lab,
    tap: &Tap,
    nodes: std::ops::RangeInclusive<usize>,
    set: &str,
    sources: &[Ipv4Addr],
    packet: impl Fn(Ipv4Addr) -> Vec<u8>,
    key: impl Fn(Ipv4Addr) -> Ipv4Addr,
) -> Marked {
    let mut all = Marked::new();
    wait_until(MANY_LISTINGS, "every packet to arrive", || {
        let missing = sources.iter().filter(|&&source| !all.contains_key(&key(source))).take(800);
        missing.for_each(|&source| tap.send(&packet(source)).unwrap());
        all = nodes.clone().flat_map(|id| marked(lab, id, set)).collect();
        all.len() == sources.len()
    })
    .unwrap();
    all
}

pub fn marked(lab: &Lab, node: usize, set: &str) -> Marked {
    let words = ["nft", "-j", "list", "set", "ip", "story", set];
    let text = lab.exec_ok(&format!("unix{node}"), &words).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let elements =
        json["nftables"].as_array().unwrap().iter().find_map(|item| item["set"]["elem"].as_array());
    let pair = |element: &serde_json::Value| {
        let pair = &element.get("elem").map_or(element, |elem| &elem["val"])["concat"];
        (pair[0].as_str().unwrap().parse().unwrap(), pair[1].as_u64().unwrap() as u32)
    };
    elements.into_iter().flatten().map(pair).collect()
}

pub fn udp(to: &str, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    // Ports 9 and 9, length, no checksum.
    ipv4(to, 17, source, destination, &[0, 9, 0, 9, 0, 8, 0, 0])
}

/// An answer that nobody asked for, which nobody answers: its checksum is that of its type (0) and three zero words.
pub fn echo_reply(to: &str, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    ipv4(to, 1, source, destination, &[0, 0, 0xff, 0xff, 0, 0, 0, 0])
}

fn ipv4(to: &str, protocol: u8, source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mac = |text: &str| -> Vec<u8> {
        text.split(':').map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
    };
    let mut header = vec![0x45, 0, 0, 20 + payload.len() as u8, 0, 0, 0, 0, 64, protocol, 0, 0];
    header.extend(source.octets());
    header.extend(destination.octets());
    let sum = checksum::internet(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame =
        [mac(to), mac(&LabPlan::mac(Host::Client)), vec![8, 0], header, payload.to_vec()].concat();
    frame.resize(60, 0);
    frame
}
