//! How much of the lease was left whenever it was renewed: the one figure that says how near this node ever came to
//! falling silent.
//!
//! Written by the beat loop, so it is counters and nothing that could make it wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds, in milliseconds. At the default beat time a lease is renewed with some 150 to 250 ms left.
const BOUNDS_MS: [u64; 14] = [0, 10, 25, 50, 75, 100, 125, 150, 200, 250, 500, 1000, 2500, 5000];

/// The histogram.
#[derive(Debug, Default)]
pub struct LeaseSlack {
    counts: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_us: AtomicU64,
}

/// The histogram at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The sum of all, in seconds.
    pub sum_seconds: f64,
    /// How many there were.
    pub count: u64,
    /// Upper bound in seconds, and how many were within it but not within the one before; the last has no bound.
    pub buckets: Vec<(f64, u64)>,
}

impl LeaseSlack {
    /// One more.
    pub fn note(&self, left: Duration) {
        let place = BOUNDS_MS.iter().position(|bound| left <= Duration::from_millis(*bound));
        self.counts[place.unwrap_or(BOUNDS_MS.len())].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(left.as_micros() as u64, Ordering::Relaxed);
    }

    /// What was noted so far.
    pub fn snapshot(&self) -> Snapshot {
        let bounds = BOUNDS_MS.iter().map(|bound| *bound as f64 / 1000.0).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> =
            bounds.zip(&self.counts).map(|(bound, count)| (bound, count.load(Ordering::Relaxed))).collect();
        Snapshot {
            sum_seconds: self.sum_us.load(Ordering::Relaxed) as f64 / 1e6,
            count: buckets.iter().map(|(_, count)| count).sum(),
            buckets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slack_is_counted_once_within_its_bound() {
        let slack = LeaseSlack::default();
        for ms in [0, 10, 11, 60_000] {
            slack.note(Duration::from_millis(ms));
        }
        let seen = slack.snapshot();
        let filled: Vec<(f64, u64)> = seen.buckets.iter().copied().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.0, 1), (0.01, 1), (0.025, 1), (f64::INFINITY, 1)]);
        assert_eq!((seen.count, seen.sum_seconds), (4, 60.021));
    }
}
