//! Removing every trace of a lab, whatever state it is in.
//!
//! What to remove is derived from names (namespaces, cgroups, mounts and files below the lab's directory), never only
//! from what an earlier command wrote down: that may be missing after a crash. Each step goes on when one before it
//! failed; what could not be removed is reported at the end.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;

use crate::plan::{Host, NODES_MAX, Name, ROOT};
use crate::process::{is_alive, signal, wait_until};
use crate::{cgroup, daemon, net, netns};

/// Every lab of which there is any trace.
pub fn all_labs() -> BTreeSet<Name> {
    let entries = fs::read_dir(ROOT).into_iter().flatten().flatten();
    let dirs = entries.filter_map(|entry| Name::new(entry.file_name().to_str()?).ok());
    let namespaces = netns::list().into_iter().map(|(name, _)| name);
    dirs.chain(namespaces).chain(cgroup::labs()).collect()
}

/// What a test's lab is called.
pub fn test_name(name: &str, pid: u32) -> String {
    format!("t-{name}-{pid}")
}

/// The process that a test's lab belongs to.
fn tester(name: &Name) -> Option<i32> {
    name.as_str().strip_prefix("t-")?.rsplit_once('-')?.1.parse().ok()
}

/// Removes the labs of tests whose process is gone. Failures are only reported: they are not this test's.
pub(crate) fn remove_abandoned() {
    let labs = all_labs();
    for name in labs.iter().filter(|name| tester(name).is_some_and(|pid| !is_alive(pid))) {
        if let Err(error) = remove_lab(name) {
            eprintln!("onevip-lab: {error:#}");
        }
    }
}

/// Removes a lab: daemons orderly, everything else by force.
///
/// # Errors
/// Names what could not be removed. Nothing to remove is no error.
pub fn remove_lab(name: &Name) -> Result<()> {
    stop_daemons(name);
    let hosts: BTreeSet<Host> = all_hosts(name);
    let mut complaints = Vec::new();
    let mut note = |result: Result<()>| complaints.extend(result.err().map(|e| format!("{e:#}")));
    note(kill_all(name, &hosts));
    for &host in &hosts {
        note(net::remove_netns(name, host));
    }
    note(unmount_below(&name.dir()));
    for host in cgroup::hosts(name) {
        note(cgroup::remove(name, host));
    }
    cgroup::remove_lab(name);
    note(remove_dir(&name.dir()));
    let _ = fs::remove_dir(ROOT);
    if !complaints.is_empty() {
        bail!("could not remove all of lab {name}: {}", complaints.join("; "));
    }
    Ok(())
}

/// Takes one host's processes, mounts and namespace away, as a loss of power does.
///
/// # Errors
/// When something stays.
pub fn remove_host(name: &Name, host: Host) -> Result<()> {
    kill_all(name, &BTreeSet::from([host]))?;
    cgroup::thaw(name, host);
    if let Host::Node(id) = host {
        unmount_below(&daemon::run_dir(name, id))?;
    }
    net::remove_netns(name, host)
}

/// Lets daemons end by themselves and take their kernel part down, all at once. A failure is only reported:
/// whatever they leave goes away with the namespaces and the mounts.
fn stop_daemons(name: &Name) {
    let nodes = (1..=NODES_MAX).filter(|&id| daemon::pid_path(name, id).exists());
    std::thread::scope(|scope| {
        for id in nodes {
            scope.spawn(move || {
                cgroup::thaw(name, Host::Node(id));
                if let Some(pid) = daemon::pid_in(name, id, &daemon::pid_path(name, id)) {
                    daemon::stop(pid);
                }
                if netns::netns_path(name, Host::Node(id)).exists()
                    && let Err(error) = daemon::teardown(name, id)
                {
                    eprintln!(
                        "onevip-lab: `onevip teardown` failed on unix{id}, so force was used: {error:#}"
                    );
                }
            });
        }
    });
}

fn all_hosts(name: &Name) -> BTreeSet<Host> {
    let namespaces = netns::list().into_iter().filter(|(lab, _)| lab == name).map(|(_, host)| host);
    namespaces.chain(cgroup::hosts(name)).collect()
}

/// Kills the processes of hosts, found by cgroup and by network namespace, until there are none.
fn kill_all(name: &Name, hosts: &BTreeSet<Host>) -> Result<()> {
    let mut killed: BTreeSet<i32> = BTreeSet::new();
    let namespaces: Vec<File> =
        hosts.iter().filter_map(|&h| File::open(netns::netns_path(name, h)).ok()).collect();
    let ended = wait_until(Duration::from_secs(10), &format!("the processes of lab {name} to end"), || {
        let in_cgroups = hosts.iter().flat_map(|&host| cgroup::pids(name, host));
        let in_namespaces = all_pids().filter(|&pid| namespaces.iter().any(|ns| netns::is_in(pid, ns)));
        let own = std::process::id().cast_signed();
        let found: Vec<i32> = in_cgroups.chain(in_namespaces).filter(|&p| p != own && is_alive(p)).collect();
        found.iter().for_each(|&pid| signal(pid, Signal::SIGKILL));
        killed.extend(&found);
        found.is_empty()
    });
    // Init needs a moment to reap them; a zombie that somebody else has to reap is not worth waiting for.
    let reaped = || killed.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists());
    let _ = wait_until(Duration::from_millis(200), "init to reap", reaped);
    ended
}

fn all_pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Unmounts everything below a directory, the deepest first.
pub(crate) fn unmount_below(dir: &Path) -> Result<()> {
    let mounts = mounts_below(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(), dir);
    for mount in mounts.iter().rev() {
        if let Err(error) = umount2(mount, MntFlags::MNT_DETACH) {
            bail!("cannot unmount {}: {error}", mount.display());
        }
    }
    Ok(())
}

fn mounts_below(mountinfo: &str, dir: &Path) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    points.filter(|point| point.starts_with(dir)).collect()
}

fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            bail!("cannot remove {}: {error}", dir.display())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tests_lab_tells_its_process() {
        assert_eq!(tester(&Name::new(&test_name("story-2", 4711)).unwrap()), Some(4711));
        for other in ["lab", "t-story", "demo-4711", "t-x-y"] {
            assert_eq!(tester(&Name::new(other).unwrap()), None, "{other}");
        }
    }

    #[test]
    fn only_mounts_of_this_lab_are_found() {
        let mountinfo = "30 20 0:4 / /run/onevip-lab/a/uts-unix1 rw - nsfs nsfs rw\n\
                         31 20 0:5 / /run/onevip-lab/a/nodes/unix1/run/bpf rw - bpf bpf rw\n\
                         32 20 0:4 / /run/onevip-lab/ab/uts-unix1 rw - nsfs nsfs rw\n\
                         33 20 0:6 / /run rw - tmpfs tmpfs rw\n";
        let found = mounts_below(mountinfo, Path::new("/run/onevip-lab/a"));
        let wanted = ["/run/onevip-lab/a/uts-unix1", "/run/onevip-lab/a/nodes/unix1/run/bpf"];
        assert_eq!(found, wanted.map(PathBuf::from));
    }
}
