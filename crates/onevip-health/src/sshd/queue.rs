//! Whether the accept queue moves.
//!
//! Whoever waits in it is known by address and port, so a queue that never empties because as many come as are taken is
//! told apart from one that nobody takes from. Only time in which the observer was awake counts: a host that stood still as
//! a whole has not kept anybody waiting by itself.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// One client's end of a connection.
pub type Remote = (IpAddr, u16);

/// Between two looks no more than this counts, however late the second is.
const COUNTS_MOST: Duration = Duration::from_millis(100);

/// Who waits, and for how long nobody has been taken.
#[derive(Debug)]
pub struct Queue {
    waiting: HashSet<Remote>,
    seen: Instant,
    still: Duration,
}

impl Queue {
    /// An empty one.
    pub fn new(now: Instant) -> Self {
        Self { waiting: HashSet::new(), seen: now, still: Duration::ZERO }
    }

    /// Takes in who waits now.
    pub fn look(&mut self, now: Instant, waiting: HashSet<Remote>) {
        let all_still_there = !self.waiting.is_empty() && self.waiting.is_subset(&waiting);
        self.still = if all_still_there {
            self.still + now.duration_since(self.seen).min(COUNTS_MOST)
        } else {
            Duration::ZERO
        };
        (self.waiting, self.seen) = (waiting, now);
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// For how long somebody has waited and nobody was taken.
    pub fn still(&self) -> Duration {
        self.still
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const STEP: Duration = Duration::from_millis(50);

    fn clients(ports: std::ops::Range<u16>) -> HashSet<Remote> {
        ports.map(|port| (Ipv4Addr::LOCALHOST.into(), port)).collect()
    }

    #[test]
    fn nobody_is_taken_while_all_that_waited_wait() {
        let mut now = Instant::now();
        let mut queue = Queue::new(now);
        for (come, still) in [(0, 0), (1, 0), (1, 1), (3, 2), (9, 3)] {
            now += STEP;
            queue.look(now, clients(0..come));
            assert_eq!((queue.waiting(), queue.still()), (usize::from(come), still * STEP));
        }
        queue.look(now + STEP, clients(1..20));
        assert_eq!(queue.still(), Duration::ZERO, "one was taken");
    }

    #[test]
    fn a_queue_as_long_as_before_may_have_moved() {
        let mut now = Instant::now();
        let mut queue = Queue::new(now);
        for round in 0..100 {
            now += STEP;
            queue.look(now, clients(round..round + 10));
            assert_eq!(queue.still(), Duration::ZERO);
        }
    }

    #[test]
    fn an_observer_who_was_away_does_not_blame_the_queue() {
        let now = Instant::now();
        let mut queue = Queue::new(now);
        queue.look(now, clients(0..1));
        queue.look(now + Duration::from_secs(60), clients(0..1));
        assert_eq!(queue.still(), COUNTS_MOST);
    }
}
