//! Hysteresis: `fall` bad answers in a row make ill, `rise` good ones make well.

use super::toll::Toll;

/// Judges a check by its last answers.
#[derive(Clone, Debug)]
pub struct Judge {
    fall: u32,
    rise: u32,
    verdict: Toll,
    /// Answers in a row that were worse than the verdict, and the mildest of them.
    worse: (u32, Toll),
    /// Answers in a row that were better, and the worst of them.
    better: (u32, Toll),
}

impl Judge {
    /// Begins with a verdict, usually [`Toll::None`].
    pub fn new(fall: u32, rise: u32, verdict: Toll) -> Self {
        Self { fall, rise, verdict, worse: (0, Toll::None), better: (0, Toll::None) }
    }

    /// Takes in an answer; returns the verdict.
    pub fn hear(&mut self, answer: Toll) -> Toll {
        if answer > self.verdict {
            let mildest = if self.worse.0 == 0 { answer } else { self.worse.1.min(answer) };
            self.worse = (self.worse.0 + 1, mildest);
            self.better.0 = 0;
            if self.worse.0 >= self.fall {
                self.pass(mildest);
            }
        } else if answer < self.verdict {
            let worst = if self.better.0 == 0 { answer } else { self.better.1.max(answer) };
            self.better = (self.better.0 + 1, worst);
            self.worse.0 = 0;
            if self.better.0 >= self.rise {
                self.pass(worst);
            }
        } else {
            (self.worse.0, self.better.0) = (0, 0);
        }
        self.verdict
    }

    fn pass(&mut self, verdict: Toll) {
        self.verdict = verdict;
        (self.worse.0, self.better.0) = (0, 0);
    }

    /// The verdict that stands.
    pub fn verdict(&self) -> Toll {
        self.verdict
    }

    /// Whether the last answer agreed with the verdict: nothing is about to change.
    pub fn is_settled(&self) -> bool {
        self.worse.0 == 0 && self.better.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toll::{DEAD, POORLY};

    #[test]
    fn one_bad_answer_is_none_and_two_are_enough() {
        let mut judge = Judge::new(2, 3, Toll::None);
        let out = Toll::Out(DEAD);
        assert_eq!(judge.hear(out), Toll::None);
        assert!(!judge.is_settled());
        assert_eq!(judge.hear(Toll::None), Toll::None, "a good one in between begins anew");
        assert_eq!(judge.hear(out), Toll::None);
        assert_eq!(judge.hear(out), out);
        assert_eq!([Toll::None, Toll::None, out].map(|t| judge.hear(t)), [out; 3], "rise is 3");
        assert_eq!([Toll::None; 3].map(|t| judge.hear(t)), [out, out, Toll::None]);
    }

    #[test]
    fn of_several_bad_answers_the_mildest_counts() {
        let mut judge = Judge::new(2, 2, Toll::None);
        judge.hear(Toll::Out(POORLY));
        assert_eq!(judge.hear(Toll::Shed), Toll::Shed);
        judge.hear(Toll::Out(DEAD));
        assert_eq!(judge.hear(Toll::Out(POORLY)), Toll::Out(POORLY));
        judge.hear(Toll::None);
        assert_eq!(judge.hear(Toll::Shed), Toll::Shed, "it gets better in steps as well");
    }
}
