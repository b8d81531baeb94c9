//! Networks: the addresses of one family that begin alike.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network: the leading bits of its addresses. Never an IPv4 network in IPv6 clothes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    is_v6: bool,
    /// Left-aligned; the bits behind `length` are 0.
    bits: u128,
    length: u8,
}

/// Why a text is no network.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "\"{0}\" is no network; write an address, or an address and how many of its bits count, like 192.0.2.0/24"
)]
pub struct NoPrefix(String);

impl Prefix {
    /// The network of an address by so many leading bits; `None` when an address has not so many.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        if let IpAddr::V6(v6) = address
            && let Some(v4) = v6.to_ipv4_mapped()
            && length >= 96
        {
            return Self::new(v4.into(), length - 96);
        }
        let (is_v6, bits) = left_aligned(address);
        (length <= if is_v6 { 128 } else { 32 }).then(|| Self { is_v6, bits: bits & mask(length), length })
    }

    /// The network of an address alone.
    pub fn host(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let length = if address.is_ipv4() { 32 } else { 128 };
        let (is_v6, bits) = left_aligned(address);
        Self { is_v6, bits, length }
    }

    /// Its first address.
    pub fn address(&self) -> IpAddr {
        if self.is_v6 {
            Ipv6Addr::from_bits(self.bits).into()
        } else {
            Ipv4Addr::from_bits((self.bits >> 96) as u32).into()
        }
    }

    /// How many bits count.
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// Whether it is of IPv6.
    pub const fn is_v6(&self) -> bool {
        self.is_v6
    }

    /// Whether it is a single address.
    pub const fn is_host(&self) -> bool {
        self.length == if self.is_v6 { 128 } else { 32 }
    }

    /// Whether an address, taken as it is written, lies in it: `::ffff:192.0.2.1` lies in no IPv4 network.
    pub fn includes(&self, address: IpAddr) -> bool {
        let (is_v6, bits) = left_aligned(address);
        self.is_v6 == is_v6 && bits & mask(self.length) == self.bits
    }

    /// Whether all of `other` lies in it.
    pub fn contains(&self, other: &Self) -> bool {
        self.is_v6 == other.is_v6
            && self.length <= other.length
            && other.bits & mask(self.length) == self.bits
    }

    /// The network of its first so many bits, which are not more than its own.
    pub(crate) fn widened(&self, length: u8) -> Self {
        Self { bits: self.bits & mask(length), length, ..*self }
    }

    /// Behind the last prefix that lies in it, in their order.
    pub(crate) fn last(&self) -> Self {
        Self { bits: self.bits | !mask(self.length), length: u8::MAX, ..*self }
    }
}

/// Whether it is of IPv6, and its bits.
fn left_aligned(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(v4) => (false, u128::from(v4.to_bits()) << 96),
        IpAddr::V6(v6) => (true, v6.to_bits()),
    }
}

fn mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

impl FromStr for Prefix {
    type Err = NoPrefix;

    /// Reads `192.0.2.1`, `192.0.2.0/24`, `2001:db8::/32`. Bits that do not count may be set.
    fn from_str(text: &str) -> Result<Self, NoPrefix> {
        let wrong = || NoPrefix(text.to_owned());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let Some(length) = length else { return Ok(Self::host(address)) };
        let digits = length.len() <= 3 && length.bytes().all(|byte| byte.is_ascii_digit());
        let length = length.parse().ok().filter(|_| digits).ok_or_else(wrong)?;
        Self::new(address, length).ok_or_else(wrong)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_host() { self.address().fmt(f) } else { write!(f, "{}/{}", self.address(), self.length) }
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().expect("a network")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn bits_that_do_not_count_are_dropped() {
        assert_eq!(Prefix::new(ip("10.8.9.1"), 16), Some(prefix("10.8.0.0/16")));
        assert_eq!(Prefix::new(ip("10.8.0.0"), 33), None);
        assert_eq!(Prefix::new(ip("::ffff:10.8.9.1"), 112), Some(prefix("10.8.0.0/16")));
        assert_eq!(prefix("0.0.0.0/0").to_string(), "0.0.0.0/0");
    }

    #[test]
    fn addresses_are_included_as_they_are_written() {
        let (v4, v6) = (prefix("192.0.2.0/24"), prefix("2001:db8::/32"));
        assert!(v4.includes(ip("192.0.2.255")) && !v4.includes(ip("192.0.3.0")));
        assert!(v6.includes(ip("2001:db8:ffff::1")) && !v6.includes(ip("2001:db9::")));
        assert!(!v4.includes(ip("::ffff:192.0.2.1")), "a packet of IPv6 is no packet of IPv4");
        assert!(prefix("::/0").includes(ip("::ffff:192.0.2.1")) && !prefix("::/0").includes(ip("192.0.2.1")));
    }
}
