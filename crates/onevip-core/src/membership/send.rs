//! When a beat goes out, and what stands in it.

use super::{Engine, Output};
use crate::beat::{Beat, PeerReport, Seq, codec};
use crate::time::Time;
use std::time::Duration;

/// How many of our beats we remember the sending of: more than fit into the time for which it matters.
pub(super) const SENT_MAX: usize = 128;

impl Engine {
    /// Sends the periodic beat when it is due, and one between when there is something to say.
    pub(super) fn send_beat_if_due(&mut self, now: Time, periodic: bool) {
        self.answer = self.conflict || self.intents_are_unacknowledged();
        if periodic {
            let beat = self.config.timing.beat;
            let next = self.next_periodic + beat;
            self.next_periodic = if next > now { next } else { now + beat };
        }
        if periodic || (self.urgent || self.answer) && now >= self.last_sent + self.spacing() {
            self.send_beat(now);
        }
    }

    fn spacing(&self) -> Duration {
        if self.urgent { self.config.timing.quick } else { self.config.timing.nag }
    }

    fn intents_are_unacknowledged(&self) -> bool {
        if self.intents.is_empty() {
            return false;
        }
        let acked = self.acked_by_all();
        self.intents.iter().any(|bucket| self.intent_seq[bucket.index()] > acked)
    }

    /// Sends a beat with everything as it is now.
    pub(super) fn send_beat(&mut self, now: Time) {
        if self.seq.0 == u32::MAX {
            return; // A nonce must never come twice: better silent than that. Three years of the fastest beats.
        }
        self.seq.0 += 1;
        self.last_sent = now;
        self.urgent = false;
        self.sent.push_back((self.seq, now));
        let kept = self.config.timing.death * 2;
        while self.sent.len() > SENT_MAX || self.sent.front().is_some_and(|(_, time)| *time + kept < now) {
            self.sent.pop_front();
        }
        let beat = self.beat(now);
        self.outputs.push_back(Output::Send(Box::new(beat)));
    }

    fn beat(&mut self, now: Time) -> Beat {
        let peers = self.reports(now);
        let rulings = self.rule(now, codec::rulings_room(peers.len()));
        Beat {
            from: self.config.me,
            incarnation: self.incarnation,
            seq: self.seq,
            host: self.config.host,
            standing: self.standing(),
            answer: self.answer,
            view: self.view,
            rebalance: self.rebalance,
            facts: self.facts,
            claims: self.claims,
            intents: self.intents,
            guests: self.own_guests(),
            testimony: self.testimony,
            peers,
            rulings,
        }
    }

    /// What we know of everybody who ever spoke, so that whoever comes back finds that we know it.
    fn reports(&self, now: Time) -> Vec<PeerReport> {
        let report = |(node, peer): (&_, &super::Peer)| {
            let beat = peer.newest.as_ref()?;
            Some(PeerReport {
                node: *node,
                incarnation: beat.incarnation,
                seq: beat.seq,
                heard: self.vouches_for(now, peer),
                lossy: peer.quality.is_lossy(),
                standing: beat.standing,
            })
        };
        self.peers.iter().filter_map(report).collect()
    }

    /// When something will have to be done without any input.
    pub(super) fn next_deadline(&self, now: Time) -> Time {
        let timing = &self.config.timing;
        let mut next = self.next_periodic;
        if self.urgent || self.answer {
            next = next.min(self.last_sent + self.spacing());
        }
        for peer in self.peers.values().filter(|peer| peer.heard) {
            next = next.min(peer.arrived.max(self.woke) + timing.death);
        }
        if !self.claims.is_empty() && self.lease_until > now {
            next = next.min(self.lease_until);
        }
        if self.ears_since.is_none() && self.spoken_to + timing.doubt > now {
            next = next.min(self.spoken_to + timing.doubt);
        }
        if self.spoken_to + timing.alone > now {
            next = next.min(self.spoken_to + timing.alone);
        }
        if self.ignored_at + timing.death > now {
            next = next.min(self.ignored_at + timing.death);
        }
        if let Some(since) = self.ears_since.filter(|since| *since + timing.beat > now) {
            next = next.min(since + timing.beat);
        }
        if self.quiet_until > now {
            next = next.min(self.quiet_until);
        }
        next = next.min(self.next_probe());
        next.max(now)
    }

    /// The number of our newest beat.
    pub fn seq(&self) -> Seq {
        self.seq
    }
}
