//! From a packet to its bucket, as the services of a VIP have it: which way of hashing counts, and who is served at all.
//!
//! Everybody who asks in which bucket something lies asks a [`Selector`]: the reference verdict, the scan of the sockets,
//! `onevip where`. The programs ask `bpf/service.h` and `bpf/hash.h` in `onevip-bpf`, their twins.

use crate::hash::{HashMode, Hasher, reciprocal_scale};
use crate::ids::Bucket;
use crate::limit::Limit;
use crate::prefix::Prefix;
use crate::slice::Slice;
use crate::words::words;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// A protocol with ports.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

words!(Transport { Tcp = "tcp", Udp = "udp" });

/// Who answers a service's packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Answerer {
    /// The node that claims the bucket.
    #[default]
    Bucket,
    /// The node that has a socket on the port, inside its own slice of the range: what moves from one address to another
    /// while it lives, as mosh does. The slice is this node's; where only buckets are asked about, any will do.
    Socket(Slice),
}

/// What becomes of packets to the VIP that no service wants.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Other {
    /// The owner of their bucket gets them, and its kernel says that there is nothing.
    #[default]
    Owner,
    /// They disappear. Ping does not count as other, nor does what belongs to a connection that lives here.
    Drop,
}

words!(Other { Owner = "owner", Drop = "drop" });

/// A port, or a range of ports, that a VIP serves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// TCP or UDP.
    pub transport: Transport,
    /// The ports, not empty.
    pub ports: RangeInclusive<u16>,
    /// What of a source selects the bucket of its packets.
    pub mode: HashMode,
    /// Who answers.
    pub answerer: Answerer,
    /// How many connections a source may open; for TCP.
    pub limit: Option<Limit>,
}

/// The ports of a packet that has them, and is no fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ports {
    /// TCP or UDP.
    pub transport: Transport,
    /// The client's port.
    pub source: u16,
    /// The service's port.
    pub dest: u16,
}

/// What counts for some sources instead of what the VIP and its services say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exception {
    /// Which sources. Of several that contain a source the longest counts.
    pub network: Prefix,
    /// What counts.
    pub instead: Instead,
}

/// What counts for an [`Exception`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Instead {
    /// Another hash mode.
    Hash(HashMode),
    /// Only these buckets, 1 to 16: the [`Reserve`](crate::Reserve) of the node that the sources are pinned to. Which
    /// of them is decided by the hash, as usual.
    Buckets(Vec<Bucket>),
}

/// Everything that decides which bucket a packet to one VIP belongs to, and whether it is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selector {
    /// How packets hash that no service has its own way for: ARP, ICMP, fragments, ports that nobody serves.
    pub hasher: Hasher,
    /// What the VIP serves; no two have a port in common.
    pub services: Vec<Service>,
    /// What becomes of the rest.
    pub other: Other,
    /// Sources for which something else counts; no two with the same network.
    pub exceptions: Vec<Exception>,
}

impl Selector {
    /// One way of hashing for everything, and nobody turned away.
    pub const fn uniform(hasher: Hasher) -> Self {
        Self { hasher, services: Vec::new(), other: Other::Owner, exceptions: Vec::new() }
    }

    /// The service on this port.
    pub fn service(&self, transport: Transport, port: u16) -> Option<&Service> {
        self.services.iter().find(|service| service.transport == transport && service.ports.contains(&port))
    }

    /// The place among the services of the one on this port, if it has a limit.
    pub fn limited(&self, transport: Transport, port: u16) -> Option<usize> {
        let on = |service: &Service| service.transport == transport && service.ports.contains(&port);
        self.services.iter().position(|service| on(service) && service.limit.is_some())
    }

    /// Whether one of the services is answered by sockets.
    pub fn is_sliced(&self) -> bool {
        self.services.iter().any(|service| matches!(service.answerer, Answerer::Socket(_)))
    }

    /// Whether packets to this port are wanted.
    pub fn serves(&self, transport: Transport, port: u16) -> bool {
        self.other == Other::Owner || self.service(transport, port).is_some()
    }

    /// What counts for this source instead, if anything: the longest network that contains it.
    pub fn exception(&self, source: IpAddr) -> Option<&Exception> {
        let matching = self.exceptions.iter().filter(|exception| exception.network.includes(source));
        matching.max_by_key(|exception| exception.network.length())
    }

    /// How a packet with these ports hashes.
    pub fn hasher_for(&self, source: IpAddr, ports: Option<Ports>) -> Hasher {
        if let Some(Exception { instead: Instead::Hash(mode), .. }) = self.exception(source) {
            return Hasher { mode: *mode, ..self.hasher };
        }
        let service = ports.and_then(|ports| self.service(ports.transport, ports.dest));
        Hasher { mode: service.map_or(self.hasher.mode, |service| service.mode), ..self.hasher }
    }

