//! For how long the kernel may claim without hearing from us, and what is left when that is over.
//!
//! The lease counts from the *sending* of a beat that somebody acknowledged: whoever acknowledged it will believe us
//! alive for longer than the lease lasts, so we fall silent before we are replaced. One acknowledging peer is enough,
//! or a peer's death would stall all the others.

use super::{Engine, Event, Output};
use crate::ids::BucketSet;
use crate::time::Time;

impl Engine {
    /// Until when the kernel may claim.
    pub fn lease_until(&self) -> Time {
        self.lease_until
    }

    /// Our own loop was stopped: what we did not hear in that time proves nothing.
    pub(super) fn stalled(&mut self, now: Time) {
        self.outputs.push_back(Output::Event(Event::Stalled(now.since(self.expected))));
        #[cfg(feature = "sim")]
        if self.is(super::Mutation::TrustsAfterStall) {
            return;
        }
        if now >= self.expected + self.config.timing.alone {
            self.quiet_until = now + self.config.timing.death;
            self.know_nothing_of_guests(now);
        }
        self.woke = now;
        self.is_spoken_to(now);
        if self.is_ignored(self.expected) {
            self.ignored_at = now;
        }
    }

    /// A beat was to be sent: whether at least one copy of it left this host. Call it after each attempt, also in the
    /// middle of the outputs; what follows from it is drawn at the next input.
    ///
    /// Who cannot speak is heard by nobody, so it is never alone and finds nobody gone. A full queue may refuse one beat;
    /// two in a row are a failure that lasts, and the next beat that leaves ends it.
    pub fn speaks(&mut self, now: Time, works: bool) {
        match (works, self.mute_since) {
            (true, _) => self.mute_since = None,
            (false, None) => self.mute_since = Some(now),
            (false, Some(_)) => {}
        }
    }

    /// Whether our beats leave this host.
    pub(super) fn can_speak(&self, now: Time) -> bool {
        #[cfg(feature = "sim")]
        if self.is(super::Mutation::ClaimsThoughMute) {
            return true;
        }
        self.mute_since.is_none_or(|since| now < since + self.config.timing.doubt)
    }

    /// Whether others go on speaking who do not know us.
    pub(super) fn is_ignored(&self, now: Time) -> bool {
        #[cfg(feature = "sim")]
        if self.is(super::Mutation::AloneAmongStrangers) {
            return false;
        }
        self.ignored_at != Time::ZERO && now < self.ignored_at + self.config.timing.death
    }

    /// A lapsed lease voids all claims, before anything could renew it.
    pub(super) fn lapse_if_due(&mut self, now: Time) {
        if now < self.lease_until || self.claims.is_empty() {
            return;
        }
        #[cfg(feature = "sim")]
        if self.is(super::Mutation::LapseKeepsClaims) {
            return;
        }
        self.outputs.push_back(Output::Event(Event::Lapsed));
        let all = self.claims;
        self.release(now, all);
        self.fell_out(now);
    }

    /// Whether nobody is there who could acknowledge anything. A node that hears nothing at all cannot tell: its own
    /// cable may be out, and when it is in again, the first clients that it hears are others'. Nor is who hears others that
    /// do not take its beats, or cannot send any.
    pub(super) fn is_alone(&self, now: Time) -> bool {
        let timing = &self.config.timing;
        let hears = self.peers.is_empty() || self.ears_since.is_some_and(|since| now >= since + timing.beat);
        hears && now >= self.spoken_to + timing.alone && !self.is_ignored(now) && self.can_speak(now)
    }

    /// Renews the lease from the newest acknowledgement, or alone when nobody is there who could acknowledge.
    ///
    /// Who is silent to us is dead or on the other side of a cut: then each side serves the clients it hears. But while
    /// others speak and do not acknowledge us, we are mute: then the lease runs out, as it does while nothing at all
    /// arrives here.
    pub(super) fn renew_lease(&mut self, now: Time) {
        let timing = &self.config.timing;
        let sent = self.sent.iter().rev().find(|(seq, _)| *seq == self.acked).map(|(_, time)| *time);
        let from = if self.is_alone(now) { Some(now) } else { sent };
        let lease = timing.lease;
        #[cfg(feature = "sim")]
        let (from, lease) = match self.mutation {
            super::Mutation::LeaseUnheard => (Some(now), lease),
            super::Mutation::LeaseLongerThanDeath => (from, timing.death * 2),
            _ => (from, lease),
        };
        let Some(until) = from.map(|from| from + lease) else { return };
        if until > self.lease_until && until > now {
            self.others_moved |= now >= self.lease_until;
            self.lease_until = until;
            self.outputs.push_back(Output::Lease(until));
        }
    }

    /// Gives up `buckets`, and remembers that sessions may be left in them.
    pub(super) fn release(&mut self, now: Time, buckets: BucketSet) {
        let buckets = buckets.and(&self.claims);
        if buckets.is_empty() {
            return;
        }
        self.claims = self.claims.minus(&buckets);
        self.released.push((now, buckets));
        self.urgent = true;
        self.outputs.push_back(Output::Release(buckets));
        self.outputs.push_back(Output::Event(Event::Claims(self.claims.len())));
    }
}
