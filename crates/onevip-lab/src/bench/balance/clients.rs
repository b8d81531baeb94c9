//! Who connects: addresses as they are found in front of login hosts, made from a fixed seed.

use crate::random::Random;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address, and how much comes from it.
#[derive(Clone, Copy, Debug)]
pub struct WeightedClient {
    /// Its address.
    pub address: IpAddr,
    /// Users behind it.
    pub weight: u32,
}

/// Where the clients are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Population {
    /// A campus with one IPv4 /16: 80 subnets in use, each full from below as DHCP fills them.
    Campus,
    /// People at home: half by IPv4 from the networks of a few providers, half by IPv6 with a /56 each and a privacy
    /// address in it.
    Homes,
    /// 3,000 addresses, some of which are gateways: the users behind the k-th are 5,000 / k (Zipf's law), at least one.
    Gateways,
}

/// Addresses of each population but the last.
const COUNT: usize = 20_000;

impl Population {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Campus, Self::Homes, Self::Gateways];

    /// In words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Campus => "campus /16",
            Self::Homes => "homes",
            Self::Gateways => "NAT gateways",
        }
    }

    /// Its clients, each address once, always the same.
    pub fn clients(self) -> Vec<WeightedClient> {
        let mut random = Random(0x6f6e_6576_6970 + self as u64);
        let mut all = BTreeMap::new();
        match self {
            Self::Campus => {
                let subnets: Vec<u32> = (0..80).map(|_| random.below(256)).collect();
                for i in 0..COUNT as u32 {
                    let subnet = subnets[i as usize % subnets.len()];
                    all.insert(v4(0x0a14_0000 | subnet << 8 | (10 + i / 80 % 240)), 1);
                }
            }
            Self::Homes => {
                // Blocks in 198.18.0.0/15 and 2001:db8::/32, which documents may use.
                for _ in 0..COUNT / 2 {
                    all.insert(v4(0xc612_0000 | random.below(1 << 17)), 1);
                    let site = u128::from(random.below(1 << 24));
                    let interface = u128::from(random.draw());
                    all.insert(Ipv6Addr::from(0x2001_0db8u128 << 96 | site << 72 | interface).into(), 1);
                }
            }
            Self::Gateways => {
                let mut rank = 0;
                while all.len() < 3000 {
                    rank += 1;
                    all.insert(v4(0xc612_0000 | random.below(1 << 17)), (5000 / rank).max(1));
                }
            }
        }
        all.into_iter().map(|(address, weight)| WeightedClient { address, weight }).collect()
    }
}

fn v4(bits: u32) -> IpAddr {
    Ipv4Addr::from(bits).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn populations_are_what_they_say_and_always_the_same() {
        let campus = Population::Campus.clients();
        assert!(campus.len() > 10_000 && campus.iter().all(|c| c.address.to_string().starts_with("10.20.")));
        let homes = Population::Homes.clients();
        let v6 = homes.iter().filter(|client| client.address.is_ipv6()).count();
        assert!(v6 * 5 > homes.len() * 2, "{v6} of {}", homes.len());
        let gateways = Population::Gateways.clients();
        assert_eq!(gateways.iter().map(|client| client.weight).max(), Some(5000));
        assert_eq!(gateways[7].address, Population::Gateways.clients()[7].address);
    }
}
