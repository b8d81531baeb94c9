//! When something will have to be done without any input, and what.

use super::Engine;
use super::dirty::Dirty;
use crate::time::Time;

/// What time alone brings about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Timer {
    /// The periodic beat goes out.
    PeriodicBeat,
    /// A beat between goes out: there is something to say, or to ask for again.
    EarlyBeat,
    /// A peer has been silent for too long.
    SilentPeer,
    /// Our lease runs out under claims.
    Lease,
    /// It is to be found out whether anything arrives here.
    Doubt,
    /// We have heard nobody for so long that we are alone.
    Alone,
    /// Those who go on without taking our beats have fallen silent.
    Ignored,
    /// Frames of others have arrived for long enough that hearing nobody means something.
    Receiving,
    /// Gains are allowed again after a long stall.
    Quiet,
    /// A silent node's kernel is asked.
    Probe,
}

impl Timer {
    const COUNT: usize = Self::Probe as usize + 1;
}

/// Each timer's deadline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timers([Time; Timer::COUNT]);

impl Timers {
    /// None is armed.
    const NONE: Self = Self([Time::NEVER; Timer::COUNT]);

    /// `timer` is due at `at`, or before if it was armed already.
    fn arm(&mut self, timer: Timer, at: Time) {
        let due = &mut self.0[timer as usize];
        *due = (*due).min(at);
    }

    /// The same, unless `at` has come: then what it brings about has been done.
    fn arm_ahead(&mut self, now: Time, timer: Timer, at: Time) {
        if at > now {
            self.arm(timer, at);
        }
    }

    /// The earliest deadline.
    pub fn earliest(&self) -> Time {
        self.0.iter().copied().fold(Time::NEVER, Time::min)
    }
}

impl Engine {
    /// Everything that time alone will bring about.
    pub(super) fn timers(&self, now: Time) -> Timers {
        let timing = &self.config.timing;
        let mut timers = Timers::NONE;
        timers.arm(Timer::PeriodicBeat, self.sending.next_periodic());
        if self.dirty.has(Dirty::BEAT.and(Dirty::ANSWER)) {
            timers.arm(Timer::EarlyBeat, self.next_early_beat());
        }
        for (_, peer) in self.peers.heard_peers() {
            timers.arm(Timer::SilentPeer, peer.arrived.max(self.contact.woke()) + timing.death);
        }
        if !self.claims.held().is_empty() {
            timers.arm_ahead(now, Timer::Lease, self.lease.until());
        }
        let contact = &self.contact;
        match contact.receiving_since() {
            None => timers.arm_ahead(now, Timer::Doubt, contact.spoken_to() + timing.doubt),
            Some(since) => timers.arm_ahead(now, Timer::Receiving, since + timing.beat),
        }
        timers.arm_ahead(now, Timer::Alone, contact.spoken_to() + timing.alone);
        timers.arm_ahead(now, Timer::Ignored, contact.ignored_at() + timing.death);
        timers.arm_ahead(now, Timer::Quiet, contact.quiet_until());
        timers.arm(Timer::Probe, self.next_probe());
        timers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_deadline_counts_and_none_that_has_passed() {
        let at = Time::from_nanos;
        let mut timers = Timers::NONE;
        assert_eq!(timers.earliest(), Time::NEVER);
        timers.arm(Timer::Probe, at(9));
        timers.arm(Timer::Probe, at(12));
        assert_eq!(timers.earliest(), at(9));
        timers.arm_ahead(at(5), Timer::Lease, at(5));
        timers.arm_ahead(at(5), Timer::Quiet, at(6));
        assert_eq!(timers.earliest(), at(6));
    }
}
