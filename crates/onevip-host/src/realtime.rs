//! Rights of the beat loop against the rest of the host: memory that is never paged out, and the processor when it
//! needs it.
//!
//! Without them a busy host's beats come late. By how much was measured: docs/benchmarks.md, "What the daemon costs".

use std::io;

/// Priority among real-time threads, 1 to 99: above ordinary work, below the kernel's own threads (50 and more).
const PRIORITY: libc::c_int = 10;

/// Keeps every page of this process in memory once it was touched. Pages are locked as they come (`MCL_ONFAULT`), so
/// that untouched thread stacks cost nothing.
///
/// # Errors
/// The kernel's: usually `RLIMIT_MEMLOCK` without `CAP_IPC_LOCK`.
pub fn lock_memory() -> io::Result<()> {
    // SAFETY: the call takes flags only and touches no memory of ours.
    result(unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) })
}

/// Makes the calling thread a real-time thread, but none of its children.
///
/// # Errors
/// The kernel's: `CAP_SYS_NICE` is missing, or the cpu cgroup has no real-time budget (`cpu.rt_runtime_us = 0`).
pub fn make_current_thread_realtime() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: 0 names the calling thread; the parameters outlive the call, which only reads them.
    result(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &parameters) })
}

fn result(code: libc::c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
