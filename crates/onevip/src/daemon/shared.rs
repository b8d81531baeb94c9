//! What the threads of the engine share, and how each is started.

use crate::base::beat_loop::BeatLoopHandle;
use crate::base::command::{Command, Notice, ProbeRequest};
use crate::base::current::Current;
use crate::base::interfaces::Interfaces;
use crate::base::mailbox::{Inbox, Mailbox, mailbox};
use crate::base::paths::Paths;
use crate::base::plan::VipPlan;
use crate::base::supervisor::Supervisor;
use crate::engine::beat_loop::BeatLoop;
use crate::engine::follower::Follower;
use crate::engine::lease_slack::LeaseSlack;
use crate::engine::neighbour_probe::NeighbourProbe;
use crate::engine::reconciler::Reconciler;
use crate::engine::records::Records;
use crate::engine::scan::Scanned;
use crate::engine::start::{LivingStart, vip_loops};
use crate::events::bus::Bus;
use crate::events::log;
use crate::rpc::transport::{self, RpcCommand, RpcHandle};
use anyhow::Context;
use onevip_bpf::Kernel;
use onevip_core::beat::Facts;
use onevip_health::results::Results;
use onevip_host::frames::FrameSender;
use onevip_host::journal::Journal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::{self, Receiver};

/// What the threads share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) current: Current,
    pub(super) beat_loop: BeatLoopHandle,
    pub(super) probe: Mailbox<ProbeRequest>,
    pub(super) rpc: RpcHandle,
    pub(super) notices: mpsc::Sender<Notice>,
    pub(super) bus: Bus,
    pub(super) health: Arc<Results>,
    pub(super) interfaces: Arc<Interfaces>,
    pub(super) slack: Arc<LeaseSlack>,
    /// Whether the beat loop has real-time rights.
    pub(super) realtime: Arc<AtomicBool>,
    /// Digest of the SSH host keys; 0 while they are not known.
    pub(super) host_keys: Arc<AtomicU64>,
}

/// Where what they tell each other arrives.
pub(super) struct Ends {
    pub(super) commands: Inbox<Command>,
    pub(super) probe: Inbox<ProbeRequest>,
    pub(super) rpc: Receiver<RpcCommand>,
    pub(super) notices: Receiver<Notice>,
}

impl Shared {
    pub(super) fn new(current: Current, interfaces: Interfaces) -> anyhow::Result<(Self, Ends)> {
        let (to_beat_loop, commands) = mailbox().context("cannot make a mailbox")?;
        let (to_probe, probe) = mailbox().context("cannot make a mailbox")?;
        let (to_rpc, rpc) = transport::handle(current.get().plan.node.id);
        let (to_log, notices) = mpsc::channel();
        let of_checks = to_log.clone();
        let shared = Self {
            current,
            beat_loop: BeatLoopHandle::new(to_beat_loop),
            probe: to_probe,
            rpc: to_rpc,
            notices: to_log,
            bus: Bus::default(),
            // The log ends last; without it nobody misses what a check says.
            health: Arc::new(Results::new(move |change| drop(of_checks.send(Notice::Health(change))))),
            interfaces: Arc::new(interfaces),
            slack: Arc::default(),
            realtime: Arc::default(),
            host_keys: Arc::default(),
        };
        Ok((shared, Ends { commands, probe, rpc, notices }))
    }

    pub(super) fn beat_loop(
        &self,
        kernel: &Kernel,
        scanned: &[Scanned],
        living: Option<&LivingStart>,
        sender: FrameSender,
        inbox: Inbox<Command>,
    ) -> anyhow::Result<BeatLoop> {
        let current = self.current.get();
        Ok(BeatLoop {
            vips: vip_loops(&current.config, &current.plan, scanned, living, &kernel.words())?,
            words: kernel.words(),
            beats: kernel.beats()?,
            sender,
            inbox,
            notices: self.notices.clone(),
            probe: self.probe.clone(),
            rpc: self.rpc.clone(),
            slack: Arc::clone(&self.slack),
            realtime: Arc::clone(&self.realtime),
        })
    }

    pub(super) fn start_beats(&self, supervisor: &mut Supervisor, beat_loop: BeatLoop) -> anyhow::Result<()> {
        let stop = self.beat_loop.clone();
        supervisor.start(
            "beats",
            move || _ = stop.send(Command::Leave),
            move || {
                beat_loop.run();
                Ok(())
            },
        )
    }

    pub(super) fn start_probe(
        &self,
        supervisor: &mut Supervisor,
        requests: Inbox<ProbeRequest>,
    ) -> anyhow::Result<()> {
        let (current, stop) = (self.current.get(), self.probe.clone());
        let (beat_loop, notices) = (self.beat_loop.clone(), self.notices.clone());
        let probe = NeighbourProbe::new(&current.config, &current.plan, requests, beat_loop, notices)?;
        supervisor.start(
            "probe",
            move || _ = stop.send(ProbeRequest::Stop),
            move || {
                probe.run();
                Ok(())
            },
        )
    }

    pub(super) fn start_reconciler(
        &self,
        supervisor: &mut Supervisor,
        kernel: Kernel,
        journal: Journal,
        scanned: Vec<Scanned>,
        living: bool,
    ) -> anyhow::Result<()> {
        let current = self.current.get();
        let (interfaces, to_loop, to_probe) =
            (Arc::clone(&self.interfaces), self.beat_loop.clone(), self.probe.clone());
        let reconciler = Reconciler {
            setups: current.plan.vips.iter().map(VipPlan::setup).collect(),
            follower: Follower::new(current.plan.clone(), living, interfaces, to_loop, to_probe),
            kernel,
            journal,
            scanned,
            beat_loop: self.beat_loop.clone(),
            facts: Facts { config_digest: u64::from_be_bytes(current.config.digest()), ..Facts::default() },
            host_keys: Arc::clone(&self.host_keys),
            health: Arc::clone(&self.health),
            contested: None,
        };
        supervisor.start_until("reconciler", move |stop| reconciler.run(stop))
    }

    pub(super) fn start_log(
        &self,
        supervisor: &mut Supervisor,
        notices: Receiver<Notice>,
        paths: &Paths,
    ) -> anyhow::Result<()> {
        let (current, bus, stop) = (self.current.get(), self.bus.clone(), self.notices.clone());
        let vips: Vec<_> = current.plan.vips.iter().map(|vip| vip.vip.name.clone()).collect();
        let mut records = Records::new(&paths.state_dir, self.beat_loop.clone(), self.rpc.clone());
        supervisor.start(
            "events",
            move || drop(stop.send(Notice::Left)),
            move || {
                log::run(&current.config, &vips, &notices, &bus, |notice| {
                    records.keep(&current.config, notice)
                });
                Ok(())
            },
        )
    }

    /// In words, which VIPs this node serves where.
    pub(super) fn serves(&self) -> String {
        let plan = &self.current.get().plan;
        let one = |vip: &VipPlan| {
            let addresses: Vec<_> = vip.vip.addresses.iter().map(ToString::to_string).collect();
            format!("{} ({}) on {}", vip.vip.name, addresses.join(", "), vip.link.name)
        };
        let vips: Vec<String> = plan.vips.iter().map(one).collect();
        format!("{} serves {}", plan.node.name, vips.join("; "))
    }
}
