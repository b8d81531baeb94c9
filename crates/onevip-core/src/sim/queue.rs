//! What will happen in a simulated cluster, and when.

use super::faults::Fault;
use super::host::Input;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Something that will happen.
#[derive(Clone, Debug)]
pub(super) enum SimEvent {
    Arrive(usize, Input),
    Timer(usize, u64),
    Continue(usize),
    Resume(usize),
    Clients,
    Scan(usize),
    Fault(Fault),
}

/// An entry of the queue; ordered by time, then by the order in which it was put there.
struct Scheduled(u64, u64, SimEvent);

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// Everything that will happen, in order.
#[derive(Default)]
pub(super) struct Queue {
    entries: BinaryHeap<Reverse<Scheduled>>,
    pushed: u64,
}

impl Queue {
    /// `what` happens at true time `at`, after everything that was put there for the same time before.
    pub fn push(&mut self, at: u64, what: SimEvent) {
        self.pushed += 1;
        self.entries.push(Reverse(Scheduled(at, self.pushed, what)));
    }

    /// What happens next, and when, if that is no later than `until`.
    pub fn pop_until(&mut self, until: u64) -> Option<(u64, SimEvent)> {
        self.entries.peek().filter(|Reverse(entry)| entry.0 <= until)?;
        self.entries.pop().map(|Reverse(Scheduled(at, _, what))| (at, what))
    }
}
