//! The connection that firewalls are asked about: a SYN of some client to a port of a VIP.

use super::rules::Applies;
use std::net::IpAddr;

/// Who the client is stays open, but for what follows from its being on the network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TestConnection {
    pub(super) vip: IpAddr,
    pub(super) port: u16,
    /// The interface that it comes in by.
    pub(super) interface: String,
}

impl TestConnection {
    /// Whether it comes by this interface; `*` and `+` at the end stand for anything.
    pub(super) fn comes_by(&self, name: &str) -> Applies {
        let holds = match name.strip_suffix(['*', '+']) {
            Some(start) => self.interface.starts_with(start),
            None => self.interface == name,
        };
        Applies::when(holds)
    }

    /// Whether it goes to this address, or network in the form `ADDRESS/LENGTH`.
    pub(super) fn goes_to(&self, network: &str) -> Applies {
        let (address, length) = network.split_once('/').map_or((network, None), |(a, l)| (a, Some(l)));
        let (Ok(address), Ok(length)) =
            (address.parse::<IpAddr>(), length.map(str::parse::<u32>).transpose())
        else {
            return Applies::Maybe;
        };
        let bits = |ip: IpAddr| match ip {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let ((one, most), (other, _)) = (bits(self.vip), bits(address));
        let free = 128 - length.unwrap_or(most).min(most);
        let same = one.checked_shr(free).unwrap_or(0) == other.checked_shr(free).unwrap_or(0);
        Applies::when(self.vip.is_ipv4() == address.is_ipv4() && same)
    }

    /// Whether it may come from this address or network: nobody on the network has one of the host's own.
    pub(super) fn comes_from(&self, network: &str) -> Applies {
        let own = network.starts_with("127.") || network == "::1" || network.starts_with("::1/");
        let other_family = network.contains(':') == self.vip.is_ipv4();
        if own || other_family { Applies::No } else { Applies::Maybe }
    }

    /// Whether it goes to one of these ports.
    pub(super) fn port_within(&self, low: u16, high: u16) -> Applies {
        Applies::when((low..=high).contains(&self.port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_networks_and_interfaces_are_compared() {
        let ask =
            |vip: &str| TestConnection { vip: vip.parse().unwrap(), port: 22, interface: "eth0".into() };
        let (v4, v6) = (ask("198.51.100.10"), ask("2001:db8::10"));
        assert_eq!(v4.goes_to("198.51.100.10"), Applies::Yes);
        assert_eq!(v4.goes_to("198.51.100.0/24"), Applies::Yes);
        assert_eq!(v4.goes_to("0.0.0.0/0"), Applies::Yes);
        assert_eq!(v4.goes_to("198.51.101.0/24"), Applies::No);
        assert_eq!(v4.goes_to("2001:db8::/32"), Applies::No);
        assert_eq!(v4.goes_to("login"), Applies::Maybe);
        assert_eq!((v6.goes_to("2001:db8::/32"), v6.goes_to("2001:db8::11")), (Applies::Yes, Applies::No));
        assert_eq!(
            (v4.comes_by("eth0"), v4.comes_by("eth+"), v4.comes_by("lo")),
            (Applies::Yes, Applies::Yes, Applies::No)
        );
        assert_eq!(
            (v4.comes_from("127.0.0.0/8"), v4.comes_from("10.0.0.0/8")),
            (Applies::No, Applies::Maybe)
        );
        assert_eq!(v4.comes_from("2001:db8::/32"), Applies::No);
    }
}
