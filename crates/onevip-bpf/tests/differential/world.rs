//! The host under test: its configuration, the sockets that it has, and what its programs remember.

use crate::common::host::{Host, SSH};
use crate::common::reference::{flow, renew};
use crate::common::{self, V};
use crate::random::Random;
use aya::maps::{Array, Map, MapData};
use onevip_bpf::layout::{ORPHANS, TICK_SHIFT, WORDS};
use onevip_bpf::{Bans, Kernel, KernelConfig, VipConfig, boot_time_ns};
use onevip_core::bans::Stop;
use onevip_core::limit::{Limit, Refusal};
use onevip_core::{
    AddressOrder, Answerer, BUCKETS, Bucket, Exception, Flags, Flow, HashMode, Hasher, Instead, NodeId,
    Other, Prefix, Selector, Service, Slice, Socket, Time, Transport,
};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

pub const SECOND_VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 11);
pub const SECOND_VIP_ALIAS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);
pub const SECOND_VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x11);
pub const SECOND_MAC: [u8; 6] = [0x01, 0x00, 0x5e, 0x33, 0x64, 0x0b];
pub const SECOND_BEAT_PORT: u16 = 2112;

/// Ports of a service that is answered by sockets, in four slices of which this node has the third.
const MOSH: RangeInclusive<u16> = 60_000..=60_063;

/// What the generator knows of the host, so that it hits what is there.
pub struct World {
    pub held: Vec<(IpAddr, u16)>,
    pub half_open: HashMap<(IpAddr, u16), u32>,
    pub waiting: Vec<(IpAddr, u16)>,
}

impl World {
    pub fn make(host: &mut Host) -> Self {
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

    pub fn sockets(&self) -> HashMap<Flow, Socket> {
        let held = self.held.iter().map(|&(client, port)| (flow(client, port), Socket::Connected));
        let waiting = self.waiting.iter().map(|&(client, port)| (flow(client, port), Socket::TimeWait));
        let half_open = self
            .half_open
            .iter()
            .map(|(&(client, port), &sent_isn)| (flow(client, port), Socket::Request { sent_isn }));
        held.chain(waiting).chain(half_open).collect()
    }

    /// A client of this family and its port, often one that has a socket.
    pub fn client(&self, random: &mut Random, v6: bool) -> (IpAddr, u16) {
        loop {
            let client = self.any_client(random);
            if client.0.is_ipv6() == v6 {
                return client;
            }
        }
    }

    pub fn any_client(&self, random: &mut Random) -> (IpAddr, u16) {
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

/// Two VIPs that hash in different ways, one of them with services of all kinds.
pub fn config() -> KernelConfig {
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
pub const ALLOWED: &str = "198.51.100.40/30";
pub const ALLOWED6: &str = "2001:db8:0:0:1122:3344:5566:2a/127";

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
pub fn datagram_sockets() -> (Vec<UdpSocket>, Vec<u16>) {
    let ports: Vec<u16> = MOSH.filter(|port| port % 3 == 0).collect();
    (ports.iter().map(|&port| UdpSocket::bind(("::", port)).unwrap()).collect(), ports)
}

/// What the programs remember.
pub struct Memory {
    last_syn: Array<MapData, [u64; WORDS]>,
    orphans: Array<MapData, [u64; ORPHANS]>,
}

impl Memory {
    pub fn open(dir: &Path) -> Self {
        let map = |name| Map::Array(MapData::from_pin(dir.join(name)).unwrap());
        Self { last_syn: map("last_syn").try_into().unwrap(), orphans: map("orphans").try_into().unwrap() }
    }

    /// Lets all orphans grow older, by times that differ enough from where anything changes.
    pub fn age_orphans(&mut self, random: &mut Random) {
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
pub fn shake(random: &mut Random, kernel: &Kernel, memory: &mut Memory) -> bool {
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
pub fn ban(random: &mut Random, world: &World, kernel: &mut Bans) -> Vec<(Prefix, Stop)> {
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
