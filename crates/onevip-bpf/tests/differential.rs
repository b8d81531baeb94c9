//! The programs against the reference: 250,000 generated frames, well-formed, truncated and mutated, through XDP, tc
//! and `onevip_core::judge`, with real sockets. tc agrees always, in action and reason; XDP drops exactly what the
//! reference drops.
//!
//! `ONEVIP_SEED=N` replays a run, `ONEVIP_PACKETS=N` changes its length. About half of the frames are IPv6.

#![allow(clippy::unwrap_used)]

mod common;

use aya::maps::{Array, Map, MapData};
use common::frame::{self, ACK};
use common::host::{Host, SSH};
use common::reference::{Known, all_agree, flow, renew, tc_takes, views};
use common::{BEAT_PORT, CLUSTER_MAC, V, VIP, VIP6, isolated};
use onevip_bpf::layout::{ORPHANS, TICK_SHIFT, WORDS};
use onevip_bpf::{Accelerate, Bans, Explainer, Kernel, KernelConfig, VipConfig, boot_time_ns};
use onevip_core::bans::Stop;
use onevip_core::limit::{Limit, Refusal};
use onevip_core::{
    AddressOrder, Answerer, BUCKETS, Bucket, Exception, Flags, Flow, HashMode, Hasher, Instead, NodeId,
    Other, Prefix, Reason, Selector, Service, Slice, Socket, Time, Transport,
};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PACKETS: u64 = 250_000;
/// Flags, lease and memory of SYNs change this often. Fewer than the ring buffer takes beats.
const BATCH: u64 = 250;
/// A new host is made this often: half-open sockets and TIME_WAIT do not live for ever.
const PACKETS_PER_HOST: u64 = 250_000;

const SECOND_VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 11);
const SECOND_VIP_ALIAS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);
const SECOND_VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x11);
const SECOND_MAC: [u8; 6] = [0x01, 0x00, 0x5e, 0x33, 0x64, 0x0b];
const SECOND_BEAT_PORT: u16 = 2112;

/// Ports of a service that is answered by sockets, in four slices of which this node has the third.
const MOSH: RangeInclusive<u16> = 60_000..=60_063;

/// SplitMix64 (Steele, Lea, Flood 2014): small, seedable, good enough to choose packets.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn array(&mut self) -> [u8; 16] {
        (u128::from(self.next()) << 64 | u128::from(self.next())).to_be_bytes()
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// What the generator knows of the host, so that it hits what is there.
struct World {
    held: Vec<(IpAddr, u16)>,
    half_open: HashMap<(IpAddr, u16), u32>,
    waiting: Vec<(IpAddr, u16)>,
}

impl World {
    fn make(host: &mut Host) -> Self {
        let client = |kind: u8, number: u8| {
            let last = 40 + kind * 8 + number;
            match number % 2 {
                0 => IpAddr::from(Ipv4Addr::new(198, 51, 100, last)),
                _ => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0x1122, 0x3344, 0x5566, last.into()).into(),
            }
        };
        let port = 40_000;
        let mut world = World { held: Vec::new(), half_open: HashMap::new(), waiting: Vec::new() };
        for number in 0..6 {
            host.connect(client(0, number), port);
            world.held.push((client(0, number), port));
            world.half_open.insert((client(1, number), port), host.half_open(client(1, number), port));
            host.time_wait(client(2, number), port);
            world.waiting.push((client(2, number), port));
        }
        world
    }

    fn sockets(&self) -> HashMap<Flow, Socket> {
        let held = self.held.iter().map(|&(client, port)| (flow(client, port), Socket::Connected));
        let waiting = self.waiting.iter().map(|&(client, port)| (flow(client, port), Socket::TimeWait));
        let half_open = self
            .half_open
            .iter()
            .map(|(&(client, port), &sent_isn)| (flow(client, port), Socket::Request { sent_isn }));
        held.chain(waiting).chain(half_open).collect()
    }

    /// A client of this family and its port, often one that has a socket.
    fn client(&self, random: &mut Random, v6: bool) -> (IpAddr, u16) {
        loop {
            let client = self.any_client(random);
            if client.0.is_ipv6() == v6 {
                return client;
            }
        }
    }

    fn any_client(&self, random: &mut Random) -> (IpAddr, u16) {
        let half_open: Vec<_> = self.half_open.keys().copied().collect();
        match random.below(10) {
            0..2 => random.of(&self.held),
            // A HashMap has no order to replay.
            2..4 => {
                let mut half_open = half_open;
                half_open.sort_unstable();
                random.of(&half_open)
            }
            4..6 => random.of(&self.waiting),
            6..8 => (Ipv4Addr::from_bits(random.next() as u32).into(), random.next() as u16),
            _ => (Ipv6Addr::from(random.array()).into(), random.next() as u16),
        }
    }
}

