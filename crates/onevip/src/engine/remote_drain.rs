//! Orders between nodes: `onevip drain unix3` on unix1.
//!
//! They travel as rpc, which only nodes with the cluster's key can write; root alone may give them, and both ends
//! write them down. Each takes a permit, which the obeying node draws for one asker, one order and a few seconds.

use super::orders::{Drain, Orders, Undrain};
use crate::base::current::Current;
use crate::base::tagged::OTHER_VERSION;
use crate::control::protocol::{DONE, Request};
use crate::control::server::{Caller, Handler, Work};
use crate::events::words::called;
use crate::rpc::message::{NoAnswer, Question, QuestionHandler};
use crate::rpc::transport::{RpcHandle, random};
use anyhow::{Context, anyhow, bail};
use onevip_config::{Membership, RemoteDrain};
use onevip_core::NodeId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long an answer may take: a little longer than the transport waits for one that makes progress.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a permit is good.
const GOOD_FOR: Duration = Duration::from_secs(5);
/// How many there may be at once.
const PERMITS_MAX: usize = 64;

/// The permits that were drawn and not used yet.
#[derive(Default)]
pub struct Permits(Mutex<Vec<Permit>>);

struct Permit {
    number: u64,
    asker: NodeId,
    until: Instant,
}

impl Permits {
    /// Draws one; none when too many are out, or the kernel has no randomness.
    pub fn draw(&self, asker: NodeId, now: Instant) -> Option<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|permit| permit.until > now);
        let number = random().filter(|_| all.len() < PERMITS_MAX)?;
        all.push(Permit { number, asker, until: now + GOOD_FOR });
        Some(number)
    }

    /// Whether this one is good; it is not any more then.
    pub fn take(&self, asker: NodeId, number: u64, now: Instant) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let good = |permit: &Permit| permit.number == number && permit.asker == asker && permit.until > now;
        all.iter().position(good).map(|place| all.swap_remove(place)).is_some()
    }
}

/// What one node may tell another to do: to take no new users, and to take them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RemoteOrder {
    /// As `onevip drain` there.
    Drain {
        /// Even if nobody else would serve the clients.
        force: bool,
    },
    /// As `onevip undrain` there.
    Undrain,
}

impl fmt::Display for RemoteOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drain { force: false } => "drain",
            Self::Drain { force: true } => "drain --force",
            Self::Undrain => "undrain",
        })
    }
}

/// Have another node do something. Only root may.
#[derive(Serialize, Deserialize)]
pub struct OrderNode {
    /// Which node.
    pub node: String,
    /// What.
    pub order: RemoteOrder,
}

impl Request for OrderNode {
    const COMMAND: &'static str = "order";
    type Reply = String;
    const REPLY: &'static str = DONE;
}

/// May I give you an order? Whoever may gets a permit for one.
#[derive(Serialize, Deserialize)]
struct AskPermit {}

impl Question for AskPermit {
    const ASK: &'static str = "permit";
    type Answer = u64;
    const ANSWER: &'static str = "permit";
    const HARMLESS: bool = false;
}

/// Do this. The permit was drawn by who is to obey, moments ago and for this asker: so an order that somebody
/// recorded is worth nothing, not even to a daemon that has just been started and remembers nobody's messages.
#[derive(Serialize, Deserialize)]
struct Obey {
    permit: u64,
    order: RemoteOrder,
}

impl Question for Obey {
    const ASK: &'static str = "order";
    type Answer = String;
    const ANSWER: &'static str = "done";
    const HARMLESS: bool = false;
}

/// Gives orders to other nodes, and takes theirs.
pub struct RemoteOrders {
    current: Current,
    orders: Arc<Orders>,
    rpc: RpcHandle,
    permits: Permits,
}

impl RemoteOrders {
    /// Orders that arrive here are carried out by `orders`.
    pub fn new(current: Current, orders: Arc<Orders>, rpc: RpcHandle) -> Self {
        Self { current, orders, rpc, permits: Permits::default() }
    }

