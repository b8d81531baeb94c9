//! The control group that the daemon runs in, for hosts that are one: containers, and the nodes of the lab.
//!
//! Version 2 has one tree; version 1 has a tree for each controller, and often an empty version 2 tree beside them,
//! which still has the pressure files.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the figures of our control group are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cgroup {
    /// In the version 2 tree: pressure, and the rest where its controllers are there.
    unified: Option<PathBuf>,
    /// In the version 1 tree of the controller.
    memory: Option<PathBuf>,
    /// The same.
    pids: Option<PathBuf>,
}

impl Cgroup {
    /// Our own.
    pub fn own() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::of(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
    }

    fn of(membership: &str, mounts: &str) -> Self {
        let mut own = Self::default();
        for line in membership.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(number), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let v1 = |name: &str| controllers.split(',').any(|controller| controller == name);
            if number == "0" && controllers.is_empty() {
                own.unified = place(mounts, "cgroup2", "", path);
            } else if v1("memory") {
                own.memory = place(mounts, "cgroup", "memory", path);
            } else if v1("pids") {
                own.pids = place(mounts, "cgroup", "pids", path);
            }
        }
        own
    }

    /// Where its pressure files are.
    pub fn unified(&self) -> Option<&Path> {
        self.unified.as_deref()
    }

    /// Percent of its memory that is left; none without a limit. What the page cache holds can be had.
    pub fn memory_left(&self) -> Option<f64> {
        let v1 = self.memory.as_ref().and_then(|dir| {
            let cache = ["total_inactive_file", "total_active_file"];
            memory_left(dir, "memory.usage_in_bytes", "memory.limit_in_bytes", &cache)
        });
        let v2 = self.unified.as_ref();
        v1.or_else(|| memory_left(v2?, "memory.current", "memory.max", &["inactive_file", "active_file"]))
    }

    /// Its tasks, and how many there may be; none without a limit.
    pub fn tasks(&self) -> Option<(u64, u64)> {
        let of = |dir: &Path| Some((number(&dir.join("pids.current"))?, number(&dir.join("pids.max"))?));
        self.pids.as_deref().and_then(of).or_else(|| of(self.unified.as_deref()?))
    }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn memory_left(dir: &Path, used: &str, limit: &str, cache: &[&str]) -> Option<f64> {
    // Version 1 says "no limit" with a number beyond all memory.
    let limit = number(&dir.join(limit)).filter(|limit| *limit > 0 && *limit < 1 << 60)?;
    let stat = fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
    let entry = |name: &&str| -> u64 {
        let line = stat.lines().find_map(|line| line.strip_prefix(*name)?.strip_prefix(' '));
        line.and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    let cached: u64 = cache.iter().map(entry).sum();
    let used = number(&dir.join(used))?.saturating_sub(cached);
    Some(limit.saturating_sub(used) as f64 / limit as f64 * 100.0)
}

/// The directory of the group `path` in the tree of this kind: `mountinfo` says where which part of it is mounted.
fn place(mounts: &str, kind: &str, controller: &str, path: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (fields, rest) = line.split_once(" - ")?;
        let mut rest = rest.split(' ');
        let (found, _, options) = (rest.next()?, rest.next()?, rest.next()?);
        if found != kind || !(controller.is_empty() || options.split(',').any(|option| option == controller))
        {
            return None;
        }
        let mut fields = fields.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let below = Path::new(path).strip_prefix(root).ok()?;
        Some(Path::new(point).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modern_hosts_have_one_tree() {
        let mounts = "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        let own = Cgroup::of("0::/system.slice/onevip.service\n", mounts);
        assert_eq!(own.unified(), Some(Path::new("/sys/fs/cgroup/system.slice/onevip.service")));
        assert_eq!((own.memory, own.pids), (None, None));
    }

    #[test]
    fn older_hosts_have_a_tree_for_each_controller() {
        let mounts = "40 1 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      41 1 0:32 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                      42 1 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let own = Cgroup::of("8:pids:/a/b\n4:memory:/c\n3:cpu,cpuacct:/d\n0::/e\n", mounts);
        assert_eq!(own.pids, Some("/sys/fs/cgroup/pids/a/b".into()));
        assert_eq!(own.memory, Some("/sys/fs/cgroup/memory/c".into()));
        assert_eq!(own.unified, Some("/sys/fs/cgroup/unified/e".into()));
    }

    #[test]
    fn in_a_container_the_root_of_the_mount_is_not_the_root_of_the_tree() {
        let mounts = "40 1 0:31 /docker/abc /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids\n";
        assert_eq!(Cgroup::of("8:pids:/docker/abc/x\n", mounts).pids, Some("/sys/fs/cgroup/pids/x".into()));
    }

    #[test]
    fn cache_counts_as_left() {
        let dir = std::env::temp_dir().join(format!("onevip-cgroup-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
        write("memory.max", "1000\n");
        write("memory.current", "900\n");
        write("memory.stat", "anon 500\ninactive_file 300\nactive_file 100\n");
        write("pids.current", "7\n");
        write("pids.max", "max\n");
        let own = Cgroup { unified: Some(dir.clone()), ..Cgroup::default() };
        assert_eq!(own.memory_left(), Some(50.0));
        assert_eq!(own.tasks(), None);
        write("memory.max", "max\n");
        write("pids.max", "10\n");
        assert_eq!((own.memory_left(), own.tasks()), (None, Some((7, 10))));
        fs::remove_dir_all(&dir).unwrap();
    }
}
