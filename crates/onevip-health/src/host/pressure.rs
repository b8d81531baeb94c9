//! Pressure stall information: the share of time in which work stood still for want of memory, processor or disk
//! (`Documentation/accounting/psi.rst`; Linux 4.20 with `CONFIG_PSI`, or `psi=1` on the command line).
//!
//! The kernel's own averages follow slowly (ten seconds at least), so the counters are read and a window of our own is
//! kept.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Which line of the file counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    /// Some tasks stood still.
    Some,
    /// All did.
    Full,
}

/// One counter, watched.
#[derive(Debug)]
pub struct Pressure {
    path: PathBuf,
    line: Line,
    window: Duration,
    samples: VecDeque<(Instant, u64)>,
}

impl Pressure {
    /// Of a pressure file, over a window.
    pub fn new(path: PathBuf, line: Line, window: Duration) -> Self {
        Self { path, line, window, samples: VecDeque::new() }
    }

    /// Percent of the window in which work stood still; none where the kernel does not tell.
    pub fn read(&mut self, now: Instant) -> Option<f64> {
        let total = total(&fs::read_to_string(&self.path).ok()?, self.line)?;
        Some(self.take_in(now, total))
    }

    fn take_in(&mut self, now: Instant, total_us: u64) -> f64 {
        self.samples.push_back((now, total_us));
        // One sample from before the window is kept, so that the window is covered.
        while self.samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= self.window) {
            self.samples.pop_front();
        }
        let (first, before) = self.samples[0];
        // A young window counts as one that was quiet before.
        let span = now.duration_since(first).max(self.window);
        let stalled = Duration::from_micros(total_us.saturating_sub(before));
        (stalled.as_secs_f64() / span.as_secs_f64() * 100.0).min(100.0)
    }
}

/// `total=` of a line, in microseconds.
fn total(text: &str, line: Line) -> Option<u64> {
    let word = match line {
        Line::Some => "some ",
        Line::Full => "full ",
    };
    let fields = text.lines().find_map(|line| line.strip_prefix(word))?;
    fields.split(' ').find_map(|field| field.strip_prefix("total=")).and_then(|number| number.parse().ok())
}

/// The pressure file of the machine, or of a control group.
pub fn path(cgroup: Option<&Path>, resource: &str) -> PathBuf {
    match cgroup {
        Some(cgroup) => cgroup.join(format!("{resource}.pressure")),
        None => Path::new("/proc/pressure").join(resource),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "some avg10=0.04 avg60=0.79 avg300=5.65 total=5378809338\n\
                        full avg10=0.00 avg60=0.00 avg300=0.00 total=67653519\n";

    #[test]
    fn the_counter_of_the_line_is_read() {
        assert_eq!(total(TEXT, Line::Some), Some(5_378_809_338));
        assert_eq!(total(TEXT, Line::Full), Some(67_653_519));
        assert_eq!(total("", Line::Full), None);
        assert_eq!(
            Pressure::new("/nonexistent".into(), Line::Full, Duration::ZERO).read(Instant::now()),
            None
        );
    }

    #[test]
    fn the_share_is_that_of_the_window() {
        let start = Instant::now();
        let mut pressure = Pressure::new(PathBuf::new(), Line::Full, Duration::from_secs(4));
        let mut at = |seconds, stalled_ms: u64| {
            pressure.take_in(start + Duration::from_secs(seconds), 7_000_000 + stalled_ms * 1000).round()
        };
        assert_eq!(at(0, 0), 0.0, "what was before does not count");
        assert_eq!(at(1, 1000), 25.0);
        assert_eq!(at(2, 2000), 50.0);
        assert_eq!(at(4, 4000), 100.0);
        assert_eq!(at(8, 4000), 0.0);
        assert_eq!(at(9, 4000), 0.0);
    }
}
