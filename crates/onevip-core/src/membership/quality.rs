//! How many of a peer's beats come.
//!
//! Beats are numbered, so everybody sees how many of a peer's are missing, and says so. What a node concludes about its
//! own link: `own_link.rs`.

use super::Family;
use crate::beat::Seq;

/// Of so many of a sender's newest beats it is known whether they came.
pub const WINDOW: u32 = 64;
/// A link is lossy from so many missing ones on, about 1 in 5: nobody loses that many by accident, and TCP is crippled.
const LOSSY: u32 = 13;
/// It is good again with so few, about 1 in 10. In between it stays what it is.
const GOOD: u32 = 6;
/// More missing beats in a row than this are an outage, which is the business of `death`, and no loss.
const OUTAGE: u32 = 8;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
