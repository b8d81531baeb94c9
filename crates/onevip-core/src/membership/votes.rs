//! Nodes that answer beats but not their clients, voted out by those who found it out.
//!
//! Who is *able* to tell whether another node serves says so in its beats, and who of those it *suspects*; how that is
//! found out is the daemon's business (`crate::peer_check`, and a connection to the node itself). A node against whom more
//! than half of those are who have a say about it is *convicted*: everybody counts for itself, from the beats that it
//! hears. That is all that a convicted node needs to know: it says that it is as ill as can be, the others take its
//! share, it holds its sessions, and if all are convicted nothing moves. Whether it heard the voters itself does not matter: whoever
//! counts a majority says so, and is believed.
//!
//! A convicted node that goes on as if nothing were (another build) is left out of the table by those who count a
//! majority. Its claims stay its own until it lets go of them or its lease ends: safety comes before justice.

use super::dirty::Dirty;
use super::{Engine, Event};
use crate::beat::{Health, NodeState, Testimony};
use crate::ids::{BucketSet, NodeId, NodeSet};
use crate::table::Weight;
use crate::time::Time;
use std::time::Duration;

/// As ill as who takes no connection.
pub(super) const CONVICTED: Health = Health::WORST;

/// How the votes about one node stand.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Votes {
    /// Who has a say.
    pub able: NodeSet,
    /// Who of them found that it does not serve.
    pub against: NodeSet,
}

impl Votes {
    /// More than half. In a cluster of two the only other node suffices.
    pub const fn convict(self) -> bool {
        self.against.len() * 2 > self.able.len()
    }
}

/// What somebody has to know who finds out whether others serve.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct PeerCheckView {
    /// Everybody alive, this node included.
    pub alive: NodeSet,
    /// Who is heard.
    pub heard: NodeSet,
    /// Who of those means to serve.
    pub serving: NodeSet,
    /// What those who are heard claim.
    pub claims: Vec<(NodeId, BucketSet)>,
    /// Whom others suspect.
    pub suspected: NodeSet,
}

/// What this node says of the others, and what it makes of what all say.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct VoteCount {
    /// What we say of others, and against whom we count a majority.
    testimony: Testimony,
    /// A majority is against us.
    voted_out: bool,
    /// Since when convicted nodes go on as if nothing were; [`Time::NEVER`]: none does.
    convicted_since: Time,
    /// Those who have done so for too long.
    defiant: NodeSet,
}

impl VoteCount {
    /// Nobody has said anything.
    pub fn none() -> Self {
        Self {
            testimony: Testimony::default(),
            voted_out: false,
            convicted_since: Time::NEVER,
            defiant: NodeSet::EMPTY,
        }
    }

    /// What we say in our beats.
    pub fn testimony(&self) -> Testimony {
        self.testimony
    }

    /// Whether a majority is against us.
    pub fn is_voted_out(&self) -> bool {
        self.voted_out
    }

    /// Whether `node` has gone on for too long though a majority is against it.
    pub fn is_defiant(&self, node: NodeId) -> bool {
        self.defiant.contains(node)
    }

    /// What we found out is the same in the next life; the votes are counted again.
    pub fn carry_over(&mut self, last: &Self) {
        self.testimony = Testimony { convicted: NodeSet::EMPTY, ..last.testimony };
    }

    /// Somebody convicted goes on at `now`; true if one has done so for `patience`.
    fn goes_on_for(&mut self, now: Time, patience: Duration) -> bool {
        if self.convicted_since == Time::NEVER {
            self.convicted_since = now;
        }
        now >= self.convicted_since + patience
    }
}

impl Engine {
    /// What the peer check has to know.
    pub fn peer_check_view(&self) -> PeerCheckView {
        let mut view =
            PeerCheckView { alive: self.alive(), heard: self.peers.heard(), ..PeerCheckView::default() };
        for beat in self.peers.heard_beats() {
            if beat.standing.state == NodeState::Serving && beat.standing.weight != Weight::ZERO {
                view.serving.insert(beat.from);
            }
            view.claims.push((beat.from, beat.claims));
            view.suspected = view.suspected.or(beat.testimony.suspects);
        }
        view
    }

    /// What this node found out: about whom it has a say, and who of those does not serve.
    pub fn testify(&mut self, now: Time, able: NodeSet, suspects: NodeSet) {
        self.wake(now);
        let able = able.without(self.config.me);
        let said = Testimony { able, suspects: suspects.and(able), ..self.votes.testimony };
        if said != self.votes.testimony {
            self.votes.testimony = said;
            self.dirty.mark(Dirty::TABLE.and(Dirty::BEAT));
        }
        self.settle(now);
    }

    /// What this node says of the others.
    pub fn testimony(&self) -> Testimony {
        self.votes.testimony
    }

    /// The votes about a node, as far as we hear them.
    pub fn votes_about(&self, node: NodeId) -> Votes {
        let mut votes = Votes::default();
        let mut count = |voter: NodeId, said: &Testimony| {
            if voter != node && said.able.contains(node) {
                votes.able.insert(voter);
                if said.suspects.contains(node) {
                    votes.against.insert(voter);
                }
            }
        };
        count(self.config.me, &self.votes.testimony);
        for beat in self.peers.heard_beats() {
            count(beat.from, &beat.testimony);
        }
        votes
    }

    /// Counts the votes. Call it when something changed.
    pub(super) fn count_votes(&mut self) {
        let (mut accused, mut judged_by_others) = (self.votes.testimony.suspects, NodeSet::EMPTY);
        for beat in self.peers.heard_beats() {
            accused = accused.or(beat.testimony.suspects);
            judged_by_others = judged_by_others.or(beat.testimony.convicted);
        }
        let convicted: NodeSet =
            accused.iter().filter(|accused| self.votes_about(*accused).convict()).collect();
        let before = self.votes.testimony.convicted;
        let changed = convicted.minus(before).or(before.minus(convicted));
        for node in changed.iter() {
            let by = convicted.contains(node).then(|| self.votes_about(node).against);
            self.outputs.push_back(super::Output::Event(Event::Votes { node, by }));
        }
        self.dirty.mark_if(!changed.is_empty(), Dirty::BEAT);
        self.votes.testimony.convicted = convicted;
        let me = self.config.me;
        self.votes.voted_out = convicted.contains(me) || judged_by_others.contains(me);
        #[cfg(feature = "sim")]
        if self.is(super::Mutation::DefiesVotes) {
            self.votes.voted_out = false;
        }
    }

    /// Looks for convicted nodes that do not go out by themselves. Call it once per beat time.
    pub(super) fn look_for_defiance(&mut self, now: Time) {
        let convicted = self.votes.testimony.convicted.without(self.config.me);
        if convicted.is_empty() && self.votes.defiant.is_empty() {
            self.votes.convicted_since = Time::NEVER;
            return;
        }
        let goes_on =
            |node: &NodeId| self.peers.newest(*node).is_some_and(|beat| beat.standing.health < CONVICTED);
        let mut defiant: NodeSet = convicted.iter().filter(goes_on).collect();
        if defiant.is_empty() {
            self.votes.convicted_since = Time::NEVER;
        } else if !self.votes.goes_on_for(now, self.config.timing.listen) {
            defiant = NodeSet::EMPTY;
        }
        if defiant != self.votes.defiant {
            self.votes.defiant = defiant;
            self.dirty.mark(Dirty::TABLE);
        }
    }
}
