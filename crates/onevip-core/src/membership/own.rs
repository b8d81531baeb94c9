//! What this node is and says of itself: its life, its state, its health.

use super::dirty::Dirty;
use super::{Engine, Event, Output, votes};
use crate::beat::{Beat, Facts, Health, Incarnation, NodeState, Standing};
use crate::time::Time;

/// This node, apart from what it claims and knows of others.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct OwnNode {
    incarnation: Incarnation,
    state: NodeState,
    state_since: Time,
    health: Health,
    facts: Facts,
    started: Time,
    /// Something says that we must not begin to serve: a twin with our number, or beats we cannot read.
    held_until: Time,
    /// The last beat was sent, and [`Output::Left`] said.
    left: bool,
}

impl OwnNode {
    /// A daemon that starts at `now`.
    pub fn joining(incarnation: Incarnation, now: Time) -> Self {
        Self {
            incarnation,
            state: NodeState::Joining,
            state_since: now,
            health: Health::GOOD,
            facts: Facts::default(),
            started: now,
            held_until: now,
            left: false,
        }
    }

    /// Which life of this node it is.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// What it is doing.
    pub fn state(&self) -> NodeState {
        self.state
    }

    /// Since when.
    pub fn state_since(&self) -> Time {
        self.state_since
    }

    /// How it feels, as the checks say.
    pub fn health(&self) -> Health {
        self.health
    }

    /// What it says of itself for people.
    pub fn facts(&self) -> Facts {
        self.facts
    }

    /// Whether something says that it must not begin to serve.
    pub fn is_held(&self, now: Time) -> bool {
        now < self.held_until
    }

    /// It gives up its last claims now, if it does not hand them over before.
    pub fn is_ending(&self) -> bool {
        matches!(self.state, NodeState::Draining | NodeState::Leaving)
    }

    /// What people and checks have said goes on to hold in the next life.
    pub fn carry_over(&mut self, last: &Self) {
        if last.is_ending() {
            self.state = last.state;
        }
        (self.health, self.facts) = (last.health, last.facts);
    }

    /// True once: when a leaving node without claims has not said so yet.
    pub fn leaves_now(&mut self) -> bool {
        let leaves = self.state == NodeState::Leaving && !self.left;
        self.left |= leaves;
        leaves
    }
}

impl Engine {
    /// Which life of this node it is.
    pub fn incarnation(&self) -> Incarnation {
        self.own.incarnation
    }

    /// The node feels better or worse: above 0 its buckets move to nodes that feel better, at once.
    pub fn health_changed(&mut self, now: Time, health: Health) {
        self.wake(now);
        if self.own.health != health {
            self.own.health = health;
            self.dirty.mark(Dirty::TABLE.and(Dirty::BEAT));
        }
        self.settle(now);
    }

    /// What others are told for people to read.
    pub fn facts_changed(&mut self, facts: Facts) {
        self.own.facts = facts;
    }

    /// Claim nothing new, hand over what is claimed, hold what is held.
    pub fn drain(&mut self, now: Time) {
        self.wake(now);
        if matches!(self.own.state, NodeState::Joining | NodeState::Serving) {
            self.enter(now, NodeState::Draining);
        }
        self.settle(now);
    }

    /// The end of a drain: take a share again.
    pub fn undrain(&mut self, now: Time) {
        self.wake(now);
        if self.own.state == NodeState::Draining {
            // Not straight to serving: it may have been drained before it had listened.
            self.enter(now, NodeState::Joining);
        }
        self.settle(now);
    }

    /// Hand over and stop: [`Output::Left`] follows within [`Timing::goodbye`](super::Timing::goodbye) and the daemon
    /// may end.
    pub fn leave(&mut self, now: Time) {
        self.wake(now);
        if self.own.state != NodeState::Leaving {
            self.enter(now, NodeState::Leaving);
        }
        self.settle(now);
    }

    /// Frames of this cluster arrive that no key opens: while joining, that is a reason not to begin alone.
    pub fn unreadable_beat(&mut self, now: Time) {
        self.wake(now);
        if self.own.state == NodeState::Joining {
            self.hold(now, Event::Unreadable);
        }
        self.settle(now);
    }

    /// A beat with our own number that is not ours.
    pub(super) fn hear_twin(&mut self, now: Time, beat: &Beat) {
        if beat.host == self.config.host {
            return;
        }
        self.life.twin_heard(now);
        if self.own.state == NodeState::Joining {
            self.hold(now, Event::Twin { host: beat.host });
        }
    }

    /// Stay joining for as long as the reason for it keeps coming.
    fn hold(&mut self, now: Time, reason: Event) {
        if now >= self.own.held_until {
            self.outputs.push_back(Output::Event(reason));
        }
        self.own.held_until = now + self.config.timing.listen;
    }

    fn enter(&mut self, now: Time, state: NodeState) {
        (self.own.state, self.own.state_since) = (state, now);
        self.dirty.mark(Dirty::TABLE.and(Dirty::BEAT));
        self.outputs.push_back(Output::Event(Event::State(state)));
    }

    /// Joining ends when we have listened long enough to know who is there.
    pub(super) fn begin_serving(&mut self, now: Time) {
        if self.own.state != NodeState::Joining || self.own.is_held(now) {
            return;
        }
        let timing = &self.config.timing;
        let others_serve = !self.shares.members().is_empty();
        let listen = if others_serve { timing.listen } else { timing.listen_alone };
        if now >= self.own.started + listen {
            self.enter(now, NodeState::Serving);
            self.look_around();
        }
    }

    /// How this node stands, as it announces it.
    pub(super) fn standing(&self) -> Standing {
        let (state, weight) = (self.own.state, self.config.weight);
        let health = self.own.health.max(self.own_link.announced());
        let health = if self.votes.is_voted_out() { votes::CONVICTED } else { health };
        #[cfg(feature = "sim")]
        if self.votes.is_voted_out() && self.is(super::Mutation::VotesEmptyTheCluster) {
            return Standing { state: NodeState::Draining, health, weight };
        }
        Standing { state, health, weight }
    }
}
