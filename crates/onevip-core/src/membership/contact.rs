//! Whether our beats leave, whether anything arrives here, and what the silence of others means.
//!
//! Silence is evidence of others only while it cannot be our own fault: our loop was stopped, our beats cannot be sent,
//! nothing at all arrives, or others speak and do not take our beats.

use super::{Engine, Event, Output};
use crate::time::Time;

/// What we know of our own contact with the others.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Contact {
    /// When somebody who knows this incarnation last spoke, or our own silence ended.
    spoken_to: Time,
    /// When somebody last spoke who goes on speaking and does not know us.
    ignored_at: Time,
    /// Since when our beats cannot be sent.
    mute_since: Option<Time>,
    /// Since when we know that frames of others have arrived after `spoken_to`.
    receiving_since: Option<Time>,
    /// End of our last stall.
    woke: Time,
    /// After a long stall nothing is gained before then: others may have come meanwhile, whom we hear within a beat, or
    /// who stop in their turn and then keep their lease for a while.
    quiet_until: Time,
}

impl Contact {
    /// A daemon that starts at `now`.
    pub fn new(now: Time) -> Self {
        Self {
            spoken_to: now,
            ignored_at: Time::ZERO,
            mute_since: None,
            receiving_since: None,
            woke: Time::ZERO,
            quiet_until: now,
        }
    }

    /// Whether our beats can be sent is the same in the next life.
    pub fn carry_over(&mut self, last: &Self) {
        self.mute_since = last.mute_since;
    }

    /// Somebody who knows us has spoken, or we cannot tell for how long nobody did.
    pub fn is_spoken_to(&mut self, now: Time) {
        self.spoken_to = now;
        self.receiving_since = None;
    }

    /// Somebody goes on speaking who does not know us.
    pub fn is_ignored(&mut self, now: Time) {
        self.ignored_at = now;
    }

    /// When somebody who knows us last spoke.
    pub fn spoken_to(&self) -> Time {
        self.spoken_to
    }

    /// When somebody last spoke who goes on and does not know us.
    pub fn ignored_at(&self) -> Time {
        self.ignored_at
    }

    /// Since when frames arrive though nobody who knows us speaks, if we looked.
    pub fn receiving_since(&self) -> Option<Time> {
        self.receiving_since
    }

    /// End of our last stall.
    pub fn woke(&self) -> Time {
        self.woke
    }

    /// Until when nothing is gained.
    pub fn quiet_until(&self) -> Time {
        self.quiet_until
    }
}

impl Engine {
    /// Whether it should be found out if anything at all arrives here: nobody who knows us has spoken for a while, and
    /// that may be our own fault.
    pub fn doubts_reception(&self, now: Time) -> bool {
        let doubt = self.config.timing.doubt;
        let contact = &self.contact;
        contact.receiving_since.is_none() && !self.peers.is_empty() && now >= contact.spoken_to + doubt
    }

    /// Some frame of somebody else has arrived since [`Engine::doubts_reception`] was true.
    pub fn frames_arrive(&mut self, now: Time) {
        self.wake(now);
        if self.doubts_reception(now) {
            self.contact.receiving_since = Some(now);
        }
        self.settle(now);
    }

    /// Our own loop was stopped: what we did not hear in that time proves nothing.
    pub(super) fn stalled(&mut self, now: Time) {
        self.outputs.push_back(Output::Event(Event::Stalled(now.since(self.next_timeout))));
        #[cfg(feature = "sim")]
        if self.is(super::Mutation::TrustsAfterStall) {
            return;
        }
        if now >= self.next_timeout + self.config.timing.alone {
            self.contact.quiet_until = now + self.config.timing.death;
            self.assume_sessions_anywhere(now);
        }
        self.contact.woke = now;
        self.contact.is_spoken_to(now);
        if self.is_ignored(self.next_timeout) {
            self.contact.is_ignored(now);
        }
    }

    /// A beat was to be sent: whether at least one copy of it left this host. Call it after each attempt, also in the
    /// middle of the outputs; what follows from it is drawn at the next input.
    ///
    /// Who cannot speak is heard by nobody, so it is never alone and finds nobody gone. A full queue may refuse one beat;
    /// two in a row are a failure that lasts, and the next beat that leaves ends it.
    pub fn speaks(&mut self, now: Time, works: bool) {
        match (works, self.contact.mute_since) {
            (true, _) => self.contact.mute_since = None,
            (false, None) => self.contact.mute_since = Some(now),
            (false, Some(_)) => {}
        }
    }

    /// Whether our beats leave this host.
    pub(super) fn can_speak(&self, now: Time) -> bool {
        #[cfg(feature = "sim")]
        if self.is(super::Mutation::ClaimsThoughMute) {
            return true;
        }
        self.contact.mute_since.is_none_or(|since| now < since + self.config.timing.doubt)
    }

    /// Whether others go on speaking who do not know us.
    pub(super) fn is_ignored(&self, now: Time) -> bool {
        #[cfg(feature = "sim")]
        if self.is(super::Mutation::AloneAmongStrangers) {
            return false;
        }
        let ignored_at = self.contact.ignored_at;
        ignored_at != Time::ZERO && now < ignored_at + self.config.timing.death
    }

    /// Whether nobody is there who could acknowledge anything. A node that hears nothing at all cannot tell: its own
    /// cable may be out, and when it is in again, the first clients that it hears are others'. Nor is who hears others that
    /// do not take its beats, or cannot send any.
    pub(super) fn is_alone(&self, now: Time) -> bool {
        let (timing, contact) = (&self.config.timing, &self.contact);
        let hears =
            self.peers.is_empty() || contact.receiving_since.is_some_and(|since| now >= since + timing.beat);
        hears && now >= contact.spoken_to + timing.alone && !self.is_ignored(now) && self.can_speak(now)
    }

    /// Whether answers would reach us, and questions those whom we ask.
    pub(super) fn silence_means_something(&self, now: Time) -> bool {
        self.can_speak(now) && !self.doubts_reception(now)
    }
}
