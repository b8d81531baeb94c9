//! Entering a host of the lab: its network namespace, its hostname, its cgroup.
//!
//! Processes enter directly (`setns` between fork and exec) and not through `ip netns exec`, which would give them a
//! mount namespace with a `/sys` of its own: whatever the daemon mounts there would vanish with it. Closures enter in
//! a thread of their own, so the caller never leaves its namespace.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::cgroup;
use crate::plan::{Host, NETNS_DIR, Name};

/// The handles through which a process becomes part of a host.
pub struct Entrance {
    net: File,
    uts: Option<File>,
    cgroups: Vec<File>,
}

impl Entrance {
    /// Opens a host's namespaces and cgroup.
    ///
    /// # Errors
    /// When the host does not exist (no such lab, or the node is powered off).
    pub fn open(name: &Name, host: Host) -> Result<Self> {
        let netns = netns_path(name, host);
        let net = File::open(&netns).with_context(|| {
            format!(
                "{host} of lab {name} is not there ({}); `onevip-lab status` shows what runs",
                netns.display()
            )
        })?;
        let uts = File::open(uts_path(name, host)).ok();
        let open = |door| OpenOptions::new().write(true).open(door).ok();
        let cgroups = cgroup::doors(name, host).into_iter().filter_map(open).collect();
        Ok(Self { net, uts, cgroups })
    }

    /// Makes the calling thread part of the host's namespaces (not of its cgroup).
    fn enter(&self) -> io::Result<()> {
        setns(&self.net, CloneFlags::CLONE_NEWNET)?;
        if let Some(uts) = &self.uts {
            setns(uts, CloneFlags::CLONE_NEWUTS)?;
        }
        Ok(())
    }

    /// Makes the calling process part of the host altogether. Async-signal-safe: fit for the moment before `exec`.
    fn enter_process(&self) -> io::Result<()> {
        for cgroup in &self.cgroups {
            // "0" is the writer itself.
            nix::unistd::write(cgroup, b"0")?;
        }
        self.enter()
    }

    /// Makes `command` run on the host.
    pub fn apply(self, command: &mut Command) {
        let join = move || self.enter_process();
        // SAFETY: the closure runs between fork and exec; it makes plain system calls on files opened before the
        // fork and allocates nothing.
        unsafe { command.pre_exec(join) };
    }
}

/// Runs `f` in a thread inside a host's network namespace (and with its hostname), and returns what it returns.
///
/// Sockets that `f` opens stay in that namespace for their whole life, also when they are returned.
///
/// # Errors
/// When the host does not exist or cannot be entered.
pub fn inside<T: Send>(name: &Name, host: Host, f: impl FnOnce() -> T + Send) -> Result<T> {
    let entrance = Entrance::open(name, host)?;
    in_thread(move || {
        entrance.enter().with_context(|| format!("cannot enter {host} of lab {name}; the lab needs root"))?;
        Ok(f())
    })?
}

/// Makes a UTS namespace with the host's name and keeps it as a file in the lab's directory.
///
/// # Errors
/// When the kernel refuses the namespace or the mount.
pub fn create_uts(name: &Name, host: Host) -> Result<()> {
    let path = uts_path(name, host);
    File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    in_thread(|| -> Result<()> {
        unshare(CloneFlags::CLONE_NEWUTS).context("cannot make a UTS namespace")?;
        nix::unistd::sethostname(host.to_string()).context("cannot set the hostname")?;
        let own = Path::new("/proc/thread-self/ns/uts");
        mount(Some(own), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("cannot keep the UTS namespace at {}", path.display()))
    })?
}

/// The path under which `ip netns` knows a host.
pub fn netns_path(name: &Name, host: Host) -> PathBuf {
    Path::new(NETNS_DIR).join(name.netns(host))
}

fn uts_path(name: &Name, host: Host) -> PathBuf {
    name.dir().join(format!("uts-{host}"))
}

/// All namespaces that have the shape of a lab's.
pub fn list() -> Vec<(Name, Host)> {
    let entries = std::fs::read_dir(NETNS_DIR).into_iter().flatten().flatten();
    entries.filter_map(|entry| Name::of_netns(entry.file_name().to_str()?)).collect()
}

/// Writes a sysctl of the current network namespace, given by its path below `/proc/sys/net`.
///
/// # Errors
/// When it does not exist or is refused.
pub fn sysctl(path: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{path}");
    std::fs::write(&path, value).with_context(|| format!("cannot set {path} to {value}"))
}

fn in_thread<T: Send>(f: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        scope.spawn(f).join().map_err(|panic| {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
            anyhow!("{}", words.unwrap_or("a thread inside a host panicked"))
        })
    })
}

/// True when a process lives in the given network namespace file.
pub fn is_in(pid: i32, netns: &File) -> bool {
    let (Ok(a), Ok(b)) =
        (nix::sys::stat::stat(format!("/proc/{pid}/ns/net").as_str()), nix::sys::stat::fstat(netns))
    else {
        return false;
    };
    debug_assert!(netns.as_raw_fd() >= 0);
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}
