//! The buckets in which our own kernel may hold sessions.

use super::{Engine, Failback};
use crate::ids::BucketSet;
use crate::time::Time;

/// What the last scan found, and what was released since.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct LocalSessions {
    found: BucketSet,
    as_of: Time,
    /// Buckets released since `as_of`, or so recently that a scan may have missed a session.
    released: Vec<(Time, BucketSet)>,
}

impl LocalSessions {
    /// The kernel holds sessions in these buckets at `now`.
    pub fn found(found: BucketSet, now: Time) -> Self {
        Self { found, as_of: now, released: Vec::new() }
    }

    /// Sessions may be left in these buckets.
    pub fn released(&mut self, now: Time, buckets: BucketSet) {
        self.released.push((now, buckets));
    }

    /// Where the last scan found some.
    fn last_found(&self) -> BucketSet {
        self.found
    }

    /// Wherever there may be some.
    fn possible(&self) -> BucketSet {
        self.released.iter().fold(self.found, |all, (_, buckets)| all.or(buckets))
    }
}

impl Engine {
    /// A scan that began at `as_of` found sessions in exactly these buckets.
    pub fn guests_scanned(&mut self, now: Time, guests: BucketSet, as_of: Time) {
        self.wake(now);
        let sessions = &mut self.sessions;
        (sessions.found, sessions.as_of) = (guests, as_of);
        sessions.released.retain(|(released, _)| *released >= as_of);
        self.settle(now);
    }

    /// The buckets in which our own kernel may hold sessions: what the last scan found, and what was released since.
    pub(super) fn own_guests(&self) -> BucketSet {
        #[cfg(feature = "sim")]
        if self.is(super::Mutation::ForgetsGuests) {
            return self.sessions.last_found();
        }
        self.sessions.possible()
    }

    /// Of `buckets`, those that may move without a rebalance.
    pub(super) fn movable(&self, buckets: BucketSet) -> BucketSet {
        match self.config.failback {
            Failback::Now => buckets,
            Failback::Idle => buckets.minus(&self.sessions.last_found()),
            Failback::Manual => BucketSet::EMPTY,
        }
    }
}
