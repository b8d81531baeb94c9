//! What the words of the configuration mean: from what is wanted to the layouts of the maps, and back.

use crate::config::{KernelConfig, VipConfig};
use crate::error::{Error, Result};
use crate::maps::layout::{
    ADDRESSES_MAX, BURST_MAX, EXCEPTIONS_MAX, LIMIT_SEED, LIMITS_MAX, RawException, RawExceptionKey,
    RawLimit, RawService, RawSettings, RawVip, SERVICES_MAX, SOURCE_HEAD_BITS, VIPS_MAX,
};
use onevip_core::limit::{Limit, Refusal, WINDOW_MAX};
use onevip_core::table::RESERVED;
use onevip_core::{
    AddressOrder, Answerer, Bucket, Exception, HashMode, Hasher, Instead, Other, Prefix, Selector, Service,
    Slice, Transport,
};
use std::net::IpAddr;
use std::time::Duration;

impl RawSettings {
    /// The settings that say this in one half of the configuration, or why they cannot.
    pub fn encode(config: &KernelConfig, half: u32) -> Result<Self> {
        let mut raw = Self { half, ..Self::default() };
        let exceptions: usize = config.vips.iter().map(|vip| vip.selector.exceptions.len()).sum();
        if exceptions > EXCEPTIONS_MAX {
            return Err(Error::Config(format!(
                "all VIPs together may have at most {EXCEPTIONS_MAX} sources"
            )));
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
        raw.limit_seed = LIMIT_SEED;
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
            vips.get_mut(address.vip as usize)?
                .addresses
                .push(decode_address(address.family, &address.words)?);
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
        let (family, words) = encode_address(address);
        (entry.family, entry.words) = (family.into(), words);
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
            if let Some(limit) = &service.limit {
                let count = self.limit_count as usize;
                let Some(entry) = self.limits.get_mut(count) else {
                    return Err(Error::Config(format!(
                        "all services together may have at most {LIMITS_MAX} limits"
                    )));
                };
                *entry = encode_limit(limit);
                self.limit_count += 1;
                place.limit = self.limit_count as u8;
            }
        }
        Ok((first as u8, services.len() as u8))
    }

    fn services_of(&self, vip: &RawVip) -> Option<Vec<Service>> {
        let first = usize::from(vip.service_first);
        let raw = self.services.get(first..first + usize::from(vip.service_count))?;
        let limit_of = |raw: &RawService| match raw.limit {
            0 => Some(None),
            number => decode_limit(self.limits.get(usize::from(number) - 1)?).map(Some),
        };
        raw.iter().map(|raw| Some(Service { limit: limit_of(raw)?, ..decode_service(raw)? })).collect()
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
        sum.add(&self.limit_count.to_ne_bytes());
        sum.add(&self.limit_seed.to_ne_bytes());
        for limit in &self.limits {
            sum.add(&limit.window_ms.to_ne_bytes());
            sum.add(&[limit.burst, limit.action, limit.counts_refused, limit.v4_prefix, limit.v6_prefix]);
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

/// `enum onevip_family`, and the address in network order.
fn encode_address(address: IpAddr) -> (u8, [[u8; 4]; 4]) {
    let mut words = [[0; 4]; 4];
    match address {
        IpAddr::V4(v4) => words[0] = v4.octets(),
        IpAddr::V6(v6) => words.as_flattened_mut().copy_from_slice(&v6.octets()),
    }
    (if address.is_ipv4() { 4 } else { 6 }, words)
}

fn decode_address(family: u32, words: &[[u8; 4]; 4]) -> Option<IpAddr> {
    match family {
        4 => Some(words[0].into()),
        6 => Some(<[u8; 16]>::try_from(words.as_flattened()).ok()?.into()),
        _ => None,
    }
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

/// Key and value of an exception of the VIP with this index.
pub fn encode_exception(half: u32, vip: usize, exception: &Exception) -> (RawExceptionKey, RawException) {
    let network = exception.network;
    let (family, words) = encode_address(network.address());
    let source = RawExceptionKey {
        prefix_length: SOURCE_HEAD_BITS + u32::from(network.length()),
        half: half as u8,
        vip: vip as u8,
        family,
        reserved: 0,
        words,
    };
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
pub fn decode_exception(source: &RawExceptionKey, raw: &RawException) -> Option<(usize, Exception)> {
    let address = decode_address(source.family.into(), &source.words)?;
    let length = u8::try_from(source.prefix_length.checked_sub(SOURCE_HEAD_BITS)?).ok()?;
    let instead = match usize::from(raw.bucket_count) {
        0 => Instead::Hash(decode_mode(raw.mode, raw.v4_prefix, raw.v6_prefix)?),
        count => {
            let buckets = raw.buckets.get(..count)?.iter();
            Instead::Buckets(buckets.map(|&bucket| Bucket::new(bucket)).collect::<Option<_>>()?)
        }
    };
    let network = Prefix::new(address, length).filter(|network| network.address() == address)?;
    Some((source.vip.into(), Exception { network, instead }))
}

/// `IPPROTO_TCP` and `IPPROTO_UDP`.
const TRANSPORTS: [(u8, Transport); 2] = [(6, Transport::Tcp), (17, Transport::Udp)];

fn encode_limit(limit: &Limit) -> RawLimit {
    RawLimit {
        window_ms: limit.window.min(WINDOW_MAX).as_millis() as u32,
        burst: limit.burst.clamp(1, BURST_MAX as u8),
        action: match limit.refusal {
            Refusal::Drop => 0,
            Refusal::Reset => 1,
            Refusal::Unreachable => 2,
        },
        counts_refused: limit.counts_refused.into(),
        v4_prefix: limit.v4_prefix,
        v6_prefix: limit.v6_prefix,
        reserved: [0; 3],
    }
}

/// All but the networks that are not counted, which are in a map of their own.
fn decode_limit(raw: &RawLimit) -> Option<Limit> {
    Some(Limit {
        burst: raw.burst,
        window: Duration::from_millis(raw.window_ms.into()),
        counts_refused: raw.counts_refused != 0,
        refusal: match raw.action {
            0 => Refusal::Drop,
            1 => Refusal::Reset,
            2 => Refusal::Unreachable,
            _ => return None,
        },
        v4_prefix: raw.v4_prefix,
        v6_prefix: raw.v6_prefix,
        allow: Vec::new(),
    })
}

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
        limit: None,
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
    use onevip_core::NodeId;

    #[test]
    fn settings_say_what_was_configured_and_notice_a_flipped_bit() {
        let dns = Service {
            transport: Transport::Udp,
            ports: 53..=53,
            mode: HashMode::SourceIpPort,
            answerer: Answerer::Bucket,
            limit: None,
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
        let limit = Limit {
            burst: 2,
            window: Duration::from_secs(7),
            counts_refused: true,
            refusal: Refusal::Unreachable,
            v4_prefix: 32,
            v6_prefix: 64,
            allow: Vec::new(),
        };
        config.vips[1].selector.services = vec![service(2222), Service { limit: Some(limit), ..service(22) }];
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
            limit: None,
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
        let network = Prefix::new("10.8.0.0".parse().unwrap(), 16).unwrap();
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
