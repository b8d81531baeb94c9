//! The layouts of the maps, as the kernel part sees them.
//!
//! The twin of `bpf/onevip.h`; `tests/layout.rs` compares the two. Nothing outside this crate needs to know it.

use crate::config::{KernelConfig, VipConfig};
use crate::error::{Error, Result};
use onevip_core::table::RESERVED;
use onevip_core::{
    AddressOrder, Answerer, BUCKETS, Bucket, Exception, HashMode, Hasher, Instead, Network, Other, Selector,
    Service, Slice, Transport,
};
use std::net::IpAddr;

/// First word of the config map.
pub const MAGIC: u32 = 0x1fee_1e55;
/// Version of all layouts together.
pub const LAYOUT: u32 = 4;
/// How many VIPs fit.
pub const VIPS_MAX: usize = 8;
/// How many addresses all VIPs together may have.
pub const ADDRESSES_MAX: usize = 8;
/// How many services all VIPs together may have.
pub const SERVICES_MAX: usize = 32;
/// How many exceptions all VIPs together may have.
pub const SOURCES_MAX: usize = 1024;
/// Words in the flags and `last_syn` maps: `[vip][bucket]`.
pub const WORDS: usize = VIPS_MAX * BUCKETS;
/// Bytes of a beat that are handed over at most.
pub const DATAGRAM_MAX: usize = 1600;
/// Size of the ring buffer for beats, in bytes.
pub const BEATS_BYTES: usize = 512 * 1024;
/// Places in which orphans are remembered.
pub const ORPHANS: usize = 1 << 14;
/// A memory of an orphan older than this counts for nothing: two minutes, in ticks of 2^20 ns.
pub const ORPHAN_MEMORY_TICKS: u64 = 120_000_000_000 >> TICK_SHIFT;
/// Ticks are the boot time in ns, shifted right by this.
pub const TICK_SHIFT: u32 = 20;
/// Seed of the hash by which orphans are remembered.
pub const ORPHANS_SEED: u32 = 0x6f72_7068;
/// Places in which connections of others' clients are noted.
pub const FLOWS: usize = 1 << 12;
/// Size of the ring buffer for traces, in bytes.
pub const TRACES_BYTES: usize = 512 * 1024;
/// Bytes of a frame that a trace shows at most.
pub const TRACE_FRAME_MAX: usize = 192;
/// Counters per program.
pub const REASONS_MAX: usize = 64;
/// Programs that count.
pub const PROGRAMS: usize = 3;

/// `struct onevip_address`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawAddress {
    /// 4, 6, or 0 for an unused entry.
    pub family: u32,
    /// Index of its VIP.
    pub vip: u32,
    /// The address in network order; IPv4 uses the first word.
    pub words: [[u8; 4]; 4],
}

/// `struct onevip_service`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawService {
    /// The first of its ports.
    pub first_port: u16,
    /// The last of its ports.
    pub last_port: u16,
    /// `IPPROTO_TCP` or `IPPROTO_UDP`.
    pub protocol: u8,
    /// `enum onevip_hash_mode`.
    pub mode: u8,
    /// Bits of an IPv4 address that count.
    pub v4_prefix: u8,
    /// Bits of an IPv6 address that count.
    pub v6_prefix: u8,
    /// `enum onevip_answerer`.
    pub answerer: u8,
    /// 0, or the number of a limit.
    pub limit: u8,
    /// Answered by sockets: the bits of a port that say whose it is.
    pub slice_mask: u8,
    /// What they are in the ports of this node.
    pub slice: u8,
}

/// `struct onevip_vip`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawVip {
    /// Seed of the hash.
    pub seed: u32,
    /// `struct onevip_jhash`: [`jhash_begun`] of the seed.
    pub begun: [u32; 3],
    /// `enum onevip_hash_mode`.
    pub mode: u8,
    /// `enum onevip_order`.
    pub order: u8,
    /// 0, or the number of contiguous blocks.
    pub blocks: u8,
    /// Bits of an IPv4 address that count.
    pub v4_prefix: u8,
    /// Bits of an IPv6 address that count.
    pub v6_prefix: u8,
    /// 1 when sources hash whole, alone, in memory order, onto balanced buckets, whatever the service.
    pub plain: u8,
    /// UDP port of the beats.
    pub beat_port: u16,
    /// The cluster MAC.
    pub cluster_mac: [u8; 6],
    /// Ticks between the first segment of an orphan and one that may be reset; called ms everywhere else.
    pub orphan_wait_ms: u16,
    /// Index of its first service.
    pub service_first: u8,
    /// How many it has.
    pub service_count: u8,
    /// `enum onevip_other`.
    pub other: u8,
    /// 1 when for some sources something else counts.
    pub exceptions: u8,
}