fn config() -> KernelConfig {
    let by_port =
        Hasher { mode: HashMode::SourceIpPortDestPort, seed: 42, order: AddressOrder::Host, blocks: Some(5) };
    let second = VipConfig {
        addresses: vec![SECOND_VIP.into(), SECOND_VIP6.into(), SECOND_VIP_ALIAS.into()],
        selector: Selector {
            hasher: by_port,
            services: services(),
            other: Other::Drop,
            exceptions: exceptions(),
        },
        beat_port: SECOND_BEAT_PORT,
        cluster_mac: SECOND_MAC,
        orphan_wait_ms: common::ORPHAN_WAIT_MS,
    };
    let mut first = common::vip(Hasher::DEFAULT);
    first.selector.services = vec![Service { limit: Some(limit(5)), ..services()[0].clone() }];
    KernelConfig { vips: vec![first, second] }
}

/// Who is not counted.
const ALLOWED: &str = "198.51.100.40/30";
const ALLOWED6: &str = "2001:db8:0:0:1122:3344:5566:2a/127";

/// A limit whose window is longer than the test.
fn limit(burst: u8) -> Limit {
    Limit {
        burst,
        window: Duration::from_secs(3600),
        counts_refused: true,
        refusal: Refusal::Drop,
        v4_prefix: 31,
        v6_prefix: 100,
        allow: vec![ALLOWED.parse().unwrap(), ALLOWED6.parse().unwrap()],
    }
}

/// Each hashes in its own way, and most ports are nobody's.
fn services() -> Vec<Service> {
    let service =
        |transport, ports, mode| Service { transport, ports, mode, answerer: Answerer::Bucket, limit: None };
    vec![
        service(Transport::Tcp, SSH..=SSH, HashMode::SourceIp),
        Service {
            limit: Some(Limit { counts_refused: false, ..limit(30) }),
            ..service(Transport::Tcp, 2222..=2229, HashMode::SourceNet { v4_prefix: 20, v6_prefix: 56 })
        },
        service(Transport::Udp, 53..=53, HashMode::SourceIpPort),
        Service {
            answerer: Answerer::Socket(Slice::of(NodeId::new(3).unwrap(), 4).unwrap()),
            ..service(Transport::Udp, MOSH, HashMode::SourceIp)
        },
    ]
}

/// Prefixes within each other, some of which hold clients that have sockets.
fn exceptions() -> Vec<Exception> {
    let network = |text: &str, length| Prefix::new(text.parse().unwrap(), length).unwrap();
    let by = |network, mode| Exception { network, instead: Instead::Hash(mode) };
    let buckets = |step: usize, count| Bucket::all().step_by(step).skip(3).take(count).collect::<Vec<_>>();
    let to = |network, buckets| Exception { network, instead: Instead::Buckets(buckets) };
    let mut exceptions = vec![
        by(network("128.0.0.0", 1), HashMode::SourceIpPort),
        to(network("192.0.0.0", 2), buckets(5, 16)),
        by(network("198.51.100.0", 24), HashMode::SourceNet { v4_prefix: 28, v6_prefix: 64 }),
        to(network("198.51.100.40", 29), buckets(7, 3)),
        by(network("198.51.100.42", 32), HashMode::SourceIp),
        to(network("8000::", 1), buckets(11, 16)),
        to(network("2001:db8::", 32), buckets(13, 1)),
        by(network("2001:db8::1122:3344:5566:30", 124), HashMode::SourceIpPortDestPort),
    ];
    exceptions.sort_by_key(|exception| exception.network);
    exceptions
}

/// Sockets for any address, some in this node's slice and some, which must not count, in others'; and their ports.
fn datagram_sockets() -> (Vec<UdpSocket>, Vec<u16>) {
    let ports: Vec<u16> = MOSH.filter(|port| port % 3 == 0).collect();
    (ports.iter().map(|&port| UdpSocket::bind(("::", port)).unwrap()).collect(), ports)
}

fn destination(random: &mut Random) -> Ipv4Addr {
    random.of(&[VIP, VIP, VIP, VIP, VIP, SECOND_VIP, SECOND_VIP_ALIAS, Ipv4Addr::new(198, 51, 100, 1)])
}

