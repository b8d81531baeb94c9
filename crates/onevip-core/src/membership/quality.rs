//! Whether frames are lost on our own link, and whether we fall out too often to be relied on.
//!
//! Beats are numbered, so everybody sees how many of a peer's are missing, and says so. A link between two nodes is
//! lossy when either of them misses too many beats of the other. Who has a single good link has a good cable; who has
//! none is itself the reason, as long as there are two others to ask. Such a node says that it is ill: the others take
//! its share, and it goes on holding its sessions. If all are equally ill nothing moves.

use super::dirty::Dirty;
use super::{Engine, Event, Family, Output};
use crate::beat::{Health, Seq};
use crate::time::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// Of so many of a sender's newest beats it is known whether they came.
pub const WINDOW: u32 = 64;
/// A link is lossy from so many missing ones on, about 1 in 5: nobody loses that many by accident, and TCP is crippled.
const LOSSY: u32 = 13;
/// It is good again with so few, about 1 in 10. In between it stays what it is.
const GOOD: u32 = 6;
/// More missing beats in a row than this are an outage, which is the business of `death`, and no loss.
const OUTAGE: u32 = 8;

/// How ill a node is that loses frames or falls out too often. The mildest illness: better than one that cannot serve.
const ILL: Health = Health::new(1);
/// So many falls within [`super::Timing::memory`] are bad luck.
const FALLS_FREE: u32 = 2;
/// More falls than this are not counted.
const FALLS_MAX: usize = 8;

/// Which of the newest beats came by one VIP family.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct LossWindow {
    newest: Seq,
    /// Bit n: the beat n before the newest came. Before the first beat nothing is held against the sender.
    came: u64,
    lossy: bool,
}

impl LossWindow {
    const NEW: Self = Self { newest: Seq(0), came: u64::MAX, lossy: false };

    fn note(&mut self, seq: Seq) {
        if seq <= self.newest {
            // Late, or another copy.
            if let Some(bit) = 1u64.checked_shl(self.newest.0 - seq.0) {
                self.came |= bit;
            }
            return;
        }
        let ahead = seq.0 - self.newest.0;
        if self.newest != Seq(0) && ahead <= OUTAGE {
            self.came = self.came << ahead | 1;
        }
        self.newest = seq;
        let lost = self.lost();
        self.lossy = lost >= LOSSY || self.lossy && lost > GOOD;
    }

    fn lost(&self) -> u32 {
        self.came.count_zeros()
    }
}

/// How many of a peer's beats come, by VIP family: each beat is sent once in each.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Quality([LossWindow; 2]);

impl Quality {
    /// Nothing is known, so nothing is wrong.
    pub const NEW: Self = Self([LossWindow::NEW, LossWindow::NEW]);

    /// A copy came.
    pub fn note(&mut self, family: Family, seq: Seq) {
        self.0[family.index()].note(seq);
    }

    /// Too many are missing.
    pub fn is_lossy(&self) -> bool {
        self.0.iter().any(|window| window.lossy)
    }

    /// How many of the last [`WINDOW`] are missing, by the worse family.
    pub fn lost(&self) -> u32 {
        self.0.iter().map(LossWindow::lost).max().unwrap_or(0)
    }
}

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

    /// Lets beats come, of which every `nth` is missing.
    fn hear(quality: &mut Quality, from: u32, count: u32, nth: u32) -> u32 {
        let next = from + count;
        for seq in (from..next).filter(|seq| seq % nth != 0) {
            quality.note(Family::V4, Seq(seq));
        }
        next
    }

    #[test]
    fn a_fifth_of_the_beats_missing_is_loss_and_a_tenth_is_not() {
        let mut quality = Quality::NEW;
        let next = hear(&mut quality, 1, 300, 10);
        assert!(!quality.is_lossy() && (6..=7).contains(&quality.lost()), "{}", quality.lost());
        let next = hear(&mut quality, next, 100, 4);
        assert!(quality.is_lossy());
        let next = hear(&mut quality, next, 100, 7);
        assert!(quality.is_lossy(), "between the two it stays what it is");
        hear(&mut quality, next, 100, 20);
        assert!(!quality.is_lossy());
    }

    #[test]
    fn an_outage_is_no_loss_and_a_late_beat_not_missing() {
        let mut quality = Quality::NEW;
        let next = hear(&mut quality, 1, 100, 1000);
        quality.note(Family::V4, Seq(next + 500));
        assert_eq!(quality.lost(), 0);
        for seq in [next + 502, next + 501, next + 502] {
            quality.note(Family::V4, Seq(seq));
        }
        assert_eq!(quality.lost(), 0);
    }

    #[test]
    fn one_family_is_not_made_up_for_by_the_other() {
        let mut quality = Quality::NEW;
        let next = hear(&mut quality, 1, 100, 3);
        (1..next).for_each(|seq| quality.note(Family::V6, Seq(seq)));
        assert!(quality.is_lossy());
    }

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
