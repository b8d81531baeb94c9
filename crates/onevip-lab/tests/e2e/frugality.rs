//! The daemon is small, and idle when nothing happens.

use std::fs;
use std::time::{Duration, Instant};

use crate::common::Mode;

/// Resident memory that the daemon may take, in kB.
const RSS_MAX_KB: u64 = 20 * 1024;
/// How long an idle daemon is watched.
const WINDOW: Duration = Duration::from_secs(10);
/// Share of one core that an idle daemon may take. What is promised is 0.5 %, of a release build.
const CPU_MAX: f64 = if cfg!(debug_assertions) { 0.01 } else { 0.005 };

#[test]
fn an_idle_daemon_takes_little_memory_and_no_time() {
    let lab = Mode::Tcx.lab("e2e-frugal", 2, 3);
    let pids = [1, 2].map(|id| lab.node(id).onevip().unwrap());
    let (start, before) = (Instant::now(), pids.map(cpu_time));
    std::thread::sleep(WINDOW);
    let (window, after) = (start.elapsed(), pids.map(cpu_time));
    for (at, pid) in pids.into_iter().enumerate() {
        let (rss_kb, share) = (rss_kb(pid), (after[at] - before[at]).as_secs_f64() / window.as_secs_f64());
        println!("unix{}: {rss_kb} kB resident, {:.3} % of a core", at + 1, share * 100.0);
        assert!(rss_kb < RSS_MAX_KB, "{rss_kb} kB");
        assert!(share < CPU_MAX, "{:.3} % of a core", share * 100.0);
        assert!(share > 0.0, "a daemon that renews its lease takes some time");
    }
}

/// Time that all threads of a process have run, from the scheduler's own accounts (ns; clock ticks are too coarse).
fn cpu_time(pid: i32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let ran = |thread: fs::DirEntry| -> u64 {
        let text = fs::read_to_string(thread.path().join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    };
    Duration::from_nanos(threads.map(ran).sum())
}

fn rss_kb(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
