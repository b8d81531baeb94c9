//! Another life of this node, when others know a later one than ours.
//!
//! The number of our life can go back: the state directory is lost and the clock set back, a machine returns to a snapshot, a
//! second daemon ran as this node for a while. Then everybody takes our beats for recordings of an earlier life. Their
//! reports tell us; the daemon stores a larger number, and we begin anew with it.

use super::{Engine, Event, Output};
use crate::beat::{Incarnation, PeerReport};
use crate::time::Time;

/// What others say of our life.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Life {
    /// When another host last beat with our number.
    twin_heard: Time,
    /// The latest life of ours that others know, if it is later than this one, and when we said so.
    outlived_by: Option<Incarnation>,
    outlived_told: Time,
}

impl Life {
    /// A life of which nobody knows yet.
    pub fn new(now: Time) -> Self {
        Self { twin_heard: Time::ZERO, outlived_by: None, outlived_told: now }
    }

    /// Another host beats with our number.
    pub fn twin_heard(&mut self, now: Time) {
        self.twin_heard = now;
    }
}

impl Engine {
    /// This node begins another life, as if its daemon had been started again: with a larger incarnation than ever, because
    /// others take its beats for recordings (see [`Event::Outlived`]). What people and checks have said goes on to hold.
    pub fn reincarnate(&mut self, now: Time, incarnation: Incarnation) {
        self.wake(now);
        debug_assert!(incarnation > self.own.incarnation());
        let all = self.claims.held();
        self.release(now, all);
        let mut next = Self::blank(self.config.clone(), incarnation, self.sessions.clone(), now);
        next.own.carry_over(&self.own);
        next.own_link.carry_over(&self.own_link);
        next.votes.carry_over(&self.votes);
        next.claims.carry_over(&self.claims);
        next.contact.carry_over(&self.contact);
        for (node, peer) in next.peers.iter_mut() {
            peer.kernel.askable = self.peers.get(node).and_then(|peer| peer.kernel.askable);
        }
        next.outputs = std::mem::take(&mut self.outputs);
        #[cfg(feature = "sim")]
        next.mutate(self.mutation);
        next.begin(now);
        *self = next;
    }

    /// A peer knows this beat of ours. If we are to send it yet, it comes from a later life: then nobody takes ours.
    pub(super) fn look_for_later_life(&mut self, now: Time, report: &PeerReport) {
        let timing = &self.config.timing;
        let is_later = (report.incarnation, report.seq) > (self.own.incarnation(), self.sending.seq());
        // Where another host has our number, it may be that one's.
        if !is_later || now < self.life.twin_heard + timing.listen {
            return;
        }
        let known = report.incarnation;
        if Some(known) > self.life.outlived_by || now >= self.life.outlived_told + timing.memory {
            (self.life.outlived_by, self.life.outlived_told) = (Some(known), now);
            self.outputs.push_back(Output::Event(Event::Outlived(known)));
        }
    }
}
