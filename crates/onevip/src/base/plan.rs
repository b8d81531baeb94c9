//! What this host has to do, worked out once from the configuration: which VIPs, on which interface, under which hash.
//!
//! A plan touches nothing. `run` carries it out, `status` and `teardown` read from it what to look at.

use anyhow::{Context, bail};
use onevip_bpf::{KernelConfig, VipConfig};
use onevip_config::{Acceleration, Config, Node, Vip};
use onevip_core::membership::Timing;
use onevip_host::VipSetup;
use onevip_host::address::Address;
use onevip_host::netlink::{Link, Netlink};
use onevip_host::resolve_interface;
use std::net::IpAddr;

/// Everything this host has to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// This host.
    pub node: Node,
    /// The VIPs that it serves; the place in this list is the VIP's index in the kernel part.
    pub vips: Vec<VipPlan>,
    /// How long an orphan waits before it is reset: follows from the beat time.
    orphan_wait_ms: u16,
    /// The addresses of all VIPs of the file: never a node's own.
    shared: Vec<IpAddr>,
}

/// One VIP on this host.
#[derive(Clone, Debug)]
pub struct VipPlan {
    /// What the configuration says of it.
    pub vip: Vip,
    /// The interface that bears it.
    pub link: Link,
    /// The node's own addresses there, at most one of each family.
    pub own: Vec<IpAddr>,
}

impl Plan {
    /// Works out what `node` has to do.
    ///
    /// # Errors
    /// The node serves no VIP, or an interface is missing, down, or not Ethernet.
    pub fn new(config: &Config, node: &Node) -> anyhow::Result<Self> {
        Self::with(config, node, vip_link)
    }

    /// For commands that look at this host: an interface that is missing or down is no error, but what they are asked
    /// about. One that is missing has the index 0.
    ///
    /// # Errors
    /// The node serves no VIP.
    pub fn to_look_at(config: &Config, node: &Node) -> anyhow::Result<Self> {
        Self::with(config, node, |netlink, vip| {
            let first = *vip.addresses.first().context("has no address")?;
            let found = resolve_interface(netlink, vip.interface.as_deref(), first);
            Ok(found.unwrap_or_else(|_| missing(vip.interface.as_deref().unwrap_or("(not found)"))))
        })
    }

