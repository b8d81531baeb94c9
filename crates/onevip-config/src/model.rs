//! What a configuration says, as plain data: no spans, no strings that still need checking.
//!
//! A [`Config`] that exists is valid as a whole (`validate.rs` sees to that): node numbers are unique, every node that a
//! VIP names exists, addresses are unicast and unique, and so on. It is the same on every node of a cluster; which
//! node *this* host is, is asked separately ([`Config::this_node`]).

use crate::health::{HealthSettings, UserCheck};
use crate::words::{HashWord, words};
use onevip_core::limit::Limit;
use onevip_core::membership::Failback;
use onevip_core::{
    AddressOrder, Answerer, Exception, HashMode, Hasher, Instead, Layout, MacAddr, Mapping, NodeId, NodeSet,
    Other, Prefix, Reserve, Selector, Service, Slice, Table, Transport, Weight,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// A whole configuration, checked.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Name of the cluster; separates clusters that share a LAN. 1 to 63 of `a-z 0-9 -`.
    pub cluster: String,
    /// How the nodes know who is alive.
    pub membership: Membership,
    /// Time between two beats, 10 ms to 1 s. All other times of the protocol derive from it.
    pub beat: Duration,
    /// When a returning node takes its buckets back.
    pub failback: Failback,
    /// The key that seals beats, an absolute path. Read only with living membership.
    pub key_file: PathBuf,
    /// The group that may use the control socket, besides root.
    pub control_group: Option<String>,
    /// Where metrics can be read; `None`: nowhere.
    pub metrics: Option<Listen>,
    /// What runs when something happens.
    pub hooks: Vec<Hook>,
    /// What those who help users know and allow.
    pub support: SupportSettings,
    /// What this host asks of itself.
    pub health: HealthSettings,
    /// What the administrator asks besides, in the order of the file; names are unique.
    pub checks: Vec<UserCheck>,
    /// Networks that no ban may touch, in the order of the file.
    pub never_banned: Vec<Prefix>,
    /// The VIPs, in the order of the file; at least one.
    pub vips: Vec<Vip>,
    /// The nodes, by ascending number; at least one, at most 64.
    pub nodes: Vec<Node>,
}

/// Where something listens on this host, never for the network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listen {
    /// An address of the loopback interface, and a port.
    Tcp(SocketAddr),
    /// A Unix socket; an absolute path.
    Unix(PathBuf),
}

/// A command that runs when something happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hook {
    /// The events, as `onevip watch --json` names them; at least one.
    pub on: Vec<String>,
    /// What `/bin/sh` is given.
    pub command: String,
    /// After this it is killed.
    pub timeout: Duration,
}

/// `[desk]`, with defaults for what the file does not say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SupportSettings {
    /// The names by which users know the VIPs, besides those that their addresses resolve to.
    pub names: Vec<String>,
    /// Whether root on another node may drain and undrain this one.
    pub remote_drain: RemoteDrain,
}

/// Whether root on another node may drain and undrain this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RemoteDrain {
    /// It may.
    #[default]
    Allow,
    /// It may not.
    Refuse,
}

/// How the nodes know who is alive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Membership {
    /// Every configured node counts as alive, always.
    #[default]
    Static,
    /// Nodes hear each other's beats and take over from those that fall silent.
    Living,
}

/// A shared address, or several, and who answers for it.
#[derive(Clone, PartialEq, Debug)]
pub struct Vip {
    /// Its name, unique. 1 to 63 of `a-z 0-9 -`.
    pub name: String,
    /// Its addresses in the order of the file, 1 to 8 (8 over all VIPs), unicast and unique.
    pub addresses: Vec<IpAddr>,
    /// The interface that bears it (or an altname of it); `None`: the one that routes to its first address.
    pub interface: Option<String>,
    /// The nodes that serve it; at least one.
    pub nodes: NodeSet,
    /// Weights that differ from the nodes' own at this VIP, 0 to 10000, by number; all of them serve it.
    pub weights: BTreeMap<NodeId, u16>,
    /// What of a source selects the bucket.
    pub hash: HashMode,
    /// Seed of the hash and of the table.
    pub seed: u32,
    /// How buckets are dealt to nodes.
    pub mapping: Mapping,
    /// How addresses enter the hash.
    pub address_order: AddressOrder,
    /// How a frame reaches every node.
    pub delivery: Delivery,
    /// The cluster MAC: a group address exactly with [`Delivery::Multicast`].
    pub mac: MacAddr,
    /// Whether an XDP program drops early.
    pub accelerate: Acceleration,
    /// The UDP port of the VIP on which beats arrive. No UDP service of the VIP lies on it.
    pub beat_port: u16,
    /// What is served there, sorted by protocol and port, without overlap; at least one (SSH when the file has none).
    pub services: Vec<VipService>,
    /// What becomes of packets that none of the services wants.
    pub other: Other,
    /// Sources for which something else counts, sorted by network, each network once.
    pub sources: Vec<SourceRule>,
}

