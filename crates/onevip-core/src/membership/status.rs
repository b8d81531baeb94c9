//! A snapshot for people: `onevip status`.

use super::{Engine, Family, Peer, Votes, WhyLost};
use crate::beat::{Facts, Health, Incarnation, NodeState, Standing};
use crate::ids::{NodeId, NodeSet};
use crate::table::Weight;
use crate::time::Time;
use std::time::Duration;

/// Why this node takes no share.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WhyOut {
    /// It listens before it begins.
    Listening,
    /// Another host has its number, or beats come that it cannot read.
    Held,
    /// It was drained.
    Drained,
    /// It leaves.
    Leaving,
    /// Frames are lost on its link.
    Lossy,
    /// It fell out too often lately.
    HeldBack,
    /// Others feel better.
    Unhealthy,
    /// Others found that it does not answer its clients.
    VotedOut,
    /// Its weight is 0.
    NoWeight,
    /// One family of the VIP does not reach it.
    Deaf(Family),
    /// Its beats cannot be sent.
    Mute,
    /// Others speak, but do not take its beats.
    Ignored,
    /// Nobody acknowledges its beats.
    NoLease,
}

/// What is known of one other node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PeerStatus {
    /// Which.
    pub node: NodeId,
    /// Whether it stands in our file.
    pub in_file: bool,
    /// Whether we hear it and it hears us.
    pub heard: bool,
    /// Whether it counts as alive: heard by us or by somebody we hear.
    pub alive: bool,
    /// Since when `heard` is what it is.
    pub since: Time,
    /// Why it is not heard, if it ever was.
    pub why_lost: Option<WhyLost>,
    /// Whether its kernel no longer answers.
    pub kernel_gone: bool,
    /// Whether its kernel answers questions while it lives; `None`: that is not known yet.
    pub askable: Option<bool>,
    /// Its newest incarnation, and what it said of itself; `None` if it never spoke.
    pub said: Option<(Incarnation, Standing, Facts)>,
    /// How many buckets it claims, as far as we know.
    pub claims: usize,
    /// How many of its last [`super::LOSS_WINDOW`] beats did not come, by the worse VIP family.
    pub lost: u32,
    /// Whether it misses too many of ours.
    pub finds_us_lossy: bool,
    /// Whom it hears.
    pub hears: NodeSet,
    /// Age of its newest beat; `None` if it never spoke.
    pub silent_for: Option<Duration>,
    /// Whether its copies by the IPv4 and IPv6 VIP have come within [`super::Timing::death`].
    pub by_family: [bool; 2],
    /// Whether they stay away for good, though those by the other family come.
    pub misses: [bool; 2],
    /// How the votes about it stand.
    pub votes: Votes,
}

/// Everything at a glance.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct EngineStatus {
    /// This node.
    pub me: NodeId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// What it announces.
    pub standing: Standing,
    /// Since when it has been in that state.
    pub since: Time,
    /// Why it takes no share; `None` if it does.
    pub why_out: Option<WhyOut>,
    /// Buckets it claims.
    pub claims: usize,
    /// Buckets it wants and does not have yet.
    pub intents: usize,
    /// How many buckets the table gives it.
    pub share: usize,
    /// How long its lease would last without any further word.
    pub lease_left: Duration,
    /// Everybody alive, this node included.
    pub alive: NodeSet,
    /// Those among whom the table deals, and their weights.
    pub members: Vec<(NodeId, Weight)>,
    /// Digest of what the table is made of.
    pub view: u32,
    /// The votes about this node.
    pub votes: Votes,
    /// The others.
    pub peers: Vec<PeerStatus>,
}

impl Engine {
    /// Everything at a glance.
    pub fn status(&self, now: Time) -> EngineStatus {
        EngineStatus {
            me: self.config.me,
            incarnation: self.own.incarnation(),
            standing: self.standing(),
            since: self.own.state_since(),
            why_out: self.why_out(now),
            claims: self.claims.held().len(),
            intents: self.claims.intents().len(),
            share: self.owned_by(self.config.me).len(),
            lease_left: self.lease.until().since(now),
            alive: self.alive(),
            members: self.shares.members().to_vec(),
            view: self.shares.view(),
            votes: self.votes_about(self.config.me),
            peers: self.peers.iter().map(|(node, peer)| self.peer_status(now, node, peer)).collect(),
        }
    }

    fn why_out(&self, now: Time) -> Option<WhyOut> {
        match self.own.state() {
            NodeState::Joining if self.own.is_held(now) => Some(WhyOut::Held),
            NodeState::Joining => Some(WhyOut::Listening),
            NodeState::Draining => Some(WhyOut::Drained),
            NodeState::Leaving => Some(WhyOut::Leaving),
            NodeState::Serving if self.config.weight.get() == 0 => Some(WhyOut::NoWeight),
            NodeState::Serving if !self.is_member() && self.votes.is_voted_out() => Some(WhyOut::VotedOut),
            NodeState::Serving if !self.is_member() && self.own.health() == Health::GOOD => {
                let held_back = if self.own_link.is_lossy() { WhyOut::Lossy } else { WhyOut::HeldBack };
                Some(self.deaf_to().map_or(held_back, WhyOut::Deaf))
            }
            NodeState::Serving if !self.is_member() => Some(WhyOut::Unhealthy),
            NodeState::Serving if now >= self.lease.until() => Some(self.why_no_lease(now)),
            NodeState::Serving => None,
        }
    }

    fn why_no_lease(&self, now: Time) -> WhyOut {
        match (self.can_speak(now), self.is_ignored(now)) {
            (false, _) => WhyOut::Mute,
            (true, true) => WhyOut::Ignored,
            (true, false) => WhyOut::NoLease,
        }
    }

    fn peer_status(&self, now: Time, node: NodeId, peer: &Peer) -> PeerStatus {
        let recent = |family: Family| {
            let arrived = peer.arrived_by[family.index()];
            arrived != Time::ZERO && now < arrived + self.config.timing.death
        };
        PeerStatus {
            node,
            in_file: self.config.nodes.contains(node),
            heard: peer.heard,
            alive: self.alive().contains(node),
            since: peer.since,
            why_lost: peer.why_lost,
            kernel_gone: peer.kernel.gone,
            askable: peer.kernel.askable,
            said: peer.newest.as_ref().map(|beat| (beat.incarnation, beat.standing, beat.facts)),
            claims: peer.claims().len(),
            lost: peer.quality.lost(),
            finds_us_lossy: peer.finds_us_lossy,
            hears: peer.newest.as_ref().map_or(NodeSet::EMPTY, |beat| beat.hears()),
            silent_for: peer.newest.as_ref().map(|_| now.since(peer.arrived)),
            by_family: [recent(Family::V4), recent(Family::V6)],
            misses: peer.misses,
            votes: self.votes_about(node),
        }
    }
}