/// `struct onevip_settings`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawSettings {
    /// Entries of `addresses` in use.
    pub address_count: u32,
    /// Entries of `vips` in use.
    pub vip_count: u32,
    /// The half of the configuration in which these settings are.
    pub half: u32,
    /// 1 while somebody traces; written by the tracer, and no part of the configuration.
    pub traced: u32,
    /// The addresses of all VIPs.
    pub addresses: [RawAddress; ADDRESSES_MAX],
    /// The VIPs.
    pub vips: [RawVip; VIPS_MAX],
    /// The services of all VIPs, those of one side by side.
    pub services: [RawService; SERVICES_MAX],
    /// [`RawSettings::sum`] of everything above but `traced`.
    pub checksum: u64,
}

/// `struct onevip_config`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct RawConfig {
    /// [`MAGIC`].
    pub magic: u32,
    /// [`LAYOUT`].
    pub layout: u32,
    /// The half in force, 0 or 1.
    pub active: u32,
    /// Zero.
    pub reserved: u32,
    /// Two settings, of which one is in force.
    pub halves: [RawSettings; 2],
}

/// The head of `struct onevip_beat`; the datagram follows.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct RawBeat {
    /// Boot time of arrival, in ns.
    pub received_ns: u64,
    /// Index of the VIP.
    pub vip: u32,
    /// Index of the address among all addresses.
    pub address: u32,
    /// Bytes behind the link header, padding included.
    pub length: u32,
    /// How many of them follow.
    pub captured: u32,
}

/// `struct onevip_flow`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawFlow {
    /// What tells flows apart; 0 in a place that was never used.
    pub hash: u32,
    /// Index into the flags map.
    pub word: u16,
    /// The port that the client speaks to.
    pub port: u16,
    /// Tells clients apart.
    pub source: u32,
    /// The client's initial sequence number.
    pub isn: u32,
    /// What its first acknowledgement acknowledged.
    pub answer: u32,
    /// Tick of its SYN.
    pub begun: u32,
    /// Tick of that acknowledgement.
    pub opened: u32,
    /// Tick of its FIN or RST.
    pub ended: u32,
    /// `ONEVIP_FLOW_*`.
    pub state: u32,
}

/// The SYN came again.
pub const FLOW_REPEATED: u32 = 1;
/// The client acknowledged the SYN-ACK.
pub const FLOW_OPEN: u32 = 2;
/// It acknowledged more than that.
pub const FLOW_SERVED: u32 = 4;
/// It ended the connection before that.
pub const FLOW_ENDED: u32 = 8;

/// `struct onevip_tracing`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct RawTracing {
    /// Boot time in ns until which decisions are told.
    pub until_ns: u64,
    /// 4 or 6, or 0 for everything.
    pub family: u32,
    /// Records in a window at most.
    pub rate_max: u32,
    /// The prefix in network order.
    pub words: [[u8; 4]; 4],
    /// Its mask.
    pub mask: [[u8; 4]; 4],
    /// Decisions that were not told; the programs' own.
    pub lost: u64,
    /// The programs' own.
    pub window: u32,
    /// The programs' own.
    pub in_window: u32,
}

/// The head of `struct onevip_trace`; the frame follows.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct RawTrace {
    /// Boot time of the decision, in ns.
    pub time_ns: u64,
    /// The interface.
    pub ifindex: u32,
    /// Of the whole frame.
    pub length: u32,
    /// How much of it follows.
    pub captured: u16,
    /// `enum onevip_program`.
    pub program: u8,
    /// `enum onevip_reason`.
    pub reason: u8,
    /// Zero.
    pub reserved: u32,
}