fn generate(random: &mut Random, world: &World) -> Vec<u8> {
    let mut frame = match random.below(20) {
        0..2 => arp(random, world),
        2 => random_bytes(random),
        3..9 => ip(random, world),
        9..12 => nd(random, world),
        _ => ipv6(random, world),
    };
    for _ in 0..random.of(&[0, 0, 0, 0, 0, 1, 1, 2, 3]) {
        let vlan = random.of(&[0, 0, 0, 0, 7]);
        frame = frame::tagged(&frame, random.of(&[0x8100, 0x88a8]), vlan | (random.next() as u16) << 13);
    }
    if random.chance(12) {
        frame.truncate(random.below(frame.len()));
    }
    if random.chance(15) && !frame.is_empty() {
        for _ in 0..1 + random.below(4) {
            let at = random.below(frame.len());
            frame[at] = random.next() as u8;
        }
    }
    // The kernel tests nothing shorter than an Ethernet header.
    if frame.len() < 14 {
        frame.resize(14, 0);
    }
    frame
}

fn random_bytes(random: &mut Random) -> Vec<u8> {
    let len = random.below(200);
    let mut frame = random.bytes(14 + len);
    let ethertype: u16 = random.of(&[0x0800, 0x0806, 0x86dd, 0x1234]);
    frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
    frame
}

fn arp(random: &mut Random, world: &World) -> Vec<u8> {
    let IpAddr::V4(client) = world.client(random, false).0 else { unreachable!("it was asked for") };
    let mac = random.of(&[CLUSTER_MAC, SECOND_MAC, frame::CLIENT_MAC]);
    let sender = if random.chance(25) { destination(random) } else { client };
    frame::arp(random.of(&[1, 1, 1, 2, 2, 3]), mac, sender, destination(random))
}

fn ip(random: &mut Random, world: &World) -> Vec<u8> {
    let ((client, port), dest) = (world.client(random, false), destination(random));
    let IpAddr::V4(address) = client else { unreachable!("it was asked for") };
    let (protocol, payload) = match random.below(20) {
        0..10 => (6, tcp(random, world, client, port)),
        10..13 => (17, udp(random, port)),
        13..18 => (1, icmp(random, world, dest)),
        _ => (random.next() as u8, random.bytes(24)),
    };
    let fragment = random.of(&[0, 0, 0, 0, 0, 0, 0, 0x4000, 0x2000, 0x2001, 0x00b9]);
    let packet = frame::ipv4_fragment(address, dest, protocol, fragment, &payload);
    frame::ethernet(0x0800, &with_options(random, packet))
}

fn destination6(random: &mut Random) -> Ipv6Addr {
    let others = [Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), "ff02::1".parse().unwrap()];
    random.of(&[VIP6, VIP6, VIP6, VIP6, VIP6, VIP6, SECOND_VIP6, SECOND_VIP6, others[0], others[1]])
}

fn client6(random: &mut Random, world: &World) -> (Ipv6Addr, u16) {
    let (IpAddr::V6(client), port) = world.client(random, true) else { unreachable!("it was asked for") };
    (client, port)
}

fn ipv6(random: &mut Random, world: &World) -> Vec<u8> {
    let ((client, port), dest) = (client6(random, world), destination6(random));
    let (protocol, payload) = match random.below(20) {
        0..10 => (6, tcp(random, world, client.into(), port)),
        10..13 => (17, udp(random, port)),
        13..18 => (58, icmpv6(random, world, dest)),
        _ => (random.next() as u8, random.bytes(24)),
    };
    let packet = with_extensions(random, protocol, payload, 25);
    let mut packet = frame::ipv6(client, dest, packet.0, &packet.1);
    if random.chance(2) {
        packet[0] = random.next() as u8;
    }
    frame::ethernet(0x86dd, &packet)
}

/// Sometimes puts extension headers in front: the protocol that the header before them names, and all of it.
fn with_extensions(random: &mut Random, protocol: u8, payload: Vec<u8>, percent: usize) -> (u8, Vec<u8>) {
    let (mut next, mut packet) = (protocol, payload);
    if !random.chance(percent) {
        return (next, packet);
    }
    for _ in 0..random.of(&[1, 1, 1, 2, 3, 5, 6, 7]) {
        let kind = random.of(&[0, 43, 44, 44, 60]);
        let mut header = match kind {
            44 => frame::fragment_header(next, random.of(&[0, 0, 1, 1, 6, 9, 0x0b91])),
            _ => frame::extension(next, random.of(&[1, 1, 1, 2, 3, 4, 8, 17])),
        };
        if random.chance(3) {
            header[1] = random.next() as u8;
        }
        header.extend(packet);
        (next, packet) = (kind, header);
    }
    (next, packet)
}

