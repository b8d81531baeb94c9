//! Medians, spreads and ratios.

/// The figures in order, without those that are none.
pub fn sorted(figures: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut figures: Vec<f64> = figures.into_iter().filter(|figure| figure.is_finite()).collect();
    figures.sort_by(f64::total_cmp);
    figures
}

/// The middle of sorted figures; the mean of the two middle ones where there is no middle.
pub fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len().checked_sub(1)? / 2;
    Some((sorted[middle] + sorted[sorted.len() / 2]) / 2.0)
}

/// The least of sorted figures that is not below `share` (0 to 1) of them: nearest rank.
pub fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).or(sorted.last()).copied()
}

/// What a handful of samples say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The middle.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Summary {
    /// None without any sample.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let sorted = sorted(samples.iter().copied());
        Some(Self { median: median(&sorted)?, least: *sorted.first()?, most: *sorted.last()? })
    }
}

/// What each round says about two contestants, summed up: the k-th samples of both come from the same round, so that
/// whatever slowed the machine down for a while has slowed both.
pub fn ratio(of: &[f64], against: &[f64]) -> Option<Summary> {
    let ratios: Vec<f64> = of.iter().zip(against).map(|(a, b)| a / b).collect();
    Summary::of(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[1.0, 2.0, 9.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), Some(3.0));
    }

    #[test]
    fn a_percentile_is_one_of_the_figures() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&hundred, 0.5), Some(50.0));
        assert_eq!(percentile(&hundred, 0.99), Some(99.0));
        assert_eq!(percentile(&[7.0], 0.99), Some(7.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // The machine was ten times slower in the second round; each round says 2.
        let ratio = ratio(&[2.0, 20.0, 2.2], &[1.0, 10.0, 1.0]).unwrap();
        assert_eq!((ratio.median, ratio.least, ratio.most), (2.0, 2.0, 2.2));
        assert_eq!(super::ratio(&[1.0], &[0.0]), None, "nothing is no yardstick");
    }
}
