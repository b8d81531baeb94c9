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
    /// cable may be out, and when it is in again, the first clients that it hears are others'.
    pub(super) fn is_alone(&self, now: Time) -> bool {
        let timing = &self.config.timing;
        let hears = self.peers.is_empty() || self.ears_since.is_some_and(|since| now >= since + timing.beat);
        hears && now >= self.spoken_to + timing.alone
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