impl RawSettings {
    /// The settings that say this in one half of the configuration, or why they cannot.
    pub fn encode(config: &KernelConfig, half: u32) -> Result<Self> {
        let mut raw = Self { half, ..Self::default() };
        let exceptions: usize = config.vips.iter().map(|vip| vip.selector.exceptions.len()).sum();
        if exceptions > SOURCES_MAX {
            return Err(Error::Config(format!("all VIPs together may have at most {SOURCES_MAX} sources")));
        }
        if config.vips.len() > VIPS_MAX {
            return Err(Error::Config(format!(
                "{} VIPs are configured, the kernel part serves at most {VIPS_MAX}",
                config.vips.len()
            )));
        }
        for (index, vip) in config.vips.iter().enumerate() {
            raw.vips[index] = encode_vip(vip);
            (raw.vips[index].service_first, raw.vips[index].service_count) =
                raw.push_services(index, &vip.selector.services)?;
            for &address in &vip.addresses {
                raw.push_address(index, address)?;
            }
        }
        raw.vip_count = config.vips.len() as u32;
        raw.checksum = raw.sum();
        Ok(raw)
    }

    /// What the settings say, or `None` when they say nothing that [`Self::encode`] could have written.
    pub fn decode(&self) -> Option<KernelConfig> {
        let (vip_count, address_count) = (self.vip_count as usize, self.address_count as usize);
        if vip_count > VIPS_MAX || address_count > ADDRESSES_MAX || self.checksum != self.sum() {
            return None;
        }
        let with_services = |raw: &RawVip| decode_vip(raw, self.services_of(raw)?);
        let mut vips = self.vips[..vip_count].iter().map(with_services).collect::<Option<Vec<_>>>()?;
        for address in &self.addresses[..address_count] {
            let ip = match address.family {
                4 => IpAddr::from(address.words[0]),
                6 => IpAddr::from(<[u8; 16]>::try_from(address.words.concat()).ok()?),
                _ => return None,
            };
            vips.get_mut(address.vip as usize)?.addresses.push(ip);
        }
        Some(KernelConfig { vips })
    }

    fn push_address(&mut self, vip: usize, address: IpAddr) -> Result<()> {
        let count = self.address_count as usize;
        let Some(entry) = self.addresses.get_mut(count) else {
            return Err(Error::Config(format!(
                "all VIPs together may have at most {ADDRESSES_MAX} addresses"
            )));
        };
        entry.vip = vip as u32;
        match address {
            IpAddr::V4(v4) => {
                entry.family = 4;
                entry.words[0] = v4.octets();
            }
            IpAddr::V6(v6) => {
                entry.family = 6;
                let octets = v6.octets();
                for (word, bytes) in entry.words.iter_mut().zip(octets.chunks_exact(4)) {
                    word.copy_from_slice(bytes);
                }
            }
        }
        self.address_count += 1;
        Ok(())
    }

    /// Puts the services of a VIP behind those of the VIPs before it. Returns where they are, and how many.
    fn push_services(&mut self, vip: usize, services: &[Service]) -> Result<(u8, u8)> {
        let first: usize = self.vips[..vip].iter().map(|vip| usize::from(vip.service_count)).sum();
        let Some(places) = self.services.get_mut(first..first + services.len()) else {
            return Err(Error::Config(format!("all VIPs together may have at most {SERVICES_MAX} services")));
        };
        for (place, service) in places.iter_mut().zip(services) {
            *place = encode_service(service);
        }
        Ok((first as u8, services.len() as u8))
    }

    fn services_of(&self, vip: &RawVip) -> Option<Vec<Service>> {
        let first = usize::from(vip.service_first);
        let raw = self.services.get(first..first + usize::from(vip.service_count))?;
        raw.iter().map(decode_service).collect()
    }

