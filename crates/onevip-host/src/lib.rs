//! The VIP on this host: address, cluster MAC, ARP settings; put there, kept there, taken away again.
//!
//! What is wanted is described by a [`VipSetup`]; [`VipSetup::ensure`] makes it so, whether for the first time or because
//! somebody undid it. Every change goes through the [`journal`], so that `teardown` leaves the host as it was.
//! Programs and their maps are not handled here but in `onevip-bpf`.

pub mod address;
pub mod announcement;
pub mod arp;
pub mod bounded;
pub mod cgroup;
pub mod cluster_mac;
pub mod descriptors;
pub mod frames;
pub mod journal;
pub mod link_activity;
pub mod nd;
pub mod neighbours;
pub mod netlink;
pub mod others;
mod packet_socket;
pub mod probe;
pub mod programs;
pub mod realtime;
pub mod reset;
pub mod run_dir;
pub mod sockets;
pub mod talkers;

use address::Address;
use anyhow::{Context, bail};
use cluster_mac::Way;
use journal::{Change, Journal};
use netlink::{Link, Netlink};
use onevip_core::MacAddr;
use std::io;
use std::net::IpAddr;

/// Something that was not as it must be on this host, and is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    what: String,
    /// How it had been, where it was there.
    was: Option<String>,
}

impl Repair {
    fn missing(what: String) -> Self {
        Self { what, was: None }
    }

    /// In words for the log, when a daemon starts.
    pub fn at_start(&self) -> String {
        match &self.was {
            None => format!("set up {}", self.what),
            Some(was) => {
                format!("set up {}, which was there as {was}; `onevip teardown` removes it", self.what)
            }
        }
    }

    /// In words for the log, when it had been right before.
    pub fn later(&self) -> String {
        match &self.was {
            None => format!("somebody removed {}; it is back", self.what),
            Some(was) => format!("somebody made {} {was}; it is as it must be again", self.what),
        }
    }
}

/// What one VIP needs on its interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipSetup {
    /// Name of the interface.
    pub interface: String,
    /// The VIP's addresses.
    pub addresses: Vec<IpAddr>,
    /// The cluster MAC.
    pub cluster_mac: [u8; 6],
}

impl VipSetup {
    /// Makes sure of everything and returns what had been missing or otherwise.
    ///
    /// # Errors
    /// The interface is gone, or the kernel refuses a change.
    pub fn ensure(&self, netlink: &mut Netlink, journal: &mut Journal) -> anyhow::Result<Vec<Repair>> {
        let link = find_link(netlink, &self.interface)?;
        let mut missing = Vec::new();
        // The kernel would otherwise name the VIP as the sender when it asks for a client's or the gateway's MAC.
        let arp_announce = self.arp_announce();
        if self.addresses.iter().any(IpAddr::is_ipv4) && journal::set_sysctl(journal, &arp_announce, "2")? {
            missing.push(Repair::missing(format!("setting {arp_announce} = 2")));
        }
        if self.ensure_mac(netlink, journal)? {
            let mac = format!("cluster MAC {} on {}", MacAddr(self.cluster_mac), self.interface);
            missing.push(Repair::missing(mac));
        }
        let present = netlink.addresses().context("cannot list the addresses of this host")?;
        for &address in &self.addresses {
            let here: Vec<&Address> = present.iter().filter(|known| known.ip == address).collect();
            missing.extend(self.ensure_address(&link, address, &here, netlink, journal)?);
        }
        Ok(missing)
    }

