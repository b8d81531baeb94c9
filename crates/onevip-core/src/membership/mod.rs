//! Who claims which bucket, decided without a leader, a quorum or a view of the whole.
//!
//! *Liveness is a guess that everyone makes from shared information; safety is asked for, bucket by bucket.* The table
//! says what a node wants; it announces that as intents; it claims an intent once every node it hears has acknowledged
//! the announcement and none of them objects; it releases a bucket when the wanted owner asks for it. A lease in the
//! kernel, renewed by acknowledgements, makes a node fall silent before others replace it. `docs/membership.md` has
//! the protocol on one page.
//!
//! [`Engine`] is driven by its owner (the daemon, the simulator, the model checker): feed it inputs with the time
//! attached, call [`Engine::timeout`] no later than [`Engine::poll_timeout`], and carry out what
//! [`Engine::poll_output`] returns, in that order, before the next input. One engine serves one VIP; several VIPs
//! have one engine each.

mod claims;
mod config;
mod contact;
mod dirty;
mod event;
mod families;
mod family;
mod incarnation;
mod kernels;
mod lease;
mod links;
#[cfg(feature = "sim")]
mod mutation;
mod output;
mod own;
mod own_link;
mod peer;
mod peer_kernel;
mod peers;
mod quality;
mod rulings;
mod send;
mod sessions;
mod status;
mod timers;
pub mod timing;
mod votes;

use crate::beat::{Beat, Incarnation, NodeState};
use crate::ids::BucketSet;
use crate::time::Time;
use std::collections::VecDeque;

pub use config::{EngineConfig, Failback};
pub use event::{Event, WhyLost};
pub use family::Family;
#[cfg(feature = "sim")]
pub use mutation::Mutation;
pub use output::Output;
pub use quality::WINDOW as LOSS_WINDOW;
pub use status::{EngineStatus, PeerStatus, WhyOut};
pub use timing::Timing;
pub use votes::{PeerCheckView, Votes};

use claims::Claims;
use contact::Contact;
use dirty::Dirty;
use incarnation::Life;
use kernels::OrphanFlags;
use lease::Lease;
use links::Shares;
use own::OwnNode;
use own_link::OwnLink;
use peer::Peer;
use peers::Peers;
use rulings::Ruling;
use send::Sending;
use sessions::LocalSessions;
use votes::VoteCount;

/// The protocol state of one node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Engine {
    config: EngineConfig,
    own: OwnNode,
    life: Life,
    own_link: OwnLink,
    votes: VoteCount,
    contact: Contact,
    peers: Peers,
    shares: Shares,
    lease: Lease,
    claims: Claims,
    ruling: Ruling,
    sending: Sending,
    sessions: LocalSessions,
    orphans: OrphanFlags,
    dirty: Dirty,
    /// See [`Engine::poll_timeout`].
    next_timeout: Time,
    outputs: VecDeque<Output>,
    #[cfg(feature = "sim")]
    mutation: Mutation,
}

impl Engine {
    /// A daemon that starts at `now`. Its first outputs clear the kernel's claims and lease, whatever they were.
    ///
    /// `incarnation` must be larger than any this node ever had. `sessions` are the buckets in which the kernel holds
    /// sessions already (after a restart of the daemon).
    pub fn new(config: EngineConfig, incarnation: Incarnation, sessions: BucketSet, now: Time) -> Self {
        let mut engine = Self::blank(config, incarnation, LocalSessions::found(sessions, now), now);
        engine.begin(now);
        engine
    }

    /// The kernel's claims and lease are cleared, whatever they were.
    fn begin(&mut self, now: Time) {
        self.outputs.push_back(Output::Release(BucketSet::FULL));
        self.outputs.push_back(Output::Lease(Time::ZERO));
        self.outputs.push_back(Output::Settled(now));
        self.outputs.push_back(Output::Watch(BucketSet::EMPTY));
        self.outputs.push_back(Output::Elsewhere(BucketSet::FULL));
        self.settle(now);
    }

