//! What this host has to do, worked out once from the configuration: which VIPs, on which interface, under which hash.
//!
//! A plan touches nothing. `run` carries it out, `status` and `teardown` read from it what to look at.

use crate::config::{Accelerate, Config, Node, Vip};
use crate::host::Stage;
use crate::host::netlink::{Link, Netlink};
use crate::host::resolve_interface;
use anyhow::{Context, bail};
use onevip_bpf::{KernelConfig, VipConfig};
use onevip_core::membership::Timing;

/// Everything this host has to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// This host.
    pub node: Node,
    /// The VIPs that it serves; the place in this list is the VIP's index in the kernel part.
    pub vips: Vec<VipPlan>,
    /// How long an orphan waits before it is reset: follows from the beat time.
    orphan_wait_ms: u16,
}

/// One VIP on this host.
#[derive(Clone, Debug)]
pub struct VipPlan {
    /// What the configuration says of it.
    pub vip: Vip,
    /// The interface that bears it.
    pub link: Link,
}

impl Plan {
    /// Works out what `node` has to do.
    ///
    /// # Errors
    /// The node serves no VIP, or an interface is missing, down, or not Ethernet.
    pub fn new(config: &Config, node: &Node) -> anyhow::Result<Self> {
        let mut netlink = Netlink::open().context("cannot talk to the kernel over netlink")?;
        let served = config.vips.iter().filter(|vip| vip.nodes.contains(node.id));
        let vips = served
            .map(|vip| {
                let link = vip_link(&mut netlink, vip).with_context(|| format!("vip {}", vip.name))?;
                Ok(VipPlan { vip: vip.clone(), link })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        if vips.is_empty() {
            bail!("node {} serves no VIP: no `nodes` list of any [[vip]] names it", node.name);
        }
        // The beat time is at most a second, so this fits.
        let orphan_wait_ms = Timing::new(config.beat).orphan_wait.as_millis() as u16;
        Ok(Self { node: node.clone(), vips, orphan_wait_ms })
    }

    /// What the programs have to know.
    pub fn kernel_config(&self) -> KernelConfig {
        let vips = self.vips.iter().map(|plan| VipConfig {
            addresses: plan.vip.addresses.clone(),
            hasher: plan.vip.hasher(),
            beat_port: plan.vip.beat_port,
            cluster_mac: plan.vip.mac.0,
            orphan_wait_ms: self.orphan_wait_ms,
        });
        KernelConfig { vips: vips.collect() }
    }

    /// Each interface once, with how its packets are to be dropped early.
    pub fn attachments(&self) -> Vec<(String, Accelerate)> {
        let mut wanted: Vec<(String, Accelerate)> = Vec::new();
        for plan in &self.vips {
            match wanted.iter_mut().find(|(name, _)| *name == plan.link.name) {
                None => wanted.push((plan.link.name.clone(), plan.vip.accelerate)),
                Some((_, accelerate)) if *accelerate == Accelerate::Off => *accelerate = plan.vip.accelerate,
                Some(_) => {}
            }
        }
        wanted
    }
}

impl VipPlan {
    /// What the VIP needs on its interface.
    pub fn stage(&self) -> Stage {
        Stage {
            interface: self.link.name.clone(),
            addresses: self.vip.addresses.clone(),
            cluster_mac: self.vip.mac.0,
        }
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
