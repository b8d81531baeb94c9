//! The Internet checksum: the ones' complement of the ones' complement sum of 16-bit words (RFC 1071).
//!
//! IPv4 headers have one over themselves. TCP, UDP and ICMPv6 have one over their segment and a *pseudo-header* of
//! addresses, protocol and length (RFC 9293 3.1, RFC 768, RFC 4443 2.3; for IPv6 RFC 8200 8.1). That of IPv4 and that
//! of IPv6 differ in their layout, but sum up alike.

use std::net::IpAddr;

/// A sum that is being made. What is added in parts sums up like the whole, if all parts but the last are of even length.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Checksum(u64);

impl Checksum {
    /// The sum of nothing.
    pub const fn new() -> Self {
        Self(0)
    }

    /// The sum of the pseudo-header of a segment of `length` bytes: TCP is protocol 6, UDP 17, ICMPv6 58. Both addresses
    /// are of one family.
    pub fn of_pseudo_header(source: IpAddr, dest: IpAddr, protocol: u8, length: usize) -> Self {
        let sum = Self::new().with_address(source).with_address(dest);
        Self(sum.0 + u64::from(protocol) + length as u64)
    }

    fn with_address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => self.with(&v4.octets()),
            IpAddr::V6(v6) => self.with(&v6.octets()),
        }
    }

    /// The sum with `bytes`. An odd byte at the end counts as if a zero followed.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        let mut words = bytes.chunks_exact(2);
        let sum: u64 = words.by_ref().map(|two| u64::from(u16::from_be_bytes([two[0], two[1]]))).sum();
        let odd = words.remainder().first().map_or(0, |byte| u64::from(*byte) << 8);
        Self(self.0 + sum + odd)
    }

    /// What is written into the field, big-endian. 0 where the right checksum is in place already.
    pub const fn finish(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }
}

/// The checksum of `bytes` alone: an IPv4 header, or an ICMP message.
pub fn internet(bytes: &[u8]) -> u16 {
    Checksum::new().with(bytes).finish()
}

/// The checksum of a TCP segment, a UDP datagram or an ICMPv6 message, over its pseudo-header. 0 where the right one is
/// in place already.
pub fn transport(source: IpAddr, dest: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    Checksum::of_pseudo_header(source, dest, protocol, segment.len()).with(segment).finish()
}

/// The checksum of a UDP datagram whose field still is 0. Never 0: that would say that none was made, and is written as
/// its other form (RFC 768).
pub fn udp(source: IpAddr, dest: IpAddr, datagram: &[u8]) -> u16 {
    match transport(source, dest, 17, datagram) {
        0 => 0xffff,
        sum => sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_comes_out() {
        assert_eq!(internet(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn an_ipv4_header_has_the_checksum_that_routers_gave_it() {
        let mut header =
            [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
        assert_eq!(internet(&header), 0xb861);
        header[10..12].copy_from_slice(&0xb861u16.to_be_bytes());
        assert_eq!(internet(&header), 0, "the right one is in place");
    }

    #[test]
    fn an_odd_byte_counts_as_if_a_zero_followed() {
        assert_eq!(internet(&[1, 2, 3]), internet(&[1, 2, 3, 0]));
        assert_ne!(internet(&[1, 2, 3]), internet(&[1, 2, 0, 3]));
    }

    #[test]
    fn parts_sum_up_like_the_whole_and_carries_are_not_lost() {
        let bytes = [0xff; 65_534];
        let parts = bytes.chunks(1_000).fold(Checksum::new(), Checksum::with);
        assert_eq!(parts.finish(), internet(&bytes));
        assert_eq!(internet(&bytes), 0);
        assert_eq!(internet(&[0xff, 0xff, 0, 1]), !1, "a carry comes back in below");
    }

    #[test]
    fn the_pseudo_header_is_that_of_the_rfcs() {
        let (from, to): (IpAddr, IpAddr) = ([198, 51, 100, 101].into(), [198, 51, 100, 10].into());
        let segment = [0x9c, 0x40, 0, 22, 0, 0, 0, 1, 9];
        let whole = [&[198, 51, 100, 101, 198, 51, 100, 10, 0, 6, 0, 9][..], &segment].concat();
        assert_eq!(transport(from, to, 6, &segment), internet(&whole), "RFC 9293");
        let (from, to): (IpAddr, IpAddr) =
            ("2001:db8::101".parse().unwrap(), "2001:db8::10".parse().unwrap());
        let IpAddr::V6(from6) = from else { unreachable!() };
        let IpAddr::V6(to6) = to else { unreachable!() };
        let tail = [0, 0, 0, 9, 0, 0, 0, 58];
        let whole = [&from6.octets()[..], &to6.octets(), &tail, &segment].concat();
        assert_eq!(transport(from, to, 58, &segment), internet(&whole), "RFC 8200");
    }

    #[test]
    fn a_udp_checksum_is_never_zero() {
        let nowhere = IpAddr::from([0, 0, 0, 0]);
        // Protocol 17 and length 2 sum up to 19; the payload makes it 0xffff.
        let payload = (0xffff - 19u16).to_be_bytes();
        assert_eq!(transport(nowhere, nowhere, 17, &payload), 0);
        assert_eq!(udp(nowhere, nowhere, &payload), 0xffff);
        assert_eq!(udp(nowhere, nowhere, &[0, 0]), !19);
    }
}