    /// FNV-1a over every field but the checksum. It finds accidents, not malice: who can write the map is root.
    fn sum(&self) -> u64 {
        let mut sum = Fnv(0xcbf2_9ce4_8422_2325);
        sum.add(&self.address_count.to_ne_bytes());
        sum.add(&self.vip_count.to_ne_bytes());
        sum.add(&self.half.to_ne_bytes());
        for address in &self.addresses {
            sum.add(&address.family.to_ne_bytes());
            sum.add(&address.vip.to_ne_bytes());
            sum.add(&address.words.concat());
        }
        for vip in &self.vips {
            sum.add(&vip.seed.to_ne_bytes());
            vip.begun.iter().for_each(|word| sum.add(&word.to_ne_bytes()));
            sum.add(&[vip.mode, vip.order, vip.blocks, vip.v4_prefix, vip.v6_prefix, vip.plain]);
            sum.add(&vip.beat_port.to_ne_bytes());
            sum.add(&vip.cluster_mac);
            sum.add(&vip.orphan_wait_ms.to_ne_bytes());
            sum.add(&[vip.service_first, vip.service_count, vip.other, vip.exceptions]);
        }
        for service in &self.services {
            sum.add(&service.first_port.to_ne_bytes());
            sum.add(&service.last_port.to_ne_bytes());
            sum.add(&[service.protocol, service.mode, service.v4_prefix, service.v6_prefix]);
            sum.add(&[service.answerer, service.limit, service.slice_mask, service.slice]);
        }
        sum.0
    }
}

struct Fnv(u64);

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// How far the hash of one word gets before that word enters it: what depends on the seed alone, computed here once
/// instead of for every packet. In the order of `struct onevip_jhash`.
fn jhash_begun(seed: u32) -> [u32; 3] {
    const START: u32 = 0xdead_beef + (1 << 2);
    let b = START.wrapping_add(seed);
    let c = b.rotate_left(14).wrapping_neg();
    [b, c, c.rotate_left(11)]
}

fn encode_vip(vip: &VipConfig) -> RawVip {
    let Selector { hasher, services, other, exceptions } = &vip.selector;
    let (mode, v4_prefix, v6_prefix) = encode_mode(hasher.mode);
    let uniform = services.iter().all(|service| service.mode == hasher.mode);
    let uniform = uniform && exceptions.is_empty();
    let plain = mode == 0 && uniform && hasher.order == AddressOrder::Memory && hasher.blocks.is_none();
    RawVip {
        seed: hasher.seed,
        begun: jhash_begun(hasher.seed),
        mode,
        order: match hasher.order {
            AddressOrder::Memory => 0,
            AddressOrder::Host => 1,
        },
        blocks: hasher.blocks.unwrap_or(0),
        v4_prefix,
        v6_prefix,
        plain: plain.into(),
        beat_port: vip.beat_port,
        cluster_mac: vip.cluster_mac,
        orphan_wait_ms: vip.orphan_wait_ms,
        service_first: 0,
        service_count: 0,
        other: match other {
            Other::Owner => 0,
            Other::Drop => 1,
        },
        exceptions: u8::from(!exceptions.is_empty()),
    }
}

/// `enum onevip_hash_mode`, and how many bits of an address count.
fn encode_mode(mode: HashMode) -> (u8, u8, u8) {
    match mode {
        HashMode::SourceIp => (0, 32, 128),
        HashMode::SourceIpPort => (1, 32, 128),
        HashMode::SourceIpPortDestPort => (2, 32, 128),
        HashMode::SourceNet { v4_prefix, v6_prefix } => (3, v4_prefix, v6_prefix),
    }
}

fn decode_mode(mode: u8, v4_prefix: u8, v6_prefix: u8) -> Option<HashMode> {
    Some(match mode {
        0 => HashMode::SourceIp,
        1 => HashMode::SourceIpPort,
        2 => HashMode::SourceIpPortDestPort,
        3 => HashMode::SourceNet { v4_prefix, v6_prefix },
        _ => return None,
    })
}

/// `struct onevip_source`: key of an exception.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawSource {
    /// How many bits have to match from here on.
    pub prefix_length: u32,
    /// The half of the configuration that it belongs to.
    pub half: u8,
    /// Index of the VIP.
    pub vip: u8,
    /// 4 or 6.
    pub family: u8,
    /// Zero.
    pub reserved: u8,
    /// The network's first address in network order; IPv4 uses the first word.
    pub words: [[u8; 4]; 4],
}

/// `struct onevip_exception`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawException {
    /// `enum onevip_hash_mode`.
    pub mode: u8,
    /// Bits of an IPv4 address that count.
    pub v4_prefix: u8,
    /// Bits of an IPv6 address that count.
    pub v6_prefix: u8,
    /// 0, or how many of the buckets are used.
    pub bucket_count: u8,
    /// The buckets that a pinned source may meet.
    pub buckets: [u16; RESERVED],
}

