//! Whether the host can bear more users: figures of the kernel, each with a threshold and a reason in words.
//!
//! One file for each source: [`pressure`], [`memory`], [`tasks`], [`files`], [`room`], [`nologin`]; [`cgroup`] finds out what
//! counts as the host in a container. Every reading is a file or a system call, none forks; what the kernel does not
//! tell is not judged. [`watch`] reads them all once in an interval, on a thread of its own, because a system call on a
//! disk that hangs does.

pub mod cgroup;
pub mod files;
pub mod memory;
pub mod nologin;
pub mod pressure;
pub mod room;
pub mod tasks;
pub mod watch;

use super::impact::{Finding, Impact, POORLY};
use onevip_config::health::{Thresholds, Worse};

/// What a figure costs.
pub fn grade(percent: f64, worse: Worse, thresholds: Thresholds, words: String) -> Finding {
    let beyond = |threshold: Option<u8>| {
        threshold.is_some_and(|threshold| match worse {
            Worse::Upwards => percent >= f64::from(threshold),
            Worse::Downwards => percent <= f64::from(threshold),
        })
    };
    if beyond(thresholds.out) {
        Finding::ill(Impact::Out(POORLY), words)
    } else if beyond(thresholds.shed) {
        Finding::ill(Impact::Shed, words)
    } else {
        Finding::well(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_reached_from_their_side() {
        let impact =
            |percent, worse, shed, out| grade(percent, worse, Thresholds { shed, out }, String::new()).impact;
        assert_eq!(impact(19.9, Worse::Upwards, Some(20), Some(60)), Impact::None);
        assert_eq!(impact(20.0, Worse::Upwards, Some(20), Some(60)), Impact::Shed);
        assert_eq!(impact(60.0, Worse::Upwards, Some(20), Some(60)), Impact::Out(POORLY));
        assert_eq!(impact(5.1, Worse::Downwards, Some(5), Some(2)), Impact::None);
        assert_eq!(impact(2.0, Worse::Downwards, Some(5), Some(2)), Impact::Out(POORLY));
        assert_eq!(
            impact(100.0, Worse::Upwards, None, None),
            Impact::None,
            "without thresholds nothing happens"
        );
        assert_eq!(impact(0.0, Worse::Downwards, None, Some(1)), Impact::Out(POORLY));
    }
}
