//! `mapping = "clusterip"` is what it says: for every client the same node as the kernel's own implementations choose,
//! asked on the very packets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use onevip_lab::net::feed;
use onevip_lab::plan::Plan;
use onevip_lab::wire::Tap;
use onevip_lab::{Host, Lab};

use crate::common::{CLUSTER_MAC, Mode, VIP, all_claim, config, predicted, wait};

const SEED: u32 = 0x5eed_1234;
const CLIENTS: usize = 1500;

/// What a set of nftables holds: for each source, the number that was marked.
type Marked = BTreeMap<Ipv4Addr, u32>;

#[test]
fn four_nodes_are_chosen_as_nftables_and_xt_cluster_choose() {
    choose_as_the_kernel_does("e2e-map4", 4, "memory");
}

/// 3 does not divide the number of buckets.
#[test]
fn three_nodes_are_chosen_as_nftables_and_xt_cluster_choose() {
    choose_as_the_kernel_does("e2e-map3", 3, "memory");
}

/// `CLUSTERIP` is gone from the kernel; it hashed the address with its bytes in the other order.
#[test]
fn three_nodes_are_chosen_as_clusterip_did() {
    choose_as_the_kernel_does("e2e-mapc", 3, "host");
}

fn choose_as_the_kernel_does(name: &str, nodes: usize, order: &str) {
    let lines = format!("mapping = \"clusterip\"\nseed = {SEED}\naddress_order = \"{order}\"");
    // The lab's name has the mode's behind it.
    let text = config(name, nodes, &lines);
    let lab = Lab::up(Mode::Tcx.options(name, nodes, 3).config(text)).unwrap();
    all_claim(&lab);
    let sources = sources();
    let as_hashed = |source: Ipv4Addr| match order {
        "memory" => source,
        _ => Ipv4Addr::from(source.to_bits().swap_bytes()),
    };
    // Every node notes what its authority let through. unix1 notes, of all sources, what the kernel would choose.
    for id in 1..=nodes {
        feed(lab.command(&format!("unix{id}"), "nft").unwrap().args(["-f", "-"]), &rules(nodes)).unwrap();
    }
    for id in 1..=nodes {
        let of = format!("-t mangle -A PREROUTING -p udp --dport 9 -m cluster --cluster-total-nodes {nodes}");
        let to = format!("--cluster-local-node {id} --cluster-hash-seed {SEED} -j MARK --set-mark {id}");
        let words: Vec<&str> = ["iptables"].into_iter().chain(of.split(' ')).chain(to.split(' ')).collect();
        lab.exec_ok("unix1", &words).unwrap();
    }
    let tap = lab.tap("client", "eth0").unwrap();
    let own_mac = Plan::mac(Host::Node(1));
    let question = |source| udp(&own_mac, as_hashed(source), "198.51.100.11".parse().unwrap());
    let chosen = all_marked(&lab, &tap, 1..=1, "chosen", &sources, question, as_hashed);
    let by_xt_cluster = marked(&lab, 1, "by_xt_cluster");
    let packet = |source| echo_reply(CLUSTER_MAC, source, VIP);
    all_marked(&lab, &tap, 1..=nodes, "passed", &sources, packet, |source| source);

    let mut owners: BTreeMap<Ipv4Addr, Vec<u32>> = BTreeMap::new();
    for id in 1..=nodes {
        let passed = marked(&lab, id, "passed").into_keys();
        passed.for_each(|source| owners.entry(source).or_default().push(id as u32));
    }
    for &source in &sources {
        let kernels = chosen[&as_hashed(source)] + 1;
        assert_eq!(owners[&source], [kernels], "{source}: passed by these nodes; nftables chooses the other");
        assert_eq!(by_xt_cluster[&as_hashed(source)], kernels, "{source}: xt_cluster and nftables disagree");
    }
    for &source in sources.iter().take(20) {
        assert_eq!(predicted(&lab, source.into()), format!("unix{}", owners[&source][0]));
    }
    let used: BTreeSet<_> = owners.values().flatten().collect();
    assert_eq!(used.len(), nodes);
}

/// Addresses from all over the Internet, from a seed that changes with every run.
fn sources() -> Vec<Ipv4Addr> {
    let mut state = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    println!("seed of the sources: {state:#x}");
    let mut sources = BTreeSet::new();
    while sources.len() < CLIENTS {
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

/// Behind the authority (which sits at tc ingress) and behind iptables' mangle table.
fn rules(nodes: usize) -> String {
    let set = |name: &str| format!("set {name} {{ type ipv4_addr . mark; size 65535; flags dynamic; }}\n");
    let hash = format!("meta mark set jhash ip saddr mod {nodes} seed {SEED}");
    format!(
        "table ip story {{\n{}{}{}\
         chain pre {{ type filter hook prerouting priority -100; policy accept;\n\
         ip daddr {VIP} icmp type echo-reply {hash} add @passed {{ ip saddr . meta mark }} drop\n\
         udp dport 9 add @by_xt_cluster {{ ip saddr . meta mark }}\n\
         udp dport 9 {hash} add @chosen {{ ip saddr . meta mark }} drop\n\
         }}\n}}\n",
        set("passed"),
        set("chosen"),
        set("by_xt_cluster"),
    )
}

/// Sends a packet from every source until a set of the nodes, taken together, has them all; queues may overflow.
fn all_marked(
    lab: &Lab,
    tap: &Tap,
    nodes: std::ops::RangeInclusive<usize>,
    set: &str,
    sources: &[Ipv4Addr],
    packet: impl Fn(Ipv4Addr) -> Vec<u8>,
    key: impl Fn(Ipv4Addr) -> Ipv4Addr,
) -> Marked {
    let mut all = Marked::new();
    wait("every packet to arrive", || {
        let missing = sources.iter().filter(|&&source| !all.contains_key(&key(source))).take(300);
        missing.for_each(|&source| tap.send(&packet(source)).unwrap());
        all = nodes.clone().flat_map(|id| marked(lab, id, set)).collect();
        all.len() == sources.len()
    });
    all
}

fn marked(lab: &Lab, node: usize, set: &str) -> Marked {
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

fn udp(to: &str, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    // Ports 9 and 9, length, no checksum.
    ipv4(to, 17, source, destination, &[0, 9, 0, 9, 0, 8, 0, 0])
}

/// An answer that nobody asked for, which nobody answers: its checksum is that of its type (0) and three zero words.
fn echo_reply(to: &str, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    ipv4(to, 1, source, destination, &[0, 0, 0xff, 0xff, 0, 0, 0, 0])
}

fn ipv4(to: &str, protocol: u8, source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mac = |text: &str| -> Vec<u8> {
        text.split(':').map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
    };
    let mut header = vec![0x45, 0, 0, 20 + payload.len() as u8, 0, 0, 0, 0, 64, protocol, 0, 0];
    header.extend(source.octets());
    header.extend(destination.octets());
    let words = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = [mac(to), mac(&Plan::mac(Host::Client)), vec![8, 0], header, payload.to_vec()].concat();
    frame.resize(60, 0);
    frame
}
