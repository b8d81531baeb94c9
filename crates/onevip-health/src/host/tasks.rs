//! Whether a process can be made: by the counters of all limits, and by making one.
//!
//! What is made is a thread that ends at once. To the limits (`threads-max`, `pid_max`, `pids.max`, `RLIMIT_NPROC`) it is
//! the same as a process, and unlike a fork it does not make the memory of the beat loop copy-on-write.

use super::cgroup::Cgroup;
use std::fs;
use std::thread;

/// Stack of the thread that only proves that it can be made.
const STACK: usize = 64 * 1024;

/// How many more could be made, in percent of the tightest limit, and which one that is.
#[derive(Clone, PartialEq, Debug)]
pub struct Left {
    /// Percent.
    pub percent: f64,
    /// In words.
    pub words: String,
}

/// Looks at the limits.
pub fn left(cgroup: Option<&Cgroup>) -> Option<Left> {
    let number = |path: &str| -> Option<u64> { fs::read_to_string(path).ok()?.trim().parse().ok() };
    let alive = tasks(&fs::read_to_string("/proc/loadavg").ok()?)?;
    let limit = number("/proc/sys/kernel/threads-max")?.min(number("/proc/sys/kernel/pid_max")?);
    let host = of(alive, limit);
    let own = cgroup.and_then(Cgroup::tasks).map(|(used, limit)| of(used, limit));
    Some(own.filter(|own| own.percent < host.percent).unwrap_or(host))
}

/// Makes a task.
///
/// # Errors
/// Why none can be made.
pub fn make_one() -> Result<(), String> {
    let made = thread::Builder::new().name("onevip-probe".into()).stack_size(STACK).spawn(|| ());
    match made {
        Ok(thread) => thread.join().map_err(|_| "a thread panicked".to_owned()),
        Err(error) => Err(format!("no process can be made: {error}")),
    }
}

fn of(used: u64, limit: u64) -> Left {
    let percent = limit.saturating_sub(used) as f64 / limit.max(1) as f64 * 100.0;
    Left { percent, words: format!("{used} of {limit} processes and threads are there") }
}

/// All tasks of the host: the number after the slash.
fn tasks(loadavg: &str) -> Option<u64> {
    loadavg.split(' ').nth(3)?.split_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_counted_against_their_limit() {
        assert_eq!(tasks("0.22 0.96 1.79 2/345 12345\n"), Some(345));
        assert_eq!(of(90, 100).percent, 10.0);
        assert_eq!(of(101, 100).percent, 0.0);
        assert!(left(None).is_some_and(|left| left.percent > 0.0 && left.words.contains(" of ")));
    }

    #[test]
    fn a_task_can_be_made_here() {
        assert_eq!(make_one(), Ok(()));
    }
}
