//! When a beat goes out, and what stands in it.

use super::dirty::Dirty;
use super::{Engine, Output};
use crate::beat::{Beat, PeerReport, Seq, codec};
use crate::ids::NodeId;
use crate::time::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// How many of our beats we remember the sending of: more than fit into the time for which it matters.
const SENT_MAX: usize = 128;

/// The beats that we sent, and when the next one is due.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Sending {
    seq: Seq,
    /// When our newest beats were sent, oldest first; bounded by age and by [`SENT_MAX`].
    sent: VecDeque<(Seq, Time)>,
    next_periodic: Time,
    last: Time,
}

impl Sending {
    /// Nothing was sent yet, and the first periodic beat is due at `now`.
    pub fn new(now: Time) -> Self {
        Self { seq: Seq(0), sent: VecDeque::new(), next_periodic: now, last: Time::ZERO }
    }

    /// The number of our newest beat.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// The number of the next one.
    pub fn next_seq(&self) -> Seq {
        Seq(self.seq.0 + 1)
    }

    /// When the next periodic beat is due.
    pub fn next_periodic(&self) -> Time {
        self.next_periodic
    }

    /// When that beat was sent, if it is remembered.
    pub fn sent_at(&self, seq: Seq) -> Option<Time> {
        self.sent.iter().rev().find(|(sent, _)| *sent == seq).map(|(_, time)| *time)
    }

    /// When the oldest beat after that one was sent.
    pub fn first_sent_after(&self, seq: Seq) -> Option<Time> {
        self.sent.iter().find(|(sent, _)| *sent > seq).map(|(_, time)| *time)
    }

    /// One more is sent now.
    fn note(&mut self, now: Time, kept: Duration) {
        self.seq.0 += 1;
        self.last = now;
        self.sent.push_back((self.seq, now));
        while self.sent.len() > SENT_MAX || self.sent.front().is_some_and(|(_, time)| *time + kept < now) {
            self.sent.pop_front();
        }
    }
}

impl Engine {
    /// The number of our newest beat.
    pub fn seq(&self) -> Seq {
        self.sending.seq
    }

    /// Sends the periodic beat when it is due, and one between when there is something to say.
    pub(super) fn send_beat_if_due(&mut self, now: Time, periodic: bool) {
        self.dirty.clear(Dirty::ANSWER);
        let asks = self.dirty.has(Dirty::CONFLICT) || self.intents_are_unacknowledged();
        self.dirty.mark_if(asks, Dirty::ANSWER);
        if periodic {
            let beat = self.config.timing.beat;
            let next = self.sending.next_periodic + beat;
            self.sending.next_periodic = if next > now { next } else { now + beat };
        }
        let has_to_say = self.dirty.has(Dirty::BEAT.and(Dirty::ANSWER));
        if periodic || has_to_say && now >= self.next_early_beat() {
            self.send_beat(now);
        }
    }

    /// When a beat between two periodic ones may go out.
    pub(super) fn next_early_beat(&self) -> Time {
        let timing = &self.config.timing;
        self.sending.last + if self.dirty.has(Dirty::BEAT) { timing.quick } else { timing.nag }
    }

    fn intents_are_unacknowledged(&self) -> bool {
        if self.claims.intents().is_empty() {
            return false;
        }
        let acked = self.acked_by_all();
        self.claims.intents().iter().any(|bucket| !self.claims.is_acknowledged(bucket, acked))
    }

    /// Sends a beat with everything as it is now.
    pub(super) fn send_beat(&mut self, now: Time) {
        if self.sending.seq.0 == u32::MAX {
            return; // A nonce must never come twice: better silent than that. Three years of the fastest beats.
        }
        self.sending.note(now, self.config.timing.death * 2);
        self.dirty.clear(Dirty::BEAT);
        let beat = self.beat(now);
        self.outputs.push_back(Output::Send(Box::new(beat)));
    }

    fn beat(&mut self, now: Time) -> Beat {
        let peers = self.reports(now);
        let rulings = self.rule(now, codec::rulings_room(peers.len()));
        Beat {
            from: self.config.me,
            incarnation: self.own.incarnation(),
            seq: self.sending.seq,
            host: self.config.host,
            standing: self.standing(),
            answer: self.dirty.has(Dirty::ANSWER),
            view: self.shares.view(),
            rebalance: self.claims.rebalance(),
            facts: self.own.facts(),
            claims: self.claims.held(),
            intents: self.claims.intents(),
            sessions: self.own_sessions(),
            testimony: self.votes.testimony(),
            peers,
            rulings,
        }
    }

    /// What we know of everybody who ever spoke, so that whoever comes back finds that we know it.
    fn reports(&self, now: Time) -> Vec<PeerReport> {
        let report = |(node, peer): (NodeId, &super::Peer)| {
            let beat = peer.newest.as_ref()?;
            Some(PeerReport {
                node,
                incarnation: beat.incarnation,
                seq: beat.seq,
                heard: self.vouches_for(now, peer),
                lossy: peer.quality.is_lossy(),
                standing: beat.standing,
            })
        };
        self.peers.iter().filter_map(report).collect()
    }
}
