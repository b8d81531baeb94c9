//! What a lab consists of, worked out before anything is touched: names, addresses, paths.
//!
//! Pure functions of the options, so that `down` can derive from a name alone what `up` may have made. Nothing here
//! speaks to the kernel; `lab.rs` carries a plan out.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// Most nodes a lab can have: their addresses lie between the VIP and the clients.
pub const NODES_MAX: u8 = 16;
/// Most addresses of `client`; those of `client2` follow.
pub const CLIENTS_MAX: u8 = 130;
/// Addresses of `client2`, the smaller client that exists so that both sides of a split have somebody to serve.
pub const CLIENTS2: u8 = 16;
/// Longest name of a lab: with it, the path of a node's control socket still fits a Unix socket address.
pub const NAME_MAX: usize = 32;

/// Last octet (and last group) of the VIP.
const VIP_HOST: u8 = 10;
/// Node `unixK` has this plus K.
const NODES_FROM: u8 = 10;
/// The k-th address (from 0) of `client`.
const CLIENT_FROM: u8 = 101;
/// The k-th address (from 0) of `client2`.
const CLIENT2_FROM: u8 = CLIENT_FROM + CLIENTS_MAX;

/// Where all labs live.
pub const ROOT: &str = "/run/onevip-lab";
/// Where `ip netns` keeps its names.
pub const NETNS_DIR: &str = "/run/netns";

/// `198.51.100.host` (TEST-NET-2 of RFC 5737).
pub const fn v4(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, host)
}

/// `2001:db8::host` (RFC 3849), written with the same digits as the IPv4 address: `.11` goes with `::11`.
pub fn v6(host: u8) -> Ipv6Addr {
    let digits_as_hex = u16::from(host / 100) << 8 | u16::from(host / 10 % 10) << 4 | u16::from(host % 10);
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, digits_as_hex)
}

/// The IPv4 VIP of the generated configuration.
pub const fn vip4() -> Ipv4Addr {
    v4(VIP_HOST)
}

/// The IPv6 VIP of the generated configuration.
pub fn vip6() -> Ipv6Addr {
    v6(VIP_HOST)
}

/// The cluster MAC that goes with a VIP by default: `01:00:5e` and the low 23 bits of its first IPv4 address, as
/// RFC 1112 §6.4 maps groups; for a VIP without one `33:33` and the low 32 bits of its first address (RFC 2464 §7).
pub fn multicast_mac(vip: &[IpAddr]) -> String {
    let v4 =
        vip.iter().find_map(|address| if let IpAddr::V4(v4) = address { Some(v4.octets()) } else { None });
    let v6 =
        vip.iter().find_map(|address| if let IpAddr::V6(v6) = address { Some(v6.octets()) } else { None });
    match (v4, v6) {
        (Some([_, b, c, d]), _) => format!("01:00:5e:{:02x}:{c:02x}:{d:02x}", b & 0x7f),
        (None, Some([.., a, b, c, d])) => format!("33:33:{a:02x}:{b:02x}:{c:02x}:{d:02x}"),
        (None, None) => String::new(),
    }
}

/// One machine of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// `unix1` … `unix16`: a node with `sshd` and the daemon.
    Node(u8),
    /// `client`: has all the client addresses on one interface.
    Client,
    /// `client2`: a second, smaller client on a port of its own (see the fault `split`).
    Client2,
    /// `switch`: the bridge between them.
    Switch,
}

impl Host {
    /// The node's number, if it is one.
    pub fn node_id(self) -> Option<u8> {
        match self {
            Host::Node(id) => Some(id),
            Host::Client | Host::Client2 | Host::Switch => None,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Node(id) => write!(f, "unix{id}"),
            Host::Client => f.write_str("client"),
            Host::Client2 => f.write_str("client2"),
            Host::Switch => f.write_str("switch"),
        }
    }
}

