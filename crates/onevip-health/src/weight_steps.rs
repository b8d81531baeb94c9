//! Shedding load: the weight goes down in steps while something asks for it, and up again in steps when nothing does.
//!
//! In steps, because the share that a node gives away makes the others' load grow, and because its own figures need a
//! while to follow.

use std::time::{Duration, Instant};

/// The share of its weight that a node announces, in percent, by step.
pub const STEPS: [u8; 4] = [100, 50, 25, 10];
/// From one step to the next: half of the ten seconds over which pressure is averaged.
pub const STEP: Duration = Duration::from_secs(5);

/// Where on the steps the node stands.
#[derive(Clone, Debug, Default)]
pub struct WeightSteps {
    step: usize,
    moved: Option<Instant>,
}

impl WeightSteps {
    /// Takes the step that is due; returns the percentage. The first step down is taken at once.
    pub fn climb(&mut self, now: Instant, shed: bool) -> u8 {
        let wanted = if shed { (self.step + 1).min(STEPS.len() - 1) } else { self.step.saturating_sub(1) };
        let is_due = self.moved.is_none_or(|moved| now.saturating_duration_since(moved) >= STEP);
        if wanted != self.step && is_due {
            self.step = wanted;
            self.moved = Some(now);
        }
        self.percent()
    }

    /// The percentage.
    pub fn percent(&self) -> u8 {
        STEPS[self.step]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_goes_down_and_up_in_steps() {
        let (mut steps, start) = (WeightSteps::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(steps.climb(at(0), false), 100);
        assert_eq!(steps.climb(at(1), true), 50, "at once");
        assert_eq!(steps.climb(at(2), true), 50);
        assert_eq!(steps.climb(at(6), true), 25);
        assert_eq!(steps.climb(at(11), true), 10);
        assert_eq!(steps.climb(at(99), true), 10, "never nothing");
        assert_eq!(steps.climb(at(100), false), 25, "five seconds since the last step have passed");
        assert_eq!(steps.climb(at(101), false), 25);
        assert_eq!(steps.climb(at(105), false), 50);
        assert_eq!(steps.climb(at(110), false), 100);
    }
}