fn icmpv6(random: &mut Random, world: &World, dest: Ipv6Addr) -> Vec<u8> {
    let kind = {
        let any = random.next() as u8;
        random.of(&[128, 129, 2, 2, 2, 1, 3, 4, 127, 130, 133, 134, 137, any])
    };
    let (client, port) = client6(random, world);
    let local = if random.chance(85) { dest } else { destination6(random) };
    let mosh = 60_000 + random.below(72) as u16;
    let ports = frame::tcp_header(random.of(&[SSH, SSH, SSH, 53, 99, mosh]), port, ACK, 1, 1);
    let protocol = random.of(&[6, 6, 6, 6, 17, 17, 58, 50]);
    let quoted = with_extensions(random, protocol, ports, 25);
    let mut quoted = frame::ipv6(local, client, quoted.0, &quoted.1);
    if random.chance(15) {
        quoted.truncate(random.below(quoted.len()));
    }
    frame::icmp(kind, random.of(&[0, 0, 0, 1]), &quoted)
}

/// Neighbour discovery, about the VIP or not, by one of us or not.
fn nd(random: &mut Random, world: &World) -> Vec<u8> {
    let client = client6(random, world).0;
    let source = random.of(&[client, client, client, Ipv6Addr::UNSPECIFIED, VIP6, SECOND_VIP6]);
    let target = destination6(random);
    let dest = {
        let any = destination6(random);
        random.of(&[frame::solicited_node(target), target, any])
    };
    let mut options = Vec::new();
    for _ in 0..random.of(&[0, 1, 1, 1, 2, 5]) {
        let eights = random.of(&[1, 1, 1, 1, 1, 2, 4, 9, 0]);
        let mac = random.of(&[CLUSTER_MAC, SECOND_MAC, frame::CLIENT_MAC]);
        options.extend([random.of(&[1, 1, 2, 2, 14]), eights]);
        options.extend(mac);
        options.resize(options.len() + usize::from(eights.saturating_sub(1)) * 8, 0);
    }
    let kind = random.of(&[135, 135, 135, 136, 136, 133, 134, 137]);
    let mut message = frame::neighbour_message(kind, source, dest, target, &options);
    if random.chance(5) {
        message[1] = 1;
    }
    let (next, payload) = with_extensions(random, 58, message, 15);
    let mut packet = frame::ipv6(source, dest, next, &payload);
    if random.chance(5) {
        packet[7] = 64;
    }
    frame::ethernet(0x86dd, &packet)
}

/// Sometimes puts IP options in.
fn with_options(random: &mut Random, mut packet: Vec<u8>) -> Vec<u8> {
    if random.chance(10) {
        let words = 1 + random.below(10);
        packet[0] = 0x45 + words as u8;
        let options = random.bytes(words * 4);
        packet.splice(20..20, options);
    }
    packet
}

fn tcp(random: &mut Random, world: &World, client: IpAddr, port: u16) -> Vec<u8> {
    let flags = {
        let any = random.next() as u8;
        random.of(&[0x02, 0x10, 0x18, 0x11, 0x14, 0x04, 0x12, 0x01, 0xc2, any])
    };
    let right = world.half_open.get(&(client, port)).map_or(0, |isn| isn.wrapping_add(1));
    let ack = if random.chance(70) { right } else { random.next() as u32 };
    let dest_port = {
        let any = random.next() as u16;
        random.of(&[SSH, SSH, SSH, SSH, 2222, 2229, 2230, any])
    };
    let mut header = frame::tcp_header(port, dest_port, flags, random.next() as u32, ack);
    if random.chance(20) {
        header[12] = (random.below(16) as u8) << 4;
        let len = random.below(40);
        header.extend(random.bytes(len));
    }
    header
}

fn udp(random: &mut Random, port: u16) -> Vec<u8> {
    let dest_port = {
        let any = random.next() as u16;
        let mosh = 60_000 + random.below(72) as u16;
        random.of(&[BEAT_PORT, SECOND_BEAT_PORT, 53, mosh, mosh, mosh, any])
    };
    let len = random.below(60);
    frame::udp_datagram(port, dest_port, &random.bytes(len))
}

