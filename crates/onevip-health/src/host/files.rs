//! Open files that the kernel still allows.

use std::fs;

/// Percent of `fs.file-max` that is left; none where the kernel does not tell.
pub fn left() -> Option<f64> {
    of(&fs::read_to_string("/proc/sys/fs/file-nr").ok()?)
}

/// Allocated, unused (always 0 today), maximum.
fn of(file_nr: &str) -> Option<f64> {
    let mut numbers = file_nr.split_whitespace().map(str::parse::<u64>);
    let (used, _, limit) = (numbers.next()?.ok()?, numbers.next()?, numbers.next()?.ok()?);
    (limit > 0).then(|| limit.saturating_sub(used) as f64 / limit as f64 * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_counted_against_the_limit() {
        assert_eq!(of("75\t0\t100\n"), Some(25.0));
        assert_eq!(of("200 0 100"), Some(0.0));
        assert_eq!(of("x"), None);
        assert!(left().is_some());
    }
}
