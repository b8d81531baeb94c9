//! From a packet's source to its bucket: `jhash` and `reciprocal_scale`, exactly as the Linux kernel has them.
//!
//! The function is Bob Jenkins' lookup3 (<https://burtleburtle.net/bob/c/lookup3.c>) in the form of
//! `include/linux/jhash.h`. nftables' `jhash`, `xt_cluster` and `CLUSTERIP` use the same, so a mapping can be checked
//! against the kernel's own. `bpf/hash.h` in `onevip-bpf` is its twin; the differential test compares the two.
//!
//! A bucket is `reciprocal_scale(hash, 1024)`. With `mapping = "clusterip"` over `N` nodes it is instead found in two
//! steps, so that the old systems' node number is exact for *every* N and not only where N divides 1024: the node is
//! `reciprocal_scale(hash, N)`, and what the multiplication leaves over selects a bucket inside that node's block.

use crate::ids::{BUCKETS, Bucket};
use crate::words::words;
use std::net::IpAddr;

/// `JHASH_INITVAL` of `include/linux/jhash.h`.
const JHASH_INITVAL: u32 = 0xdead_beef;

/// `jhash2()`: hashes whole 32-bit words.
pub fn jhash2(words: &[u32], seed: u32) -> u32 {
    let start = JHASH_INITVAL.wrapping_add((words.len() as u32) << 2).wrapping_add(seed);
    let (mut a, mut b, mut c) = (start, start, start);
    let mut rest = words;
    while rest.len() > 3 {
        a = a.wrapping_add(rest[0]);
        b = b.wrapping_add(rest[1]);
        c = c.wrapping_add(rest[2]);
        (a, b, c) = mix(a, b, c);
        rest = &rest[3..];
    }
    if rest.is_empty() {
        return c;
    }
    a = a.wrapping_add(rest[0]);
    b = b.wrapping_add(rest.get(1).copied().unwrap_or(0));
    c = c.wrapping_add(rest.get(2).copied().unwrap_or(0));
    finish(a, b, c)
}

/// `__jhash_mix()`.
fn mix(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    a = a.wrapping_sub(c) ^ c.rotate_left(4);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(6);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(8);
    b = b.wrapping_add(a);
    a = a.wrapping_sub(c) ^ c.rotate_left(16);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(19);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(4);
    b = b.wrapping_add(a);
    (a, b, c)
}

/// `__jhash_final()`.
fn finish(mut a: u32, mut b: u32, mut c: u32) -> u32 {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}

/// `reciprocal_scale()`: maps a 32-bit hash onto `0..range` without a division.
pub const fn reciprocal_scale(hash: u32, range: u32) -> u32 {
    ((hash as u64 * range as u64) >> 32) as u32
}

/// What of a packet's source selects the bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HashMode {
    /// The address alone: a user always lands on the same host. The default.
    SourceIp,
    /// Address and source port: one busy address spreads over all hosts.
    SourceIpPort,
    /// Address, source port and destination port (the third mode of `CLUSTERIP`).
    SourceIpPortDestPort,
    /// The network of the address, with a prefix length of its own for each family.
    SourceNet {
        /// Leading bits that count of an IPv4 address, 1 to 32.
        v4_prefix: u8,
        /// Leading bits that count of an IPv6 address, 1 to 128.
        v6_prefix: u8,
    },
}

/// How the words of an address enter the hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AddressOrder {
    /// As the address lies in memory: nftables `jhash` and `xt_cluster`, and everything new.
    #[default]
    Memory,
    /// In the host's number order, `ntohl` first: `CLUSTERIP`. Ports count in host order, too.
    Host,
}

words!(AddressOrder { Memory = "memory", Host = "host" });

/// Everything that decides which bucket a source belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hasher {
    /// What of the source counts.
    pub mode: HashMode,
    /// Seed of the hash (`jhash_initval` of `CLUSTERIP`, `seed` of nftables, `hash-seed` of `xt_cluster`).
    pub seed: u32,
    /// How addresses enter the hash.
    pub order: AddressOrder,
    /// `Some(n)`: buckets lie in `n` contiguous blocks as the old systems number their nodes (1 to 64).
    pub blocks: Option<u8>,
}

impl Hasher {
    /// The default: by source address, no seed, balanced buckets.
    pub const DEFAULT: Self =
        Self { mode: HashMode::SourceIp, seed: 0, order: AddressOrder::Memory, blocks: None };

    /// The 32-bit hash of a source. Where a packet has no ports (ICMP, ARP, fragments) both are 0.
    pub fn hash(&self, source: IpAddr, source_port: u16, dest_port: u16) -> u32 {
        let mut words = [0u32; 6];
        let len = self.address_words(source, &mut words);
        let len = match self.mode {
            HashMode::SourceIp | HashMode::SourceNet { .. } => len,
            HashMode::SourceIpPort => {
                words[len] = u32::from(source_port);
                len + 1
            }
            HashMode::SourceIpPortDestPort => {
                words[len] = u32::from(source_port);
                words[len + 1] = u32::from(dest_port);
                len + 2
            }
        };
        jhash2(&words[..len], self.seed)
    }

    /// The bucket of a source. Where a packet has no ports (ICMP, ARP, fragments) both are 0.
    pub fn bucket(&self, source: IpAddr, source_port: u16, dest_port: u16) -> Bucket {
        self.bucket_of_hash(self.hash(source, source_port, dest_port))
    }

    /// The bucket that a hash selects.
    pub fn bucket_of_hash(&self, hash: u32) -> Bucket {
        let number = match self.blocks {
            None => reciprocal_scale(hash, BUCKETS as u32),
            Some(blocks) => {
                let scaled = u64::from(hash) * u64::from(blocks);
                let (block, within) = ((scaled >> 32) as u32, scaled as u32);
                let (start, end) = (block_start(block, blocks), block_start(block + 1, blocks));
                start + reciprocal_scale(within, end - start)
            }
        };
        Bucket::new(number as u16).expect("reciprocal_scale stays below its range")
    }

