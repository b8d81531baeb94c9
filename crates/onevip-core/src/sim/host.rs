//! One simulated host: a kernel that outlives its daemon, a daemon that may be stopped, and a clock of its own.

use crate::beat::Receiver;
use crate::beat::{Beat, Incarnation};
use crate::ids::{BUCKETS, BucketSet, NodeId, NodeSet};
use crate::membership::{Engine, EngineConfig, Family};
use crate::time::Time;
use std::rc::Rc;

/// What the kernel part keeps, and the sockets.
#[derive(Clone, Debug)]
pub struct HostKernel {
    /// `MINE`.
    pub mine: BucketSet,
    /// `ELSEWHERE`.
    pub elsewhere: BucketSet,
    /// The lease, on this host's clock.
    pub lease: Time,
    /// Sessions per bucket.
    pub sessions: Vec<u16>,
    /// Buckets with sessions.
    pub held: BucketSet,
}

impl HostKernel {
    /// A kernel that has just booted.
    pub fn booted() -> Self {
        Self {
            mine: BucketSet::EMPTY,
            elsewhere: BucketSet::EMPTY,
            lease: Time::ZERO,
            sessions: vec![0; BUCKETS],
            held: BucketSet::EMPTY,
        }
    }
}

/// A clock that runs fast or slow and that may stop.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Nanoseconds of this clock per million true ones.
    pub rate_ppm: u64,
    /// True time at the last correction.
    pub at: u64,
    /// This clock at that time.
    pub shows: u64,
}

impl Clock {
    /// What the clock shows at true time `now`.
    pub fn local(&self, now: u64) -> Time {
        Time::from_nanos(self.shows + ((now - self.at) as u128 * self.rate_ppm as u128 / 1_000_000) as u64)
    }

    /// The first true time at which the clock shows `local`.
    pub fn true_time(&self, local: Time) -> u64 {
        let ahead = local.nanos().saturating_sub(self.shows) as u128 * 1_000_000;
        self.at + ahead.div_ceil(self.rate_ppm as u128) as u64
    }
}

/// What reaches the daemon.
#[derive(Clone, Debug)]
pub enum Input {
    /// A beat.
    Beat(Rc<Beat>),
    /// A beat as it travels, by the IPv6 VIP or by the IPv4 one.
    Datagram(Rc<Vec<u8>>, Family),
    /// The question to a node's kernel was sent.
    KernelAsked(NodeId),
    /// A node's kernel answered.
    KernelAnswered(NodeId),
    /// A larger incarnation was stored.
    Reincarnate(Incarnation),
}

/// One host.
#[derive(Debug)]
pub struct Host {
    /// How its daemon is configured.
    pub config: EngineConfig,
    /// Its daemon, if that runs.
    pub engine: Option<Engine>,
    /// What opens its beats, in lives where beats are sealed.
    pub receiver: Option<Receiver>,
    /// Of the newest daemon.
    pub incarnation: Incarnation,
    /// Whom it found not to serve; `None`: it has looked at nobody.
    pub suspects: Option<NodeSet>,
    /// Whose kernels are known to answer, over all lives of the daemon.
    pub askable: NodeSet,
    /// Its kernel answers no questions.
    pub unaskable: bool,
    /// Since when its beats cannot be sent.
    pub mute_since: Option<u64>,
    /// Its kernel.
    pub kernel: HostKernel,
    /// Its clock.
    pub clock: Clock,
    /// Whether it has power.
    pub powered: bool,
    /// Its daemon is stopped until then.
    pub stopped_until: Option<u64>,
    /// The whole machine is paused until then; the flag says that its clock stops meanwhile.
    pub paused_until: Option<(u64, bool)>,
    /// What came while the daemon was stopped.
    pub inbox: Vec<Input>,
    /// Counts timers, so that an old one is recognised.
    pub timer: u64,
    /// When the timer fires.
    pub timer_at: u64,
    /// Whom the daemon heard when last looked at.
    pub heard_before: u64,
    /// It is to end when it has handed over.
    pub leaving: bool,
    /// Since when its daemon runs without a stop.
    pub running_since: u64,
    /// Real nanoseconds spent in the engine.
    pub cost_ns: u64,
}

impl Host {
    /// Whether the daemon runs now.
    pub fn runs(&self) -> bool {
        self.engine.is_some() && self.stopped_until.is_none() && self.paused_until.is_none() && self.powered
    }

    /// The buckets for which its kernel answers new connections now.
    pub fn answers(&self, now: u64) -> BucketSet {
        let alive = self.powered && self.paused_until.is_none();
        if alive && self.clock.local(now) < self.kernel.lease { self.kernel.mine } else { BucketSet::EMPTY }
    }
}
