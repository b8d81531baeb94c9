//! Asking for buckets, getting them, and giving them away.
//!
//! *Gain* is Ricart and Agrawala's mutual exclusion (CACM 24(1), 1981) over bitmaps: announce the intent, wait until
//! everybody we hear has acknowledged the announcement, and claim unless the newest beat of one of them claims the
//! bucket or intends it with priority. Among intents the lower node number goes first: an order that needs no
//! agreement about anything.

use super::dirty::Dirty;
use super::{Engine, Event, Output};
use crate::beat::{NodeState, Seq};
use crate::ids::{BUCKETS, Bucket, BucketSet, NodeId};
use crate::time::Time;

/// What this node claims, what it wants besides, and what is wanted of it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Claims {
    held: BucketSet,
    intents: BucketSet,
    /// By bucket, the first of our beats that announced the intent; 0 where there is none.
    announced: Vec<Seq>,
    /// What wanted owners asked us for at the last two periodic beats.
    asked: [BucketSet; 2],
    /// How often somebody asked for a rebalance.
    rebalance: u32,
    /// Until when planned moves take busy buckets along.
    rebalance_until: Time,
}

impl Claims {
    /// Claims nothing and wants nothing.
    pub fn none() -> Self {
        Self {
            held: BucketSet::EMPTY,
            intents: BucketSet::EMPTY,
            announced: vec![Seq(0); BUCKETS],
            asked: [BucketSet::EMPTY; 2],
            rebalance: 0,
            rebalance_until: Time::ZERO,
        }
    }

    /// What is claimed.
    pub fn held(&self) -> BucketSet {
        self.held
    }

    /// What is wanted and not claimed.
    pub fn intents(&self) -> BucketSet {
        self.intents
    }

    /// Whether who acknowledged our beat `acked` knows that we intend `bucket`.
    pub fn is_acknowledged(&self, bucket: Bucket, acked: Seq) -> bool {
        self.announced[bucket.index()] <= acked
    }

    /// How often somebody asked for a rebalance, as far as we know.
    pub fn rebalance(&self) -> u32 {
        self.rebalance
    }

    /// Somebody asked for the rebalance with this number.
    pub fn rebalance_asked(&mut self, number: u32, until: Time) {
        (self.rebalance, self.rebalance_until) = (number, until);
    }

    /// Who asked for something may not be its wanted owner any more.
    pub fn forget_who_asked(&mut self) {
        self.asked = [BucketSet::EMPTY; 2];
    }

    /// Which rebalances are known is the same in the next life.
    pub fn carry_over(&mut self, last: &Self) {
        self.rebalance = last.rebalance;
    }

    /// Of what is asked for now, what was asked for at the last two periodic beats as well.
    fn ripe(&mut self, asked: BucketSet) -> BucketSet {
        let ripe = asked.and(&self.asked[0]).and(&self.asked[1]);
        self.asked = [asked, self.asked[0]];
        ripe
    }

    /// Wants exactly this from now on; true if something is new, which the beat `next` will announce.
    fn intend(&mut self, wanted: BucketSet, next: Seq) -> bool {
        let new = wanted.minus(&self.intents);
        for bucket in new.iter() {
            self.announced[bucket.index()] = next;
        }
        for bucket in self.intents.minus(&wanted).iter() {
            self.announced[bucket.index()] = Seq(0);
        }
        self.intents = wanted;
        !new.is_empty()
    }

    /// All intents count as announced by the beat `next`; true if there are any.
    fn announce_again(&mut self, next: Seq) -> bool {
        for bucket in self.intents.iter() {
            self.announced[bucket.index()] = next;
        }
        !self.intents.is_empty()
    }

    /// These are claimed, and wanted no more.
    fn gain(&mut self, buckets: BucketSet) {
        self.held = self.held.or(&buckets);
        self.intents = self.intents.minus(&buckets);
    }
}

impl Engine {
    /// The buckets that we claim.
    pub fn claims(&self) -> BucketSet {
        self.claims.held
    }

    /// The buckets that we want and do not have.
    pub fn intents(&self) -> BucketSet {
        self.claims.intents
    }

