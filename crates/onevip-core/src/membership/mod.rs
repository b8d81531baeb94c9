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

mod anew;
mod claims;
mod event;
mod families;
mod kernels;
mod lease;
mod links;
mod output;
mod peer;
mod quality;
mod rulings;
mod send;
mod status;
pub mod timing;
mod votes;

use crate::beat::{Beat, Facts, Health, Incarnation, NodeState, Seq, Standing, Testimony};
use crate::ids::{BUCKETS, BucketSet, NodeId, NodeSet};
use crate::table::{Clocks, Mapping, Reserve, Table, Weight};
use crate::time::Time;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub use event::{Event, WhyLost};
pub use output::{Family, Output};
pub use quality::WINDOW as LOSS_WINDOW;
pub use status::{PeerStatus, Status, WhyOut};
pub use timing::Timing;
pub use votes::{View, Votes};

use peer::Peer;
use quality::Record;

/// When a claimer gives a bucket to the node that the table wants to have it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Failback {
    /// When the sessions in it have ended: a user's second session meets the host of the first.
    #[default]
    Idle,
    /// At once.
    Now,
    /// Only when somebody asks for a rebalance.
    Manual,
}

/// What does not change while an engine lives, or only by [`Engine::reconfigure`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Config {
    /// This node.
    pub me: NodeId,
    /// Tells hosts with the same node number apart; see [`Beat::host`].
    pub host: u32,
    /// The nodes in the file. Others are heard all the same; these have their kernels asked even if never heard.
    pub nodes: NodeSet,
    /// This node's weight.
    pub weight: Weight,
    /// How buckets are dealt.
    pub mapping: Mapping,
    /// Seed of the table; alike on all nodes.
    pub seed: u32,
    /// The nodes that sources are pinned to; alike on all nodes.
    pub pinned: NodeSet,
    /// When planned moves happen.
    pub failback: Failback,
    /// All timers.
    pub timing: Timing,
}

/// A bug that the checks must find: planted by tests, never in the daemon.
#[cfg(feature = "sim")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Mutation {
    /// The real thing.
    #[default]
    None,
    /// Gains without looking whether somebody still claims.
    ClaimBeforeRelease,
    /// The lease outlives the time after which others take over.
    LeaseLongerThanDeath,
    /// A peer is heard when anything arrives from it, acknowledged or not.
    NoFreshness,
    /// Gains first, tells the kernel who may hold flows afterwards.
    ElsewhereAfterMine,
    /// The lease is renewed whether anybody hears us or not.
    LeaseUnheard,
    /// Gains without waiting for acknowledgements of the intent.
    ClaimUnacknowledged,
    /// A lapsed lease is renewed without giving up the claims first.
    LapseKeepsClaims,
    /// After a stall the silence of the others counts although it was our own.
    TrustsAfterStall,
    /// Two that do not hear each other are not told of each other's claims.
    NoRulings,
    /// Releases a bucket, but does not say that sessions may be left in it.
    ForgetsGuests,
    /// Goes on as if nobody had voted it out.
    DefiesVotes,
    /// Being voted out it takes no share at all, though nobody may be left who does.
    VotesEmptyTheCluster,
    /// A kernel that never answered is found gone by its silence.
    TrustsSilence,
    /// Heard, but never acknowledged, for whatever reason the peers reject its beats, it takes itself for alone.
    AloneAmongStrangers,
    /// Goes on as if its beats were sent.
    ClaimsThoughMute,
}

#[cfg(feature = "sim")]
impl Mutation {
    /// Every bug that can be planted.
    pub const ALL: [Self; 15] = [
        Self::ClaimBeforeRelease,
        Self::LeaseLongerThanDeath,
        Self::NoFreshness,
        Self::ElsewhereAfterMine,
        Self::LeaseUnheard,
        Self::ClaimUnacknowledged,
        Self::LapseKeepsClaims,
        Self::TrustsAfterStall,
        Self::NoRulings,
        Self::ForgetsGuests,
        Self::DefiesVotes,
        Self::VotesEmptyTheCluster,
        Self::TrustsSilence,
        Self::AloneAmongStrangers,
        Self::ClaimsThoughMute,
    ];
}

impl Config {
    /// The clocks that the tables of these nodes need.
    fn clocks(&self) -> Arc<Clocks> {
        self.clocks_with(&[])
    }

    /// The same with nodes that the file does not name, or not yet.
    fn clocks_with(&self, others: &[(NodeId, Weight)]) -> Arc<Clocks> {
        let nodes = self.nodes.iter().chain(others.iter().map(|(node, _)| *node));
        Arc::new(Clocks::for_nodes(nodes, self.seed, self.mapping))
    }
}

