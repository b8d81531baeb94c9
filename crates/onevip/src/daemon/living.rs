//! From the configuration to an engine: what living membership needs to begin on this host.

use super::beat_loop::now;
use super::ears::Ears;
use super::plan::{Plan, VipPlan};
use super::records::{self, Answering};
use super::vip_loop::{Decider, Living};
use super::wire::{Ends, Route};
use super::{incarnation, keys};
use anyhow::{Context, bail};
use onevip_config::Config;
use onevip_core::beat::{Incarnation, Keyring, Receiver, Sealer};
use onevip_core::letter::Post;
use onevip_core::membership::{self, Engine, Family, Timing};
use onevip_core::{BucketSet, NodeSet, Time, Weight};
use sha2::{Digest, Sha256};
use std::fs;
use std::net::IpAddr;
use std::path::Path;

/// What all VIPs of a living cluster share.
pub struct Founding {
    keyring: Keyring,
    incarnation: Incarnation,
    /// What answered to earlier daemons.
    answering: Answering,
}

impl Founding {
    /// Reads the keys and takes the next incarnation.
    ///
    /// # Errors
    /// Either fails.
    pub fn new(config: &Config, state_dir: &Path) -> anyhow::Result<Self> {
        let keyring = keys::read(&keys::location(&config.key_file))?.keyring();
        let (incarnation, answering) = (incarnation::next(state_dir)?, records::answering(state_dir));
        Ok(Self { keyring, incarnation, answering })
    }

    /// Writes and opens this node's letters at one VIP.
    pub fn post(&self, config: &Config, plan: &Plan, vip: &VipPlan) -> Post {
        let names = (config.cluster.as_str(), vip.vip.name.as_str());
        Post::new(&self.keyring, names, plan.node.id, host_number(vip), self.incarnation)
    }

    /// The decider of one VIP.
    ///
    /// # Errors
    /// The node has no address of the VIP's family to beat from.
    pub fn decider(
        &self,
        config: &Config,
        plan: &Plan,
        vip: &VipPlan,
        guests: BucketSet,
    ) -> anyhow::Result<Decider> {
        let engine_config = engine_config(config, plan, vip);
        let mut engine = Engine::new(engine_config.clone(), self.incarnation, guests, now());
        let routes = routes(plan, vip)?;
        let has = |family| routes.iter().any(|route| route.ends.family() == family);
        if has(Family::V4) && has(Family::V6) {
            engine.expect_both_families();
        }
        engine.expect_answers(self.answering_nodes(config, plan));
        Ok(Decider::Living(Box::new(Living {
            engine,
            config: engine_config,
            percent: 100,
            receiver: Receiver::new(Sealer::new(&self.keyring, &config.cluster, &vip.vip.name)),
            routes,
            ears: Ears::new(&vip.link.name),
            could_send: true,
            me: plan.node.id,
            key_is_right: false,
            complain_after: Time::ZERO,
            sent: 0,
            left: false,
        })))
    }
}

impl Founding {
    /// The nodes of which an address answered to an earlier daemon, on an interface that is still used.
    fn answering_nodes(&self, config: &Config, plan: &Plan) -> NodeSet {
        let asked_on = |interface: &String| plan.vips.iter().any(|vip| vip.link.name == *interface);
        let answered =
            |address: &IpAddr| self.answering.iter().any(|(on, known)| known == address && asked_on(on));
        let nodes = config.nodes.iter().filter(|node| node.addresses.iter().any(answered));
        nodes.map(|node| node.id).collect()
    }
}

/// The sealer of a VIP with the keys as they are in the file now.
///
/// # Errors
/// The key file cannot be used.
pub fn sealer(config: &Config, vip: &VipPlan) -> anyhow::Result<Sealer> {
    let keyring = keys::read(&keys::location(&config.key_file))?.keyring();
    Ok(Sealer::new(&keyring, &config.cluster, &vip.vip.name))
}

/// What the engine of a VIP has to know.
pub fn engine_config(config: &Config, plan: &Plan, vip: &VipPlan) -> membership::Config {
    membership::Config {
        me: plan.node.id,
        host: host_number(vip),
        nodes: vip.vip.nodes,
        weight: Weight::new(vip.vip.weight_of(&plan.node)).unwrap_or(Weight::NORMAL),
        mapping: vip.vip.mapping,
        pinned: vip.vip.pinned(),
        seed: vip.vip.seed,
        failback: config.failback,
        timing: Timing::new(config.beat),
    }
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

/// Tells hosts apart that have the same node number by mistake: from the machine id, and from the MAC, because
/// machines that were cloned often share the former.
fn host_number(vip: &VipPlan) -> u32 {
    let machine = fs::read("/etc/machine-id").unwrap_or_default();
    let mut hash = Sha256::new();
    hash.update(machine);
    hash.update(vip.link.mac.unwrap_or_default());
    let digest = hash.finalize();
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}