fn icmp(random: &mut Random, world: &World, dest: Ipv4Addr) -> Vec<u8> {
    let kind = {
        let any = random.next() as u8;
        random.of(&[0, 8, 3, 3, 3, 4, 5, 11, 12, any])
    };
    let (client, port) = world.client(random, false);
    let IpAddr::V4(client) = client else { unreachable!("it was asked for") };
    let local = if random.chance(85) { dest } else { destination(random) };
    let mosh = 60_000 + random.below(72) as u16;
    let ports = frame::tcp_header(random.of(&[SSH, SSH, SSH, 53, 99, mosh]), port, ACK, 1, 1);
    let fragment = random.of(&[0, 0, 0, 0, 0x4000, 0x2000, 0x0007]);
    let protocol = random.of(&[6, 6, 6, 6, 17, 17, 1, 50]);
    let quoted = frame::ipv4_fragment(local, client, protocol, fragment, &ports);
    let mut quoted = with_options(random, quoted);
    if random.chance(15) {
        quoted.truncate(random.below(quoted.len()));
    }
    frame::icmp(kind, 0, &quoted)
}

/// What the programs remember.
struct Memory {
    last_syn: Array<MapData, [u64; WORDS]>,
    orphans: Array<MapData, [u64; ORPHANS]>,
}

impl Memory {
    fn open(dir: &Path) -> Self {
        let map = |name| Map::Array(MapData::from_pin(dir.join(name)).unwrap());
        Self { last_syn: map("last_syn").try_into().unwrap(), orphans: map("orphans").try_into().unwrap() }
    }

    /// Lets all orphans grow older, by times that differ enough from where anything changes.
    fn age_orphans(&mut self, random: &mut Random) {
        let mut orphans = self.orphans.get(&0, 0).unwrap();
        for orphan in orphans.iter_mut().filter(|orphan| **orphan != 0) {
            let seconds: u64 = random.of(&[0, 1, 30, 80, 125]);
            let tick = (*orphan as u32).wrapping_sub(((seconds * 1_000_000_000) >> TICK_SHIFT) as u32);
            *orphan = *orphan >> 32 << 32 | u64::from(tick);
        }
        self.orphans.set(0, orphans, 0).unwrap();
    }
}

/// Gives every bucket new flags and a new memory of SYNs and orphans, and sometimes lets the lease run out.
fn shake(random: &mut Random, kernel: &Kernel, memory: &mut Memory) -> bool {
    let (now, mut syns) = (boot_time_ns(), [0; WORDS]);
    for vip in [V, V + 1] {
        for bucket in Bucket::all() {
            kernel.words().set_flags(vip, bucket, Flags::from_bits(random.below(32) as u32));
            // Neither so close to two minutes that the two sides might see it differently.
            let ages = [None, None, None, None, Some(1), Some(60), Some(125), Some(4000)];
            let then = random.of(&ages).map_or(0, |seconds: u64| now.saturating_sub(seconds * 1_000_000_000));
            syns[vip * BUCKETS + bucket.index()] = then;
        }
    }
    memory.last_syn.set(0, syns, 0).unwrap();
    memory.age_orphans(random);
    for vip in [V, V + 1] {
        kernel.words().set_settled_ns(vip, random.of(&[0, now - 55_000_000_000]));
    }
    let live = random.chance(80);
    if live {
        renew(kernel)
    } else {
        [V, V + 1].iter().for_each(|&vip| kernel.words().set_lease_deadline_ns(vip, now))
    }
    live
}

/// Bans some, most of them the clients that have something here, until long ago or for long; mostly nobody.
fn ban(random: &mut Random, world: &World, kernel: &mut Bans) -> Vec<(Prefix, Stop)> {
    let old: Vec<Prefix> = kernel.known().keys().copied().collect();
    old.iter().for_each(|prefix| kernel.remove(prefix).unwrap());
    let now = Time::from_nanos(boot_time_ns());
    let times = [Time::ZERO, now - Duration::from_secs(9), now + Duration::from_secs(600), Time::NEVER];
    let mut bans: BTreeMap<Prefix, Stop> = BTreeMap::new();
    for _ in 0..random.of(&[0, 0, 1, 3, 20]) {
        let address = world.any_client(random).0;
        let lengths: &[u8] =
            if address.is_ipv4() { &[0, 1, 8, 24, 31, 32] } else { &[0, 3, 48, 64, 127, 128] };
        let Some(prefix) = Prefix::new(address, random.of(lengths)) else { continue };
        let stop = Stop { everything_until: random.of(&times), openings_until: random.of(&times) };
        bans.insert(prefix, stop);
    }
    bans.iter().for_each(|(prefix, stop)| kernel.put(prefix, *stop).unwrap());
    assert_eq!(kernel.known().len(), bans.len());
    bans.into_iter().collect()
}

