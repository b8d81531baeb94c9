//! Asking for buckets, getting them, and giving them away.
//!
//! *Gain* is Ricart and Agrawala's mutual exclusion (CACM 24(1), 1981) over bitmaps: announce the intent, wait until
//! everybody we hear has acknowledged the announcement, and claim unless the newest beat of one of them claims the
//! bucket or intends it with priority. Among intents the lower node number goes first: an order that needs no
//! agreement about anything.

use super::{Engine, Event, Failback, Output};
use crate::beat::{NodeState, Seq};
use crate::ids::{Bucket, BucketSet, NodeId};
use crate::time::Time;

impl Engine {
    /// The buckets that we claim.
    pub fn claims(&self) -> BucketSet {
        self.claims
    }

    /// The buckets that we want and do not have.
    pub fn intents(&self) -> BucketSet {
        self.intents
    }

    /// Two claim the same bucket (a cut has healed, a paused machine woke up): one releases at once.
    ///
    /// If the tables are alike, it is the wanted owner who keeps it, else the lower node number. Both may release when
    /// only one of them knows yet that the tables are alike; then they ask for it again.
    pub(super) fn resolve_conflicts(&mut self, now: Time) {
        if !self.recheck && !self.conflict {
            return;
        }
        (self.recheck, self.conflict) = (false, false);
        let mut yielded = BucketSet::EMPTY;
        let mine = self.owned_by(self.config.me);
        for (node, peer) in self.peers.iter().filter(|(_, peer)| peer.heard) {
            let Some(beat) = &peer.newest else { continue };
            let both = self.claims.and(&beat.claims);
            if both.is_empty() {
                continue;
            }
            self.conflict = true;
            let theirs = if beat.view == self.view { self.owned_by(*node) } else { BucketSet::EMPTY };
            let ours = if beat.view == self.view { mine } else { BucketSet::EMPTY };
            yielded = yielded.or(&both.and(&theirs));
            if *node < self.config.me {
                yielded = yielded.or(&both.minus(&ours));
            }
        }
        let ruled = self.ruled_away();
        let yielded = yielded.or(&ruled);
        self.release(now, yielded);
    }

    /// Buckets that the wanted owner asked for are released together with a periodic beat, so that the gap is the time
    /// of one message, and only when it has asked in two beats before, so that it has everybody's acknowledgement by
    /// then and can claim at once.
    pub(super) fn release_what_was_asked_for(&mut self, now: Time) {
        let asked = self.asked_for();
        let ripe = asked.and(&self.asked[0]).and(&self.asked[1]);
        self.asked = [asked, self.asked[0]];
        let evacuates = !self.is_member();
        let movable = if evacuates || now < self.rebalance_until {
            ripe
        } else {
            match self.config.failback {
                Failback::Now => ripe,
                Failback::Idle => ripe.minus(&self.guests),
                Failback::Manual => BucketSet::EMPTY,
            }
        };
        self.release(now, movable);
        let ends = matches!(self.state, NodeState::Draining | NodeState::Leaving);
        if ends && now >= self.state_since + self.config.timing.goodbye {
            let all = self.claims;
            self.release(now, all);
        }
    }

    /// Of our claims, those that their wanted owner intends.
    fn asked_for(&self) -> BucketSet {
        let mut asked = BucketSet::EMPTY;
        for node in self.heard.iter() {
            if let Some(peer) = self.peers.get(&node) {
                let wanted = peer.intents().and(&self.claims);
                if !wanted.is_empty() {
                    asked = asked.or(&wanted.and(&self.owned_by(node)));
                }
            }
        }
        if !self.hidden.is_empty() {
            let contested = self.contested().and(&self.claims);
            for node in self.hidden.iter() {
                asked = asked.or(&contested.and(&self.owned_by(node)));
            }
        }
        asked
    }

