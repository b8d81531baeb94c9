//! The steward: carries out what people ask of a running daemon.
//!
//! Commands arrive over the control socket, or as a signal. The steward validates, speaks to the beat loop, waits for
//! its answer where there is one, and never touches what the beat loop owns.

use super::Paths;
use super::beat_loop::{Command, VipReport};
use super::control::Request;
use super::desk::{Mail, Slot};
use super::gather::{Gatherer, Running};
use super::living;
use super::mailbox::Mailbox;
use super::news::{Line, Watchers};
use super::orders::Permits;
use super::plan::Plan;
use super::prober;
use crate::bans::keeper::Keeper;
use crate::bans::wire::Listed;
use crate::desk::question::{Answer, Order, Question, Reply};
use crate::desk::sessions::{self, Session};
use crate::limits::heirs::Replied;
use crate::limits::tally;
use crate::status::Status;
use crate::witness::{Tools, Witness};
use anyhow::{Context, bail};
use onevip_bpf::Sources;
use onevip_config::{Config, Membership, Node, RemoteDrain};
use onevip_core::Prefix;
use onevip_core::beat::NodeState;
use onevip_core::membership::PeerStatus;
use onevip_core::selector::Ports;
use onevip_core::{Bucket, NodeId, NodeSet};
use onevip_health::board::Board;
use onevip_health::monitor::{self, Announce, Monitor, Subject};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the beat loop may take to answer. It answers within a turn, a few microseconds, unless it is frozen.
const PATIENCE: Duration = Duration::from_secs(1);

/// Carries out requests.
pub struct Steward {
    paths: Paths,
    beat_loop: Mailbox<Command>,
    letters: Slot,
    prober: Mailbox<prober::Question>,
    permits: Permits,
    watchers: Watchers,
    bans: Arc<Keeper>,
    sources: Sources,
    gatherer: Mutex<Gatherer>,
    board: Arc<Board>,
    announce: Announce,
    /// None only after the threads of new checks could not be started.
    monitor: Mutex<Option<Monitor>>,
    tools: Mutex<Tools>,
    witness: Mutex<Option<Witness>>,
}

/// How the steward reaches others.
pub struct Ways {
    /// The beat loop.
    pub beat_loop: Mailbox<Command>,
    /// The desk, for letters to other nodes.
    pub letters: Slot,
    /// Who asks kernels.
    pub prober: Mailbox<prober::Question>,
    /// Those who watch.
    pub watchers: Watchers,
    /// The list of bans.
    pub bans: Arc<Keeper>,
    /// The sources that the kernel part counts.
    pub sources: Sources,
}

/// What came of a request.
pub enum Outcome {
    /// The state of this node.
    Status(Box<Status>),
    /// Who is logged in here.
    Sessions(Vec<Session>),
    /// Who is kept out.
    Bans(Vec<Listed>),
    /// Who was counted.
    Limits(Vec<tally::Line>),
    /// Done; in words.
    Done(String),
    /// Replies will come, at the latest when the desk has given up.
    Replies(Replies),
    /// It takes a while, and is then done, or not.
    Later(Box<dyn FnOnce() -> anyhow::Result<String> + Send>),
    /// Lines will follow.
    Lines(Receiver<Line>),
}

/// Replies of which some are still to come.
pub struct Replies {
    have: Vec<Reply>,
    named: Vec<(NodeId, String)>,
    letters: Receiver<(NodeId, Result<Answer, String>)>,
}