/// Bits of a [`RawSource`] before the address.
pub const SOURCE_HEAD_BITS: u32 = 32;

/// Key and value of an exception of the VIP with this index.
pub fn encode_exception(half: u32, vip: usize, exception: &Exception) -> (RawSource, RawException) {
    let network = exception.network;
    let mut source = RawSource {
        prefix_length: SOURCE_HEAD_BITS + u32::from(network.length()),
        half: half as u8,
        vip: vip as u8,
        ..RawSource::default()
    };
    match network.address() {
        IpAddr::V4(v4) => (source.family, source.words[0]) = (4, v4.octets()),
        IpAddr::V6(v6) => {
            source.family = 6;
            let octets = v6.octets();
            source
                .words
                .iter_mut()
                .zip(octets.chunks_exact(4))
                .for_each(|(word, four)| word.copy_from_slice(four));
        }
    }
    let mut raw = RawException::default();
    match &exception.instead {
        Instead::Hash(mode) => (raw.mode, raw.v4_prefix, raw.v6_prefix) = encode_mode(*mode),
        Instead::Buckets(buckets) => {
            raw.bucket_count = buckets.len().min(RESERVED) as u8;
            raw.buckets.iter_mut().zip(buckets).for_each(|(place, bucket)| *place = bucket.get());
        }
    }
    (source, raw)
}

/// The index of the VIP, and its exception; `None` for what [`encode_exception`] could not have written.
pub fn decode_exception(source: &RawSource, raw: &RawException) -> Option<(usize, Exception)> {
    let address = match source.family {
        4 => IpAddr::from(source.words[0]),
        6 => IpAddr::from(<[u8; 16]>::try_from(source.words.concat()).ok()?),
        _ => return None,
    };
    let length = u8::try_from(source.prefix_length.checked_sub(SOURCE_HEAD_BITS)?).ok()?;
    let instead = match usize::from(raw.bucket_count) {
        0 => Instead::Hash(decode_mode(raw.mode, raw.v4_prefix, raw.v6_prefix)?),
        count => {
            let buckets = raw.buckets.get(..count)?.iter();
            Instead::Buckets(buckets.map(|&bucket| Bucket::new(bucket)).collect::<Option<_>>()?)
        }
    };
    Some((source.vip.into(), Exception { network: Network::new(address, length)?, instead }))
}

/// `IPPROTO_TCP` and `IPPROTO_UDP`.
const TRANSPORTS: [(u8, Transport); 2] = [(6, Transport::Tcp), (17, Transport::Udp)];

fn encode_service(service: &Service) -> RawService {
    let (mode, v4_prefix, v6_prefix) = encode_mode(service.mode);
    let (slice_mask, slice) = match service.answerer {
        Answerer::Bucket => (0, 0),
        Answerer::Socket(slice) => slice.bits(),
    };
    RawService {
        first_port: *service.ports.start(),
        last_port: *service.ports.end(),
        protocol: match service.transport {
            Transport::Tcp => TRANSPORTS[0].0,
            Transport::Udp => TRANSPORTS[1].0,
        },
        mode,
        v4_prefix,
        v6_prefix,
        answerer: match service.answerer {
            Answerer::Bucket => 0,
            Answerer::Socket(_) => 1,
        },
        limit: 0,
        slice_mask,
        slice,
    }
}

fn decode_service(raw: &RawService) -> Option<Service> {
    Some(Service {
        transport: TRANSPORTS.iter().find(|(number, _)| *number == raw.protocol)?.1,
        ports: raw.first_port..=raw.last_port,
        mode: decode_mode(raw.mode, raw.v4_prefix, raw.v6_prefix)?,
        answerer: match raw.answerer {
            0 => Answerer::Bucket,
            1 => Answerer::Socket(Slice::from_bits(raw.slice_mask, raw.slice)?),
            _ => return None,
        },
    })
}

