//! The daemon is small, and idle when nothing happens.

use std::fs;
use std::time::{Duration, Instant};

use crate::common::Mode;

/// Resident memory that the daemon may take, in kB.
const RSS_MAX_KB: u64 = 20 * 1024;
/// How long an idle daemon is watched.
const WINDOW: Duration = Duration::from_secs(10);
/// How often the threads of an idle daemon may wake together, per second. Unlike the time they take (which `onevip-lab
/// bench scale` measures) that does not depend on the machine, and whatever polls shows in it: the lease is renewed with
/// every beat, the reconciler looks after programs as often, 20 times a second each; the health checks take the rest.
const WAKES_MAX: f64 = 60.0;

#[test]
fn an_idle_daemon_takes_little_memory_rarely_wakes_and_says_nothing() {
    // One window for all.
    let labs = [Mode::Tcx, Mode::Clsact, Mode::Xdp].map(|mode| (mode, mode.lab("e2e-frugal", 1, 3)));
    let measure = || labs.each_ref().map(|(_, lab)| wakes(lab.node(1).onevip().unwrap()));
    let said = || labs.each_ref().map(|(_, lab)| lab.node(1).onevip_log());
    let (start, before, said_before) = (Instant::now(), measure(), said());
    std::thread::sleep(WINDOW);
    let (window, after) = (start.elapsed(), measure());
    assert_eq!(said(), said_before);
    for (at, (mode, lab)) in labs.iter().enumerate() {
        let rate = (after[at] - before[at]) as f64 / window.as_secs_f64();
        let rss_kb = rss_kb(lab.node(1).onevip().unwrap());
        println!("{mode:?}: {rss_kb} kB resident, wakes {rate:.1} times a second");
        assert!(rss_kb < RSS_MAX_KB, "{mode:?}: {rss_kb} kB");
        assert!(rate < WAKES_MAX, "{mode:?}: wakes {rate:.1} times a second");
        assert!(rate > 0.0, "a daemon that renews its lease wakes");
    }
}

/// How often the threads of a process have gone to sleep by themselves.
fn wakes(pid: i32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let slept = |thread: fs::DirEntry| -> u64 {
        let text = fs::read_to_string(thread.path().join("status")).unwrap();
        let count = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        count.trim().parse().unwrap()
    };
    threads.map(slept).sum()
}

fn rss_kb(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
