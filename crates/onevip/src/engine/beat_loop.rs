//! The beat loop: the one thread on which a node's claims depend.
//!
//! It reads beats, asks the engines, writes lease and flags, and sends beats. It does nothing that can block: no
//! logging, no files, no netlink, no memory that might be paged out. Other threads tell it what it needs through
//! [`Command`]s; what people should know leaves as [`Notice`]s. It alone writes flags and lease, so every word of the
//! kernel part has one writer.

use super::lease_slack::LeaseSlack;
use crate::base::clock::now;
use crate::base::command::{Command, Notice, ProbeRequest};
use crate::base::mailbox::{Inbox, Mailbox};
use crate::engine::vip_loop::{Outside, VipLoop};
use crate::rpc::transport::RpcHandle;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::SigSet;
use nix::sys::time::TimeSpec;
use onevip_bpf::{Beats, Words};
use onevip_core::Time;
use onevip_host::frames::{self, FrameSender};
use onevip_host::realtime;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// How many beats are read in one turn of the loop, so that a flood of them cannot keep it from its timers. 64 nodes
/// that all beat at once are well below it.
const BEATS_PER_TURN: usize = 512;

/// The state of the loop.
pub struct BeatLoop {
    /// Flags and lease.
    pub words: Words,
    /// The VIPs, by their index.
    pub vips: Vec<VipLoop>,
    /// Where beats come from.
    pub beats: Beats,
    /// Where they go.
    pub sender: FrameSender,
    /// Orders.
    pub inbox: Inbox<Command>,
    /// What people should know.
    pub notices: mpsc::Sender<Notice>,
    /// Who asks kernels.
    pub probe: Mailbox<ProbeRequest>,
    /// How much of the lease was left at each renewal.
    pub slack: Arc<LeaseSlack>,
    /// Where messages to this node go.
    pub rpc: RpcHandle,
    /// Set when the thread has real-time rights.
    pub realtime: Arc<AtomicBool>,
}

impl BeatLoop {
    /// Runs until everything is handed over after [`Command::Leave`].
    pub fn run(mut self) {
        self.realtime.store(realtime::make_current_thread_realtime().is_ok(), Ordering::Relaxed);
        self.for_each_vip(|vip, outside| vip.carry_out(outside));
        while !self.vips.iter().all(VipLoop::has_left) {
            self.wait();
            // After a stall of this very thread the queue holds what was said meanwhile: that comes before any timer.
            self.read_beats();
            self.read_commands();
            let now = now();
            self.for_each_vip(|vip, outside| vip.timeout(now, outside));
        }
        // Whoever waits for it may be gone already.
        let _ = self.notices.send(Notice::Left);
    }

    /// Waits for a beat, a command, or the next timer.
    fn wait(&self) {
        let next = self.vips.iter().map(VipLoop::poll_timeout).min().unwrap_or(Time::NEVER);
        let left = next.since(now()).min(Duration::from_secs(1));
        let mut fds = [
            PollFd::new(self.beats.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.inbox.as_fd(), PollFlags::POLLIN),
        ];
        // An interrupted wait is a short one.
        let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(left)), None::<SigSet>);
    }

    fn read_beats(&mut self) {
        for _ in 0..BEATS_PER_TURN {
            let Some(beat) = self.beats.next() else { return };
            let Some(arrived) = frames::read(&beat.datagram) else { continue };
            if self.rpc.takes(beat.vip, arrived.payload) {
                continue;
            }
            let (index, now) = (beat.vip, now());
            self.with_vip(index, |vip, outside| vip.beat_arrived(now, &arrived, outside));
        }
    }

    fn read_commands(&mut self) {
        self.inbox.quiet();
        while let Some(command) = self.inbox.next() {
            let now = now();
            match command {
                Command::Scanned { vip, sessions, as_of, facts } => {
                    self.with_vip(vip, |vip, outside| {
                        vip.sessions_scanned(now, &sessions, as_of, facts, outside)
                    });
                }
                Command::KernelAsked { vip, node } => self.with_vip(vip, |vip, outside| {
                    vip.with_engine(|engine| engine.kernel_asked(now, node), outside);
                }),
                Command::KernelAnswered(node) => {
                    self.for_each_engine(|engine| engine.kernel_answered(now, node))
                }
                Command::KernelSpoke(node) => self.for_each_engine(|engine| engine.kernel_spoke(now, node)),
                Command::AddressesChanged(nodes) => {
                    self.for_each_engine(|engine| engine.addresses_changed(now, nodes))
                }
                Command::Forget(node, to) => {
                    let forgotten = std::cell::Cell::new(0);
                    self.for_each_engine(|engine| {
                        forgotten.set(forgotten.get() + usize::from(engine.forget(now, node)));
                    });
                    // Nobody waits for it any more: no harm.
                    let _ = to.send(forgotten.get());
                }
                Command::BeginAnew(incarnation) => {
                    self.for_each_engine(|engine| engine.reincarnate(now, incarnation));
                }
                Command::Feel { health, percent } => {
                    self.for_each_vip(|vip, outside| vip.feel(now, health, percent, outside));
                }
                Command::Drain(at) => self.for_engines(at, |engine| engine.drain(now)),
                Command::Undrain(at) => self.for_engines(at, |engine| engine.undrain(now)),
                Command::Rebalance => self.for_each_engine(|engine| engine.rebalance(now)),
                Command::Reconfigure { vip, config, sealer } => {
                    self.with_vip(vip, |vip, outside| vip.reconfigure(now, *config, *sealer, outside));
                }
                Command::Routes { vip, routes, activity } => {
                    self.with_vip(vip, |vip, _| vip.reroute(routes, *activity));
                }
                Command::Sample { vip, buckets } => {
                    self.with_vip(vip, |vip, outside| vip.sample(*buckets, outside));
                }
                Command::Testify { vip, able, suspects } => self.with_vip(vip, |vip, outside| {
                    vip.with_engine(|engine| engine.testify(now, able, suspects), outside);
                }),
                Command::View(to) => {
                    let views = self.vips.iter().enumerate();
                    let views = views.filter_map(|(index, vip)| Some((index, vip.view()?))).collect();
                    // Nobody waits for it any more: no harm.
                    let _ = to.send(views);
                }
                Command::Report(to) => {
                    // Nobody waits for it any more: no harm.
                    let _ = to.send(self.vips.iter().map(|vip| vip.report(now)).collect());
                }
                Command::Leave => self.for_each_vip(|vip, outside| vip.leave(now, outside)),
            }
        }
    }

    /// The engine of one VIP, or all.
    fn for_engines(&mut self, at: Option<usize>, act: impl Fn(&mut onevip_core::membership::Engine)) {
        match at {
            None => self.for_each_engine(act),
            Some(index) => self.with_vip(index, |vip, outside| vip.with_engine(&act, outside)),
        }
    }

    fn for_each_engine(&mut self, act: impl Fn(&mut onevip_core::membership::Engine)) {
        self.for_each_vip(|vip, outside| vip.with_engine(&act, outside));
    }

    fn for_each_vip(&mut self, mut act: impl FnMut(&mut VipLoop, &Outside<'_>)) {
        for index in 0..self.vips.len() {
            self.with_vip(index, &mut act);
        }
    }

    fn with_vip(&mut self, index: usize, act: impl FnOnce(&mut VipLoop, &Outside<'_>)) {
        let Some(vip) = self.vips.get_mut(index) else { return };
        let outside = Outside {
            words: &self.words,
            sender: &self.sender,
            notices: &self.notices,
            probe: &self.probe,
            slack: &self.slack,
        };
        act(vip, &outside);
    }
}
