//! A cgroup per host: to stop every process of a node at once, to be sure that none survives, to see how it fares
//! (pressure), and to keep a node that goes wild from taking the machine with it.
//!
//! The first three are abilities of the version 2 tree itself, without any controller: so the tree is used wherever it is
//! mounted, `/sys/fs/cgroup` on a modern host or `/sys/fs/cgroup/unified` beside version 1 controllers. Where there is
//! none at all, hosts have no cgroup, `freeze` is refused, and `down` finds processes by their network namespace alone.
//! Limits need the controllers `pids` and `memory`: those of the version 2 tree, or the trees they have in version 1.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::plan::{Host, Name};
use crate::process::wait_until;

/// Below the version 2 tree.
const PARENT: &str = "onevip-lab";

/// Where the version 2 tree is mounted, if it is.
fn tree() -> Option<&'static Path> {
    static TREE: OnceLock<Option<PathBuf>> = OnceLock::new();
    TREE.get_or_init(|| tree_in(&fs::read_to_string("/proc/self/mounts").unwrap_or_default())).as_deref()
}

fn tree_in(mounts: &str) -> Option<PathBuf> {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields.into_iter().find(|f| f.get(2) == Some(&"cgroup2")).map(|f| PathBuf::from(f[1]))
}

/// What can be limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceLimit {
    /// Processes and threads.
    Tasks,
    /// Bytes of memory.
    Memory,
}

impl ResourceLimit {
    const ALL: [Self; 2] = [Self::Tasks, Self::Memory];

    fn controller(self) -> &'static str {
        match self {
            Self::Tasks => "pids",
            Self::Memory => "memory",
        }
    }
}

/// The version 1 tree of a controller.
fn tree_of(limit: ResourceLimit) -> Option<PathBuf> {
    controller_in(&fs::read_to_string("/proc/self/mounts").unwrap_or_default(), limit.controller())
}

fn controller_in(mounts: &str, controller: &str) -> Option<PathBuf> {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let is_it = |f: &Vec<&str>| {
        f.get(2) == Some(&"cgroup") && f.get(3).is_some_and(|o| o.split(',').any(|o| o == controller))
    };
    fields.into_iter().find(is_it).map(|f| PathBuf::from(f[1]))
}

/// Every tree in which a host has a group, the version 2 tree first.
fn trees() -> Vec<PathBuf> {
    tree().map(Path::to_owned).into_iter().chain(ResourceLimit::ALL.into_iter().filter_map(tree_of)).collect()
}

/// The files through which a process becomes a member of a host's groups.
pub fn doors(name: &Name, host: Host) -> Vec<PathBuf> {
    let door = |tree: PathBuf| below(&tree, name).join(host.to_string()).join("cgroup.procs");
    trees().into_iter().map(door).filter(|door| door.exists()).collect()
}

/// Limits a host; `None` lifts the limit.
///
/// # Errors
/// When this machine has no controller for it.
pub fn limit(name: &Name, host: Host, what: ResourceLimit, most: Option<u64>) -> Result<()> {
    let group = |tree: &Path| below(tree, name).join(host.to_string());
    let (file, unlimited) = match (tree_of(what), what) {
        (Some(tree), ResourceLimit::Tasks) => (group(&tree).join("pids.max"), "max"),
        (Some(tree), ResourceLimit::Memory) => (group(&tree).join("memory.limit_in_bytes"), "-1"),
        (None, ResourceLimit::Tasks) => (group(tree().unwrap_or(Path::new("/"))).join("pids.max"), "max"),
        (None, ResourceLimit::Memory) => (group(tree().unwrap_or(Path::new("/"))).join("memory.max"), "max"),
    };
    let value = most.map_or(unlimited.to_owned(), |most| most.to_string());
    fs::write(&file, value).with_context(|| {
        let controller = what.controller();
        format!(
            "cannot limit {host} ({}); does this machine have the cgroup controller {controller}?",
            file.display()
        )
    })
}

fn below(tree: &Path, name: &Name) -> PathBuf {
    tree.join(PARENT).join(name.as_str())
}

fn lab_path(name: &Name) -> Option<PathBuf> {
    Some(tree()?.join(PARENT).join(name.as_str()))
}

/// A host's cgroup directory; it need not exist.
pub fn path(name: &Name, host: Host) -> Option<PathBuf> {
    Some(lab_path(name)?.join(host.to_string()))
}