/// The protocol state of one node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Engine {
    config: Config,
    incarnation: Incarnation,
    state: NodeState,
    state_since: Time,
    health: Health,
    record: Record,
    /// What we last said of ourselves for the reasons of `quality`.
    announced_unsteadiness: Health,
    /// The VIP has addresses of both families.
    both_families: bool,
    /// A family of which no copy comes from anybody.
    deaf_to: Option<Family>,
    facts: Facts,
    /// What we say of others, and against whom we count a majority: see `votes`.
    testimony: Testimony,
    /// A majority is against us.
    voted_out: bool,
    /// Since when convicted nodes go on as if nothing were; [`Time::NEVER`]: none does.
    convicted_since: Time,
    /// Those who have done so for too long.
    defiant: NodeSet,
    started: Time,
    /// Something says that we must not begin to serve: a twin with our number, or beats we cannot read.
    held_until: Time,

    /// When another host last beat with our number.
    twin_heard: Time,
    /// The latest life of ours that others know, if it is later than this one, and when we said so.
    outlived_by: Option<Incarnation>,
    outlived_told: Time,

    seq: Seq,
    /// When our newest beats were sent, oldest first; bounded by age and by [`send::SENT_MAX`].
    sent: VecDeque<(Seq, Time)>,
    next_periodic: Time,
    /// There is something to say before the next periodic beat.
    urgent: bool,
    answer: bool,
    last_sent: Time,

    peers: BTreeMap<NodeId, Peer>,
    /// When somebody who knows this incarnation last spoke, or our own silence ended.
    spoken_to: Time,
    /// When somebody last spoke who goes on speaking and does not know us.
    ignored_at: Time,
    /// Since when our beats cannot be sent.
    mute_since: Option<Time>,
    /// Since when we know that frames of others have arrived after that: our ears work.
    ears_since: Option<Time>,
    /// End of our last stall.
    woke: Time,
    /// After a long stall nothing is gained before then: others may have come meanwhile, whom we hear within a beat, or
    /// who stop in their turn and then keep their lease for a while.
    quiet_until: Time,
    expected: Time,

    heard: NodeSet,
    /// Something changed that the table may depend on.
    news: bool,
    hidden: NodeSet,
    members: Vec<(NodeId, Weight)>,
    view: u32,
    /// What is reserved for the nodes that sources are pinned to.
    reserve: Reserve,
    /// Kept since to make them takes longer than a table. Of all nodes seen as members so far, or that the file names.
    clocks: Arc<Clocks>,
    table: Table,
    /// What the table gives to each member: it is asked for all the time.
    owned: BTreeMap<NodeId, BucketSet>,

    lease_until: Time,
    /// The newest of our beats that anybody acknowledged whom we heard.
    acked: Seq,
    claims: BucketSet,
    intents: BucketSet,
    intent_seq: Vec<Seq>,
    /// What wanted owners asked us for at the last two periodic beats: see `claims`.
    asked: [BucketSet; 2],
    conflict: bool,
    /// Something came that may conflict with our claims.
    recheck: bool,
    /// Something came that may clear the way for our intents.
    others_moved: bool,
    rebalance: u32,
    rebalance_until: Time,
    ruled_from: u16,
    /// Our newest beat had rulings in it, so others wait for us to pass on what changes.
    relays: bool,

    guests: BucketSet,
    guests_as_of: Time,
    /// Buckets released since `guests_as_of`, or so recently that a scan may have missed a session.
    released: Vec<(Time, BucketSet)>,
    elsewhere: BucketSet,
    /// See [`Output::Watch`].
    watched: BucketSet,
    /// See [`Output::Settled`].
    settled: Time,
    /// Something changed that `elsewhere` depends on.
    guests_news: bool,

    outputs: VecDeque<Output>,
    #[cfg(feature = "sim")]
    mutation: Mutation,
}

impl Engine {
    /// A daemon that starts at `now`. Its first outputs clear the kernel's claims and lease, whatever they were.
    ///
    /// `incarnation` must be larger than any this node ever had. `guests` are the buckets in which the kernel holds
    /// sessions already (after a restart of the daemon).
    pub fn new(config: Config, incarnation: Incarnation, guests: BucketSet, now: Time) -> Self {
        let mut engine = Self::blank(config, incarnation, guests, now);
        engine.begin(now);
        engine
    }

    /// Which life of this node it is.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
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

