//! The clock by which the programs measure time.

/// The boot-time clock (`CLOCK_BOOTTIME`) in ns, by which the lease and `last_syn` are measured.
pub fn boot_time_ns() -> u64 {
    let now = nix::time::ClockId::CLOCK_BOOTTIME.now().expect("Linux has had CLOCK_BOOTTIME since 2.6.39");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}