    /// Two claim the same bucket (a cut has healed, a paused machine woke up): one releases at once.
    ///
    /// If the tables are alike, it is the wanted owner who keeps it, else the lower node number. Both may release when
    /// only one of them knows yet that the tables are alike; then they ask for it again.
    pub(super) fn resolve_conflicts(&mut self, now: Time) {
        if !self.dirty.clear(Dirty::CLAIMS.and(Dirty::CONFLICT)) {
            return;
        }
        let mut yielded = BucketSet::EMPTY;
        let mine = self.owned_by(self.config.me);
        for (node, peer) in self.peers.heard_peers() {
            let Some(beat) = &peer.newest else { continue };
            let both = self.claims.held.and(&beat.claims);
            if both.is_empty() {
                continue;
            }
            self.dirty.mark(Dirty::CONFLICT);
            let theirs = if beat.view == self.shares.view() { self.owned_by(node) } else { BucketSet::EMPTY };
            let ours = if beat.view == self.shares.view() { mine } else { BucketSet::EMPTY };
            yielded = yielded.or(&both.and(&theirs));
            if node < self.config.me {
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
        let ripe = self.claims.ripe(asked);
        let evacuates = !self.is_member();
        let rebalances = now < self.claims.rebalance_until;
        let movable = if evacuates || rebalances { ripe } else { self.movable(ripe) };
        self.release(now, movable);
        if self.own.is_ending() && now >= self.own.state_since() + self.config.timing.goodbye {
            let all = self.claims.held;
            self.release(now, all);
        }
    }

    /// Of our claims, those that their wanted owner intends.
    fn asked_for(&self) -> BucketSet {
        let mut asked = BucketSet::EMPTY;
        for (node, peer) in self.peers.heard_peers() {
            let wanted = peer.intents().and(&self.claims.held);
            if !wanted.is_empty() {
                asked = asked.or(&wanted.and(&self.owned_by(node)));
            }
        }
        if !self.peers.hidden().is_empty() {
            let contested = self.contested().and(&self.claims.held);
            for node in self.peers.hidden().iter() {
                asked = asked.or(&contested.and(&self.owned_by(node)));
            }
        }
        asked
    }

    /// Announces what we want and do not have. Not while we are quiet: whoever releases for us would leave a gap.
    pub(super) fn intend(&mut self, now: Time) {
        let wanted = match self.own.state() {
            _ if now < self.contact.quiet_until() => BucketSet::EMPTY,
            NodeState::Serving => self.owned_by(self.config.me).minus(&self.claims.held),
            NodeState::Joining | NodeState::Draining | NodeState::Leaving => BucketSet::EMPTY,
        };
        let is_new = self.claims.intend(wanted, self.sending.next_seq());
        self.dirty.mark_if(is_new, Dirty::BEAT);
    }

    /// All intents need new acknowledgements.
    pub(super) fn announce_intents_again(&mut self) {
        let any = self.claims.announce_again(self.sending.next_seq());
        self.dirty.mark_if(any, Dirty::BEAT);
    }

    /// Somebody asked that planned moves happen now, on all nodes, busy buckets included.
    pub fn rebalance(&mut self, now: Time) {
        self.wake(now);
        let until = now + self.config.timing.rebalance;
        self.claims.rebalance_asked(self.claims.rebalance + 1, until);
        self.dirty.mark(Dirty::BEAT);
        self.settle(now);
    }

    /// The intents that may become claims now.
    pub(super) fn grantable(&mut self, now: Time) -> BucketSet {
        self.dirty.clear(Dirty::INTENTS);
        if self.claims.intents.is_empty()
            || now >= self.lease.until()
            || now < self.contact.quiet_until()
            || self.may_be_mute(now)
        {
            return BucketSet::EMPTY;
        }
        let acked = self.acked_by_all();
        let is_acked = |bucket: &Bucket| self.claims.is_acknowledged(*bucket, acked);
        self.claims.intents.minus(&self.blocked()).iter().filter(is_acked).collect()
    }

    /// Others speak, but nobody acknowledges us: then our lease is about to run out, and a claim would be void.
    fn may_be_mute(&self, now: Time) -> bool {
        self.peers.heard().is_empty() && !self.is_alone(now)
    }

    /// The newest of our beats that everybody we hear has acknowledged. Who does not say yet that it hears us has not
    /// ruled on our intents either, so that is no acknowledgement.
    pub(super) fn acked_by_all(&self) -> Seq {
        #[cfg(feature = "sim")]
        if self.is(super::Mutation::ClaimUnacknowledged) {
            return Seq(u32::MAX);
        }
        let acked = |peer: &super::Peer| {
            if peer.hears.contains(self.config.me) { peer.acked } else { Seq(0) }
        };
        self.peers.heard_peers().map(|(_, peer)| acked(peer)).min().unwrap_or(Seq(u32::MAX))
    }

    /// Buckets to which somebody we hear objects.
    fn blocked(&self) -> BucketSet {
        let mut blocked = BucketSet::EMPTY;
        for (node, peer) in self.peers.heard_peers() {
            #[cfg(feature = "sim")]
            if self.is(super::Mutation::ClaimBeforeRelease) {
                continue;
            }
            blocked = blocked.or(&peer.claims());
            if self.yields_to(node) {
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
            self.claims.held = self.claims.held.or(&buckets);
        }
        self.tell_elsewhere(now);
        if buckets.is_empty() {
            return;
        }
        self.claims.gain(buckets);
        self.dirty.mark(Dirty::CLAIMS.and(Dirty::BEAT));
        #[cfg(feature = "sim")]
        if self.is(super::Mutation::ElsewhereAfterMine) {
            return;
        }
        self.outputs.push_back(Output::Gain(buckets));
        self.outputs.push_back(Output::Event(Event::Claims(self.claims.held.len())));
    }

    /// A leaving node that claims nothing any more has one last beat to send.
    pub(super) fn finish_leaving(&mut self, now: Time) {
        if self.claims.held.is_empty() && self.own.leaves_now() {
            self.send_beat(now);
            self.outputs.push_back(Output::Left);
        }
    }

    /// Gives up `buckets`, and remembers that sessions may be left in them.
    pub(super) fn release(&mut self, now: Time, buckets: BucketSet) {
        let buckets = buckets.and(&self.claims.held);
        if buckets.is_empty() {
            return;
        }
        self.claims.held = self.claims.held.minus(&buckets);
        self.sessions.released(now, buckets);
        self.dirty.mark(Dirty::BEAT);
        self.outputs.push_back(Output::Release(buckets));
        self.outputs.push_back(Output::Event(Event::Claims(self.claims.held.len())));
    }
}
