//! For how long the kernel may claim without hearing from us, and what is left when that is over.
//!
//! The lease counts from the *sending* of a beat that somebody acknowledged: whoever acknowledged it will believe us
//! alive for longer than the lease lasts, so we fall silent before we are replaced. One acknowledging peer is enough,
//! or a peer's death would stall all the others.

use super::dirty::Dirty;
use super::{Engine, Event, Output};
use crate::beat::Seq;
use crate::time::Time;

/// What the kernel was told last.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Lease {
    until: Time,
    /// The newest of our beats that anybody acknowledged whom we heard.
    acked: Seq,
}

impl Lease {
    /// No claim is valid.
    pub const NONE: Self = Self { until: Time::ZERO, acked: Seq(0) };

    /// Until when claims are valid.
    pub fn until(&self) -> Time {
        self.until
    }

    /// Somebody whom we hear has acknowledged this beat; true if it is newer than all before.
    pub fn acknowledged(&mut self, seq: Option<Seq>) -> bool {
        let newer = seq > Some(self.acked);
        if newer {
            self.acked = seq.unwrap_or_default();
        }
        newer
    }
}

impl Engine {
    /// Until when the kernel may claim.
    pub fn lease_until(&self) -> Time {
        self.lease.until
    }

    /// A lapsed lease voids all claims, before anything could renew it.
    pub(super) fn lapse_if_due(&mut self, now: Time) {
        if now < self.lease.until || self.claims.held().is_empty() {
            return;
        }
        #[cfg(feature = "sim")]
        if self.is(super::Mutation::LapseKeepsClaims) {
            return;
        }
        self.outputs.push_back(Output::Event(Event::Lapsed));
        let all = self.claims.held();
        self.release(now, all);
        self.fell_out(now);
    }

    /// Renews the lease from the newest acknowledgement, or alone when nobody is there who could acknowledge.
    ///
    /// Who is silent to us is dead or on the other side of a cut: then each side serves the clients it hears. But while
    /// others speak and do not acknowledge us, we are mute: then the lease runs out, as it does while nothing at all
    /// arrives here.
    pub(super) fn renew_lease(&mut self, now: Time) {
        let timing = &self.config.timing;
        let from = if self.is_alone(now) { Some(now) } else { self.sending.sent_at(self.lease.acked) };
        let lease = timing.lease;
        #[cfg(feature = "sim")]
        let (from, lease) = match self.mutation {
            super::Mutation::LeaseUnheard => (Some(now), lease),
            super::Mutation::LeaseLongerThanDeath => (from, timing.death * 2),
            _ => (from, lease),
        };
        let Some(until) = from.map(|from| from + lease) else { return };
        if until > self.lease.until && until > now {
            self.dirty.mark_if(now >= self.lease.until, Dirty::INTENTS);
            self.lease.until = until;
            self.outputs.push_back(Output::Lease(until));
        }
    }
}