    /// Writes the address words to the front of `words` and returns how many there are.
    fn address_words(&self, source: IpAddr, words: &mut [u32; 6]) -> usize {
        let (v4_prefix, v6_prefix) = match self.mode {
            HashMode::SourceNet { v4_prefix, v6_prefix } => (v4_prefix, v6_prefix),
            HashMode::SourceIp | HashMode::SourceIpPort | HashMode::SourceIpPortDestPort => (32, 128),
        };
        match source {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(v4_prefix.min(32))).unwrap_or(0);
                words[0] = self.ordered(v4.to_bits() & mask);
                1
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(v6_prefix.min(128))).unwrap_or(0);
                let bits = v6.to_bits() & mask;
                for (i, word) in words.iter_mut().take(4).enumerate() {
                    *word = self.ordered((bits >> (96 - 32 * i)) as u32);
                }
                4
            }
        }
    }

    /// A word of the address, from its numerical value to the order that counts.
    fn ordered(&self, value: u32) -> u32 {
        match self.order {
            AddressOrder::Host => value,
            AddressOrder::Memory => u32::from_ne_bytes(value.to_be_bytes()),
        }
    }
}

/// The first bucket of `block` when the buckets lie in `blocks` contiguous blocks.
pub(crate) const fn block_start(block: u32, blocks: u8) -> u32 {
    (block * BUCKETS as u32).div_ceil(blocks as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// A deliberately different formulation: `jhash()` over bytes, as `include/linux/jhash.h` has it.
    fn jhash_bytes(key: &[u8], seed: u32) -> u32 {
        let start = JHASH_INITVAL.wrapping_add(key.len() as u32).wrapping_add(seed);
        let (mut a, mut b, mut c) = (start, start, start);
        let word = |k: &[u8]| k.iter().rev().fold(0u32, |w, &byte| w << 8 | u32::from(byte));
        let mut k = key;
        while k.len() > 12 {
            a = a.wrapping_add(word(&k[0..4]));
            b = b.wrapping_add(word(&k[4..8]));
            c = c.wrapping_add(word(&k[8..12]));
            (a, b, c) = mix(a, b, c);
            k = &k[12..];
        }
        if k.is_empty() {
            return c;
        }
        let part = |from: usize| word(&k[from.min(k.len())..(from + 4).min(k.len())]);
        finish(a.wrapping_add(part(0)), b.wrapping_add(part(4)), c.wrapping_add(part(8)))
    }

    #[test]
    fn lookup3_reference_vectors_hold() {
        // driver5() of lookup3.c: hashlittle("", 0, 0) and the "Four score" lines. jhash() is hashlittle().
        assert_eq!(jhash_bytes(b"", 0), 0xdead_beef);
        assert_eq!(jhash_bytes(b"", 0xdead_beef), 0xbd5b_7dde);
        assert_eq!(jhash_bytes(b"Four score and seven years ago", 0), 0x1777_0551);
        assert_eq!(jhash_bytes(b"Four score and seven years ago", 1), 0xcd62_8161);
    }

    proptest! {
        #[test]
        fn words_and_bytes_hash_alike(words in prop::collection::vec(any::<u32>(), 0..9), seed: u32) {
            let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
            prop_assert_eq!(jhash2(&words, seed), jhash_bytes(&bytes, seed));
        }

        #[test]
        fn clusterip_blocks_choose_the_node_that_reciprocal_scale_chooses(hash: u32, blocks in 1u8..=64) {
            let hasher = Hasher { blocks: Some(blocks), ..Hasher::DEFAULT };
            let bucket = u32::from(hasher.bucket_of_hash(hash).get());
            let node = reciprocal_scale(hash, u32::from(blocks));
            prop_assert!((block_start(node, blocks)..block_start(node + 1, blocks)).contains(&bucket));
        }

        #[test]
        fn a_network_stays_together(host: u8, seed: u32) {
            let mode = HashMode::SourceNet { v4_prefix: 24, v6_prefix: 64 };
            let hasher = Hasher { mode, seed, ..Hasher::DEFAULT };
            let v4 = |last| hasher.bucket(Ipv4Addr::new(198, 51, 100, last).into(), 0, 0);
            prop_assert_eq!(v4(host), v4(0));
            let v6 = |last| hasher.bucket(Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, last).into(), 0, 0);
            prop_assert_eq!(v6(u16::from(host)), v6(0));
        }

        #[test]
        fn ports_count_only_where_the_mode_says_so(source: u32, a: u16, b: u16, seed: u32) {
            let source = IpAddr::V4(Ipv4Addr::from_bits(source));
            let by = |mode| Hasher { mode, seed, ..Hasher::DEFAULT };
            prop_assert_eq!(by(HashMode::SourceIp).hash(source, a, b), by(HashMode::SourceIp).hash(source, b, a));
            prop_assert_eq!(
                by(HashMode::SourceIpPort).hash(source, a, b),
                by(HashMode::SourceIpPort).hash(source, a, 0)
            );
        }
    }

    #[test]
    fn prefix_length_zero_and_full_do_not_overflow() {
        let wide = Hasher { mode: HashMode::SourceNet { v4_prefix: 0, v6_prefix: 0 }, ..Hasher::DEFAULT };
        let any: IpAddr = Ipv4Addr::new(203, 0, 113, 9).into();
        assert_eq!(wide.hash(any, 1, 1), wide.hash(Ipv4Addr::UNSPECIFIED.into(), 2, 2));
    }
}