/// Makes a host's cgroup. Where that is impossible (no tree, or a read-only one) the lab goes on without.
pub fn create(name: &Name, host: Host) {
    if let Some(tree) = tree() {
        let lab = below(tree, name);
        let _ = fs::create_dir_all(&lab);
        // Refused where the controllers have trees of their own, or others use the group directly: then without limits.
        for group in [tree, &tree.join(PARENT), &lab] {
            let _ = fs::write(group.join("cgroup.subtree_control"), "+pids +memory");
        }
    }
    for tree in trees() {
        let _ = fs::create_dir_all(below(&tree, name).join(host.to_string()));
    }
}

/// Stops or resumes every process of a host; returns when the kernel says it is done.
///
/// # Errors
/// When there is no cgroup, or the kernel does not get there within five seconds.
pub fn freeze(name: &Name, host: Host, frozen: bool) -> Result<()> {
    let Some(path) = path(name, host).filter(|p| p.join("cgroup.freeze").exists()) else {
        bail!(
            "{host} has no cgroup, so it cannot be frozen; mount the cgroup2 file system (read-write) first"
        );
    };
    let digit = if frozen { "1" } else { "0" };
    fs::write(path.join("cgroup.freeze"), digit)
        .with_context(|| format!("cannot freeze {}", path.display()))?;
    let wanted = format!("frozen {digit}");
    wait_until(Duration::from_secs(5), &format!("{host} to be {wanted}"), || {
        fs::read_to_string(path.join("cgroup.events")).is_ok_and(|events| events.lines().any(|l| l == wanted))
    })
}

/// Resumes a host without waiting, where it has a cgroup. What is started in a frozen cgroup stands still at once, so
/// this comes before anything is started in one that was frozen.
pub fn thaw(name: &Name, host: Host) {
    if let Some(path) = path(name, host) {
        let _ = fs::write(path.join("cgroup.freeze"), "0");
    }
}

/// The processes of a host.
pub fn pids(name: &Name, host: Host) -> Vec<i32> {
    let procs = path(name, host).and_then(|p| fs::read_to_string(p.join("cgroup.procs")).ok());
    procs.unwrap_or_default().lines().filter_map(|pid| pid.parse().ok()).collect()
}

/// Removes a host's cgroup, which must be empty by now; retries while the kernel still takes processes down.
///
/// # Errors
/// When it stays in use.
pub fn remove(name: &Name, host: Host) -> Result<()> {
    trees().into_iter().try_for_each(|tree| remove_group(&below(&tree, name).join(host.to_string())))
}

fn remove_group(path: &Path) -> Result<()> {
    let mut last = None;
    let gone = wait_until(Duration::from_secs(5), "an empty cgroup", || match fs::remove_dir(path) {
        Ok(()) => true,
        Err(e) if e.kind() == io::ErrorKind::NotFound => true,
        Err(e) => {
            last = Some(e);
            false
        }
    });
    gone.with_context(|| {
        format!("cannot remove {}: {}", path.display(), last.map_or(String::new(), |e| e.to_string()))
    })
}

/// Removes what is left of a lab's cgroups, and the parent when no other lab needs it.
pub fn remove_lab(name: &Name) {
    for tree in trees() {
        let _ = fs::remove_dir(below(&tree, name));
        let _ = fs::remove_dir(tree.join(PARENT));
    }
}

/// The hosts of a lab that have a cgroup.
pub fn hosts(name: &Name) -> Vec<Host> {
    let Some(path) = lab_path(name) else { return vec![] };
    names_in(&path).iter().filter_map(|n| n.parse().ok()).collect()
}

/// The labs that have cgroups.
pub fn labs() -> Vec<Name> {
    let Some(tree) = tree() else { return vec![] };
    names_in(&tree.join(PARENT)).iter().filter_map(|n| Name::new(n).ok()).collect()
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.path().is_dir()).filter_map(|e| e.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_2_tree_is_found_in_both_layouts() {
        let modern = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
        let mixed = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                     cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(tree_in(modern), Some("/sys/fs/cgroup".into()));
        assert_eq!(tree_in(mixed), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(tree_in("proc /proc proc rw 0 0\n"), None);
        assert_eq!(controller_in(mixed, "cpu"), Some("/sys/fs/cgroup/cpu".into()));
        assert_eq!(controller_in(mixed, "pids"), None);
        assert_eq!(controller_in(modern, "pids"), None);
    }
}