    fn blank(config: Config, incarnation: Incarnation, guests: BucketSet, now: Time) -> Self {
        let nodes = config.nodes.without(config.me);
        Self {
            incarnation,
            state: NodeState::Joining,
            state_since: now,
            health: Health::GOOD,
            record: Record::CLEAN,
            announced_unsteadiness: Health::GOOD,
            both_families: false,
            deaf_to: None,
            facts: Facts::default(),
            testimony: Testimony::default(),
            voted_out: false,
            convicted_since: Time::NEVER,
            defiant: NodeSet::EMPTY,
            started: now,
            held_until: now,
            twin_heard: Time::ZERO,
            outlived_by: None,
            outlived_told: now,
            seq: Seq(0),
            sent: VecDeque::new(),
            next_periodic: now,
            urgent: false,
            answer: false,
            last_sent: Time::ZERO,
            peers: nodes.iter().map(|node| (node, Peer::unheard(now))).collect(),
            spoken_to: now,
            ignored_at: Time::ZERO,
            mute_since: None,
            ears_since: None,
            woke: Time::ZERO,
            quiet_until: now,
            expected: now,
            heard: NodeSet::EMPTY,
            news: true,
            hidden: NodeSet::EMPTY,
            members: Vec::new(),
            view: 0,
            reserve: Reserve::of(config.pinned, config.seed, config.mapping),
            clocks: config.clocks(),
            table: Table::compute(&[], config.seed, config.mapping),
            owned: BTreeMap::new(),
            lease_until: Time::ZERO,
            acked: Seq(0),
            claims: BucketSet::EMPTY,
            intents: BucketSet::EMPTY,
            intent_seq: vec![Seq(0); BUCKETS],
            asked: [BucketSet::EMPTY; 2],
            conflict: false,
            recheck: false,
            others_moved: false,
            rebalance: 0,
            rebalance_until: Time::ZERO,
            ruled_from: 0,
            relays: false,
            guests,
            guests_as_of: now,
            released: Vec::new(),
            elsewhere: BucketSet::FULL,
            watched: BucketSet::EMPTY,
            settled: now,
            guests_news: true,
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

    /// Frames of this cluster arrive that no key opens: while joining, that is a reason not to begin alone.
    pub fn unreadable_beat(&mut self, now: Time) {
        self.wake(now);
        if self.state == NodeState::Joining {
            self.hold(now, Event::Unreadable);
        }
        self.settle(now);
    }

    /// The time that [`Engine::poll_timeout`] asked for has come.
    pub fn timeout(&mut self, now: Time) {
        self.wake(now);
        self.settle(now);
    }

    /// The node feels better or worse: above 0 its buckets move to nodes that feel better, at once.
    pub fn health_changed(&mut self, now: Time, health: Health) {
        self.wake(now);
        if self.health != health {
            self.health = health;
            self.news = true;
            self.urgent = true;
        }
        self.settle(now);
    }

    /// Claim nothing new, hand over what is claimed, hold what is held.
    pub fn drain(&mut self, now: Time) {
        self.wake(now);
        if matches!(self.state, NodeState::Joining | NodeState::Serving) {
            self.enter(now, NodeState::Draining);
        }
        self.settle(now);
    }

    /// The end of a drain: take a share again.
    pub fn undrain(&mut self, now: Time) {
        self.wake(now);
        if self.state == NodeState::Draining {
            // Not straight to serving: it may have been drained before it had listened.
            self.enter(now, NodeState::Joining);
        }
        self.settle(now);
    }

    /// Hand over and stop: [`Output::Left`] follows within [`Timing::goodbye`] and the daemon may end.
    pub fn leave(&mut self, now: Time) {
        self.wake(now);
        if self.state != NodeState::Leaving {
            self.enter(now, NodeState::Leaving);
        }
        self.settle(now);
    }

    /// Somebody asked that planned moves happen now, on all nodes, busy buckets included.
    pub fn rebalance(&mut self, now: Time) {
        self.wake(now);
        self.rebalance += 1;
        self.rebalance_until = now + self.config.timing.rebalance;
        self.urgent = true;
        self.settle(now);
    }

    /// A new configuration. `me` and `host` must not change. Beat time, seed, mapping and pins take effect at once.
    pub fn reconfigure(&mut self, now: Time, config: Config) {
        self.wake(now);
        debug_assert!(config.me == self.config.me && config.host == self.config.host);
        for node in config.nodes.without(config.me).iter() {
            self.peers.entry(node).or_insert_with(|| Peer::unheard(now));
        }
        self.members.clear();
        self.reserve = Reserve::of(config.pinned, config.seed, config.mapping);
        self.clocks = config.clocks();
        self.config = config;
        self.news = true;
        self.urgent = true;
        self.settle(now);
    }

    /// What others are told for people to read.
    pub fn facts_changed(&mut self, facts: Facts) {
        self.facts = facts;
    }

    /// A scan that began at `as_of` found sessions in exactly these buckets.
    pub fn guests_scanned(&mut self, now: Time, guests: BucketSet, as_of: Time) {
        self.wake(now);
        self.guests = guests;
        self.guests_as_of = as_of;
        self.released.retain(|(released, _)| *released >= as_of);
        self.settle(now);
    }

    /// Whether it should be found out if anything at all arrives here: nobody who knows us has spoken for a while, and
    /// that may be our own fault.
    pub fn doubts_its_ears(&self, now: Time) -> bool {
        let timing = &self.config.timing;
        self.ears_since.is_none() && !self.peers.is_empty() && now >= self.spoken_to + timing.doubt
    }

    /// Some frame of somebody else has arrived since [`Engine::doubts_its_ears`] was true.
    pub fn others_arrive(&mut self, now: Time) {
        self.wake(now);
        if self.doubts_its_ears(now) {
            self.ears_since = Some(now);
        }
        self.settle(now);
    }

    /// When [`Engine::timeout`] is due at the latest.
    pub fn poll_timeout(&self) -> Time {
        self.expected
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
    pub(crate) fn newest_of(&self, node: NodeId) -> Option<(Incarnation, Seq)> {
        let newest = self.peers.get(&node)?.newest.as_ref()?;
        Some((newest.incarnation, newest.seq))
    }

    #[cfg(feature = "sim")]
    fn is(&self, mutation: Mutation) -> bool {
        self.mutation == mutation
    }

    /// What is true at `now` before anything else is considered: a stall ends, a lease has run out.
    fn wake(&mut self, now: Time) {
        if now > self.expected + self.config.timing.stall {
            self.stalled(now);
        }
        self.lapse_if_due(now);
    }

    /// Whether nothing came of the last input but that deadlines moved on: nearly all beats of a cluster at rest. Then
    /// what is due next is due no earlier than [`Engine::poll_timeout`] says already, and the walks over all peers
    /// are saved.
    fn is_settled(&self, now: Time) -> bool {
        let rests = matches!(self.state, NodeState::Serving | NodeState::Draining) && self.hidden.is_empty();
        // Intents that everybody has acknowledged wait for others to release, and that would be news.
        let waits = self.urgent || self.answer || self.conflict;
        let news = self.news || self.recheck || self.guests_news || self.others_moved;
        rests && !waits && !news && now < self.expected
    }

    /// Draws all conclusions. The order is that of the outputs: releases, lease, elsewhere, gains, beat.
    fn settle(&mut self, now: Time) {
        let periodic = now >= self.next_periodic;
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
            self.guests_news = true; // Time alone may change it: somebody has been silent for too long.
            self.release_what_was_asked_for(now);
        }
        self.renew_lease(now);
        self.intend(now);
        let gains = self.grantable(now);
        self.gain(now, gains);
        self.finish_leaving(now);
        self.ask_kernels(now);
        self.send_beat_if_due(now, periodic);
        self.expected = self.next_deadline(now);
    }

    /// Somebody who knows us has spoken, or we cannot tell for how long nobody did.
    fn is_spoken_to(&mut self, now: Time) {
        self.spoken_to = now;
        self.ears_since = None;
    }

    fn enter(&mut self, now: Time, state: NodeState) {
        self.state = state;
        self.state_since = now;
        self.news = true;
        self.urgent = true;
        self.outputs.push_back(Output::Event(Event::State(state)));
    }

    /// Joining ends when we have listened long enough to know who is there.
    fn begin_serving(&mut self, now: Time) {
        if self.state != NodeState::Joining || now < self.held_until {
            return;
        }
        let timing = &self.config.timing;
        let others_serve = !self.members.is_empty();
        let listen = if others_serve { timing.listen } else { timing.listen_alone };
        if now >= self.started + listen {
            self.enter(now, NodeState::Serving);
            self.look_around();
        }
    }

    /// Stay joining for as long as the reason for it keeps coming.
    fn hold(&mut self, now: Time, reason: Event) {
        if now >= self.held_until {
            self.outputs.push_back(Output::Event(reason));
        }
        self.held_until = now + self.config.timing.listen;
    }

    /// A beat with our own number that is not ours.
    fn hear_twin(&mut self, now: Time, beat: &Beat) {
        if beat.host == self.config.host {
            return;
        }
        self.twin_heard = now;
        if self.state == NodeState::Joining {
            self.hold(now, Event::Twin { host: beat.host });
        }
    }

    /// How this node stands, as it announces it.
    fn standing(&self) -> Standing {
        let health = self.health.max(self.announced_unsteadiness);
        let health = if self.voted_out { votes::CONVICTED } else { health };
        #[cfg(feature = "sim")]
        if self.voted_out && self.is(Mutation::VotesEmptyTheCluster) {
            return Standing { state: NodeState::Draining, health, weight: self.config.weight };
        }
        Standing { state: self.state, health, weight: self.config.weight }
    }
}
