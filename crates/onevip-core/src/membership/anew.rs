//! Another life of this node, when others know a later one than ours.
//!
//! The number of our life can go back: the state directory is lost and the clock set back, a machine returns to a snapshot, a
//! second daemon ran as this node for a while. Then everybody takes our beats for recordings of an earlier life. Their
//! reports tell us; the daemon stores a larger number, and we begin anew with it.

use super::{Engine, Event, Output};
use crate::beat::{Incarnation, NodeState, PeerReport, Testimony};
use crate::ids::NodeSet;
use crate::time::Time;

impl Engine {
    /// This node begins another life, as if its daemon had been started again: with a larger incarnation than ever, because
    /// others take its beats for recordings (see [`Event::Outlived`]). What people and checks have said goes on to hold.
    pub fn begin_anew(&mut self, now: Time, incarnation: Incarnation) {
        self.wake(now);
        debug_assert!(incarnation > self.incarnation);
        let all = self.claims;
        self.release(now, all);
        let mut next = Self::blank(self.config.clone(), incarnation, self.guests, now);
        next.guests_as_of = self.guests_as_of;
        next.released = std::mem::take(&mut self.released);
        if matches!(self.state, NodeState::Draining | NodeState::Leaving) {
            next.state = self.state;
        }
        next.health = self.health;
        next.both_families = self.both_families;
        next.facts = self.facts;
        next.testimony = Testimony { convicted: NodeSet::EMPTY, ..self.testimony };
        next.rebalance = self.rebalance;
        next.mute_since = self.mute_since;
        for (node, peer) in &mut next.peers {
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
        let is_later = (report.incarnation, report.seq) > (self.incarnation, self.seq);
        // Where another host has our number, it may be that one's.
        if !is_later || now < self.twin_heard + timing.listen {
            return;
        }
        let known = report.incarnation;
        if Some(known) > self.outlived_by || now >= self.outlived_told + timing.memory {
            (self.outlived_by, self.outlived_told) = (Some(known), now);
            self.outputs.push_back(Output::Event(Event::Outlived(known)));
        }
    }
}
