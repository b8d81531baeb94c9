//! Ethernet addresses, and the cluster MAC that a VIP gets when the file names none.

use sha2::{Digest, Sha256};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An Ethernet address, in the order of the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The classic multicast MAC of a VIP: `01:00:5e` and the low 23 bits of its first IPv4 address (RFC 1112 §6.4),
    /// or, for a VIP that has IPv6 only, `33:33` and the low 32 bits of the first address (RFC 2464 §7).
    ///
    /// `None` when there is no address.
    pub fn multicast_for(addresses: &[IpAddr]) -> Option<Self> {
        let v4 = addresses.iter().find_map(|address| match address {
            IpAddr::V4(v4) => Some(v4.octets()),
            IpAddr::V6(_) => None,
        });
        let v6 = addresses.iter().find_map(|address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(v6.octets()),
        });
        v4.map(|[_, b, c, d]| Self([0x01, 0x00, 0x5e, b & 0x7f, c, d]))
            .or_else(|| v6.map(|[.., a, b, c, d]| Self([0x33, 0x33, a, b, c, d])))
    }

    /// The unicast MAC of a VIP that switches shall flood: `02:6f:76` (locally administered, then "ov") and three
    /// bytes of the SHA-256 of the first address. `None` when there is no address.
    pub fn flood_for(addresses: &[IpAddr]) -> Option<Self> {
        let hash = match addresses.first()? {
            IpAddr::V4(v4) => Sha256::digest(v4.octets()),
            IpAddr::V6(v6) => Sha256::digest(v6.octets()),
        };
        Some(Self([0x02, 0x6f, 0x76, hash[0], hash[1], hash[2]]))
    }

    /// Whether it is a group address (the multicast bit is set).
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// Whether it was made up locally rather than assigned to a maker.
    pub const fn is_local(self) -> bool {
        self.0[0] & 2 == 2
    }

    /// Whether bridges keep it to themselves (`01:80:c2:00:00:0X`, IEEE 802.1Q table 8-1).
    pub const fn is_link_local(self) -> bool {
        matches!(self.0, [0x01, 0x80, 0xc2, 0, 0, last] if last < 0x10)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The text is not six bytes of two hex digits each, with `:` or `-` between them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not an Ethernet address")]
pub struct NotAMac;

impl FromStr for MacAddr {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut bytes = [0; 6];
        let mut parts = text.split(separator);
        for byte in &mut bytes {
            let part = parts.next().ok_or(NotAMac)?;
            if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(NotAMac);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| NotAMac)?;
        }
        if parts.next().is_some() { Err(NotAMac) } else { Ok(Self(bytes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn a_multicast_mac_comes_from_the_first_ipv4_address_else_from_ipv6() {
        let of = |list: &[&str]| MacAddr::multicast_for(&addresses(list)).unwrap().to_string();
        assert_eq!(of(&["198.51.100.10"]), "01:00:5e:33:64:0a");
        assert_eq!(
            of(&["2001:db8::10", "198.179.100.10"]),
            "01:00:5e:33:64:0a",
            "the 24th bit does not count"
        );
        assert_eq!(of(&["2001:db8::1:10"]), "33:33:00:01:00:10");
        assert_eq!(MacAddr::multicast_for(&[]), None);
    }

    #[test]
    fn a_flood_mac_is_unicast_local_and_differs_by_address() {
        let of = |list: &[&str]| MacAddr::flood_for(&addresses(list)).unwrap();
        let one = of(&["198.51.100.10"]);
        assert!(!one.is_multicast() && one.is_local() && one.to_string().starts_with("02:6f:76:"));
        assert_ne!(one, of(&["198.51.100.11"]));
        assert_eq!(one, of(&["198.51.100.10", "2001:db8::10"]));
    }

    #[test]
    fn macs_are_read_strictly() {
        assert_eq!("01-00-5E-33-64-0A".parse(), Ok(MacAddr([1, 0, 0x5e, 0x33, 0x64, 0x0a])));
        for bad in [
            "",
            "01:00:5e:33:64",
            "01:00:5e:33:64:0a:0b",
            "1:00:5e:33:64:0a",
            "01:00:5e:33:64:+a",
            "01:00-5e:33:64:0a",
        ] {
            assert_eq!(bad.parse::<MacAddr>(), Err(NotAMac), "{bad}");
        }
    }
}
