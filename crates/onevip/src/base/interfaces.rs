//! The interfaces that bear the VIPs, as they are now.
//!
//! Nothing about an interface is constant: while the daemon runs it may be deleted and made anew with another index
//! (`netplan apply`, a VLAN or bond that is created again), get another MAC (a bond that fails over, a bridge that loses a
//! port), go down, or lose its addresses. The reconciler hears of it and writes down here what is true now; threads that
//! may wait find it here.

use super::plan::{Plan, VipPlan};
use anyhow::{Context, bail};
use onevip_host::frames::{Ends, Route};
use onevip_host::netlink::Link;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is true now of each VIP's interface, by index of the VIP.
#[derive(Debug)]
pub struct Interfaces(Mutex<Vec<Interface>>);

/// The interface of one VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its index.
    pub index: u32,
    /// Its own MAC.
    pub mac: Option<[u8; 6]>,
    /// The ways of beats and messages; none with fixed nodes.
    pub routes: Vec<Route>,
    /// Why it cannot be used, if so.
    pub trouble: Option<String>,
}

impl Interfaces {
    /// As the plan found them.
    ///
    /// # Errors
    /// With living membership: a node without an address of its own to beat from.
    pub fn of(plan: &Plan, living: bool) -> anyhow::Result<Self> {
        let interface = |vip| {
            let routes = if living { routes(plan, vip)? } else { Vec::new() };
            Ok(Interface { index: vip.link.index, mac: vip.link.mac, routes, trouble: trouble(&vip.link) })
        };
        Ok(Self(Mutex::new(plan.vips.iter().map(interface).collect::<anyhow::Result<_>>()?)))
    }

    /// Why a VIP's interface cannot be used now; `None` where it can.
    pub fn trouble(&self, vip: usize) -> Option<String> {
        self.lock().get(vip)?.trouble.clone()
    }

    /// The ways of a VIP's beats and messages.
    pub fn routes(&self, vip: usize) -> Vec<Route> {
        self.lock().get(vip).map_or_else(Vec::new, |interface| interface.routes.clone())
    }

    /// The own MAC of the interface with this index, if it bears a VIP.
    pub fn mac_of(&self, index: u32) -> Option<[u8; 6]> {
        self.lock().iter().find(|interface| interface.index == index)?.mac
    }

    /// How the interface of a VIP of the plan was last written down.
    pub fn get(&self, vip: usize) -> Option<Interface> {
        self.lock().get(vip).cloned()
    }

    /// Writes down how it is now.
    pub fn set(&self, vip: usize, now: Interface) {
        if let Some(interface) = self.lock().get_mut(vip) {
            *interface = now;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Interface>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why frames cannot pass an interface, in words; `None` when they can, as far as this host knows.
pub fn trouble(link: &Link) -> Option<String> {
    let name = &link.name;
    match link {
        Link { mac: None, .. } => Some(format!("interface {name} has no Ethernet address")),
        Link { up: false, .. } => Some(format!("interface {name} is down")),
        Link { carrier: false, .. } => Some(format!("interface {name} has no carrier")),
        _ => None,
    }
}

/// The words for an interface that is missing.
pub fn not_there(name: &str) -> String {
    format!("interface {name} is not there")
}

/// One way for each address of the VIP.
///
/// # Errors
/// The node has no address of the VIP's family, or its interface none at all.
pub fn routes(plan: &Plan, vip: &VipPlan) -> anyhow::Result<Vec<Route>> {
    let Some(own_mac) = vip.link.mac else {
        bail!("interface {} has no Ethernet address", vip.link.name);
    };
    let route = |address: IpAddr| {
        let own = vip.own_for(address).with_context(|| {
            format!(
                "node {} has no address of its own on {} from which it could beat to {address} (vip {}): give it one of \
                 that family",
                plan.node.name, vip.link.name, vip.vip.name
            )
        })?;
        let ends = match (own, address) {
            (IpAddr::V4(own), IpAddr::V4(vip)) => Ends::V4 { own, vip },
            (IpAddr::V6(own), IpAddr::V6(vip)) => Ends::V6 { own, vip },
            _ => bail!("{own} and {address} are of two families"),
        };
        let (link, cluster_mac, port) = (vip.link.index, vip.vip.mac.0, vip.vip.beat_port);
        Ok(Route { link, own_mac, cluster_mac, ends, port })
    };
    vip.vip.addresses.iter().copied().map(route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_an_interface_is_named() {
        let link = Link {
            index: 2,
            name: "eth0".into(),
            altnames: Vec::new(),
            mac: Some([2; 6]),
            mtu: Some(1500),
            up: true,
            carrier: true,
            kind: None,
            speaks_arp: true,
            master: None,
        };
        assert_eq!(trouble(&link), None);
        let off = Link { carrier: false, ..link.clone() };
        assert_eq!(trouble(&off).as_deref(), Some("interface eth0 has no carrier"));
        assert_eq!(trouble(&Link { up: false, ..off }).as_deref(), Some("interface eth0 is down"));
    }
}