impl Replies {
    /// Waits for them: as many as were asked, or until the desk is closed. By the names of their nodes.
    pub fn wait(mut self) -> Vec<Reply> {
        for (id, answer) in self.letters.iter().take(self.named.len()) {
            if let Some((_, node)) = self.named.iter().find(|(known, _)| *known == id) {
                self.have.push(Reply { node: node.clone(), answer });
            }
        }
        self.have.sort_by(|a, b| a.node.cmp(&b.node));
        self.have
    }
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
        ways: Ways,
        running: Running,
    ) -> anyhow::Result<Self> {
        let Ways { beat_loop, letters, prober, watchers, bans, sources } = ways;
        let (board, tools) = (Arc::clone(&running.health), running.witness.clone());
        let gatherer = Mutex::new(Gatherer::of_daemon(config, plan, &paths.run_dir, running)?);
        let to_loop = beat_loop.clone();
        let announce: Announce = Arc::new(move |health, percent| {
            to_loop.send(Command::Feel { health, percent });
        });
        let monitor = Mutex::new(Some(Monitor::start(&subject(config, plan), &board, &announce)?));
        let witness = Mutex::new(Witness::start(config, plan, &tools, &beat_loop)?);
        Ok(Self {
            paths: paths.clone(),
            beat_loop,
            letters,
            prober,
            permits: Permits::default(),
            watchers,
            bans,
            sources,
            gatherer,
            board,
            announce,
            monitor,
            tools: Mutex::new(tools),
            witness,
        })
    }

    /// Does what is asked.
    ///
    /// # Errors
    /// It cannot be done; says why.
    pub fn handle(&self, request: &Request, by_root: bool) -> anyhow::Result<Outcome> {
        match request {
            Request::Status => self.status().map(|status| Outcome::Status(Box::new(status))),
            Request::Ask { question, node } => self.ask(question, node.as_deref()),
            Request::Order { node, order } => self.order_other(node, *order, by_root),
            Request::Who => {
                // Looked at without the lock: it may take a while on a host with many processes.
                let plan = self.gatherer().configuration().1.clone();
                sessions::look(&plan).map(Outcome::Sessions)
            }
            Request::Drain { force, vip } => {
                let at = self.index_of(vip.as_deref())?;
                self.drain(*force, at)?;
                let of = vip.as_ref().map_or_else(String::new, |vip| format!(" {vip}"));
                Ok(Outcome::Done(format!(
                    "draining{of}: new connections go elsewhere, sessions stay until they end"
                )))
            }
            Request::Undrain { vip } => {
                self.order(Command::Undrain(self.index_of(vip.as_deref())?))?;
                let of = vip.as_ref().map_or_else(String::new, |vip| format!(" {vip}"));
                Ok(Outcome::Done(format!("serving{of} again")))
            }
            Request::Rebalance => {
                self.order(Command::Rebalance)?;
                Ok(Outcome::Done("buckets move to where the table wants them, busy ones included".to_owned()))
            }
            Request::Forget { node } => self.forget(node, by_root).map(Outcome::Done),
            Request::Ban(order) => self.bans.ban(order).map(|words| self.spread(words)),
            Request::Unban { prefix } => {
                let (lifted, words) = self.bans.unban(prefix)?;
                Ok(if lifted { self.spread(words) } else { Outcome::Done(words) })
            }
            Request::Bans => Ok(Outcome::Bans(self.bans.list())),
            Request::Limits => {
                let plan = self.gatherer().configuration().1.clone();
                if tally::limits(&plan).is_empty() {
                    bail!("no service has a limit; [vip.service.limit] in the configuration sets one");
                }
                tally::lines(&plan, &self.sources).map(Outcome::Limits)
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
            let keyring = super::keys::read(&super::keys::location(&new.key_file))?.keyring();
            let sealers =
                plan.vips.iter().map(|vip| living::sealer(&new, vip)).collect::<anyhow::Result<Vec<_>>>()?;
            self.letters.post(Mail::Rekey(keyring));
            for ((index, vip), sealer) in plan.vips.iter().enumerate().zip(sealers) {
                let config = Box::new(living::engine_config(&new, &plan, vip));
                self.beat_loop.send(Command::Reconfigure { vip: index, config, sealer: Box::new(sealer) });
            }
        }
        let (before, after) = (prober::others(old, plan.node.id), prober::others(&new, plan.node.id));
        if before != after {
            let moved =
                before.iter().chain(&after).filter(|one| !(before.contains(one) && after.contains(one)));
            self.beat_loop.send(Command::AskAnew(moved.map(|(node, _)| *node).collect()));
            self.prober.send(prober::Question::Nodes(after));
        }
        if old.health != new.health || old.checks != new.checks {
            let mut monitor = self.monitor.lock().unwrap_or_else(PoisonError::into_inner);
            // The old one first: two must not speak for the node.
            *monitor = None;
            *monitor = Some(Monitor::start(&subject(&new, &plan), &self.board, &self.announce)?);
        }
        if old.health != new.health || old.nodes != new.nodes {
            let tools = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
            let mut witness = self.witness.lock().unwrap_or_else(PoisonError::into_inner);
            // The old one first, as above.
            *witness = None;
            *witness = Witness::start(&new, &plan, &tools, &self.beat_loop)?;
        }
        gatherer.reconfigure(&new, &plan);
        self.bans.reconfigure(&new);
        Ok(changes)
    }

    /// Takes a silent node for gone, on this node.
    fn forget(&self, name: &str, by_root: bool) -> anyhow::Result<String> {
        if !by_root {
            bail!("only root may say that a node is gone: its sessions are reset if it is not");
        }
        let node = {
            let gatherer = self.gatherer();
            let (config, plan) = gatherer.configuration();
            let node = config.node_by_name(name);
            let node = node.with_context(|| format!("there is no node {name} in the configuration"))?.id;
            if node == plan.node.id {
                bail!("{name} is this node");
            }
            node
        };
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

    /// Drains this node, or ends that.
    fn obey(&self, order: Order) -> anyhow::Result<String> {
        match order {
            Order::Drain { force } => {
                self.drain(force, None)?;
                Ok("draining: new connections go elsewhere, sessions stay until they end".to_owned())
            }
            Order::Undrain => self.order(Command::Undrain(None)).map(|()| "serving again".to_owned()),
        }
    }

    /// Does what root on another node wants done.
    fn obey_other(&self, from: Option<NodeId>, question: &Question) -> anyhow::Result<Answer> {
        let from = from.context("a node gives itself no orders")?;
        let (allowed, name) = {
            let gatherer = self.gatherer();
            let config = gatherer.configuration().0;
            let name = config.node(from).map_or_else(|| format!("node {from}"), |node| node.name.clone());
            (config.support.remote_drain == RemoteDrain::Allow, name)
        };
        if !allowed {
            bail!("it takes no orders from other nodes (remote_drain in [desk]); log in there");
        }
        let now = Instant::now();
        let Question::Order { permit, order } = question else {
            return self.permits.draw(from, now).map(Answer::Permit).context("too many orders at once");
        };
        if !self.permits.take(from, *permit, now) {
            bail!("the order came too late, or twice");
        }
        let done = self.obey(*order);
        match &done {
            Ok(_) => tracing::warn!("root on {name} ordered this node to {order}: done"),
            Err(error) => tracing::warn!("root on {name} ordered this node to {order}: refused: {error:#}"),
        }
        done.map(Answer::Done)
    }

    /// Has another node do something.
    fn order_other(&self, name: &str, order: Order, by_root: bool) -> anyhow::Result<Outcome> {
        if !by_root {
            bail!("only root may give orders to other nodes");
        }
        let (node, name) = {
            let gatherer = self.gatherer();
            let (config, plan) = gatherer.configuration();
            let node = config
                .node_by_name(name)
                .with_context(|| format!("there is no node {name} in the configuration"))?;
            if node.id == plan.node.id {
                drop(gatherer);
                return self.obey(order).map(Outcome::Done);
            }
            if config.membership == Membership::Static {
                bail!("with membership = \"static\" the nodes do not speak to each other");
            }
            (node.id, node.name.clone())
        };
        let letters = self.letters.clone();
        Ok(Outcome::Later(Box::new(move || super::orders::give(&letters, node, &name, order))))
    }

    /// Answers what another node, or a command of this one, asks.
    pub fn answer(&self, from: Option<NodeId>, question: &Question) -> Answer {
        self.try_answer(from, question).unwrap_or_else(|error| Answer::Refused(format!("{error:#}")))
    }

    fn try_answer(&self, from: Option<NodeId>, question: &Question) -> anyhow::Result<Answer> {
        let plan = self.gatherer().configuration().1.clone();
        Ok(match question {
            Question::Who { whom } => {
                let mut sessions = sessions::look(&plan)?;
                sessions.retain(|session| whom.as_ref().is_none_or(|whom| session.is_of(whom)));
                Answer::Sessions(sessions)
            }
            Question::Where { vip, address, bucket } => {
                let index = plan.vips.iter().position(|known| known.vip.name == *vip);
                let index = index.with_context(|| format!("it does not serve {vip}"))?;
                let bucket = Bucket::new(*bucket).context("there is no such bucket")?;
                let reports = self.report()?;
                let held = sessions::count(&plan, vip, *address)?;
                let mut place = self.gatherer().place(index, bucket, held, reports.get(index));
                if place.answers {
                    place.at_limits = tally::of_client(&plan, &self.sources, index, *address)?;
                }
                Answer::Place(place)
            }
            Question::Bans { epoch, after } => {
                let part = self.bans.news(*epoch, *after);
                Answer::Bans { epoch: part.epoch, upto: part.upto, number: part.number, bans: part.bans }
            }
            Question::Counts => {
                let mine = |vip, source: &Prefix, port| self.claims_source(&plan, vip, source, port);
                Answer::Counts(tally::for_heirs(&plan, &self.sources, mine)?)
            }
            Question::BansChanged { node, epoch, number } => {
                self.bans.hint(NodeId::new(*node).context("there is no such node")?, *epoch, *number);
                Answer::Noted
            }
            Question::Facts => {
                // Before the lock: sshd may take a moment.
                let config = self.gatherer().configuration().0.clone();
                let host_keys = super::host_keys::look(&config, &plan);
                Answer::Facts(self.gatherer().facts(host_keys))
            }
            Question::Permit | Question::Order { .. } => self.obey_other(from, question)?,
        })
    }

    /// Asks all other nodes that can be heard, and this one; or a single one.
    fn ask(&self, question: &Question, whom: Option<&str>) -> anyhow::Result<Outcome> {
        if !question.is_harmless() {
            bail!("that is no question, but an order");
        }
        let wanted = |node: &Node| whom.is_none_or(|whom| node.name.eq_ignore_ascii_case(whom));
        let reports = self.report()?;
        if self.gatherer().configuration().0.membership == Membership::Static {
            bail!("with membership = \"static\" the nodes do not speak to each other; ask on each of them");
        }
        let (to, letters) = channel();
        let (mut named, mut silent) = (Vec::new(), Vec::new());
        let gatherer = self.gatherer();
        let (config, plan) = gatherer.configuration();
        for other in config.nodes.iter().filter(|other| other.id != plan.node.id && wanted(other)) {
            let engines = reports.iter().filter_map(|report| report.membership.as_ref());
            let known: Vec<&PeerStatus> =
                engines.flat_map(|engine| &engine.peers).filter(|peer| peer.node == other.id).collect();
            if known.iter().any(|peer| peer.heard) {
                let mail = Mail::Ask { node: other.id, question: question.clone(), to: to.clone() };
                if !self.letters.post(mail) {
                    bail!("too many questions are open; ask again");
                }
                named.push((other.id, other.name.clone()));
            } else if !known.is_empty() {
                let why =
                    known.iter().find_map(|peer| peer.why_lost).map_or("never heard", super::news::why_lost);
                silent.push(Reply { node: other.name.clone(), answer: Err(format!("it is out: {why}")) });
            }
        }
        let me = wanted(&plan.node).then(|| plan.node.name.clone());
        drop(gatherer);
        silent.extend(me.map(|node| Reply { node, answer: Ok(self.answer(None, question)) }));
        Ok(Outcome::Replies(Replies { have: silent, named, letters }))
    }

    /// What was done about a ban, and how far it goes.
    fn spread(&self, words: String) -> Outcome {
        let is_static = self.gatherer().configuration().0.membership == Membership::Static;
        Outcome::Done(match (is_static, self.heard().len()) {
            (true, _) => {
                format!("{words} · on this node only: with membership = \"static\" tell each of them")
            }
            (false, 0) => format!("{words} · no other node is heard; they learn it when they are"),
            (false, 1) => format!("{words} · the other node is told"),
            (false, count) => format!("{words} · {count} other nodes are told"),
        })
    }

    /// Whether this node claims the bucket of a source, which is a single address.
    fn claims_source(&self, plan: &Plan, vip: usize, source: &Prefix, port: u16) -> bool {
        let ports = Ports { transport: tally::TRANSPORT, source: 0, dest: port };
        let bucket = plan.vips[vip].vip.selector().bucket(source.address(), Some(ports));
        self.gatherer().claims(vip, bucket)
    }

    /// Asks all other nodes for what they have counted in buckets that are no longer theirs; how many.
    pub fn ask_for_counts(&self, to: &std::sync::mpsc::Sender<Replied>) -> usize {
        let plan = self.gatherer().configuration().1.clone();
        if tally::limits(&plan).is_empty() {
            return 0;
        }
        let mail = |node| Mail::Ask { node, question: Question::Counts, to: to.clone() };
        self.heard().iter().filter(|node| self.letters.post(mail(*node))).count()
    }

    /// Takes over what another node has counted.
    pub fn take_counts(&self, answer: Answer) {
        let Answer::Counts(told) = answer else { return };
        let plan = self.gatherer().configuration().1.clone();
        let mine = |vip, source: &Prefix, port| self.claims_source(&plan, vip, source, port);
        if let Err(error) = tally::take_over(&plan, &self.sources, &told, mine) {
            tracing::warn!("counts of another node were not taken over: {error:#}");
        }
    }

    /// The other nodes that can be heard now.
    pub fn heard(&self) -> NodeSet {
        let reports = self.report().unwrap_or_default();
        let engines = reports.iter().filter_map(|report| report.membership.as_ref());
        engines.flat_map(|engine| &engine.peers).filter(|peer| peer.heard).map(|peer| peer.node).collect()
    }

    fn status(&self) -> anyhow::Result<Status> {
        self.look().map(|(status, _)| status)
    }

    /// Everything about this node, and what its beat loop said of it.
    ///
    /// # Errors
    /// The beat loop does not answer, or the kernel part cannot be read.
    pub fn look(&self) -> anyhow::Result<(Status, Vec<VipReport>)> {
        let reports = self.report()?;
        let status = self.gatherer().gather(&reports)?;
        Ok((status, reports))
    }

    /// Whether the beat loop turns.
    pub fn beats(&self) -> bool {
        self.report().is_ok()
    }

    fn report(&self) -> anyhow::Result<Vec<VipReport>> {
        let (to, answer) = channel();
        self.beat_loop.send(Command::Report(to));
        answer.recv_timeout(PATIENCE).context("the beat loop does not answer; is this host overloaded?")
    }

    /// Drains one VIP, or all.
    fn drain(&self, force: bool, at: Option<usize>) -> anyhow::Result<()> {
        if !force {
            self.refuse_the_last(at)?;
        }
        self.order(Command::Drain(at))
    }

    /// The index of the VIP of this name, where one is named.
    fn index_of(&self, vip: Option<&str>) -> anyhow::Result<Option<usize>> {
        let Some(name) = vip else { return Ok(None) };
        let gatherer = self.gatherer();
        let vips = &gatherer.configuration().1.vips;
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
        let reports = self.report()?;
        let gatherer = self.gatherer();
        let vips = &gatherer.configuration().1.vips;
        let engines = reports.iter().filter_map(|report| report.membership.as_ref());
        for (index, (vip, engine)) in vips.iter().zip(engines).enumerate() {
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
    if old.metrics != new.metrics || old.hooks != new.hooks {
        return restart("[metrics] or a [[hook]]");
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
    note(old.never_banned != new.never_banned, "who is never banned");
    if new.membership == Membership::Living {
        changes.push("keys read again".to_owned());
    }
    Ok(if changes.is_empty() { "nothing is different".to_owned() } else { changes.join(", ") })
}
