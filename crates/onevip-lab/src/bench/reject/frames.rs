//! The frames that are rejected: what clients of other nodes send most, acknowledgements without data, in frames of the
//! least length.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use onevip_core::{BUCKETS, Hasher};

use super::IpFamily;
use crate::load::segment::{Segment, flag};
use crate::plan::{Host, LabPlan, multicast_mac, vip4, vip6};
use crate::wire::parse_mac;

/// Addresses that frames come from.
pub const SOURCES: usize = 16;
/// The seed of every hash.
pub const SEED: u32 = 0x6f6e_6576;
/// Where IPv6 sources lie: their first 32 bits are the same.
pub const NETWORK6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0);
/// The least length of an Ethernet frame, without its checksum.
const LEAST: usize = 60;
/// A MAC that nobody has.
const NOBODY: &str = "02:00:00:00:0f:0f";

/// To the VIP at the cluster MAC, or at a MAC that is none of the receiver's; one a source.
pub fn frames(family: IpFamily, to_us: bool) -> Vec<Vec<u8>> {
    let cluster_mac = multicast_mac(&[vip4().into(), vip6().into()]);
    let mut segment = Segment {
        from_mac: parse_mac(&LabPlan::mac(Host::Client)),
        to_mac: parse_mac(if to_us { &cluster_mac } else { NOBODY }),
        from: (Ipv4Addr::UNSPECIFIED, 40_000),
        to: (vip4(), 22),
        seq: 1,
        ack: 1,
        flags: flag::ACK,
        data: 0,
    };
    let frame = |source| {
        let mut frame = match source {
            IpAddr::V4(source) => {
                segment.from.0 = source;
                segment.frame().to_vec()
            }
            IpAddr::V6(source) => segment.frame6(source, vip6()).to_vec(),
        };
        frame.resize(frame.len().max(LEAST), 0);
        frame
    };
    foreign_sources(family).into_iter().map(frame).collect()
}

/// Addresses that belong to the second of two nodes, whoever hashes all of an address.
fn foreign_sources(family: IpFamily) -> Vec<IpAddr> {
    let hasher = Hasher { seed: SEED, blocks: Some(2), ..Hasher::DEFAULT };
    let foreign = |ip: &IpAddr| hasher.bucket(*ip, 0, 0).index() >= BUCKETS / 2;
    let address = |i: u32| match family {
        IpFamily::V4 => IpAddr::from(Ipv4Addr::from(0xc633_6500 + i * 37)),
        IpFamily::V6 => Ipv6Addr::from(u128::from(NETWORK6) + (0x65 << 64) + u128::from(i) * 37).into(),
    };
    (1..u32::MAX).map(address).filter(foreign).take(SOURCES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_foreign_and_all_different() {
        for family in IpFamily::ALL {
            let mut sources = foreign_sources(family);
            sources.sort();
            sources.dedup();
            assert_eq!(sources.len(), SOURCES);
            assert!(!sources.contains(&family.vip()));
            assert!(sources.iter().all(|source| IpFamily::of(*source) == family));
        }
    }

    #[test]
    fn frames_are_small_and_for_the_vip() {
        let frame = &frames(IpFamily::V4, true)[0];
        let segment = Segment::parse(frame).unwrap();
        assert_eq!((frame.len(), segment.to, segment.to_mac[0]), (60, (vip4(), 22), 1));
        assert_eq!(Segment::parse(&frames(IpFamily::V4, false)[0]).unwrap().to_mac[0], 2);
        let frame = &frames(IpFamily::V6, true)[0];
        assert_eq!((frame.len(), frame[0], &frame[38..54]), (74, 1, &vip6().octets()[..]));
        assert_eq!(&frame[22..26], &NETWORK6.octets()[..4], "what xt_cluster hashes");
    }
}
