//! What people order this node to do: `onevip drain`, `undrain`, `rebalance`, `forget`.

use crate::base::beat_loop::{BeatLoopHandle, PATIENCE};
use crate::base::command::Command;
use crate::base::current::Current;
use crate::control::protocol::{DONE, Request};
use crate::control::server::{Caller, Handler};
use anyhow::{Context, bail};
use onevip_config::Membership;
use onevip_core::beat::NodeState;
use onevip_core::membership::PeerStatus;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::mpsc::channel;

/// Claim nothing new, hand over, hold what is held.
#[derive(Serialize, Deserialize)]
pub struct Drain {
    /// Even if nobody else would serve the clients.
    #[serde(default)]
    pub force: bool,
    /// At this VIP only.
    #[serde(default)]
    pub vip: Option<String>,
}

/// The end of a drain.
#[derive(Serialize, Deserialize)]
pub struct Undrain {
    /// At this VIP only.
    #[serde(default)]
    pub vip: Option<String>,
}

/// Move now what is planned to move.
#[derive(Serialize, Deserialize)]
pub struct Rebalance {}

/// This silent node is gone: reset its orphans. Only root may.
#[derive(Serialize, Deserialize)]
pub struct Forget {
    /// Which node.
    pub node: String,
}

impl Request for Drain {
    const COMMAND: &'static str = "drain";
    type Reply = String;
    const REPLY: &'static str = DONE;
}

impl Request for Undrain {
    const COMMAND: &'static str = "undrain";
    type Reply = String;
    const REPLY: &'static str = DONE;
}

impl Request for Rebalance {
    const COMMAND: &'static str = "rebalance";
    type Reply = String;
    const REPLY: &'static str = DONE;
}

impl Request for Forget {
    const COMMAND: &'static str = "forget";
    type Reply = String;
    const REPLY: &'static str = DONE;
}

/// Carries orders out: validates, tells the beat loop, waits for its answer where there is one.
pub struct Orders {
    current: Current,
    beat_loop: BeatLoopHandle,
}

impl Orders {
    /// For the configuration that is in force.
    pub const fn new(current: Current, beat_loop: BeatLoopHandle) -> Self {
        Self { current, beat_loop }
    }

    /// Drains one VIP, or all; in words.
    ///
    /// # Errors
    /// Nobody would take over, or there is no such VIP.
    pub fn drain(&self, Drain { force, vip }: &Drain) -> anyhow::Result<String> {
        let at = self.index_of(vip.as_deref())?;
        if !force {
            self.refuse_the_last(at)?;
        }
        self.order(Command::Drain(at))?;
        Ok(format!("draining{}: new connections go elsewhere, sessions stay until they end", of(vip)))
    }

    /// Ends a drain; in words.
    ///
    /// # Errors
    /// There is no such VIP, or nothing to drain.
    pub fn undrain(&self, Undrain { vip }: &Undrain) -> anyhow::Result<String> {
        self.order(Command::Undrain(self.index_of(vip.as_deref())?))?;
        Ok(format!("serving{} again", of(vip)))
    }

    fn rebalance(&self) -> anyhow::Result<String> {
        self.order(Command::Rebalance)?;
        Ok("buckets move to where the table wants them, busy ones included".to_owned())
    }

    /// Takes a silent node for gone, on this node.
    fn forget(&self, name: &str, caller: Caller) -> anyhow::Result<String> {
        if !caller.is_root {
            bail!("only root may say that a node is gone: its sessions are reset if it is not");
        }
        let current = self.current.get();
        let node = current.config.node_by_name(name);
        let node = node.with_context(|| format!("there is no node {name} in the configuration"))?.id;
        if node == current.plan.node.id {
            bail!("{name} is this node");
        }
        let (to, forgotten) = channel();
        self.order(Command::Forget(node, to))?;
        if forgotten.recv_timeout(PATIENCE).context("the beat loop does not answer")? == 0 {
            bail!("{name} is alive as far as this node can tell, or is known to be gone: nothing is done");
        }
        Ok(format!(
            "{name} is taken for gone: this node resets its sessions when their clients speak, until {name} is heard or its \
             kernel answers; say it on the other nodes, too"
        ))
    }

    /// The index of the VIP of this name, where one is named.
    fn index_of(&self, vip: Option<&str>) -> anyhow::Result<Option<usize>> {
        let Some(name) = vip else { return Ok(None) };
        let current = self.current.get();
        let vips = &current.plan.vips;
        match vips.iter().position(|known| known.vip.name == name) {
            Some(index) => Ok(Some(index)),
            None => {
                let names: Vec<&str> = vips.iter().map(|vip| vip.vip.name.as_str()).collect();
                bail!("this node serves no VIP named {name}; it serves {}", names.join(", "))
            }
        }
    }

    /// Refuses to drain when no other node would serve the clients of one VIP, or of all.
    fn refuse_the_last(&self, at: Option<usize>) -> anyhow::Result<()> {
        let reports = self.beat_loop.report()?;
        let current = self.current.get();
        let engines = reports.iter().filter_map(|report| report.membership.as_ref());
        for (index, (vip, engine)) in current.plan.vips.iter().zip(engines).enumerate() {
            if at.is_some_and(|at| at != index) {
                continue;
            }
            let serves = |peer: &PeerStatus| {
                let said = peer.said.as_ref().filter(|_| peer.heard);
                said.is_some_and(|(_, standing, _)| {
                    standing.state == NodeState::Serving && standing.weight.get() > 0
                })
            };
            if engine.standing.state == NodeState::Serving && !engine.peers.iter().any(serves) {
                bail!(
                    "no other node serves {} now, so nobody would answer its clients; drain with --force if that is \
                     wanted",
                    vip.vip.name
                );
            }
        }
        Ok(())
    }

    fn order(&self, command: Command) -> anyhow::Result<()> {
        if self.current.get().config.membership == Membership::Static {
            bail!("with membership = \"static\" nobody would take over; set membership = \"living\"");
        }
        if self.beat_loop.send(command) { Ok(()) } else { bail!("the daemon is ending") }
    }
}

/// Which VIP, in words; nothing for all.
fn of(vip: &Option<String>) -> String {
    vip.as_ref().map_or_else(String::new, |vip| format!(" {vip}"))
}

/// Carry out the commands of this room.
pub fn handlers(orders: &Arc<Orders>) -> Vec<Handler> {
    let [drain, undrain, rebalance, forget] = std::array::from_fn(|_| Arc::clone(orders));
    vec![
        Handler::new(move |request: Drain, _| drain.drain(&request)),
        Handler::new(move |request: Undrain, _| undrain.undrain(&request)),
        Handler::new(move |Rebalance {}, _| rebalance.rebalance()),
        Handler::new(move |Forget { node }, caller| forget.forget(&node, caller)),
    ]
}