fn decode_vip(raw: &RawVip, services: Vec<Service>) -> Option<VipConfig> {
    let mode = decode_mode(raw.mode, raw.v4_prefix, raw.v6_prefix)?;
    let order = match raw.order {
        0 => AddressOrder::Memory,
        1 => AddressOrder::Host,
        _ => return None,
    };
    let blocks = (raw.blocks != 0).then_some(raw.blocks);
    Some(VipConfig {
        addresses: Vec::new(),
        selector: Selector {
            hasher: Hasher { mode, seed: raw.seed, order, blocks },
            services,
            other: match raw.other {
                0 => Other::Owner,
                1 => Other::Drop,
                _ => return None,
            },
            // They are in a map of their own: see `decode_exception`.
            exceptions: Vec::new(),
        },
        beat_port: raw.beat_port,
        cluster_mac: raw.cluster_mac,
        orphan_wait_ms: raw.orphan_wait_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_say_what_was_configured_and_notice_a_flipped_bit() {
        let dns = Service {
            transport: Transport::Udp,
            ports: 53..=53,
            mode: HashMode::SourceIpPort,
            answerer: Answerer::Bucket,
        };
        let third = Slice::of(NodeId::new(3).unwrap(), 16).unwrap();
        let mosh = Service { ports: 60000..=60999, answerer: Answerer::Socket(third), ..dns.clone() };
        let mut config = KernelConfig {
            vips: vec![VipConfig {
                addresses: vec!["198.51.100.10".parse().unwrap(), "2001:db8::10".parse().unwrap()],
                selector: Selector {
                    hasher: Hasher {
                        mode: HashMode::SourceNet { v4_prefix: 24, v6_prefix: 56 },
                        seed: 7,
                        order: AddressOrder::Host,
                        blocks: Some(4),
                    },
                    services: vec![service(22), dns, mosh],
                    other: Other::Drop,
                    exceptions: Vec::new(),
                },
                beat_port: 1112,
                cluster_mac: [1, 0, 0x5e, 1, 2, 3],
                orphan_wait_ms: 150,
            }],
        };
        config.vips.push(VipConfig { addresses: Vec::new(), ..config.vips[0].clone() });
        config.vips[1].selector.services = vec![service(2222)];
        let raw = RawSettings::encode(&config, 1).unwrap();
        assert_eq!(raw.decode(), Some(config));
        let mut damaged = raw;
        damaged.vips[0].seed ^= 1;
        assert_eq!(damaged.decode(), None);
        let mut damaged = raw;
        damaged.services[1].last_port ^= 1;
        assert_eq!(damaged.decode(), None);
    }

    fn service(port: u16) -> Service {
        Service {
            transport: Transport::Tcp,
            ports: port..=port,
            mode: HashMode::SourceIp,
            answerer: Answerer::Bucket,
        }
    }

    #[test]
    fn only_services_that_hash_alike_are_plain() {
        let mut vip = VipConfig {
            addresses: Vec::new(),
            selector: Selector { services: vec![service(22)], ..Selector::uniform(Hasher::DEFAULT) },
            beat_port: 1,
            cluster_mac: [0; 6],
            orphan_wait_ms: 150,
        };
        assert_eq!(encode_vip(&vip).plain, 1);
        vip.selector.services[0].mode = HashMode::SourceIpPort;
        assert_eq!(encode_vip(&vip).plain, 0);
        vip.selector.services.clear();
        assert_eq!(encode_vip(&vip).plain, 1);
        let network = onevip_core::Network::new("10.8.0.0".parse().unwrap(), 16).unwrap();
        vip.selector.exceptions.push(Exception { network, instead: Instead::Hash(HashMode::SourceIpPort) });
        assert_eq!((encode_vip(&vip).plain, encode_vip(&vip).exceptions), (0, 1));
    }

    #[test]
    fn too_many_addresses_or_services_are_refused_with_the_limit() {
        let addresses = (0..9).map(|last| IpAddr::from([198, 51, 100, last])).collect();
        let (selector, cluster_mac) = (Selector::uniform(Hasher::DEFAULT), [0; 6]);
        let mut vip = VipConfig { addresses, selector, beat_port: 1, cluster_mac, orphan_wait_ms: 150 };
        let error = RawSettings::encode(&KernelConfig { vips: vec![vip.clone()] }, 0).unwrap_err();
        assert!(error.to_string().contains("at most 8 addresses"), "{error}");
        vip.addresses.clear();
        vip.selector.services = (0..33).map(service).collect();
        let error = RawSettings::encode(&KernelConfig { vips: vec![vip] }, 0).unwrap_err();
        assert!(error.to_string().contains("at most 32 services"), "{error}");
    }
}