    fn blank(config: EngineConfig, incarnation: Incarnation, sessions: LocalSessions, now: Time) -> Self {
        let mut dirty = Dirty::default();
        dirty.mark(Dirty::TABLE.and(Dirty::ELSEWHERE));
        Self {
            own: OwnNode::joining(incarnation, now),
            life: Life::new(now),
            own_link: OwnLink::GOOD,
            votes: VoteCount::none(),
            contact: Contact::new(now),
            peers: Peers::unheard(config.nodes.without(config.me), now),
            shares: Shares::none(&config),
            lease: Lease::NONE,
            claims: Claims::none(),
            ruling: Ruling::NONE,
            sending: Sending::new(now),
            sessions,
            orphans: OrphanFlags::reset(now),
            dirty,
            next_timeout: now,
            outputs: VecDeque::new(),
            config,
            #[cfg(feature = "sim")]
            mutation: Mutation::None,
        }
    }

    /// A beat arrived whose seal and number are right (see [`crate::beat::Receiver`]).
    ///
    /// Call it for every copy, with the VIP family it came by; only the first copy is looked into. After a stall, read
    /// what is queued before calling [`Engine::timeout`].
    pub fn beat_received(&mut self, now: Time, family: Family, beat: &Beat) {
        self.wake(now);
        if beat.from == self.config.me {
            self.hear_twin(now, beat);
        } else {
            self.hear(now, family, beat);
        }
        if !self.is_settled(now) {
            self.settle(now);
        }
    }

    /// The time that [`Engine::poll_timeout`] asked for has come.
    pub fn timeout(&mut self, now: Time) {
        self.wake(now);
        self.settle(now);
    }

    /// A new configuration. `me` and `host` must not change. Beat time, seed, mapping and pins take effect at once.
    pub fn reconfigure(&mut self, now: Time, config: EngineConfig) {
        self.wake(now);
        debug_assert!(config.me == self.config.me && config.host == self.config.host);
        for node in config.nodes.without(config.me).iter() {
            self.peers.get_or_insert(node, now);
        }
        self.shares.reconfigured(&config);
        self.config = config;
        self.dirty.mark(Dirty::TABLE.and(Dirty::BEAT));
        self.settle(now);
    }

    /// When [`Engine::timeout`] is due at the latest.
    pub fn poll_timeout(&self) -> Time {
        self.next_timeout
    }

    /// The next thing to carry out.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Plants a bug.
    #[cfg(feature = "sim")]
    pub fn mutate(&mut self, mutation: Mutation) {
        self.mutation = mutation;
    }

    /// The newest beat of `node` that was taken.
    #[cfg(feature = "sim")]
    pub(crate) fn newest_of(&self, node: crate::ids::NodeId) -> Option<(Incarnation, crate::beat::Seq)> {
        let newest = self.peers.newest(node)?;
        Some((newest.incarnation, newest.seq))
    }

    #[cfg(feature = "sim")]
    fn is(&self, mutation: Mutation) -> bool {
        self.mutation == mutation
    }

    /// What is true at `now` before anything else is considered: a stall ends, a lease has run out.
    fn wake(&mut self, now: Time) {
        if now > self.next_timeout + self.config.timing.stall {
            self.stalled(now);
        }
        self.lapse_if_due(now);
    }

    /// Whether nothing came of the last input but that deadlines moved on: nearly all beats of a cluster at rest. Then
    /// what is due next is due no earlier than [`Engine::poll_timeout`] says already, and the walks over all peers
    /// are saved.
    fn is_settled(&self, now: Time) -> bool {
        let rests = matches!(self.own.state(), NodeState::Serving | NodeState::Draining)
            && self.peers.hidden().is_empty();
        // Intents that everybody has acknowledged wait for others to release, and that would leave a mark.
        rests && self.dirty.is_clean() && now < self.next_timeout
    }

    /// Draws all conclusions. The order is that of the outputs: releases, lease, elsewhere, gains, beat.
    fn settle(&mut self, now: Time) {
        let periodic = now >= self.sending.next_periodic();
        self.drop_silent_peers(now);
        if periodic {
            self.look_at_families(now);
            self.judge_own_link(now);
            self.look_for_defiance(now);
        }
        self.look_around();
        self.begin_serving(now);
        self.resolve_conflicts(now);
        if periodic {
            // Time alone may change it: somebody has been silent for too long.
            self.dirty.mark(Dirty::ELSEWHERE);
            self.release_what_was_asked_for(now);
        }
        self.renew_lease(now);
        self.intend(now);
        let gains = self.grantable(now);
        self.gain(now, gains);
        self.finish_leaving(now);
        self.ask_kernels(now);
        self.send_beat_if_due(now, periodic);
        self.next_timeout = self.timers(now).earliest().max(now);
    }
}