    /// The bucket of a packet from `source`. `None` where it has no ports: ICMP, ARP, any fragment of a datagram, of
    /// which only the first has ports, and all must meet the same bucket.
    pub fn bucket(&self, source: IpAddr, ports: Option<Ports>) -> Bucket {
        let (source_port, dest_port) = ports.map_or((0, 0), |ports| (ports.source, ports.dest));
        let hasher = self.hasher_for(source, ports);
        self.bucket_of_hash(source, hasher.hash(source, source_port, dest_port))
    }

    /// The bucket that a hash selects for this source.
    pub fn bucket_of_hash(&self, source: IpAddr, hash: u32) -> Bucket {
        match self.exception(source) {
            Some(Exception { instead: Instead::Buckets(buckets), .. }) if !buckets.is_empty() => {
                buckets[reciprocal_scale(hash, buckets.len() as u32) as usize]
            }
            _ => self.hasher.bucket_of_hash(hash),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_hashes_its_own_way_and_everything_else_that_of_the_vip() {
        let dns = Service {
            transport: Transport::Udp,
            ports: 53..=53,
            mode: HashMode::SourceIpPort,
            answerer: Answerer::Bucket,
            limit: None,
        };
        let selector =
            Selector { services: vec![dns], other: Other::Drop, ..Selector::uniform(Hasher::DEFAULT) };
        let by_port = Hasher { mode: HashMode::SourceIpPort, ..Hasher::DEFAULT };
        let client = IpAddr::from([198, 51, 100, 101]);
        let bucket = |transport, dest| selector.bucket(client, Some(Ports { transport, source: 4711, dest }));
        assert_eq!(bucket(Transport::Udp, 53), by_port.bucket(client, 4711, 53));
        assert_eq!(bucket(Transport::Tcp, 53), Hasher::DEFAULT.bucket(client, 0, 0), "TCP is not served");
        assert_eq!(bucket(Transport::Udp, 54), Hasher::DEFAULT.bucket(client, 0, 0));
        assert_eq!(selector.bucket(client, None), Hasher::DEFAULT.bucket(client, 0, 0));
        assert!(selector.serves(Transport::Udp, 53) && !selector.serves(Transport::Tcp, 53));
        assert!(Selector { other: Other::Owner, ..selector }.serves(Transport::Tcp, 53));
    }

    #[test]
    fn the_longest_network_counts() {
        let network =
            |text: &str, length| Prefix::new(text.parse().expect("an address"), length).expect("fits");
        let reserved: Vec<Bucket> = Bucket::all().take(16).collect();
        let exceptions = vec![
            Exception { network: network("10.0.0.0", 8), instead: Instead::Hash(HashMode::SourceIpPort) },
            Exception { network: network("10.8.0.0", 16), instead: Instead::Buckets(reserved.clone()) },
            Exception { network: network("10.8.9.0", 24), instead: Instead::Hash(HashMode::SourceIp) },
            Exception { network: network("2001:db8::", 32), instead: Instead::Buckets(reserved.clone()) },
        ];
        let selector = Selector { exceptions, ..Selector::uniform(Hasher::DEFAULT) };
        let bucket = |source: &str, port| {
            let ports = Ports { transport: Transport::Tcp, source: port, dest: 22 };
            selector.bucket(source.parse().expect("an address"), Some(ports))
        };
        let spread = |source: &str| {
            (1..=50).map(|port| bucket(source, port)).collect::<std::collections::BTreeSet<_>>()
        };
        assert!(spread("10.1.2.3").len() > 40, "by port");
        assert_eq!(spread("10.8.2.3").len(), 1, "pinned, and a source keeps its bucket");
        assert_eq!(bucket("10.8.9.3", 1), Hasher::DEFAULT.bucket("10.8.9.3".parse().expect("one"), 0, 0));
        assert_eq!(bucket("11.0.0.1", 1), Hasher::DEFAULT.bucket("11.0.0.1".parse().expect("one"), 0, 0));
        let pinned: std::collections::BTreeSet<_> =
            (0..255).map(|i| bucket(&format!("10.8.1.{i}"), 1)).collect();
        assert_eq!(pinned.into_iter().collect::<Vec<_>>(), reserved, "all of the reserve, and nothing else");
        assert!(reserved.contains(&bucket("2001:db8:1::1", 1)) && spread("2001:db9::1").len() == 1);
    }
}
