//! Faults that degrade a node without taking it off the network: an `sshd` that is slow or full, a host without room.
//!
//! Everything is contained: in the node's control groups, in its network namespace, on a file system of its own. What
//! takes resources is a process of the node ([`crate::stressor`]), the leader of a process group, so that it ends as one.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;

use crate::cgroup::{self, ResourceLimit};
use crate::fault::LabFault;
use crate::lab::Lab;
use crate::netns::Entrance;
use crate::plan::Host;
use crate::process::{is_alive, signal, signal_group, spawn_background, tail, wait_until};
use crate::{daemon, service, ssh};

/// Processes that a node with a fork bomb may have: room for the bomb beside what runs there.
const TASKS_MAX: u64 = 256;
/// Memory that a node with a stressor may have: room for the stressor beside what runs there.
const MEMORY_MAX: u64 = 256 << 20;
/// So many clients that have not logged in are too many for an `sshd` with [`FEW`].
const LOGINS: usize = 12;
/// `MaxStartups` of an `sshd` that is soon full.
const FEW: &str = "10:100:10";
/// Size of a file system that is soon full, in bytes.
const ROOT_SIZE: usize = 1 << 20;
/// Whatever is begun here has happened by then.
const HAPPENS_WITHIN: Duration = Duration::from_secs(20);

/// Brings a fault of this kind about; it is in force when this returns.
pub(super) fn begin(lab: &Lab, fault: &LabFault) -> Result<()> {
    match *fault {
        LabFault::SshdSlow(id) => sshd_slow(lab, id),
        LabFault::SshdMaxstartups(id) => sshd_maxstartups(lab, id),
        LabFault::Nologin(id) => {
            let path = nologin(lab, id);
            fs::write(&path, "System is going down.\n")
                .with_context(|| format!("cannot write {}", path.display()))
        }
        LabFault::ForkBomb(id) => {
            cgroup::limit(lab.name(), Host::Node(id), ResourceLimit::Tasks, Some(TASKS_MAX))?;
            stressor(lab, id, fault.kind(), &["forks"])
        }
        LabFault::MemoryHog(id) => {
            cgroup::limit(lab.name(), Host::Node(id), ResourceLimit::Memory, Some(MEMORY_MAX))?;
            stressor(lab, id, fault.kind(), &["memory"])
        }
        LabFault::CpuHog(id) => {
            let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            stressor(lab, id, fault.kind(), &["cpu", &(cores * 2).to_string()])
        }
        LabFault::DiskFull(id) => disk_full(lab, id),
        _ => bail!("{fault} does not degrade a node"),
    }
}

/// Heals it.
pub(super) fn end(lab: &Lab, fault: &LabFault) -> Result<()> {
    let Some(id) = fault.node() else { return Ok(()) };
    let host = Host::Node(id);
    end_stressor(lab, id, fault.kind())?;
    match fault {
        LabFault::SshdSlow(_) | LabFault::SshdMaxstartups(_) => {
            if let Some(pid) = lab.node(id).sshd() {
                signal(pid, Signal::SIGTERM);
                wait_until(HAPPENS_WITHIN, "sshd to end", || !is_alive(pid))?;
            }
            ssh::start_sshd(lab.name(), id).map(drop)
        }
        LabFault::Nologin(_) => match fs::remove_file(nologin(lab, id)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        },
        LabFault::ForkBomb(_) => cgroup::limit(lab.name(), host, ResourceLimit::Tasks, None),
        LabFault::MemoryHog(_) => cgroup::limit(lab.name(), host, ResourceLimit::Memory, None),
        LabFault::DiskFull(_) => {
            let root = daemon::host_root(lab.name(), id);
            umount2(&root, MntFlags::MNT_DETACH).with_context(|| format!("cannot unmount {}", root.display()))
        }
        _ => Ok(()),
    }
}

fn nologin(lab: &Lab, id: u8) -> PathBuf {
    daemon::host_root(lab.name(), id).join("run/nologin")
}

/// In place of the `sshd` that listens, something that waits for ten seconds before it gives a connection to a real one.
fn sshd_slow(lab: &Lab, id: u8) -> Result<()> {
    if let Some(pid) = lab.node(id).sshd() {
        signal(pid, Signal::SIGKILL);
        wait_until(HAPPENS_WITHIN, "sshd to end", || !is_alive(pid))?;
    }
    let config = lab.node(id).dir().join("sshd_config");
    stressor(lab, id, "sshd-slow", &["sshd", &config.display().to_string()])
}

fn sshd_maxstartups(lab: &Lab, id: u8) -> Result<()> {
    let pid = lab.node(id).sshd().with_context(|| format!("no sshd runs on unix{id}"))?;
    ssh::write_config(lab.name(), id, FEW)?;
    // It reads its configuration, and writes its pid file, again.
    signal(pid, Signal::SIGHUP);
    let vip = lab.vip()[0].to_string();
    stressor(lab, id, "sshd-maxstartups", &["logins", &vip, &LOGINS.to_string()])
}

/// A small file system over the node's root, filled to the last byte.
fn disk_full(lab: &Lab, id: u8) -> Result<()> {
    let root = daemon::host_root(lab.name(), id);
    let had_nologin = nologin(lab, id).exists();
    let options = format!("size={ROOT_SIZE}");
    mount(Some("onevip-lab"), &root, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
        .with_context(|| format!("cannot mount a file system at {}", root.display()))?;
    fs::create_dir(root.join("run"))?;
    if had_nologin {
        fs::write(nologin(lab, id), "System is going down.\n")?;
    }
    match fs::write(root.join("everything"), vec![b'x'; ROOT_SIZE * 2]) {
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot fill {}", root.display())),
        Ok(()) => bail!("{} has more room than it should", root.display()),
    }
}

/// Starts a stressor on a node and waits until it says that it has taken all it wanted.
fn stressor(lab: &Lab, id: u8, kind: &str, words: &[&str]) -> Result<()> {
    let log = lab.node(id).dir().join(format!("{kind}.log"));
    let _ = fs::remove_file(&log);
    let mut command = Command::new(service::program()?);
    command.arg("stressor").args(words);
    Entrance::open(lab.name(), Host::Node(id))?.apply(&mut command);
    let pid = spawn_background(&mut command, &log)?;
    fs::write(pid_path(lab, id, kind), pid.to_string())?;
    let ready = || fs::read_to_string(&log).is_ok_and(|text| text.contains(crate::stressor::READY));
    wait_until(HAPPENS_WITHIN, &format!("the {kind} of unix{id} to begin"), || ready() || !is_alive(pid))?;
    if ready() { Ok(()) } else { bail!("the {kind} of unix{id} ended:\n{}", tail(&log, 5)) }
}

fn end_stressor(lab: &Lab, id: u8, kind: &str) -> Result<()> {
    let path = pid_path(lab, id, kind);
    let Some(pid) = daemon::pid_in(lab.name(), id, &path) else { return Ok(()) };
    wait_until(HAPPENS_WITHIN, &format!("the {kind} of unix{id} to end"), || {
        signal_group(pid, Signal::SIGKILL);
        !is_alive(pid)
    })?;
    let _ = fs::remove_file(path);
    Ok(())
}

fn pid_path(lab: &Lab, id: u8, kind: &str) -> PathBuf {
    lab.node(id).dir().join(format!("{kind}.pid"))
}
