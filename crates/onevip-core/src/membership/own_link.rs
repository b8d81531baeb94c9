//! Whether frames are lost on our own link, and whether we fall out too often to be relied on.
//!
//! A link between two nodes is lossy when either of them misses too many beats of the other (`quality.rs`). Who has a
//! single good link has a good cable; who has none is itself the reason, as long as there are two others to ask. Such a
//! node says that it is ill: the others take its share, and it goes on holding its sessions. If all are equally ill
//! nothing moves.

use super::dirty::Dirty;
use super::{Engine, Event, Family, Output};
use crate::beat::Health;
use crate::time::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// How ill a node is that loses frames or falls out too often. The mildest illness: better than one that cannot serve.
const ILL: Health = Health::new(1);
/// So many falls within [`super::Timing::memory`] are bad luck.
const FALLS_FREE: u32 = 2;
/// More falls than this are not counted.
const FALLS_MAX: usize = 8;

/// Our own link, and how often we fell out.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct OwnLink {
    /// All our links are lossy.
    lossy: bool,
    /// We take no share until then, unless the others are worse.
    held_back_until: Time,
    /// When we fell out lately.
    falls: VecDeque<Time>,
    /// What we last said of ourselves for these reasons.
    announced: Health,
    /// The VIP has addresses of both families.
    pub(super) both_families: bool,
    /// A family of which no copy comes from anybody.
    pub(super) deaf_to: Option<Family>,
}

impl OwnLink {
    /// Nothing is held against it.
    pub const GOOD: Self = Self {
        lossy: false,
        held_back_until: Time::ZERO,
        falls: VecDeque::new(),
        announced: Health::GOOD,
        both_families: false,
        deaf_to: None,
    };

    /// Whether all our links lose frames.
    pub fn is_lossy(&self) -> bool {
        self.lossy
    }

    /// How ill we said that we are for these reasons.
    pub fn announced(&self) -> Health {
        self.announced
    }

    /// Which families the VIP has is the same in the next life.
    pub fn carry_over(&mut self, last: &Self) {
        self.both_families = last.both_families;
    }

    /// One more fall; returns for how long to be held back: from the third within a minute on, longer each time.
    fn fall(&mut self, now: Time, timing: &super::Timing) -> Option<Duration> {
        self.falls.retain(|fall| now < *fall + timing.memory);
        if self.falls.len() < FALLS_MAX {
            self.falls.push_back(now);
        }
        let beyond = (self.falls.len() as u32).checked_sub(FALLS_FREE + 1)?;
        let hold = timing.hold * (1 << beyond);
        self.held_back_until = now + hold;
        Some(hold)
    }
}

impl Engine {
    /// How ill we are for the reasons of this page.
    pub(super) fn unsteadiness(&self, now: Time) -> Health {
        let ill = self.own_link.lossy || now < self.own_link.held_back_until || self.deaf_to().is_some();
        if ill { ILL } else { Health::GOOD }
    }

    /// Our claims were void all of a sudden. Who does that often is not to be relied on for a while.
    pub(super) fn fell_out(&mut self, now: Time) {
        let timing = self.config.timing;
        if let Some(hold) = self.own_link.fall(now, &timing) {
            self.outputs.push_back(Output::Event(Event::HeldBack(hold)));
        }
        self.reconsider(now);
    }

    /// Judges our own link. Who hears but one other cannot tell whose it is, and keeps the judgement it has.
    pub(super) fn judge_own_link(&mut self, now: Time) {
        let is_good = |(_, peer): (_, &super::Peer)| !peer.quality.is_lossy() && !peer.finds_us_lossy;
        let any_good = self.peers.heard_peers().any(is_good);
        if !self.own_link.lossy && !any_good && self.peers.heard().len() >= 2 {
            self.own_link.lossy = true;
            self.outputs.push_back(Output::Event(Event::Lossy(true)));
            self.fell_out(now);
        } else if self.own_link.lossy && any_good {
            self.own_link.lossy = false;
            self.outputs.push_back(Output::Event(Event::Lossy(false)));
        }
        self.reconsider(now);
    }

    /// Announces how ill we are if that changed.
    fn reconsider(&mut self, now: Time) {
        let unsteadiness = self.unsteadiness(now);
        if self.own_link.announced != unsteadiness {
            self.own_link.announced = unsteadiness;
            self.dirty.mark(Dirty::TABLE.and(Dirty::BEAT));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::Timing;

    #[test]
    fn the_third_fall_within_a_minute_holds_back_and_every_further_one_longer() {
        let (timing, mut link) = (Timing::default(), OwnLink::GOOD);
        let at = |seconds: u64| Time::from_nanos(seconds * 1_000_000_000);
        let holds: Vec<_> = [1, 2, 3, 4, 5].iter().map(|&s| link.fall(at(s), &timing)).collect();
        assert_eq!(holds, [None, None, Some(timing.hold), Some(timing.hold * 2), Some(timing.hold * 4)]);
        assert_eq!(link.fall(at(200), &timing), None, "all is forgotten");
        for seconds in 200..300 {
            link.fall(at(seconds), &timing);
        }
        assert!(link.held_back_until <= at(299) + timing.hold * 32, "but it has an end");
    }
}
