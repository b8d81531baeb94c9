//! The features of a daemon: what runs beside the engine, what commands can ask for, what other nodes can.

use super::shared::Shared;
use crate::bans;
use crate::bans::list::NodeBans;
use crate::bans::replication;
use crate::bans::wire::Wake;
use crate::base::paths::Paths;
use crate::base::supervisor::{Supervisor, background};
use crate::control::reload::{self, Reload, Reloader};
use crate::control::server::{self, Handler};
use crate::doctor::{facts, host_keys};
use crate::engine::answers;
use crate::engine::health::HealthChecks;
use crate::engine::orders::{self, Orders};
use crate::engine::reload::Engines;
use crate::engine::remote_drain::{self, RemoteOrders};
use crate::engine::scan::Scanned;
use crate::engine::start::LivingStart;
use crate::events::bus;
use crate::limits::hand_over::{self, Counts};
use crate::limits::{counters, refusals};
use crate::peer_check::{PeerCheckPart, PeerCheckTools};
use crate::report::collect::{self, Collector, Running};
use crate::report::{hooks, metrics, placement, systemd};
use crate::rpc::message::QuestionHandlers;
use crate::rpc::nodes::Nodes;
use crate::rpc::transport::{RpcCommand, RpcTransport};
use crate::sessions::handlers as sessions;
use anyhow::Context;
use onevip_bpf::{EffectCounters, Kernel, Refusals};
use onevip_host::frames::FrameSender;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

/// What the features are made of.
pub(super) struct Features {
    shared: Shared,
    config_file: PathBuf,
    /// Open from the beginning: a start that fails for it fails before this node says a word to others.
    control: UnixListener,
    collector: Arc<Collector>,
    bans: Arc<NodeBans>,
    wake: Sender<Wake>,
    wakes: Receiver<Wake>,
    counts: Arc<Counts>,
    orders: Arc<Orders>,
    remote_orders: Arc<RemoteOrders>,
    answerers: Arc<QuestionHandlers>,
    peer_check: PeerCheckTools,
    effects: EffectCounters,
}

impl Features {
    /// For a daemon with this kernel part; begins to look at the host keys.
    pub(super) fn new(
        shared: &Shared,
        kernel: &Kernel,
        scanned: &[Scanned],
        paths: &Paths,
        memory_locked: bool,
    ) -> anyhow::Result<Self> {
        let (current, beat_loop, rpc) = (&shared.current, &shared.beat_loop, &shared.rpc);
        let configured = current.get();
        host_keys::watch(&configured, &shared.host_keys)?;
        let peer_check = PeerCheckTools {
            flows: kernel.flows(),
            suspicions: Arc::default(),
            notices: shared.notices.clone(),
        };
        let running = Running {
            beat_loop: beat_loop.clone(),
            since: Instant::now(),
            realtime: Arc::clone(&shared.realtime),
            memory_locked,
            host_keys: Arc::clone(&shared.host_keys),
            health: Arc::clone(&shared.health),
            peer_check: Arc::clone(&peer_check.suspicions),
            sessions: scanned.iter().map(|vip| Arc::clone(&vip.sessions)).collect(),
            interfaces: Arc::clone(&shared.interfaces),
        };
        let collector = Arc::new(Collector::of_daemon(current, &paths.run_dir, running)?);
        let (wake, wakes) = channel();
        let me = configured.plan.node.id;
        let bus = shared.bus.clone();
        let bans = NodeBans::new(&configured.config, me, kernel.bans()?, &paths.state_dir, bus, wake.clone());
        let bans = Arc::new(bans);
        let counts = Arc::new(Counts::new(current.clone(), kernel.sources(), kernel.words()));
        let orders = Arc::new(Orders::new(current.clone(), beat_loop.clone()));
        let remote_orders = RemoteOrders::new(current.clone(), Arc::clone(&orders), rpc.clone());
        let remote_orders = Arc::new(remote_orders);
        let mut answerers = vec![
            sessions::answerer(current),
            placement::answerer(current, &collector, kernel.sources(), beat_loop),
            facts::answerer(current, &shared.health),
            hand_over::answerer(&counts),
        ];
        answerers.extend(bans::handlers::answerers(&bans));
        answerers.extend(remote_drain::answerers(&remote_orders));
        Ok(Self {
            shared: shared.clone(),
            config_file: paths.config.clone(),
            control: server::listen(&paths.run_dir.control(), configured.config.control_group.as_deref())?,
            collector,
            bans,
            wake,
            wakes,
            counts,
            orders,
            remote_orders,
            answerers: Arc::new(QuestionHandlers(answerers)),
            peer_check,
            effects: kernel.effects(),
        })
    }

