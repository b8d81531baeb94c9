//! What a process takes of memory.

use std::fs;

use anyhow::{Context, Result};

/// Resident memory of a process in kB, as `/proc/PID/status` has it.
///
/// # Errors
/// When there is no such process.
pub fn resident_kb(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} is gone"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).context("a process has a size")
}