    /// Has another node do something.
    fn give(
        &self,
        OrderNode { node: name, order }: OrderNode,
        caller: Caller,
    ) -> anyhow::Result<Work<String>> {
        if !caller.is_root {
            bail!("only root may give orders to other nodes");
        }
        let current = self.current.get();
        let node = current.config.node_by_name(&name);
        let node = node.with_context(|| format!("there is no node {name} in the configuration"))?;
        if node.id == current.plan.node.id {
            let done = self.obey(order);
            return Ok(Box::new(move || done));
        }
        if current.config.membership == Membership::Static {
            bail!("with membership = \"static\" the nodes do not speak to each other");
        }
        let (rpc, node, name) = (self.rpc.clone(), node.id, node.name.clone());
        Ok(Box::new(move || send(&rpc, node, &name, order)))
    }

    fn obey(&self, order: RemoteOrder) -> anyhow::Result<String> {
        match order {
            RemoteOrder::Drain { force } => self.orders.drain(&Drain { force, vip: None }),
            RemoteOrder::Undrain => self.orders.undrain(&Undrain { vip: None }),
        }
    }

    fn permit(&self, from: Option<NodeId>) -> anyhow::Result<u64> {
        let (from, _) = self.allowed(from)?;
        self.permits.draw(from, Instant::now()).context("too many orders at once")
    }

    /// Does what root on another node wants done.
    fn obey_other(&self, from: Option<NodeId>, Obey { permit, order }: Obey) -> anyhow::Result<String> {
        let (from, name) = self.allowed(from)?;
        if !self.permits.take(from, permit, Instant::now()) {
            bail!("the order came too late, or twice");
        }
        let done = self.obey(order);
        match &done {
            Ok(_) => tracing::warn!("root on {name} ordered this node to {order}: done"),
            Err(error) => tracing::warn!("root on {name} ordered this node to {order}: refused: {error:#}"),
        }
        done
    }

    /// Who asks, and its name, if it may give orders.
    fn allowed(&self, from: Option<NodeId>) -> anyhow::Result<(NodeId, String)> {
        let from = from.context("a node gives itself no orders")?;
        let current = self.current.get();
        if current.config.support.remote_drain != RemoteDrain::Allow {
            bail!("it takes no orders from other nodes (remote_drain in [desk]); log in there");
        }
        Ok((from, called(&current.config, from)))
    }
}

/// Carries out `order`.
pub fn handler(orders: &Arc<RemoteOrders>) -> Handler {
    let orders = Arc::clone(orders);
    Handler::slow(move |request: OrderNode, caller| orders.give(request, caller))
}

/// Answer other nodes.
pub fn answerers(orders: &Arc<RemoteOrders>) -> Vec<QuestionHandler> {
    let (drawing, obeying) = (Arc::clone(orders), Arc::clone(orders));
    vec![
        QuestionHandler::new(move |from, AskPermit {}| drawing.permit(from)),
        QuestionHandler::new(move |from, order: Obey| obeying.obey_other(from, order)),
    ]
}

/// Sends an order and waits for what comes of it: at most for as long as two questions may take.
fn send(rpc: &RpcHandle, node: NodeId, name: &str, order: RemoteOrder) -> anyhow::Result<String> {
    let no = |why| match why {
        NoAnswer::Refused(why) => anyhow!("{name} refuses: {why}"),
        NoAnswer::Silent(why) => anyhow!("{name} cannot be asked: {why}"),
        NoAnswer::NotUnderstood => anyhow!("{name} answered something else; {OTHER_VERSION}"),
    };
    let permit = rpc.ask(node, &AskPermit {}, PATIENCE).map_err(no)?;
    tracing::warn!("root on this host orders {name} to {order}");
    let words = rpc.ask(node, &Obey { permit, order }, PATIENCE).map_err(no)?;
    Ok(format!("{name}: {words}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_is_good_once_for_one_asker_and_not_for_long() {
        let node = |id| NodeId::new(id).unwrap();
        let (permits, now) = (Permits::default(), Instant::now());
        let first = permits.draw(node(1), now).unwrap();
        assert!(!permits.take(node(2), first, now), "somebody else's");
        assert!(!permits.take(node(1), first ^ 1, now), "invented");
        assert!(permits.take(node(1), first, now));
        assert!(!permits.take(node(1), first, now), "used");
        let second = permits.draw(node(1), now).unwrap();
        assert!(!permits.take(node(1), second, now + GOOD_FOR), "too old");
        assert_eq!((0..200).filter(|_| permits.draw(node(3), now).is_some()).count(), PERMITS_MAX - 1);
    }
}
