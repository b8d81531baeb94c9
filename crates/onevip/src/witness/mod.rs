//! Whether other nodes answer their clients, seen from here.
//!
//! A node may answer beats and nobody else. Its peers hear the same clients as it does, so they see that these get nothing
//! ([`onevip_core::peer_check`]). That alone proves nothing: clients lie, or never answer. So whoever is suspicious asks the node
//! itself, as a client would ([`examination`]), at the node's own address. What comes of it goes into the beats,
//! where all votes are counted. One thread ([`stand`]); the beat loop only hands over what it knows, and takes the votes.
//!
//! No node is asked by more than [`JURY`] others, so that a large cluster does not eat the `MaxStartups` of a node that
//! it suspects.

pub mod examination;
mod knock;
pub mod stand;

use crate::config::{Config, Membership};
use crate::daemon::beat_loop::{Command, Notice};
use crate::daemon::mailbox::Mailbox;
use crate::daemon::plan::Plan;
use crate::health::monitor;
use anyhow::Context;
use onevip_bpf::Flows;
use onevip_core::NodeId;
use stand::Stand;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

/// So many nodes have a say about each.
pub const JURY: usize = 5;
/// Stack of the thread.
const STACK: usize = 256 * 1024;

/// What this node found out about another.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Finding {
    /// Whether it has a say.
    pub able: bool,
    /// Whether the other does not serve.
    pub suspects: bool,
    /// In words; empty while nothing is wrong.
    pub words: String,
}

/// What this node found out, by index of the VIP and node: for `status`.
#[derive(Default)]
pub struct Findings(Mutex<BTreeMap<(usize, NodeId), Finding>>);

impl Findings {
    /// About one node at one VIP.
    pub fn about(&self, vip: usize, node: NodeId) -> Option<Finding> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&(vip, node)).cloned()
    }

    fn note(&self, vip: usize, node: NodeId, finding: Finding) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((vip, node), finding);
    }

    fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// What a witness works with.
#[derive(Clone)]
pub struct Tools {
    /// What clients show.
    pub flows: Flows,
    /// For `status`.
    pub findings: Arc<Findings>,
    /// For the log and those who watch.
    pub news: mpsc::Sender<Notice>,
}

/// The running thread; it ends when this is dropped, and takes back what it said.
pub struct Witness {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    /// Starts watching, if the configuration wants it and there is somebody to watch.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        config: &Config,
        plan: &Plan,
        tools: &Tools,
        beat_loop: &Mailbox<Command>,
    ) -> anyhow::Result<Option<Self>> {
        if config.membership == Membership::Static || !config.health.witness {
            return Ok(None);
        }
        let vips = plan.vips.iter().enumerate();
        let stands: Vec<Stand> = vips
            .filter_map(|(index, vip)| {
                let port = monitor::ssh_port(&config.health, &vip.vip)?;
                Some(Stand::new(index, port, config, plan, vip))
            })
            .collect();
        if stands.is_empty() {
            return Ok(None);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (told, tools, beat_loop) = (Arc::clone(&stop), tools.clone(), beat_loop.clone());
        let thread = thread::Builder::new()
            .name("onevip-witness".to_owned())
            .stack_size(STACK)
            .spawn(move || stand::run(stands, &tools, &beat_loop, &told))
            .context("cannot start the thread that watches other nodes")?;
        Ok(Some(Self { stop, thread: Some(thread) }))
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}
