//! The layouts of the maps, as the kernel part sees them.
//!
//! The twin of `bpf/onevip.h`; `tests/layout.rs` compares the two. Nothing outside this crate needs to know it.

use crate::config::{KernelConfig, VipConfig};
use crate::error::{Error, Result};
use onevip_core::{AddressOrder, BUCKETS, HashMode, Hasher};
use std::net::IpAddr;

/// First word of the config map.
pub const MAGIC: u32 = 0x1fee_1e55;
/// Version of all layouts together.
pub const LAYOUT: u32 = 4;
/// How many VIPs fit.
pub const VIPS_MAX: usize = 8;
/// How many addresses all VIPs together may have.
pub const ADDRESSES_MAX: usize = 8;
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
/// Counters per program.
pub const REASONS_MAX: usize = 64;
/// Programs that count.
pub const PROGRAMS: usize = 3;

/// Room in each trie of bans.
pub const BAN_PLACES: usize = 32768;

/// `struct onevip_ban_key4`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawBanKey4 {
    /// Bits of the prefix.
    pub length: u32,
    /// The address in network order.
    pub address: [u8; 4],
}

/// `struct onevip_ban_key6`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawBanKey6 {
    /// Bits of the prefix.
    pub length: u32,
    /// The address in network order.
    pub words: [u8; 16],
}

/// `struct onevip_ban`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawBan {
    /// Boot time in ns until which nothing of the source passes.
    pub everything_until_ns: u64,
    /// Boot time in ns until which nothing passes but what belongs to its sessions.
    pub openings_until_ns: u64,
}

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
    /// 1 when an IPv4 source hashes whole, alone, in memory order, onto balanced buckets.
    pub plain: u8,
    /// UDP port of the beats.
    pub beat_port: u16,
    /// The cluster MAC.
    pub cluster_mac: [u8; 6],
    /// Ticks between the first segment of an orphan and one that may be reset; called ms everywhere else.
    pub orphan_wait_ms: u16,
}

/// `struct onevip_settings`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct RawSettings {
    /// Entries of `addresses` in use.
    pub address_count: u32,
    /// Entries of `vips` in use.
    pub vip_count: u32,
    /// The addresses of all VIPs.
    pub addresses: [RawAddress; ADDRESSES_MAX],
    /// The VIPs.
    pub vips: [RawVip; VIPS_MAX],
    /// [`RawSettings::sum`] of everything above.
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

impl RawSettings {
    /// The settings that say this, or why they cannot.
    pub fn encode(config: &KernelConfig) -> Result<Self> {
        let mut raw = Self::default();
        if config.vips.len() > VIPS_MAX {
            return Err(Error::Config(format!(
                "{} VIPs are configured, the kernel part serves at most {VIPS_MAX}",
                config.vips.len()
            )));
        }
        for (index, vip) in config.vips.iter().enumerate() {
            raw.vips[index] = encode_vip(vip);
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
        let mut vips = self.vips[..vip_count].iter().map(decode_vip).collect::<Option<Vec<_>>>()?;
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

    /// FNV-1a over every field but the checksum. It finds accidents, not malice: who can write the map is root.
    fn sum(&self) -> u64 {
        let mut sum = Fnv(0xcbf2_9ce4_8422_2325);
        sum.add(&self.address_count.to_ne_bytes());
        sum.add(&self.vip_count.to_ne_bytes());
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
    let (mode, v4_prefix, v6_prefix) = match vip.hasher.mode {
        HashMode::SourceIp => (0, 32, 128),
        HashMode::SourceIpPort => (1, 32, 128),
        HashMode::SourceIpPortDestPort => (2, 32, 128),
        HashMode::SourceNet { v4_prefix, v6_prefix } => (3, v4_prefix, v6_prefix),
    };
    let plain = mode == 0 && vip.hasher.order == AddressOrder::Memory && vip.hasher.blocks.is_none();
    RawVip {
        seed: vip.hasher.seed,
        begun: jhash_begun(vip.hasher.seed),
        mode,
        order: match vip.hasher.order {
            AddressOrder::Memory => 0,
            AddressOrder::Host => 1,
        },
        blocks: vip.hasher.blocks.unwrap_or(0),
        v4_prefix,
        v6_prefix,
        plain: plain.into(),
        beat_port: vip.beat_port,
        cluster_mac: vip.cluster_mac,
        orphan_wait_ms: vip.orphan_wait_ms,
    }
}

fn decode_vip(raw: &RawVip) -> Option<VipConfig> {
    let mode = match raw.mode {
        0 => HashMode::SourceIp,
        1 => HashMode::SourceIpPort,
        2 => HashMode::SourceIpPortDestPort,
        3 => HashMode::SourceNet { v4_prefix: raw.v4_prefix, v6_prefix: raw.v6_prefix },
        _ => return None,
    };
    let order = match raw.order {
        0 => AddressOrder::Memory,
        1 => AddressOrder::Host,
        _ => return None,
    };
    let blocks = (raw.blocks != 0).then_some(raw.blocks);
    Some(VipConfig {
        addresses: Vec::new(),
        hasher: Hasher { mode, seed: raw.seed, order, blocks },
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
        let config = KernelConfig {
            vips: vec![VipConfig {
                addresses: vec!["198.51.100.10".parse().unwrap(), "2001:db8::10".parse().unwrap()],
                hasher: Hasher {
                    mode: HashMode::SourceNet { v4_prefix: 24, v6_prefix: 56 },
                    seed: 7,
                    order: AddressOrder::Host,
                    blocks: Some(4),
                },
                beat_port: 1112,
                cluster_mac: [1, 0, 0x5e, 1, 2, 3],
                orphan_wait_ms: 150,
            }],
        };
        let mut raw = RawSettings::encode(&config).unwrap();
        assert_eq!(raw.decode(), Some(config));
        raw.vips[0].seed ^= 1;
        assert_eq!(raw.decode(), None);
    }

    #[test]
    fn too_many_addresses_are_refused_with_the_limit() {
        let addresses = (0..9).map(|last| IpAddr::from([198, 51, 100, last])).collect();
        let (hasher, cluster_mac) = (Hasher::DEFAULT, [0; 6]);
        let vip = VipConfig { addresses, hasher, beat_port: 1, cluster_mac, orphan_wait_ms: 150 };
        let error = RawSettings::encode(&KernelConfig { vips: vec![vip] }).unwrap_err();
        assert!(error.to_string().contains("at most 8 addresses"), "{error}");
    }
}
