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
use crate::desk::sessions::{self, Session};
use crate::status::Status;
use anyhow::{Context, bail};
use onevip_core::beat::NodeState;
use onevip_core::membership::PeerStatus;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long the beat loop may take to answer. It answers within a turn, a few microseconds, unless it is frozen.
const PATIENCE: Duration = Duration::from_secs(1);

/// Carries out requests.
pub struct Steward {
    paths: Paths,
    beat_loop: Mailbox<Command>,
    watchers: Watchers,
    gatherer: Mutex<Gatherer>,
}

/// What came of a request.
pub enum Outcome {
    /// The state of this node.
    Status(Box<Status>),
    /// Who is logged in here.
    Sessions(Vec<Session>),
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
        let gatherer = Gatherer::of_daemon(config, plan, &paths.run_dir, running)?;
        Ok(Self { paths: paths.clone(), beat_loop, watchers, gatherer: Mutex::new(gatherer) })
    }

    /// Does what is asked.
    ///
    /// # Errors
    /// It cannot be done; says why.
    pub fn handle(&self, request: &Request) -> anyhow::Result<Outcome> {
        match request {
            Request::Status => self.status().map(|status| Outcome::Status(Box::new(status))),
            Request::Who => {
                // Looked at without the lock: it may take a while on a host with many processes.
                let plan = self.gatherer().configuration().1.clone();
                sessions::look(&plan).map(Outcome::Sessions)
            }
            Request::Drain { force } => {
                if !force {
                    self.refuse_the_last()?;
                }
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

    /// Refuses to drain when no other node would serve the clients.
    fn refuse_the_last(&self) -> anyhow::Result<()> {
        let reports = self.report()?;
        let gatherer = self.gatherer();
        let vips = &gatherer.configuration().1.vips;
        for (vip, engine) in vips.iter().zip(reports.iter().filter_map(|report| report.membership.as_ref())) {
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
        if self.gatherer().configuration().0.membership == Membership::Static {
            bail!("with membership = \"static\" nobody would take over; set membership = \"living\"");
        }
        if self.beat_loop.send(command) { Ok(()) } else { bail!("the daemon is ending") }
    }

    fn gatherer(&self) -> std::sync::MutexGuard<'_, Gatherer> {
        self.gatherer.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    if new.membership == Membership::Living {
        changes.push("keys read again".to_owned());
    }
    Ok(if changes.is_empty() { "nothing is different".to_owned() } else { changes.join(", ") })
}
