//! From the configuration to the loops of the VIPs: what they begin with on this host.

use super::records::{self, Answering};
use super::scan::Scanned;
use super::vip_loop::{Decider, Living, VipLoop};
use crate::base::clock::now;
use crate::base::identity::{self, Identity, host_number};
use crate::base::interfaces::routes;
use crate::base::plan::{Plan, VipPlan};
use anyhow::Context;
use onevip_bpf::Words;
use onevip_config::Config;
use onevip_core::beat::Receiver;
use onevip_core::membership::{self, Engine, Family, Timing};
use onevip_core::{BucketSet, NodeSet, Time, Weight};
use onevip_host::link_activity::LinkActivity;
use onevip_host::sockets;
use std::net::IpAddr;
use std::path::Path;

/// What living membership begins with.
pub struct LivingStart {
    /// Who this node is.
    pub identity: Identity,
    /// What answered to earlier daemons.
    answering: Answering,
}

impl LivingStart {
    /// Reads the keys, takes the next incarnation, and remembers what earlier daemons wrote down.
    ///
    /// # Errors
    /// The keys cannot be read, or the incarnation not be stored.
    pub fn take(config: &Config, state_dir: &Path) -> anyhow::Result<Self> {
        Ok(Self { identity: Identity::take(config, state_dir)?, answering: records::answering(state_dir) })
    }

    /// The decider of one VIP; `living` are the buckets in which something lives here.
    ///
    /// # Errors
    /// The node has no address of the VIP's family to beat from.
    fn decider(
        &self,
        config: &Config,
        plan: &Plan,
        vip: &VipPlan,
        living: BucketSet,
    ) -> anyhow::Result<Decider> {
        let engine_config = engine_config(config, plan, vip);
        let mut engine = Engine::new(engine_config.clone(), self.identity.incarnation, living, now());
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
            receiver: Receiver::new(identity::sealer(&self.identity.keyring, config, vip)),
            routes,
            activity: LinkActivity::new(&vip.link.name),
            could_send: true,
            me: plan.node.id,
            key_is_right: false,
            complain_after: Time::ZERO,
            sent: 0,
            left: false,
        })))
    }

    /// The nodes of which an address answered to an earlier daemon, on an interface that is still used.
    fn answering_nodes(&self, config: &Config, plan: &Plan) -> NodeSet {
        let asked_on = |interface: &String| plan.vips.iter().any(|vip| vip.link.name == *interface);
        let answered =
            |address: &IpAddr| self.answering.iter().any(|(on, known)| known == address && asked_on(on));
        let nodes = config.nodes.iter().filter(|node| node.addresses.iter().any(answered));
        nodes.map(|node| node.id).collect()
    }
}

/// What the engine of a VIP has to know.
pub fn engine_config(config: &Config, plan: &Plan, vip: &VipPlan) -> membership::EngineConfig {
    membership::EngineConfig {
        me: plan.node.id,
        host: host_number(vip),
        nodes: vip.vip.nodes,
        weight: Weight::new(vip.vip.weight_of(&plan.node)).unwrap_or(Weight::NORMAL),
        layout: vip.vip.layout(),
        pinned: vip.vip.pinned(),
        seed: vip.vip.seed,
        failback: config.failback,
        timing: Timing::new(config.beat),
    }
}

/// One loop for each VIP, which begins with the sockets that are here already. `living` where membership is.
///
/// # Errors
/// The socket tables cannot be read, or a node has no address from which it could beat.
pub fn vip_loops(
    config: &Config,
    plan: &Plan,
    scanned: &[Scanned],
    living: Option<&LivingStart>,
    words: &Words,
) -> anyhow::Result<Vec<VipLoop>> {
    let connections = sockets::connections().context("cannot list the sockets of this host")?;
    let bound = sockets::bound().context("cannot list the UDP sockets of this host")?;
    plan.vips
        .iter()
        .zip(scanned)
        .enumerate()
        .map(|(index, (vip, scanned))| {
            let found = scanned.find(&connections, &bound);
            let new = |claims, elsewhere, decider| {
                VipLoop::new(index, words, claims, found.sockets, elsewhere, decider)
            };
            Ok(match living {
                Some(living) => {
                    let decider = living.decider(config, plan, vip, found.living)?;
                    new(BucketSet::EMPTY, BucketSet::FULL, decider)
                }
                None => {
                    let claims = config.full_table(&vip.vip).owned_by(plan.node.id);
                    new(claims, static_elsewhere(vip), Decider::fixed(config.beat))
                }
            })
        })
        .collect()
}

/// With a fixed set of nodes nobody says what the others hold, so a flow that is not here must be taken to live
/// elsewhere, unless there is no elsewhere.
fn static_elsewhere(vip: &VipPlan) -> BucketSet {
    if vip.vip.nodes.len() > 1 { BucketSet::FULL } else { BucketSet::EMPTY }
}
