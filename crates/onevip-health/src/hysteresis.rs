//! Hysteresis: `fall` bad answers in a row make ill, `rise` good ones make well.

use super::impact::Impact;

/// Judges a check by its last answers.
#[derive(Clone, Debug)]
pub struct Hysteresis {
    fall: u32,
    rise: u32,
    verdict: Impact,
    /// Answers in a row that were worse than the verdict, and the mildest of them.
    worse: (u32, Impact),
    /// Answers in a row that were better, and the worst of them.
    better: (u32, Impact),
}

impl Hysteresis {
    /// Begins with a verdict, usually [`Impact::None`].
    pub fn new(fall: u32, rise: u32, verdict: Impact) -> Self {
        Self { fall, rise, verdict, worse: (0, Impact::None), better: (0, Impact::None) }
    }

    /// Takes in an answer; returns the verdict.
    pub fn hear(&mut self, answer: Impact) -> Impact {
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

    fn pass(&mut self, verdict: Impact) {
        self.verdict = verdict;
        (self.worse.0, self.better.0) = (0, 0);
    }

    /// The verdict that stands.
    pub fn verdict(&self) -> Impact {
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
    use crate::impact::{DEAD, POORLY};

    #[test]
    fn one_bad_answer_is_none_and_two_are_enough() {
        let mut hysteresis = Hysteresis::new(2, 3, Impact::None);
        let out = Impact::Out(DEAD);
        assert_eq!(hysteresis.hear(out), Impact::None);
        assert!(!hysteresis.is_settled());
        assert_eq!(hysteresis.hear(Impact::None), Impact::None, "a good one in between begins anew");
        assert_eq!(hysteresis.hear(out), Impact::None);
        assert_eq!(hysteresis.hear(out), out);
        assert_eq!([Impact::None, Impact::None, out].map(|t| hysteresis.hear(t)), [out; 3], "rise is 3");
        assert_eq!([Impact::None; 3].map(|t| hysteresis.hear(t)), [out, out, Impact::None]);
    }

    #[test]
    fn of_several_bad_answers_the_mildest_counts() {
        let mut hysteresis = Hysteresis::new(2, 2, Impact::None);
        hysteresis.hear(Impact::Out(POORLY));
        assert_eq!(hysteresis.hear(Impact::Shed), Impact::Shed);
        hysteresis.hear(Impact::Out(DEAD));
        assert_eq!(hysteresis.hear(Impact::Out(POORLY)), Impact::Out(POORLY));
        hysteresis.hear(Impact::None);
        assert_eq!(hysteresis.hear(Impact::Shed), Impact::Shed, "it gets better in steps as well");
    }
}
