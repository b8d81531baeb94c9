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

    /// A scan that began at `as_of` found sessions in exactly these buckets. What was released since may hold others.
    fn scanned(&mut self, found: BucketSet, as_of: Time) {
        (self.found, self.as_of) = (found, as_of);
        self.released.retain(|(released, _)| *released >= as_of);
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
    pub fn sessions_scanned(&mut self, now: Time, found: BucketSet, as_of: Time) {
        self.wake(now);
        self.sessions.scanned(found, as_of);
        self.settle(now);
    }

    /// The buckets in which our own kernel may hold sessions: what the last scan found, and what was released since.
    pub(super) fn own_sessions(&self) -> BucketSet {
        #[cfg(feature = "sim")]
        if self.is(super::Mutation::ForgetsSessions) {
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