/// Whether the EtherType behind any tags is IPv6's.
fn is_ipv6(frame: &[u8]) -> bool {
    let is_tag = |two: &[u8]| two == [0x81, 0x00] || two == [0x88, 0xa8];
    let mut words = frame[12..].chunks(2).step_by(2);
    words.find(|two| !is_tag(two)).is_some_and(|two| two == [0x86, 0xdd])
}

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect(name))
}

#[test]
fn the_programs_agree_with_the_reference_on_any_frame() {
    let chosen = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = environment("ONEVIP_SEED").unwrap_or_else(chosen);
    let packets = environment("ONEVIP_PACKETS").unwrap_or(PACKETS);
    println!("replay with ONEVIP_SEED={seed}");
    let (mut random, mut seen, mut v6) = (Random(seed), BTreeMap::new(), 0);
    for start in (0..packets).step_by(PACKETS_PER_HOST as usize) {
        let end = packets.min(start + PACKETS_PER_HOST);
        isolated(|dir| compare(dir, seed, start..end, &mut random, &mut seen, &mut v6));
    }
    println!("{v6} frames of IPv6; {seen:?}");
    assert!(v6 >= packets * 2 / 5);
    for &reason in Reason::ALL {
        // A full buffer and a cookie are rows of the verdict table.
        if ![Reason::BeatLost, Reason::TcpCookie].contains(&reason) {
            assert!(
                seen.get(&reason).is_some_and(|&count| count >= packets / 10_000),
                "hardly any {reason:?}"
            );
        }
    }
}

/// Compares programs and reference on a host of their own.
fn compare(
    dir: &Path,
    seed: u64,
    packets: Range<u64>,
    random: &mut Random,
    seen: &mut BTreeMap<Reason, u64>,
    v6: &mut u64,
) {
    let mut host = Host::new();
    let (mut kernel, _) = Kernel::open(dir).unwrap();
    // Twice, so that it stands in either half once.
    for _ in 0..2 {
        kernel.set_config(&config()).unwrap();
        assert_eq!(kernel.config(), Some(config()), "read back as it was written");
    }
    kernel.attach("lo", Accelerate::Off).unwrap();
    let explainer = Explainer::open(dir).unwrap();
    let mut memory = Memory::open(dir);
    let views = views(&config());
    let world = World::make(&mut host);
    let mut bans_of_kernel = kernel.bans().unwrap();
    let allowed = vec![ALLOWED.parse::<Prefix>().unwrap(), ALLOWED6.parse().unwrap()];
    let mut counts = RefCell::default();
    let (_datagrams, bound) = datagram_sockets();
    for batch in packets.step_by(BATCH as usize) {
        let lease_live = shake(random, &kernel, &mut memory);
        let total_before: u64 = kernel.counters().unwrap().ingress.iter().sum();
        let mut ours = 0;
        let listeners = vec![(VIP.into(), SSH), (VIP6.into(), SSH)];
        let bans = ban(random, &world, &mut bans_of_kernel);
        let known = Known {
            kernel: &kernel,
            explainer: &explainer,
            lease_live,
            sockets: world.sockets(),
            listeners,
            bans,
            allowed: allowed.clone(),
            counts,
            datagram_ports: bound.clone(),
        };
        for number in batch..batch + BATCH {
            let frame = generate(random, &world);
            *v6 += u64::from(is_ipv6(&frame));
            let reason = all_agree(&known, &views, &frame)
                .unwrap_or_else(|error| panic!("ONEVIP_SEED={seed}, packet {number}: {error}"));
            *seen.entry(reason).or_default() += 1;
            ours += u64::from(reason != Reason::NotOurs && tc_takes(&frame));
        }
        counts = known.counts;
        let total: u64 = kernel.counters().unwrap().ingress.iter().sum();
        assert_eq!(total - total_before, ours, "ONEVIP_SEED={seed}: something was counted twice");
        while kernel.beats().unwrap().next().is_some() {}
    }
}
