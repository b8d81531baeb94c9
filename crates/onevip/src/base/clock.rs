//! The clocks of the daemon.

use onevip_core::Time;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time by the clock that the kernel part uses.
pub fn now() -> Time {
    Time::from_nanos(onevip_bpf::boot_time_ns())
}

/// The time since 1970, by the clock that people see; zero where that is set before.
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
