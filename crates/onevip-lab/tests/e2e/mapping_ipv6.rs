//! `mapping = "clusterip"` for IPv6: the node that nftables chooses, asked on the very packets.
//!
//! `xt_cluster` is asked as well, because it is another function there: it hashes only the first 32 bits of an IPv6 address
//! (`NF_CT_TUPLE_L3SIZE`, which counts words, divided by the size of one), so that all clients of a provider meet the same
//! node. onevip does not follow it in that. Here the answer of `onevip where` is compared; that the programs choose as the core does is the differential test's
//! business, and IPv4's in `mapping.rs`.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use onevip_core::checksum;
use onevip_core::hash::{jhash2, reciprocal_scale};
use onevip_lab::plan::{LabPlan, v6};
use onevip_lab::process::feed;
use onevip_lab::{Host, Lab, wait_until};

use crate::common::mapping::MANY_LISTINGS;
use crate::common::{Mode, all_claim, config, owner, predicted};

const SEED: u32 = 0x5eed_6666;
const CLIENTS: usize = 500;
const NODES: usize = 3;

#[test]
fn ipv6_clients_meet_the_node_that_nftables_chooses_and_xt_cluster_looks_at_32_bits() {
    let name = "e2e-map6";
    let text = config(name, NODES, &format!("mapping = \"clusterip\"\nseed = {SEED}"));
    let lab = Lab::up(Mode::Tcx.options(name, NODES, 3).config(text)).unwrap();
    all_claim(&lab);
    feed(lab.command("unix1", "nft").unwrap().args(["-f", "-"]), &rules()).unwrap();
    for id in 1..=NODES {
        let of = format!("-t mangle -A PREROUTING -p udp --dport 9 -m cluster --cluster-total-nodes {NODES}");
        let to = format!("--cluster-local-node {id} --cluster-hash-seed {SEED} -j MARK --set-mark {id}");
        let words: Vec<&str> = ["ip6tables"].into_iter().chain(of.split(' ')).chain(to.split(' ')).collect();
        lab.exec_ok("unix1", &words).unwrap();
    }
    let tap = lab.tap("client", "eth0").unwrap();
    let sources = sources();
    let mut chosen = BTreeMap::new();
    wait_until(MANY_LISTINGS, "every packet to arrive", || {
        let missing = sources.iter().filter(|source| !chosen.contains_key(*source)).take(300);
        missing.for_each(|&source| tap.send(&udp(source, v6(11))).unwrap());
        chosen = marked(&lab, "chosen");
        chosen.len() == sources.len()
    })
    .unwrap();
    let by_xt_cluster = marked(&lab, "by_xt_cluster");
    for source in &sources {
        let ours = u32::from(owner(&lab, (*source).into()));
        assert_eq!(ours, chosen[source] + 1, "{source}: nftables chooses the other");
        let first = u32::from_ne_bytes(source.octets()[..4].try_into().unwrap());
        let by_32_bits = reciprocal_scale(jhash2(&[first], SEED), NODES as u32) + 1;
        assert_eq!(by_xt_cluster[source], by_32_bits, "{source}: xt_cluster looks at more by now");
    }
    for source in sources.iter().take(5) {
        assert_eq!(predicted(&lab, (*source).into()), format!("unix{}", chosen[source] + 1));
    }
}

/// Global addresses, from a seed that changes with every run.
fn sources() -> Vec<Ipv6Addr> {
    let mut state = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    println!("seed of the sources: {state:#x}");
    let mut next = || {
        // SplitMix64 (Steele, Lea and Flood 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    };
    let mut address = || 0x2 << 124 | (u128::from(next()) << 64 | u128::from(next())) >> 4;
    (0..CLIENTS).map(|_| Ipv6Addr::from_bits(address())).collect()
}

fn rules() -> String {
    let set = |name: &str| format!("set {name} {{ type ipv6_addr . mark; size 65535; flags dynamic; }}\n");
    let (chosen, by_xt_cluster) = (set("chosen"), set("by_xt_cluster"));
    format!(
        "table ip6 story {{\n{chosen}{by_xt_cluster}\
         chain pre {{ type filter hook prerouting priority -100; policy accept;\n\
         udp dport 9 add @by_xt_cluster {{ ip6 saddr . meta mark }}\n\
         udp dport 9 meta mark set jhash ip6 saddr mod {NODES} seed {SEED} \
         add @chosen {{ ip6 saddr . meta mark }} drop\n\
         }}\n}}\n"
    )
}

/// What a set holds: for each source, the number that was marked.
fn marked(lab: &Lab, set: &str) -> BTreeMap<Ipv6Addr, u32> {
    let text = lab.exec_ok("unix1", &["nft", "-j", "list", "set", "ip6", "story", set]).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let elements =
        json["nftables"].as_array().unwrap().iter().find_map(|item| item["set"]["elem"].as_array());
    let pair = |element: &serde_json::Value| {
        let pair = &element.get("elem").map_or(element, |elem| &elem["val"])["concat"];
        (pair[0].as_str().unwrap().parse().unwrap(), pair[1].as_u64().unwrap() as u32)
    };
    elements.into_iter().flatten().map(pair).collect()
}

/// A datagram to port 9 of a node. Its checksum is right: `xt_cluster` asks connection tracking, which looks at it.
fn udp(source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
    let mac = |text: String| -> Vec<u8> {
        text.split(':').map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
    };
    let mut frame = [mac(LabPlan::mac(Host::Node(1))), mac(LabPlan::mac(Host::Client))].concat();
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 64]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    let mut datagram = [0, 9, 0, 9, 0, 8, 0, 0];
    let sum = checksum::udp(source.into(), destination.into(), &datagram);
    datagram[6..].copy_from_slice(&sum.to_be_bytes());
    frame.extend(datagram);
    frame
}
