//! Memory that is left: where the kernel has no pressure figures this has to do, and without swap it is what warns of
//! the end.

use super::cgroup::Cgroup;
use std::fs;

/// Percent of the memory that could still be had; none where the kernel does not tell.
pub fn left(cgroup: Option<&Cgroup>) -> Option<f64> {
    let host = of_host(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let own = cgroup.and_then(Cgroup::memory_left);
    Some(own.map_or(host, |own| own.min(host)))
}

fn of_host(meminfo: &str) -> Option<f64> {
    let kib = |name: &str| -> Option<f64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    let total = kib("MemTotal")?;
    (total > 0.0).then_some(kib("MemAvailable")? / total * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_counts_not_what_is_free() {
        let text = "MemTotal:       1000 kB\nMemFree:          10 kB\nMemAvailable:    250 kB\n";
        assert_eq!(of_host(text), Some(25.0));
        assert_eq!(of_host("MemTotal: 5 kB\n"), None);
    }
}
