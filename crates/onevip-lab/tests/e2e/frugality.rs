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
fn an_idle_daemon_takes_little_memory_and_no_time_and_says_nothing() {
    // One window for all.
    let labs = [Mode::Tcx, Mode::Clsact, Mode::Xdp].map(|mode| (mode, mode.lab("e2e-frugal", 1, 3)));
    let measure = || labs.each_ref().map(|(_, lab)| cpu_time(lab.node(1).onevip().unwrap()));
    let said = || labs.each_ref().map(|(_, lab)| lab.node(1).onevip_log());
    let (start, before, said_before) = (Instant::now(), measure(), said());
    std::thread::sleep(WINDOW);
    let (window, after) = (start.elapsed(), measure());
    assert_eq!(said(), said_before);
    for (at, (mode, lab)) in labs.iter().enumerate() {
        let share = (after[at] - before[at]).as_secs_f64() / window.as_secs_f64();
        let rss_kb = rss_kb(lab.node(1).onevip().unwrap());
        println!("{mode:?}: {rss_kb} kB resident, {:.3} % of a core", share * 100.0);
        assert!(rss_kb < RSS_MAX_KB, "{mode:?}: {rss_kb} kB");
        assert!(share < CPU_MAX, "{mode:?}: {:.3} % of a core", share * 100.0);
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