    /// Makes sure that a VIP is on the interface exactly as it has to be, and nowhere else on this host; `here` is how it
    /// is now. Its sessions live on: no kernel ends them with an address, and for an instant without it segments are lost.
    fn ensure_address(
        &self,
        link: &Link,
        address: IpAddr,
        here: &[&Address],
        netlink: &mut Netlink,
        journal: &mut Journal,
    ) -> anyhow::Result<Option<Repair>> {
        let wanted = Address::vip(link.index, address);
        let (right, wrong): (Vec<&Address>, Vec<&Address>) =
            here.iter().partition(|known| known.link == link.index && known.is_as_vip());
        let names = if wrong.is_empty() { Vec::new() } else { netlink.links()? };
        let name = |index| names.iter().find(|link| link.index == index).map(|link| link.name.as_str());
        let states =
            wrong.iter().filter_map(|wrong| Some(format!("{} on {}", wrong.state(), name(wrong.link)?)));
        let was = Some(states.collect::<Vec<_>>().join(", ")).filter(|states| !states.is_empty());
        // Also of one that an earlier release found as it is: it would answer alone after a teardown.
        let interface = self.interface.clone();
        let was_ours = journal.addresses().contains(&address);
        let before = was.clone().filter(|_| !was_ours);
        journal.note(Change::Address { interface, address, was: before })?;
        for wrong in &wrong {
            let Some(interface) = name(wrong.link) else { continue };
            netlink.remove_address(interface, wrong).with_context(|| {
                format!("cannot remove {address} ({}) from interface {interface}", wrong.state())
            })?;
        }
        if right.is_empty() {
            match netlink.add_address(&wanted) {
                // Somebody was faster; how, the next look finds.
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    let interface = &self.interface;
                    return Err(error)
                        .with_context(|| format!("cannot add {address} to interface {interface}"));
                }
                _ => {}
            }
        }
        Ok((right.is_empty() || !wrong.is_empty())
            .then(|| Repair { what: format!("address {address} on {}", self.interface), was }))
    }

    /// The setting, if any, by which the kernel does not answer ARP for the VIP: `arp_ignore` is 8, or 3 (no answer for
    /// addresses of its scope). The greater one of the interface's own and that of `all` is in force. What we set while the
    /// interface bore no VIP counts as it was: it is undone.
    pub fn silenced_by(&self, journal: &Journal) -> Option<String> {
        let settings =
            ["all", self.interface.as_str()].map(|name| format!("net/ipv4/conf/{name}/arp_ignore"));
        let value = |key: &str| journal.before(key).or_else(|| journal::read_sysctl(key));
        let (value, key) = settings.iter().map(|key| (value(key).unwrap_or(0), key)).max()?;
        let silent = self.addresses.iter().any(IpAddr::is_ipv4) && matches!(value, 3 | 8);
        silent.then(|| format!("{key} = {value}"))
    }

    fn arp_announce(&self) -> String {
        format!("net/ipv4/conf/{}/arp_announce", self.interface)
    }

    /// Whether it needs this change of the host, so that it must not be undone.
    pub fn needs(&self, change: &Change) -> bool {
        match change {
            Change::Address { interface, address, .. } => {
                *interface == self.interface && self.addresses.contains(address)
            }
            Change::Mac { interface, mac } => *interface == self.interface && *mac == self.cluster_mac,
            Change::Promiscuous { interface } => {
                *interface == self.interface && !MacAddr(self.cluster_mac).is_multicast()
            }
            Change::Sysctl { key, .. } => *key == self.arp_announce(),
        }
    }

    /// Makes sure of the cluster MAC; true when it had been missing.
    fn ensure_mac(&self, netlink: &mut Netlink, journal: &mut Journal) -> anyhow::Result<bool> {
        let (interface, mac) = (&self.interface, self.cluster_mac);
        let failed = || format!("cannot join {} on interface {interface}", MacAddr(mac));
        if cluster_mac::is_joined(netlink, interface, mac).with_context(failed)? {
            return Ok(false);
        }
        let promiscuous = Change::Promiscuous { interface: interface.clone() };
        journal.note(match cluster_mac::way(netlink, interface, mac).with_context(failed)? {
            Way::Listed => Change::Mac { interface: interface.clone(), mac },
            Way::Promiscuous => promiscuous.clone(),
        })?;
        match cluster_mac::join(netlink, interface, mac) {
            Err(error) if cluster_mac::has_no_list(&error, mac) => {
                journal.note(promiscuous)?;
                cluster_mac::unicast::set_promiscuous(interface, true).with_context(failed)?;
            }
            joined => joined.with_context(failed)?,
        }
        Ok(true)
    }

    /// Joins the cluster MAC whether it is missing or not: a system call or two, where asking first would mean to read a
    /// listing of all interfaces.
    ///
    /// # Errors
    /// The interface is gone, or the kernel refuses.
    pub fn rejoin_mac(&self, netlink: &mut Netlink) -> anyhow::Result<()> {
        cluster_mac::join(netlink, &self.interface, self.cluster_mac).with_context(|| {
            format!("cannot join {} on interface {}", MacAddr(self.cluster_mac), self.interface)
        })
    }
}

/// The interface of this name, be it the first name or an alternative one.
///
/// # Errors
/// There is none; the message lists those there are.
pub fn find_link(netlink: &mut Netlink, name: &str) -> anyhow::Result<Link> {
    let links = netlink.links().context("cannot list the interfaces of this host")?;
    if let Some(link) = links.iter().find(|link| link.is_called(name)) {
        return Ok(link.clone());
    }
    let names: Vec<_> = links.iter().map(|link| link.name.as_str()).collect();
    bail!("interface {name} (vip.interface) does not exist; this host has: {}", names.join(", "))
}

/// The interface for a VIP: the named one, else the one in whose network the address lies, else the one through which
/// the routing table would send a packet for it.
///
/// # Errors
/// The named interface does not exist, or nothing leads to the address.
pub fn resolve_interface(netlink: &mut Netlink, named: Option<&str>, vip: IpAddr) -> anyhow::Result<Link> {
    if let Some(name) = named {
        return find_link(netlink, name);
    }
    let addresses = netlink.addresses().context("cannot list the addresses of this host")?;
    let on_link = addresses
        .iter()
        .filter(|address| address.ip != vip && address.network_contains(vip))
        .max_by_key(|address: &&Address| address.prefix_len)
        .map(|address| address.link);
    let index = match on_link {
        Some(index) => Some(index),
        None => netlink.route_to(vip).with_context(|| format!("cannot look up the route to {vip}"))?,
    };
    let links = netlink.links().context("cannot list the interfaces of this host")?;
    links.into_iter().find(|link| Some(link.index) == index).with_context(|| {
        format!("no interface of this host has a network that contains {vip}; name one with vip.interface")
    })
}