    /// Starts to answer refused SYNs and orphans, and what limits need, where there are any; a change of them takes a
    /// restart of the daemon.
    pub(super) fn start_limits(
        &self,
        supervisor: &mut Supervisor,
        mut refused: Refusals,
    ) -> anyhow::Result<()> {
        let (sender, interfaces) = (FrameSender::open(), Arc::clone(&self.shared.interfaces));
        let sender = sender.context("cannot open a packet socket")?;
        supervisor.start_until("refusals", move |stop| {
            refusals::answer(&mut refused, &interfaces, &sender, stop);
            Ok(())
        })?;
        if counters::limits(&self.shared.current.get().plan).is_empty() {
            return Ok(());
        }
        let records = self.shared.bus.subscribe().context("nobody can watch the claims")?;
        let (counts, rpc, beat_loop) =
            (Arc::clone(&self.counts), self.shared.rpc.clone(), self.shared.beat_loop.clone());
        supervisor.start_until("hand-over", move |stop| {
            hand_over::run(&records, &counts, &rpc, &beat_loop, stop);
            Ok(())
        })
    }

    /// Starts to carry messages, where membership is living.
    pub(super) fn start_rpc(
        &self,
        supervisor: &mut Supervisor,
        living: Option<&LivingStart>,
        commands: Receiver<RpcCommand>,
    ) -> anyhow::Result<()> {
        let Some(living) = living else { return Ok(()) };
        let (configured, interfaces) = (self.shared.current.get(), Arc::clone(&self.shared.interfaces));
        let transport = RpcTransport::new(&configured, &living.identity, interfaces, commands)?;
        let (stop, answerers) = (self.shared.rpc.clone(), Arc::clone(&self.answerers));
        supervisor.start(
            "rpc",
            move || _ = stop.send(RpcCommand::Stop),
            move || {
                transport.run(|from, question| answerers.answer(Some(from), question));
                Ok(())
            },
        )
    }

    /// Starts everything else: whoever asks is answered from now on.
    pub(super) fn start(self, supervisor: &mut Supervisor) -> anyhow::Result<Arc<Reloader>> {
        let shared = &self.shared;
        let configured = shared.current.get();
        let (config, plan) = (&configured.config, &configured.plan);
        let (bans, wake, rpc, me, beat_loop) =
            (Arc::clone(&self.bans), self.wake, shared.rpc.clone(), plan.node.id, shared.beat_loop.clone());
        let wakes = self.wakes;
        supervisor.start(
            "bans",
            move || drop(wake.send(Wake::Stop)),
            move || {
                replication::run(&bans, &wakes, &rpc, me, &beat_loop);
                Ok(())
            },
        )?;
        let (probe, beat_loop, rpc) = (shared.probe.clone(), shared.beat_loop.clone(), shared.rpc.clone());
        // Engines first; what cannot fail last.
        let parts: Vec<Arc<dyn Reload>> = vec![
            Arc::new(Engines { beat_loop: beat_loop.clone(), rpc: rpc.clone(), probe }),
            Arc::new(HealthChecks::start(&configured, &shared.health, beat_loop.clone())?),
            Arc::new(PeerCheckPart::start(&configured, self.peer_check, beat_loop.clone())?),
            Arc::clone(&self.bans) as Arc<dyn Reload>,
        ];
        let (current, health, effects) = (shared.current.clone(), Arc::clone(&shared.health), self.effects);
        supervisor.start_until("answers", move |stop| {
            answers::watch(&current, &effects, &health, stop);
            Ok(())
        })?;
        let reloader = Arc::new(Reloader::new(&self.config_file, shared.current.clone(), parts));
        let nodes = Nodes { current: shared.current.clone(), beat_loop, rpc, answerers: self.answerers };
        let mut handlers: Vec<Handler> = vec![
            collect::handler(&self.collector),
            sessions::handler(&shared.current),
            hand_over::handler(&self.counts),
            remote_drain::handler(&self.remote_orders),
            reload::handler(&reloader),
            bus::handler(&shared.bus),
            nodes.handler(),
        ];
        handlers.extend(orders::handlers(&self.orders));
        handlers.extend(bans::handlers::handlers(&self.bans, &shared.current, &shared.beat_loop));
        hooks::start(&config.hooks, &shared.bus)?;
        if let Some(listen) = &config.metrics {
            let (collector, slack) = (self.collector, Arc::clone(&shared.slack));
            let source = metrics::MetricsSource { collector, slack, bus: shared.bus.clone() };
            metrics::start(supervisor, listen, config.control_group.as_deref(), source)?;
        }
        systemd::start(supervisor, &shared.beat_loop)?;
        let listener = self.control;
        background("control", move || server::serve(&listener, &handlers))?;
        Ok(reloader)
    }
}