/// Sources for which something else counts than for all others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceRule {
    /// Which; of several that contain a source the longest counts.
    pub network: Prefix,
    /// What counts.
    pub steering: Steering,
}

/// What counts for a [`SourceRule`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Steering {
    /// Another hash mode.
    Hash(HashMode),
    /// This node, as long as it serves the VIP.
    Pin(NodeId),
}

/// How a frame for the VIP reaches every node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Delivery {
    /// The cluster MAC is a group address.
    #[default]
    Multicast,
    /// The cluster MAC is a unicast address from which nobody ever sends, so switches flood it.
    Flood,
}

/// Whether an XDP program drops what the authority would certainly drop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Acceleration {
    /// No XDP program.
    #[default]
    Off,
    /// In the driver.
    Xdp,
    /// In the generic path, for drivers without XDP.
    XdpGeneric,
}

/// A port, or a range of ports, that a VIP serves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VipService {
    /// TCP or UDP.
    pub transport: Transport,
    /// The ports, 1 to 65535, not empty.
    pub ports: RangeInclusive<u16>,
    /// What of a source selects the bucket of its packets: the VIP's mode unless the file says otherwise.
    pub hash: HashMode,
    /// Who answers. [`Answerer::Socket`] only with UDP.
    pub answerer: Answerer,
    /// How many connections a source may open; only with TCP.
    pub limit: Option<Limit>,
    /// Into how many slices its ports are dealt where sockets answer: a power of two, no less than any node's number. 1
    /// elsewhere.
    pub slices: u8,
    /// What health asks of it; `None`: whatever it takes to find the `sshd` among the services.
    pub check: Option<ServiceCheck>,
}

/// What health asks of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServiceCheck {
    /// It is the `sshd` that `[health]` is about.
    Sshd,
    /// Nothing: it is no `sshd`.
    None,
}

/// A host of the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Its name as its hostname, unique without regard to case.
    pub name: String,
    /// Its number, unique.
    pub id: NodeId,
    /// Its own addresses: one IPv4, one IPv6, or one of each. Unicast, unique, never a VIP.
    pub addresses: Vec<IpAddr>,
    /// Its share of the buckets relative to the others', 0 to 10000. 0: it claims nothing, but serves what it holds.
    pub weight: u16,
}

impl Config {
    /// The node of this number.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// The node of this name, upper and lower case alike as in hostnames.
    pub fn node_by_name(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name.eq_ignore_ascii_case(name))
    }

    /// The VIP of this name.
    pub fn vip(&self, name: &str) -> Option<&Vip> {
        self.vips.iter().find(|vip| vip.name == name)
    }

    /// The nodes that serve `vip`, by ascending number.
    pub fn nodes_of<'a>(&'a self, vip: &'a Vip) -> impl Iterator<Item = &'a Node> + Clone {
        self.nodes.iter().filter(|node| vip.nodes.contains(node.id))
    }

    /// Who owns which bucket of `vip` when all its nodes are alive and weigh what the file says.
    pub fn full_table(&self, vip: &Vip) -> Table {
        let nodes: Vec<(NodeId, Weight)> = self
            .nodes_of(vip)
            .map(|node| (node.id, Weight::new(vip.weight_of(node)).unwrap_or(Weight::NORMAL)))
            .collect();
        Table::compute_reserved(&nodes, vip.seed, vip.layout(), &vip.reserve())
    }
}

