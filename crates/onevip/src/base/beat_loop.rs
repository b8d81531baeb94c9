//! How other threads speak to the beat loop.

use super::command::{Command, VipReport};
use super::mailbox::Mailbox;
use anyhow::Context;
use onevip_core::NodeSet;
use std::sync::mpsc::channel;
use std::time::Duration;

/// How long the beat loop may take to answer. It answers within a turn, a few microseconds, unless it is frozen.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// The way to the beat loop; clone it for every thread.
#[derive(Clone)]
pub struct BeatLoopHandle(Mailbox<Command>);

impl BeatLoopHandle {
    /// Through this mailbox.
    pub const fn new(mailbox: Mailbox<Command>) -> Self {
        Self(mailbox)
    }

    /// Tells it something; false when it has ended.
    pub fn send(&self, command: Command) -> bool {
        self.0.send(command)
    }

    /// How its VIPs stand, by their index.
    ///
    /// # Errors
    /// It does not answer within [`PATIENCE`].
    pub fn report(&self) -> anyhow::Result<Vec<VipReport>> {
        let (to, answer) = channel();
        self.send(Command::Report(to));
        answer.recv_timeout(PATIENCE).context("the beat loop does not answer; is this host overloaded?")
    }

    /// The other nodes that can be heard now; none with a fixed set of nodes, or while it does not answer.
    pub fn heard(&self) -> NodeSet {
        let reports = self.report().unwrap_or_default();
        let engines = reports.iter().filter_map(|report| report.membership.as_ref());
        engines.flat_map(|engine| &engine.peers).filter(|peer| peer.heard).map(|peer| peer.node).collect()
    }
}