    fn with(
        config: &Config,
        node: &Node,
        find: impl Fn(&mut Netlink, &Vip) -> anyhow::Result<Link>,
    ) -> anyhow::Result<Self> {
        let mut netlink = Netlink::open().context("cannot talk to the kernel over netlink")?;
        let served = config.vips.iter().filter(|vip| vip.nodes.contains(node.id));
        let shared: Vec<IpAddr> = config.vips.iter().flat_map(|vip| vip.addresses.clone()).collect();
        let vips = served
            .map(|vip| {
                let link = find(&mut netlink, vip).with_context(|| format!("vip {}", vip.name))?;
                let present = netlink.addresses().context("cannot list the addresses of this host")?;
                let own = own_addresses(node, &link, &present, &shared);
                Ok(VipPlan { vip: vip.clone(), link, own })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        if vips.is_empty() {
            bail!("node {} serves no VIP: no `nodes` list of any [[vip]] names it", node.name);
        }
        // The beat time is at most a second, so this fits.
        let orphan_wait_ms = Timing::new(config.beat).orphan_wait.as_millis() as u16;
        Ok(Self { node: node.clone(), vips, orphan_wait_ms, shared })
    }

    /// The interface of a VIP is now like this.
    pub fn place(&mut self, vip: usize, link: &Link, present: &[Address]) {
        let own = own_addresses(&self.node, link, present, &self.shared);
        let plan = &mut self.vips[vip];
        (plan.link, plan.own) = (link.clone(), own);
    }

    /// Whether it is an address of a VIP, of this node or not.
    pub fn is_shared(&self, address: IpAddr) -> bool {
        self.shared.contains(&address)
    }

    /// What the programs have to know.
    pub fn kernel_config(&self) -> KernelConfig {
        let vips = self.vips.iter().map(|plan| VipConfig {
            addresses: plan.vip.addresses.clone(),
            selector: plan.vip.selector_of(self.node.id),
            beat_port: plan.vip.beat_port,
            cluster_mac: plan.vip.mac.0,
            orphan_wait_ms: self.orphan_wait_ms,
        });
        KernelConfig { vips: vips.collect() }
    }

    /// Each interface once, with how its packets are to be dropped early.
    pub fn attachments(&self) -> Vec<(String, Acceleration)> {
        let mut wanted: Vec<(String, Acceleration)> = Vec::new();
        for plan in &self.vips {
            match wanted.iter_mut().find(|(name, _)| *name == plan.link.name) {
                None => wanted.push((plan.link.name.clone(), plan.vip.accelerate)),
                Some((_, accelerate)) if *accelerate == Acceleration::Off => {
                    *accelerate = plan.vip.accelerate
                }
                Some(_) => {}
            }
        }
        wanted
    }
}

impl VipPlan {
    /// What the VIP needs on its interface.
    pub fn setup(&self) -> VipSetup {
        VipSetup {
            interface: self.link.name.clone(),
            addresses: self.vip.addresses.clone(),
            cluster_mac: self.vip.mac.0,
        }
    }
}

impl VipPlan {
    /// The node's own address of the family of this one.
    pub fn own_for(&self, address: IpAddr) -> Option<IpAddr> {
        self.own.iter().copied().find(|own| own.is_ipv4() == address.is_ipv4())
    }
}

/// The node's own address of each family: the one in the file, else one of the interface, rather one that is good
/// beyond the link.
fn own_addresses(node: &Node, link: &Link, present: &[Address], shared: &[IpAddr]) -> Vec<IpAddr> {
    let of_family = |is_family: fn(&IpAddr) -> bool| {
        let on_link = present.iter().filter(|known| known.link == link.index).map(|known| known.ip);
        let on_link = on_link.filter(|ip| !shared.contains(ip)).filter(is_family);
        node.addresses.iter().copied().find(is_family).or_else(|| on_link.min_by_key(is_link_local))
    };
    [IpAddr::is_ipv4, IpAddr::is_ipv6].into_iter().filter_map(of_family).collect()
}

/// Whether an address is good on its link alone.
pub fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn missing(name: &str) -> Link {
    Link {
        index: 0,
        name: name.to_owned(),
        altnames: Vec::new(),
        mac: None,
        mtu: None,
        up: false,
        carrier: false,
        kind: None,
        speaks_arp: true,
        master: None,
    }
}

fn vip_link(netlink: &mut Netlink, vip: &Vip) -> anyhow::Result<Link> {
    let first = *vip.addresses.first().context("has no address")?;
    let link = resolve_interface(netlink, vip.interface.as_deref(), first)?;
    if link.mac.is_none() {
        bail!("interface {} has no Ethernet address; a VIP needs an Ethernet interface", link.name);
    }
    if !link.up {
        bail!("interface {name} is down; `ip link set {name} up` first", name = link.name);
    }
    Ok(link)
}

/// How packets are to be dropped early, in the words of the kernel part.
pub fn early_drop(accelerate: Acceleration) -> onevip_bpf::Accelerate {
    match accelerate {
        Acceleration::Off => onevip_bpf::Accelerate::Off,
        Acceleration::Xdp => onevip_bpf::Accelerate::Xdp,
        Acceleration::XdpGeneric => onevip_bpf::Accelerate::XdpGeneric,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onevip_core::NodeId;

    #[test]
    fn a_node_beats_from_the_address_of_the_file_else_from_one_of_the_interface() {
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
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let node = |addresses: &[&str]| Node {
            name: "unix1".into(),
            id: NodeId::new(1).unwrap(),
            addresses: addresses.iter().map(|text| ip(text)).collect(),
            weight: 100,
        };
        let on = |link, text| Address::new(link, ip(text), 64);
        let present = [
            on(1, "::1"),
            on(2, "fe80::1"),
            on(2, "2001:db8::10"),
            on(2, "2001:db8::21"),
            on(3, "2001:db8::31"),
        ];
        let own = |addresses: &[&str], present: &[Address]| {
            own_addresses(&node(addresses), &link, present, &[ip("2001:db8::10")])
        };
        let v4 = ip("198.51.100.11");
        assert_eq!(own(&["198.51.100.11", "2001:db8::11"], &present), [v4, ip("2001:db8::11")]);
        assert_eq!(own(&["198.51.100.11"], &present), [v4, ip("2001:db8::21")], "never the VIP");
        assert_eq!(own(&["198.51.100.11"], &present[..3]), [v4, ip("fe80::1")], "the link's own will do");
        assert_eq!(own(&["198.51.100.11"], &present[..1]), [v4]);
    }
}