    /// Announces what we want and do not have. Not while we are quiet: whoever releases for us would leave a gap.
    pub(super) fn intend(&mut self, now: Time) {
        let wanted = match self.state {
            _ if now < self.quiet_until => BucketSet::EMPTY,
            NodeState::Serving => self.owned_by(self.config.me).minus(&self.claims),
            NodeState::Joining | NodeState::Draining | NodeState::Leaving => BucketSet::EMPTY,
        };
        let new = wanted.minus(&self.intents);
        for bucket in new.iter() {
            self.intent_seq[bucket.index()] = Seq(self.seq.0 + 1);
        }
        self.urgent |= !new.is_empty();
        for bucket in self.intents.minus(&wanted).iter() {
            self.intent_seq[bucket.index()] = Seq(0);
        }
        self.intents = wanted;
    }

    /// All intents need new acknowledgements.
    pub(super) fn announce_intents_again(&mut self) {
        for bucket in self.intents.iter() {
            self.intent_seq[bucket.index()] = Seq(self.seq.0 + 1);
        }
        self.urgent |= !self.intents.is_empty();
    }

    /// The intents that may become claims now.
    pub(super) fn grantable(&mut self, now: Time) -> BucketSet {
        self.others_moved = false;
        if self.intents.is_empty()
            || now >= self.lease_until
            || now < self.quiet_until
            || self.may_be_mute(now)
        {
            return BucketSet::EMPTY;
        }
        let acked = self.acked_by_all();
        let is_acked = |bucket: &Bucket| self.intent_seq[bucket.index()] <= acked;
        self.intents.minus(&self.blocked()).iter().filter(is_acked).collect()
    }

    /// Others speak, but nobody acknowledges us: then our lease is about to run out, and a claim would be void.
    fn may_be_mute(&self, now: Time) -> bool {
        self.heard.is_empty() && !self.is_alone(now)
    }

    /// The newest of our beats that everybody we hear has acknowledged. Who does not say yet that it hears us has not
    /// ruled on our intents either, so that is no acknowledgement.
    pub(super) fn acked_by_all(&self) -> Seq {
        #[cfg(feature = "sim")]
        if self.is(super::Mutation::ClaimUnacknowledged) {
            return Seq(u32::MAX);
        }
        let heard = self.peers.values().filter(|peer| peer.heard);
        let acked = |peer: &super::Peer| {
            if peer.hears.contains(self.config.me) { peer.acked } else { Seq(0) }
        };
        heard.map(acked).min().unwrap_or(Seq(u32::MAX))
    }

    /// Buckets to which somebody we hear objects.
    fn blocked(&self) -> BucketSet {
        let mut blocked = BucketSet::EMPTY;
        for (node, peer) in self.peers.iter().filter(|(_, peer)| peer.heard) {
            #[cfg(feature = "sim")]
            if self.is(super::Mutation::ClaimBeforeRelease) {
                continue;
            }
            blocked = blocked.or(&peer.claims());
            if self.yields_to(*node) {
                blocked = blocked.or(&peer.intents());
            }
        }
        blocked.or(&self.ruled_out())
    }

    /// Among intents the lower number goes first.
    fn yields_to(&self, other: NodeId) -> bool {
        other < self.config.me
    }

    /// Claims `buckets`. Whose sessions may be in them is written to the kernel first.
    pub(super) fn gain(&mut self, now: Time, buckets: BucketSet) {
        #[cfg(feature = "sim")]
        if self.is(super::Mutation::ElsewhereAfterMine) && !buckets.is_empty() {
            self.outputs.push_back(Output::Gain(buckets));
            self.claims = self.claims.or(&buckets);
        }
        self.tell_elsewhere(now);
        if buckets.is_empty() {
            return;
        }
        self.claims = self.claims.or(&buckets);
        self.intents = self.intents.minus(&buckets);
        self.recheck = true;
        self.urgent = true;
        #[cfg(feature = "sim")]
        if self.is(super::Mutation::ElsewhereAfterMine) {
            return;
        }
        self.outputs.push_back(Output::Gain(buckets));
        self.outputs.push_back(Output::Event(Event::Claims(self.claims.len())));
    }

    /// A leaving node that claims nothing any more has one last beat to send.
    pub(super) fn finish_leaving(&mut self, now: Time) {
        if self.state == NodeState::Leaving && self.claims.is_empty() && self.held_until != Time::NEVER {
            self.send_beat(now);
            self.outputs.push_back(Output::Left);
            self.held_until = Time::NEVER;
        }
    }
}
