//! Whether other nodes answer their clients, seen from here.
//!
//! A node may answer beats and nobody else. Its peers hear the same clients as it does, so they see that these get nothing
//! ([`onevip_core::peer_check`]). That alone proves nothing: clients lie, or never answer. So whoever is suspicious asks the node
//! itself, as a client would ([`check`]), at the node's own address. What comes of it goes into the beats,
//! where all votes are counted. One thread ([`watch`]); the beat loop only hands over what it knows, and takes the votes.
//!
//! No node is asked by more than [`JURY`] others, so that a large cluster does not eat the `MaxStartups` of a node that
//! it suspects.

mod check;
mod probe;
pub mod watch;

use crate::base::beat_loop::BeatLoopHandle;
use crate::base::command::Notice;
use crate::base::current::Configured;
use crate::base::plan::Plan;
use crate::control::reload::{Apply, Reload};
use anyhow::Context;
use onevip_bpf::Flows;
use onevip_config::{Config, Membership};
use onevip_core::NodeId;
use onevip_health::monitor;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use watch::VipWatch;

/// So many nodes have a say about each.
pub const JURY: usize = 5;
/// Stack of the thread.
const STACK: usize = 256 * 1024;

/// What this node found out about another.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Suspicion {
    /// Whether it has a say.
    pub able: bool,
    /// Whether the other does not serve.
    pub suspects: bool,
    /// In words; empty while nothing is wrong.
    pub words: String,
}

/// What this node found out, by index of the VIP and node: for `status`.
#[derive(Default)]
pub struct Suspicions(Mutex<BTreeMap<(usize, NodeId), Suspicion>>);

impl Suspicions {
    /// About one node at one VIP.
    pub fn about(&self, vip: usize, node: NodeId) -> Option<Suspicion> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&(vip, node)).cloned()
    }

    fn note(&self, vip: usize, node: NodeId, suspicion: Suspicion) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((vip, node), suspicion);
    }

    fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// What the check works with.
#[derive(Clone)]
pub struct PeerCheckTools {
    /// What clients show.
    pub flows: Flows,
    /// For `status`.
    pub suspicions: Arc<Suspicions>,
    /// For the log and those who watch.
    pub notices: mpsc::Sender<Notice>,
}

/// The running thread; it ends when this is dropped, and takes back what it said.
pub struct PeerChecks {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl PeerChecks {
    /// Starts watching, if the configuration wants it and there is somebody to watch.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        config: &Config,
        plan: &Plan,
        tools: &PeerCheckTools,
        beat_loop: &BeatLoopHandle,
    ) -> anyhow::Result<Option<Self>> {
        if config.membership == Membership::Static || !config.health.peer_check {
            return Ok(None);
        }
        let vips = plan.vips.iter().enumerate();
        let watches: Vec<VipWatch> = vips
            .filter_map(|(index, vip)| {
                let port = monitor::ssh_port(&config.health, &vip.vip)?;
                Some(VipWatch::new(index, port, config, plan, vip))
            })
            .collect();
        if watches.is_empty() {
            return Ok(None);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (told, tools, beat_loop) = (Arc::clone(&stop), tools.clone(), beat_loop.clone());
        let thread = thread::Builder::new()
            .name("onevip-peer-check".to_owned())
            .stack_size(STACK)
            .spawn(move || watch::run(watches, &tools, &beat_loop, &told))
            .context("cannot start the thread that watches other nodes")?;
        Ok(Some(Self { stop, thread: Some(thread) }))
    }
}

impl Drop for PeerChecks {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// The running check; a new configuration starts another one in its place.
pub struct PeerCheckPart {
    tools: PeerCheckTools,
    beat_loop: BeatLoopHandle,
    running: Mutex<Option<PeerChecks>>,
}

impl PeerCheckPart {
    /// Starts it.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        configured: &Configured,
        tools: PeerCheckTools,
        beat_loop: BeatLoopHandle,
    ) -> anyhow::Result<Self> {
        let running = PeerChecks::start(&configured.config, &configured.plan, &tools, &beat_loop)?;
        Ok(Self { tools, beat_loop, running: Mutex::new(running) })
    }
}

impl Reload for PeerCheckPart {
    fn prepare<'a>(&'a self, old: &'a Configured, new: &'a Configured) -> anyhow::Result<Apply<'a>> {
        Ok(Box::new(move || {
            if old.config.health != new.config.health || old.config.nodes != new.config.nodes {
                let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
                // The old one first: two must not speak for the node.
                *running = None;
                *running = PeerChecks::start(&new.config, &new.plan, &self.tools, &self.beat_loop)?;
            }
            Ok(())
        }))
    }
}
