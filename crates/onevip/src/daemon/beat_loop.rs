//! The beat loop: the one thread on which a node's claims depend.
//!
//! It reads beats, asks the engines, writes lease and flags, and sends beats. It does nothing that can block: no
//! logging, no files, no netlink, no memory that might be paged out. Other threads tell it what it needs through
//! [`Command`]s; what people should know leaves as [`Notice`]s. It alone writes flags and lease, so every word of the
//! kernel part has one writer.

use super::desk::Slot;
use super::ears::Ears;
use super::mailbox::{Inbox, Mailbox};
use super::margin::Margin;
use super::prober::Question;
use super::realtime;
use super::vip_loop::{Outside, VipLoop};
use super::warden::Guests;
use super::wire;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::SigSet;
use nix::sys::time::TimeSpec;
use onevip_bpf::{Beats, Words};
use onevip_core::beat::{Facts, Health, Incarnation, Sealer};
use onevip_core::membership::{EngineConfig, EngineStatus, Event, PeerCheckView};
use onevip_core::{BucketSet, NodeId, NodeSet, Time};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// How many beats are read in one turn of the loop, so that a flood of them cannot keep it from its timers. 64 nodes
/// that all beat at once are well below it.
const BEATS_PER_TURN: usize = 512;

/// What the rest of the daemon tells the beat loop.
pub enum Command {
    /// A scan that began at `as_of` found these sockets of a VIP.
    Guests {
        /// Index of the VIP.
        vip: usize,
        /// Where there are sockets.
        guests: Box<Guests>,
        /// When the scan began.
        as_of: Time,
        /// What to tell the other nodes about this one.
        facts: Facts,
    },
    /// The question for this node's kernel, which the engine of a VIP had, has left.
    KernelAsked {
        /// Index of the VIP.
        vip: usize,
        /// Which node.
        node: NodeId,
    },
    /// The kernel of this node answered a question for its own address.
    KernelAnswered(NodeId),
    /// The kernel of this node said something to others, or to all.
    KernelSpoke(NodeId),
    /// These nodes have other addresses from now on.
    AskAnew(NodeSet),
    /// This silent node is gone, somebody says. The answer goes there: at how many VIPs that was news.
    Forget(NodeId, mpsc::Sender<usize>),
    /// Others know a later life of this node: begin anew with this incarnation, which was stored.
    BeginAnew(Incarnation),
    /// How the node feels.
    Feel {
        /// What it announces.
        health: Health,
        /// How much of its weight it announces, in percent.
        percent: u8,
    },
    /// Claim nothing more, hand over what is claimed, hold what is held: at the VIP of this index, or at all.
    Drain(Option<usize>),
    /// The end of a drain, at the VIP of this index, or at all.
    Undrain(Option<usize>),
    /// Move now what is planned to move, busy buckets included.
    Rebalance,
    /// A new configuration of the engine of a VIP, and new keys.
    Reconfigure {
        /// Index of the VIP.
        vip: usize,
        /// The engine's configuration.
        config: Box<EngineConfig>,
        /// What the VIP's beats are sealed with.
        sealer: Box<Sealer>,
    },
    /// The interface of a VIP is another one, or has another MAC or address.
    Routes {
        /// Index of the VIP.
        vip: usize,
        /// Where its beats go from now on.
        routes: Vec<wire::Route>,
        /// What listens on the interface.
        ears: Box<Ears>,
    },
    /// Look at the connections in exactly these buckets.
    Sample {
        /// Index of the VIP.
        vip: usize,
        /// Which.
        buckets: Box<BucketSet>,
    },
    /// About whom this node has a say, and who of those does not serve.
    Testify {
        /// Index of the VIP.
        vip: usize,
        /// About whom.
        able: NodeSet,
        /// Against whom.
        suspects: NodeSet,
    },
    /// Say what a witness has to know, by index of the VIP.
    View(mpsc::Sender<Vec<(usize, PeerCheckView)>>),
    /// Say how things stand.
    Report(mpsc::Sender<Vec<VipReport>>),
    /// Hand over and stop.
    Leave,
}

/// How a VIP stands in the eyes of the beat loop.
pub struct VipReport {
    /// The membership; `None` where it is static.
    pub membership: Option<EngineStatus>,
    /// Beats that were received and rejected, by reason, since the loop began.
    pub rejected: Vec<(&'static str, u64)>,
    /// Beats that were received and believed, second copies included.
    pub received: u64,
    /// Beats that were sent.
    pub sent: u64,
}

/// What the beat loop tells the rest of the daemon.
pub enum Notice {
    /// Something happened that people may want to know.
    Event {
        /// Index of the VIP.
        vip: usize,
        /// What.
        event: Event,
    },
    /// Beats of this VIP cannot be sent, for the first time since they could.
    CannotSend {
        /// Index of the VIP.
        vip: usize,
        /// Why.
        error: std::io::Error,
    },
    /// A kernel answered for this address, for the first time in this daemon's life.
    Answers {
        /// On which interface.
        interface: String,
        /// Which address.
        address: std::net::IpAddr,
    },
    /// A check found something else than before. From the health threads, by the same way.
    Health {
        /// Which check.
        check: String,
        /// In words.
        text: String,
        /// Whether it is good news.
        good: bool,
    },
    /// This node found that another one does not serve its clients, or does again. From the thread that watches.
    Witness {
        /// Index of the VIP.
        vip: usize,
        /// Which node.
        node: NodeId,
        /// In words.
        text: String,
        /// Whether it is good news.
        good: bool,
    },
    /// Everything was handed over; the loop has ended.
    Left,
}

/// The state of the loop.
pub struct BeatLoop {
    /// Flags and lease.
    pub words: Words,
    /// The VIPs, by their index.
    pub vips: Vec<VipLoop>,
    /// Where beats come from.
    pub beats: Beats,
    /// Where they go.
    pub sender: wire::Sender,
    /// Orders.
    pub inbox: Inbox<Command>,
    /// News.
    pub notices: mpsc::Sender<Notice>,
    /// Who asks kernels.
    pub prober: Mailbox<Question>,
    /// How much of the lease was left at each renewal.
    pub margin: Arc<Margin>,
    /// Where letters go.
    pub letters: Slot,
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
            let Some(arrived) = wire::read(&beat.datagram) else { continue };
            if self.letters.takes(beat.vip, arrived.payload) {
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
                Command::Guests { vip, guests, as_of, facts } => {
                    self.with_vip(vip, |vip, outside| {
                        vip.guests_scanned(now, &guests, as_of, facts, outside)
                    });
                }
                Command::KernelAsked { vip, node } => self.with_vip(vip, |vip, outside| {
                    vip.with_engine(|engine| engine.kernel_asked(now, node), outside);
                }),
                Command::KernelAnswered(node) => {
                    self.for_each_engine(|engine| engine.kernel_answered(now, node))
                }
                Command::KernelSpoke(node) => self.for_each_engine(|engine| engine.kernel_spoke(now, node)),
                Command::AskAnew(nodes) => {
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
                Command::Routes { vip, routes, ears } => {
                    self.with_vip(vip, |vip, _| vip.reroute(routes, *ears));
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
            prober: &self.prober,
            margin: &self.margin,
        };
        act(vip, &outside);
    }
}

/// The time by the clock that the kernel part uses.
pub fn now() -> Time {
    Time::from_nanos(onevip_bpf::boot_time_ns())
}
