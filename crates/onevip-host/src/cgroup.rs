//! The cgroup that holds every process of this host.
//!
//! Version 2 puts every process of the machine into its one tree, also where controllers of version 1 do the work beside it
//! and the tree looks empty: then all are in its root. What is attached there is seen by all.

use std::path::PathBuf;

/// Where it is, or nothing where no version 2 tree is mounted. `ONEVIP_CGROUP` names another, for hosts that share a
/// kernel with others (the nodes of a lab do); what is no absolute path stands for none.
pub fn of_this_host() -> Option<PathBuf> {
    match std::env::var("ONEVIP_CGROUP") {
        Ok(path) => Some(PathBuf::from(path)).filter(|path| path.is_absolute()),
        Err(_) => tree_in(&std::fs::read_to_string("/proc/self/mounts").unwrap_or_default()),
    }
}

fn tree_in(mounts: &str) -> Option<PathBuf> {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields.into_iter().find(|f| f.get(2) == Some(&"cgroup2")).map(|f| PathBuf::from(f[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_found_alone_and_beside_version_1() {
        let modern = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
        let mixed =
            "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(tree_in(modern), Some("/sys/fs/cgroup".into()));
        assert_eq!(tree_in(mixed), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(tree_in("proc /proc proc rw 0 0\n"), None);
    }
}