impl FromStr for Host {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let node = name.strip_prefix("unix").filter(|digits| !digits.starts_with(['0', '+']));
        match (name, node.and_then(|digits| digits.parse().ok())) {
            ("client", _) => Ok(Host::Client),
            ("client2", _) => Ok(Host::Client2),
            ("switch", _) => Ok(Host::Switch),
            (_, Some(id)) if (1..=NODES_MAX).contains(&id) => Ok(Host::Node(id)),
            _ => bail!("there is no host {name:?} in a lab; use unix1, unix2, …, client, client2 or switch"),
        }
    }
}

/// The name of a lab, checked: it becomes part of paths and of namespace names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// As given by the user.
    ///
    /// # Errors
    /// When it is empty, longer than [`NAME_MAX`], or has anything but `a-z`, `0-9`, `-` and `_`, or begins with `-`.
    pub fn new(name: &str) -> Result<Self> {
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        ensure!(
            !name.is_empty() && name.len() <= NAME_MAX && name.chars().all(fine) && !name.starts_with('-'),
            "{name:?} cannot name a lab: use 1 to {NAME_MAX} of a-z, 0-9, - and _, not beginning with -"
        );
        Ok(Self(name.to_owned()))
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The lab's directory; everything that is a file is below it.
    pub fn dir(&self) -> PathBuf {
        Path::new(ROOT).join(&self.0)
    }

    /// A host's network namespace, a name that `ip netns exec` takes.
    pub fn netns(&self, host: Host) -> String {
        format!("ov-{}-{host}", self.0)
    }

    /// The lab and host that a namespace belongs to, if it has the shape of [`Name::netns`].
    pub fn of_netns(netns: &str) -> Option<(Self, Host)> {
        let (name, host) = netns.strip_prefix("ov-")?.rsplit_once('-')?;
        Some((Self::new(name).ok()?, host.parse().ok()?))
    }

    /// The files of one node.
    pub fn node_dir(&self, id: u8) -> PathBuf {
        self.dir().join(format!("nodes/unix{id}"))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = anyhow::Error;

    fn try_from(name: String) -> Result<Self> {
        Self::new(&name)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

/// A lab's shape: what `up` builds, and what is written down for the commands that come after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabPlan {
    /// What the lab is called.
    pub name: Name,
    /// Number of nodes, 1..=[`NODES_MAX`].
    pub nodes: u8,
    /// Number of addresses of `client`, 1..=[`CLIENTS_MAX`].
    pub clients: u8,
    /// Whether the daemon is part of the lab.
    pub onevip: bool,
    /// Whether the generated configuration has living membership.
    #[serde(default)]
    pub living: bool,
    /// Whether every node runs the lab's echo service.
    #[serde(default)]
    pub echo: bool,
}

impl LabPlan {
    /// Checks the ranges. Membership is living, and there is no echo service.
    ///
    /// # Errors
    /// When the name or a number is out of range.
    pub fn new(name: &str, nodes: usize, clients: usize, onevip: bool) -> Result<Self> {
        let in_range = |what: &str, n: usize, max: u8| {
            let fits = u8::try_from(n).ok().filter(|n| (1..=max).contains(n));
            fits.with_context(|| {
                format!("--{what} {n} is out of range: a lab has 1 to {max} (one /24 holds no more)")
            })
        };
        let nodes = in_range("nodes", nodes, NODES_MAX)?;
        let clients = in_range("clients", clients, CLIENTS_MAX)?;
        Ok(Self { name: Name::new(name)?, nodes, clients, onevip, living: true, echo: false })
    }

    /// The nodes' numbers, 1..=N.
    pub fn node_ids(&self) -> impl Iterator<Item = u8> + use<> {
        1..=self.nodes
    }

    /// Every host but the switch.
    pub fn stations(&self) -> Vec<Host> {
        self.node_ids().map(Host::Node).chain([Host::Client, Host::Client2]).collect()
    }

    /// A host's last octets, in order; the first is its main address. The switch has none.
    pub fn host_numbers(&self, host: Host) -> Vec<u8> {
        match host {
            Host::Node(id) => vec![NODES_FROM + id],
            Host::Client => (CLIENT_FROM..CLIENT_FROM + self.clients).collect(),
            Host::Client2 => (CLIENT2_FROM..CLIENT2_FROM + CLIENTS2).collect(),
            Host::Switch => vec![],
        }
    }

    /// A host's IPv4 addresses.
    pub fn addresses4(&self, host: Host) -> Vec<Ipv4Addr> {
        self.host_numbers(host).into_iter().map(v4).collect()
    }

    /// A host's IPv6 addresses.
    pub fn addresses6(&self, host: Host) -> Vec<Ipv6Addr> {
        self.host_numbers(host).into_iter().map(v6).collect()
    }

    /// A station's own MAC: readable, and the same in every lab (they never meet).
    pub fn mac(host: Host) -> String {
        match host {
            Host::Node(id) => format!("02:00:00:00:01:{id:02x}"),
            Host::Client => "02:00:00:00:02:01".into(),
            Host::Client2 => "02:00:00:00:02:02".into(),
            Host::Switch => "02:00:00:00:00:01".into(),
        }
    }

    /// Another MAC for a host's interface, which tells as well whose it is: the fault `other-mac`.
    pub fn other_mac(host: Host) -> String {
        Self::mac(host).replacen("02:00:00:00", "02:00:00:99", 1)
    }

    /// The host named so, if this lab has it.
    ///
    /// # Errors
    /// When the name is no host's, or a node's beyond this lab's number of nodes.
    pub fn host(&self, name: &str) -> Result<Host> {
        let host: Host = name.parse()?;
        if let Host::Node(id) = host {
            ensure!(
                id <= self.nodes,
                "lab {} has no {name}: its nodes are unix1 to unix{}",
                self.name,
                self.nodes
            );
        }
        Ok(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_never_collide() {
        let plan = LabPlan::new("lab", NODES_MAX.into(), CLIENTS_MAX.into(), true).unwrap();
        let mut all: Vec<_> = plan.stations().into_iter().flat_map(|h| plan.addresses4(h)).collect();
        all.push(vip4());
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(all.iter().all(|a| (1..=254).contains(&a.octets()[3])));
    }

    #[test]
    fn both_families_show_the_same_digits() {
        assert_eq!(v4(231).to_string(), "198.51.100.231");
        assert_eq!(v6(231).to_string(), "2001:db8::231");
        assert_eq!(v6(11).to_string(), "2001:db8::11");
    }

    #[test]
    fn the_cluster_mac_keeps_23_bits_of_the_vip() {
        assert_eq!(multicast_mac(&[vip4().into()]), "01:00:5e:33:64:0a");
        assert_eq!(
            multicast_mac(&[v6(100).into(), Ipv4Addr::new(10, 200, 1, 2).into()]),
            "01:00:5e:48:01:02"
        );
        assert_eq!(multicast_mac(&["2001:db8::12:3456".parse().unwrap()]), "33:33:00:12:34:56");
    }

    #[test]
    fn host_names_are_read_back() {
        for host in [Host::Node(1), Host::Node(16), Host::Client, Host::Client2, Host::Switch] {
            assert_eq!(host.to_string().parse::<Host>().unwrap(), host);
        }
        for wrong in ["unix", "unix0", "unix17", "unix01", "unix+1", "router", ""] {
            assert!(wrong.parse::<Host>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_namespace_tells_whose_it_is_also_when_the_name_has_dashes() {
        let name = Name::new("lab-x").unwrap();
        let netns = name.netns(Host::Node(3));
        assert_eq!(netns, "ov-lab-x-unix3");
        assert_eq!(Name::of_netns(&netns), Some((name, Host::Node(3))));
        for foreign in ["ov-unix1", "ovs-lab-unix1", "ov-lab-router", "ov--unix1", "other"] {
            assert_eq!(Name::of_netns(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn names_that_would_leave_the_directory_are_refused() {
        for wrong in ["", "..", "a/b", "Lab", "-x", "a b", &"x".repeat(NAME_MAX + 1)] {
            assert!(Name::new(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn ranges_are_checked_with_a_reason() {
        let message = LabPlan::new("lab", 17, 60, true).unwrap_err().to_string();
        assert!(message.contains("--nodes 17") && message.contains("1 to 16"), "{message}");
        assert!(LabPlan::new("lab", 0, 60, true).is_err());
        assert!(LabPlan::new("lab", 4, 131, true).is_err());
    }
}
