//! Nodes that answer beats but not their clients, voted out by those who found it out.
//!
//! Who is *able* to tell whether another node serves says so in its beats, and who of those it *suspects*; how that is
//! found out is the daemon's business (`crate::witness`, and a connection to the node itself). A node against whom more
//! than half of those are who have a say about it is *convicted*: everybody counts for itself, from the beats that it
//! hears. That is all that a convicted node needs to know: it says that it is as ill as can be, the others take its
//! share, it holds its sessions, and if all are convicted nothing moves. Whether it heard the voters itself does not matter: whoever
//! counts a majority says so, and is believed.
//!
//! A convicted node that goes on as if nothing were (another build) is left out of the table by those who count a
//! majority. Its claims stay its own until it lets go of them or its lease ends: safety comes before justice.

use super::{Engine, Event};
use crate::beat::{Health, NodeState, Testimony};
use crate::ids::{BucketSet, NodeId, NodeSet};
use crate::table::Weight;
use crate::time::Time;

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
pub struct View {
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

impl Engine {
    /// What a witness has to know.
    pub fn witness_view(&self) -> View {
        let mut view = View { alive: self.alive(), heard: self.heard, ..View::default() };
        for (node, peer) in self.peers.iter().filter(|(_, peer)| peer.heard) {
            let Some(beat) = &peer.newest else { continue };
            if beat.standing.state == NodeState::Serving && beat.standing.weight != Weight::ZERO {
                view.serving.insert(*node);
            }
            view.claims.push((*node, beat.claims));
            view.suspected = view.suspected.or(beat.testimony.suspects);
        }
        view
    }

    /// What this node found out: about whom it has a say, and who of those does not serve.
    pub fn testify(&mut self, now: Time, able: NodeSet, suspects: NodeSet) {
        self.wake(now);
        let able = able.without(self.config.me);
        let said = Testimony { able, suspects: suspects.and(able), ..self.testimony };
        if said != self.testimony {
            self.testimony = said;
            self.news = true;
            self.urgent = true;
        }
        self.settle(now);
    }

    /// What this node says of the others.
    pub fn testimony(&self) -> Testimony {
        self.testimony
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
        count(self.config.me, &self.testimony);
        for (voter, peer) in self.peers.iter().filter(|(_, peer)| peer.heard) {
            if let Some(beat) = &peer.newest {
                count(*voter, &beat.testimony);
            }
        }
        votes
    }

    /// Counts the votes. Call it when something changed.
    pub(super) fn count_votes(&mut self) {
        let heard = self.peers.values().filter(|peer| peer.heard).filter_map(|peer| peer.newest.as_ref());
        let (mut accused, mut judged_by_others) = (self.testimony.suspects, NodeSet::EMPTY);
        for beat in heard {
            accused = accused.or(beat.testimony.suspects);
            judged_by_others = judged_by_others.or(beat.testimony.convicted);
        }
        let convicted: NodeSet =
            accused.iter().filter(|accused| self.votes_about(*accused).convict()).collect();
        let changed = convicted.minus(self.testimony.convicted).or(self.testimony.convicted.minus(convicted));
        for node in changed.iter() {
            let by = convicted.contains(node).then(|| self.votes_about(node).against);
            self.outputs.push_back(super::Output::Event(Event::Votes { node, by }));
        }
        self.urgent |= !changed.is_empty();
        self.testimony.convicted = convicted;
        let me = self.config.me;
        self.voted_out = convicted.contains(me) || judged_by_others.contains(me);
        #[cfg(feature = "sim")]
        if self.is(super::Mutation::DefiesVotes) {
            self.voted_out = false;
        }
    }

    /// Looks for convicted nodes that do not go out by themselves. Call it once per beat time.
    pub(super) fn look_for_defiance(&mut self, now: Time) {
        let convicted = self.testimony.convicted.without(self.config.me);
        if convicted.is_empty() && self.defiant.is_empty() {
            self.convicted_since = Time::NEVER;
            return;
        }
        let goes_on = |node: &NodeId| {
            let beat = self.peers.get(node).and_then(|peer| peer.newest.as_ref());
            beat.is_some_and(|beat| beat.standing.health < CONVICTED)
        };
        let defiant: NodeSet = convicted.iter().filter(goes_on).collect();
        if defiant.is_empty() {
            self.convicted_since = Time::NEVER;
        } else if self.convicted_since == Time::NEVER {
            self.convicted_since = now;
        }
        let long =
            self.convicted_since != Time::NEVER && now >= self.convicted_since + self.config.timing.listen;
        let defiant = if long { defiant } else { NodeSet::EMPTY };
        if defiant != self.defiant {
            self.defiant = defiant;
            self.news = true;
        }
    }
}