impl Vip {
    /// What a node weighs here.
    pub fn weight_of(&self, node: &Node) -> u16 {
        self.weights.get(&node.id).copied().unwrap_or(node.weight)
    }

    /// What decides on a packet to this VIP, on this node: as [`Vip::selector`], with the node's slices.
    pub fn selector_of(&self, node: NodeId) -> Selector {
        let mut selector = self.selector();
        for (made, service) in selector.services.iter_mut().zip(&self.services) {
            if let (Answerer::Socket(_), Some(slice)) = (made.answerer, Slice::of(node, service.slices)) {
                made.answerer = Answerer::Socket(slice);
            }
        }
        selector
    }

    /// What decides the bucket of a packet to this VIP.
    pub fn selector(&self) -> Selector {
        let services = self.services.iter().map(|service| Service {
            transport: service.transport,
            ports: service.ports.clone(),
            mode: service.hash,
            answerer: service.answerer,
            limit: service.limit.clone(),
        });
        let reserve = self.reserve();
        let exceptions = self.sources.iter().map(|source| Exception {
            network: source.network,
            instead: match source.steering {
                Steering::Hash(mode) => Instead::Hash(mode),
                Steering::Pin(node) => Instead::Buckets(reserve.buckets(node).to_vec()),
            },
        });
        Selector {
            hasher: self.hasher(),
            services: services.collect(),
            other: self.other,
            exceptions: exceptions.collect(),
        }
    }

    /// The nodes that anything is pinned to.
    pub fn pinned(&self) -> NodeSet {
        let pinned = self.sources.iter().filter_map(|source| match source.steering {
            Steering::Hash(_) => None,
            Steering::Pin(node) => Some(node),
        });
        pinned.collect()
    }

    /// What the table reserves for them.
    pub fn reserve(&self) -> Reserve {
        Reserve::of(self.pinned(), self.seed, self.layout())
    }

    /// What decides the bucket of a source where no service has its own way.
    pub fn hasher(&self) -> Hasher {
        let blocks = match self.mapping {
            Mapping::Balanced => None,
            Mapping::ClusterIp => Some(self.nodes.len() as u8),
        };
        Hasher { mode: self.hash, seed: self.seed, order: self.address_order, blocks }
    }

    /// The word of the file for its hash mode.
    pub const fn hash_word(&self) -> &'static str {
        let word = match self.hash {
            HashMode::SourceIp => HashWord::Ip,
            HashMode::SourceIpPort => HashWord::IpPort,
            HashMode::SourceIpPortDestPort => HashWord::IpPortDestPort,
            HashMode::SourceNet { .. } => HashWord::Net,
        };
        word.as_str()
    }

    /// How the table lays the buckets of this VIP out.
    pub fn layout(&self) -> Layout {
        self.mapping.layout(self.nodes.len())
    }

    /// Its IPv4 addresses, in the order of the file.
    pub fn v4(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        self.addresses.iter().filter_map(|address| match address {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        })
    }

    /// Its IPv6 addresses, in the order of the file.
    pub fn v6(&self) -> impl Iterator<Item = Ipv6Addr> + '_ {
        self.addresses.iter().filter_map(|address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(*v6),
        })
    }
}

impl Node {
    /// Its own IPv4 address.
    pub fn v4(&self) -> Option<Ipv4Addr> {
        self.addresses.iter().find_map(|address| match address {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        })
    }

    /// Its own IPv6 address.
    pub fn v6(&self) -> Option<Ipv6Addr> {
        self.addresses.iter().find_map(|address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(*v6),
        })
    }
}

words!(Membership { Static = "static", Living = "living" });
words!(Delivery { Multicast = "multicast", Flood = "flood" });
words!(Acceleration { Off = "off", Xdp = "xdp", XdpGeneric = "xdp-generic" });
words!(ServiceCheck { Sshd = "sshd", None = "none" });
words!(RemoteDrain { Allow = "allow", Refuse = "refuse" });

impl std::fmt::Display for VipService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let protocol = self.transport.as_str();
        let (first, last) = (self.ports.start(), self.ports.end());
        if first == last { write!(f, "{protocol} {first}") } else { write!(f, "{protocol} {first}-{last}") }
    }
}
