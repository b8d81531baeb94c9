//! The client that somebody asks about: an address, perhaps with its port.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// An address that packets can come from, and the source port if it was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Client {
    /// Never IPv4-mapped.
    pub address: IpAddr,
    /// Never 0.
    pub port: Option<u16>,
}

impl FromStr for Client {
    type Err = String;

    /// Reads `192.0.2.1`, `192.0.2.1:50022`, `2001:db8::1`, `[2001:db8::1]:50022`, as logs and `ss` show them: an
    /// address may bear its zone (`%eth0`), or be IPv4 mapped into IPv6.
    fn from_str(text: &str) -> Result<Self, String> {
        let without_zone = without_zone(text);
        let bare = without_zone.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        let (address, port) = if let Ok(address) = bare.unwrap_or(&without_zone).parse::<IpAddr>() {
            (address, None)
        } else if let Ok(both) = without_zone.parse::<SocketAddr>() {
            (both.ip(), Some(both.port()))
        } else if text.contains('/') {
            return Err("name one address, not a network".to_owned());
        } else {
            return Err("name an IP address; `getent ahosts NAME` finds that of a host".to_owned());
        };
        let address = address.to_canonical();
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
            return Err(format!("no packet comes from {address}; name the client's own address"));
        }
        if port == Some(0) {
            return Err("no packet comes from port 0".to_owned());
        }
        Ok(Self { address, port })
    }
}

/// The text without `%zone`.
fn without_zone(text: &str) -> String {
    let Some((before, after)) = text.split_once('%') else { return text.to_owned() };
    let rest = after.find(']').map_or("", |end| &after[end..]);
    format!("{before}{rest}")
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_read_as_logs_show_it() {
        let read = |text: &str| text.parse::<Client>().map(|client| client.to_string());
        for text in ["192.0.2.1", "192.0.2.1:50022", "2001:db8::1", "[2001:db8::1]:50022"] {
            assert_eq!(read(text).as_deref(), Ok(text));
        }
        assert_eq!(read("[2001:db8::1]").as_deref(), Ok("2001:db8::1"));
        assert_eq!(read("::ffff:192.0.2.1").as_deref(), Ok("192.0.2.1"));
        assert_eq!(read("[::ffff:192.0.2.1]:22").as_deref(), Ok("192.0.2.1:22"));
        assert_eq!(read("fe80::1%eth0").as_deref(), Ok("fe80::1"));
        assert_eq!(read("[fe80::1%eth0]:22").as_deref(), Ok("[fe80::1]:22"));
    }

    #[test]
    fn what_is_no_client_is_refused_with_a_remedy() {
        let refused = |text: &str| text.parse::<Client>().unwrap_err();
        assert!(refused("unix1").contains("getent ahosts"));
        assert!(refused("192.0.2.0/24").contains("not a network"));
        assert!(refused("192.0.2.1:0").contains("port 0"));
        assert!(refused("192.0.2.1:70000").contains("name an IP address"));
        assert!(refused("0.0.0.0").contains("no packet comes from"));
        assert!(refused("ff02::1").contains("no packet comes from"));
        assert!(refused("").contains("name an IP address"));
    }
}
