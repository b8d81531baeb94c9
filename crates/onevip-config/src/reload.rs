//! What a running daemon takes of a changed configuration, and what only a restart can change.
//!
//! [`settings`](crate::settings) says it for people; tests go through all settings and hold the two together.

use crate::model::{Acceleration, Config, Membership, Vip};
use onevip_core::membership::Timing;
use onevip_core::{MacAddr, NodeId, Selector};
use std::net::IpAddr;

/// What is different and takes a restart of the daemon, in the words of the answer to `reload`. The first that applies
/// counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RestartNeeded {
    /// Who the cluster is, and how it knows who is alive.
    #[error("the cluster's name or membership")]
    Cluster,
    /// Who may use the control socket.
    #[error("control_group")]
    ControlGroup,
    /// Who is told.
    #[error("[metrics] or a [[hook]]")]
    Watching,
    /// Who this node is to the others.
    #[error("this node's number or own address")]
    OwnNode,
    /// What the kernel part was set up with.
    #[error("an address, interface, hash, port or the set of VIPs of this node")]
    Vips,
    /// What a fixed set of nodes rests on.
    #[error("the fixed set of nodes, or the beat time,")]
    FixedNodes,
}

impl Config {
    /// What a running daemon takes of `new`, in the words of the answer to `reload`, on the node of this name. What has no
    /// words there (`[desk]`, `nodes` and `weights` of a VIP) is taken as well.
    ///
    /// `interfaces_differ`: another interface than before bears a VIP of this node. That is asked of the host, since the file
    /// may leave it to the routes.
    ///
    /// # Errors
    /// Something is different that takes a restart of the daemon.
    pub fn reload(
        &self,
        new: &Self,
        node: &str,
        interfaces_differ: bool,
    ) -> Result<Vec<&'static str>, RestartNeeded> {
        // Destructured, so that a new setting cannot be forgotten here.
        let Self {
            cluster,
            membership,
            beat,
            failback,
            key_file,
            control_group,
            metrics,
            hooks,
            support: _,
            health,
            checks,
            never_banned,
            vips: _,
            nodes,
        } = self;
        if *cluster != new.cluster || *membership != new.membership {
            return Err(RestartNeeded::Cluster);
        }
        if *control_group != new.control_group {
            return Err(RestartNeeded::ControlGroup);
        }
        if *metrics != new.metrics || *hooks != new.hooks {
            return Err(RestartNeeded::Watching);
        }
        let own = self.own_number_and_addresses(node);
        let Some((me, _)) = own.filter(|_| own == new.own_number_and_addresses(node)) else {
            return Err(RestartNeeded::OwnNode);
        };
        if interfaces_differ || self.kernel_part(me) != new.kernel_part(me) {
            return Err(RestartNeeded::Vips);
        }
        if *membership == Membership::Static && (*nodes != new.nodes || *beat != new.beat) {
            return Err(RestartNeeded::FixedNodes);
        }
        let said = [
            (*beat != new.beat, "beat time"),
            (*failback != new.failback, "failback"),
            (*nodes != new.nodes, "nodes or weights"),
            (*key_file != new.key_file, "place of the key file"),
            (*health != new.health || *checks != new.checks, "health checks"),
            (*never_banned != new.never_banned, "who is never banned"),
        ];
        Ok(said.into_iter().filter(|(differs, _)| *differs).map(|(_, words)| words).collect())
    }

    fn own_number_and_addresses(&self, node: &str) -> Option<(NodeId, &[IpAddr])> {
        self.node_by_name(node).map(|node| (node.id, node.addresses.as_slice()))
    }

    /// What the kernel part of this node is set up with: once, for the life of a daemon.
    fn kernel_part(&self, me: NodeId) -> (u128, Vec<KernelVip<'_>>) {
        let served = self.vips.iter().filter(|vip| vip.nodes.contains(me));
        let wait_ms = Timing::new(self.beat).orphan_wait.as_millis();
        (wait_ms, served.map(|vip| KernelVip::of(vip, me)).collect())
    }
}

/// What the kernel part knows of a VIP.
#[derive(PartialEq)]
struct KernelVip<'a> {
    name: &'a str,
    addresses: &'a [IpAddr],
    mac: MacAddr,
    accelerate: Acceleration,
    beat_port: u16,
    selector: Selector,
}

impl<'a> KernelVip<'a> {
    fn of(vip: &'a Vip, me: NodeId) -> Self {
        // Destructured, so that a new setting cannot be forgotten here. What is left out is in the selector or the MAC,
        // is compared as the interface that it leads to, or is nothing to the kernel part.
        let Vip {
            name,
            addresses,
            interface: _,
            nodes: _,
            weights: _,
            hash: _,
            seed: _,
            mapping: _,
            address_order: _,
            delivery: _,
            mac,
            accelerate,
            beat_port,
            services: _,
            other: _,
            sources: _,
        } = vip;
        let (mac, accelerate, beat_port) = (*mac, *accelerate, *beat_port);
        Self { name, addresses, mac, accelerate, beat_port, selector: vip.selector_of(me) }
    }
}
