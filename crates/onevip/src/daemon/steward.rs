//! The steward: carries out what people ask of a running daemon.
//!
//! Commands arrive over the control socket, or as a signal. The steward validates, speaks to the beat loop, waits for
//! its answer where there is one, and never touches what the beat loop owns.

use super::Paths;
use super::beat_loop::{Command, VipReport};
use super::control::Request;
use super::gather::{Gatherer, Running};
use super::living;
use super::mailbox::Mailbox;
use super::news::{Line, Watchers};
use super::plan::Plan;
use crate::config::{Config, Membership};
use crate::health::board::Board;
use crate::health::monitor::{self, Monitor, Subject};
use crate::status::Status;
use anyhow::{Context, bail};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long the beat loop may take to answer. It answers within a turn, a few microseconds, unless it is frozen.
const PATIENCE: Duration = Duration::from_secs(1);

/// Carries out requests.
pub struct Steward {
    paths: Paths,
    beat_loop: Mailbox<Command>,
    watchers: Watchers,
    gatherer: Mutex<Gatherer>,
    board: Arc<Board>,
    /// None only after the threads of new checks could not be started.
    monitor: Mutex<Option<Monitor>>,
}

/// What came of a request.
pub enum Outcome {
    /// The state of this node.
    Status(Box<Status>),
    /// Done; in words.
    Done(String),
    /// Lines will follow.
    Lines(Receiver<Line>),
}

impl Steward {
    /// For a daemon that serves `plan`.
    ///
    /// # Errors
    /// The pins cannot be opened to look at.
    pub fn new(
        config: &Config,
        plan: &Plan,
        paths: &Paths,
        beat_loop: Mailbox<Command>,
        watchers: Watchers,
        running: Running,
    ) -> anyhow::Result<Self> {
        let board = Arc::clone(&running.health);
        let gatherer = Mutex::new(Gatherer::of_daemon(config, plan, &paths.run_dir, running)?);
        let monitor = Mutex::new(Some(Monitor::start(&subject(config, plan), &board, &beat_loop)?));
        Ok(Self { paths: paths.clone(), beat_loop, watchers, gatherer, board, monitor })
    }

    /// Does what is asked.
    ///
    /// # Errors
    /// It cannot be done; says why.
    pub fn handle(&self, request: &Request) -> anyhow::Result<Outcome> {
        match request {
            Request::Status => self.status().map(|status| Outcome::Status(Box::new(status))),
            Request::Drain => {
                self.order(Command::Drain)?;
                Ok(Outcome::Done(
                    "draining: new connections go elsewhere, sessions stay until they end".to_owned(),
                ))
            }
            Request::Undrain => {
                self.order(Command::Undrain)?;
                Ok(Outcome::Done("serving again".to_owned()))
            }
            Request::Rebalance => {
                self.order(Command::Rebalance)?;
                Ok(Outcome::Done("buckets move to where the table wants them, busy ones included".to_owned()))
            }
            Request::Reload => self.reload().map(Outcome::Done),
            Request::Watch => match self.watchers.join() {
                Some(lines) => Ok(Outcome::Lines(lines)),
                None => bail!("too many are watching already"),
            },
        }
    }

    /// Reads the configuration again and applies what is different.
    ///
    /// # Errors
    /// The file is wrong, or it changes what only a restart can change. Then nothing has changed.
    pub fn reload(&self) -> anyhow::Result<String> {
        let mut gatherer = self.gatherer();
        let (old, old_plan) = gatherer.configuration();
        let new = Config::load(&self.paths.config)?;
        let node = new.this_node(Some(&old_plan.node.name))?;
        let plan = Plan::new(&new, node)?;
        let changes = differences(old, old_plan, &new, &plan)?;
        if new.membership == Membership::Living {
            // All keys are read before anything is applied.
            let sealers =
                plan.vips.iter().map(|vip| living::sealer(&new, vip)).collect::<anyhow::Result<Vec<_>>>()?;
            for ((index, vip), sealer) in plan.vips.iter().enumerate().zip(sealers) {
                let config = Box::new(living::engine_config(&new, &plan, vip));
                self.beat_loop.send(Command::Reconfigure { vip: index, config, sealer: Box::new(sealer) });
            }
        }
        if old.health != new.health || old.checks != new.checks {
            let mut monitor = self.monitor.lock().unwrap_or_else(PoisonError::into_inner);
            // The old one first: two must not speak for the node.
            *monitor = None;
            *monitor = Some(Monitor::start(&subject(&new, &plan), &self.board, &self.beat_loop)?);
        }
        gatherer.reconfigure(&new, &plan);
        Ok(changes)
    }

    fn status(&self) -> anyhow::Result<Status> {
        let reports = self.report()?;
        self.gatherer().gather(&reports)
    }

    fn report(&self) -> anyhow::Result<Vec<VipReport>> {
        let (to, answer) = channel();
        self.beat_loop.send(Command::Report(to));
        answer.recv_timeout(PATIENCE).context("the beat loop does not answer; is this host overloaded?")
    }

    fn order(&self, command: Command) -> anyhow::Result<()> {
        if self.gatherer().configuration().0.membership == Membership::Static {
            bail!("with membership = \"static\" nobody would take over; set membership = \"living\"");
        }
        if self.beat_loop.send(command) { Ok(()) } else { bail!("the daemon is ending") }
    }

    fn gatherer(&self) -> std::sync::MutexGuard<'_, Gatherer> {
        self.gatherer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the health checks are about.
fn subject(config: &Config, plan: &Plan) -> Subject {
    let vips = plan.vips.iter().map(|vip| vip.vip.clone()).collect();
    Subject { config: config.clone(), vips, host_root: monitor::host_root() }
}

/// What a reload would change, in words.
///
/// # Errors
/// Something only a restart can change.
fn differences(old: &Config, old_plan: &Plan, new: &Config, plan: &Plan) -> anyhow::Result<String> {
    let restart = |what: &str| -> anyhow::Result<String> {
        bail!("{what} changed; that takes a restart of the daemon (sessions stay): nothing was applied")
    };
    if old.cluster != new.cluster || old.membership != new.membership {
        return restart("the cluster's name or membership");
    }
    if old.control_group != new.control_group {
        return restart("control_group");
    }
    if old_plan.node.id != plan.node.id || old_plan.node.addresses != plan.node.addresses {
        return restart("this node's number or own address");
    }
    let place = |plan: &Plan| {
        let of = |vip: &super::plan::VipPlan| (vip.stage(), vip.vip.name.clone(), vip.vip.accelerate);
        (plan.vips.iter().map(of).collect::<Vec<_>>(), plan.kernel_config())
    };
    if place(old_plan) != place(plan) {
        return restart("an address, interface, hash, port or the set of VIPs of this node");
    }
    if old.membership == Membership::Static && (old.nodes != new.nodes || old.beat != new.beat) {
        return restart("the fixed set of nodes, or the beat time,");
    }
    let mut changes = Vec::new();
    let mut note = |changed: bool, what: &str| {
        if changed {
            changes.push(what.to_owned());
        }
    };
    note(old.beat != new.beat, "beat time");
    note(old.failback != new.failback, "failback");
    note(old.nodes != new.nodes, "nodes or weights");
    note(old.key_file != new.key_file, "place of the key file");
    note(old.health != new.health || old.checks != new.checks, "health checks");
    if new.membership == Membership::Living {
        changes.push("keys read again".to_owned());
    }
    Ok(if changes.is_empty() { "nothing is different".to_owned() } else { changes.join(", ") })
}
