//! What takes too much of a resource, as a process of the node that shall suffer: `onevip-lab stressor` (hidden; faults
//! start it).
//!
//! Each says [`READY`] on standard output when it has what it wants, and keeps it until it is killed. All stay within the
//! limits of the node's control groups, and go first when the kernel is short of memory.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use onevip_health::host::cgroup::Cgroup;

use crate::dial::connect;
use crate::ssh::SSHD;

/// What a stressor says when it has what it wants.
pub const READY: &str = "ready";
/// How long a slow `sshd` takes to begin.
const SLOW: Duration = Duration::from_secs(10);
/// How little of the node's memory is left, in percent.
const MEMORY_LEFT: f64 = 1.0;
/// Memory is taken in pieces of this size, in bytes.
const PIECE: usize = 1 << 20;
/// A stressor without any limit ends here, in pieces, lest the machine suffer.
const PIECES_MAX: usize = 1024;
/// The same for processes.
const FORKS_MAX: usize = 4096;

/// What is taken.
#[derive(Subcommand)]
pub enum Stressor {
    /// Processes, until there can be no more
    Forks,
    /// Memory, until there is nearly none
    Memory,
    /// Processors
    Cpu {
        /// How many
        threads: usize,
    },
    /// Connections to SSH on which nobody logs in
    Logins {
        /// Where
        address: IpAddr,
        /// How many
        count: usize,
    },
    /// Time: an sshd that is ten seconds late
    Sshd {
        /// Its configuration
        config: PathBuf,
    },
}

impl Stressor {
    /// Takes it, and never gives it back.
    ///
    /// # Errors
    /// When it cannot even begin.
    pub fn run(&self) -> Result<()> {
        let _ = fs::write("/proc/self/oom_score_adj", "1000");
        match self {
            Self::Forks => forks(),
            Self::Memory => memory(),
            Self::Cpu { threads } => cpu(*threads),
            Self::Logins { address, count } => logins(SocketAddr::new(*address, 22), *count),
            Self::Sshd { config } => sshd(config),
        }
    }
}

fn say_ready() {
    // Whoever waits for it reads a file; if that is gone there is nobody to tell.
    let _ = writeln!(io::stdout(), "{READY}").and_then(|()| io::stdout().flush());
}

fn forks() -> Result<()> {
    let (mut children, mut told) = (0, false);
    loop {
        // SAFETY: this process has one thread; the child makes nothing but async-signal-safe calls and never returns.
        match unsafe { libc::fork() } {
            0 => loop {
                // SAFETY: waits for a signal, touches no memory.
                unsafe { libc::pause() };
            },
            -1 => {
                if !told {
                    say_ready();
                    told = true;
                }
                // Whoever ends leaves room for one more.
                thread::sleep(Duration::from_millis(1));
            }
            _ => {
                children += 1;
                if children > FORKS_MAX {
                    bail!("{FORKS_MAX} processes, and no limit: this node is not contained");
                }
            }
        }
    }
}

/// A child takes the memory, because the kernel may kill it for that; then there is another.
fn memory() -> Result<()> {
    if Cgroup::own().memory_left().is_none() {
        bail!("this node has no memory limit: it is not contained");
    }
    loop {
        // SAFETY: this process has one thread, so its child may do anything.
        let child = unsafe { libc::fork() };
        match child {
            0 => take_memory(),
            -1 => thread::sleep(Duration::from_millis(50)),
            _ => {
                let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None);
            }
        }
    }
}

fn take_memory() -> ! {
    let own = Cgroup::own();
    let (mut taken, mut told) = (Vec::new(), false);
    loop {
        if taken.len() < PIECES_MAX && own.memory_left().is_some_and(|left| left > MEMORY_LEFT) {
            taken.push(vec![1_u8; PIECE]);
        } else {
            if !told {
                say_ready();
                told = true;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn cpu(threads: usize) -> Result<()> {
    // What it takes it takes from its own node's patience, not from other programs of the machine.
    // SAFETY: takes numbers only; 0 is this process.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) } != 0 {
        return Err(io::Error::last_os_error()).context("cannot lower the priority");
    }
    let spin = || -> () {
        let mut number = 0_u64;
        loop {
            number = std::hint::black_box(number.wrapping_mul(31).wrapping_add(1));
        }
    };
    let _threads: Vec<_> = (0..threads).map(|_| thread::spawn(spin)).collect();
    say_ready();
    loop {
        thread::park();
    }
}

fn logins(to: SocketAddr, count: usize) -> Result<()> {
    let mut held: Vec<TcpStream> = Vec::new();
    let mut told = false;
    loop {
        held.retain(is_open);
        while held.len() < count {
            match connect_from_outside(to) {
                Ok(stream) => held.push(stream),
                Err(_) => break,
            }
        }
        if !told {
            say_ready();
            told = true;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// From the node's own address and not from the VIP's, as somebody from outside.
fn connect_from_outside(to: SocketAddr) -> io::Result<TcpStream> {
    let other = own_address(to.ip()).ok_or(io::ErrorKind::AddrNotAvailable)?;
    let stream = connect(other, to)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// An address of this host that is not `vip`.
fn own_address(vip: IpAddr) -> Option<IpAddr> {
    let addresses = nix::ifaddrs::getifaddrs().ok()?.filter_map(|entry| entry.address);
    let ip = |address: nix::sys::socket::SockaddrStorage| match vip {
        IpAddr::V4(_) => address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip())),
        IpAddr::V6(_) => address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())),
    };
    addresses.filter_map(ip).find(|address| *address != vip && !address.is_loopback())
}

fn is_open(stream: &TcpStream) -> bool {
    let mut bytes = [0; 256];
    match stream.peek(&mut bytes) {
        Ok(length) => length > 0 && bytes.starts_with(b"SSH-"),
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

fn sshd(config: &std::path::Path) -> Result<()> {
    // Whoever looks for an sshd finds this one.
    nix::sys::prctl::set_name(c"sshd").context("cannot take its name")?;
    // The one that it stands in for has just been killed.
    let listener = (0..500)
        .find_map(|_| {
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 22)).ok();
            if listener.is_none() {
                thread::sleep(Duration::from_millis(10));
            }
            listener
        })
        .context("cannot listen on port 22")?;
    say_ready();
    for stream in listener.incoming().flatten() {
        let config = config.to_owned();
        thread::spawn(move || -> Result<()> {
            thread::sleep(SLOW);
            let (input, output) = (OwnedFd::from(stream.try_clone()?), OwnedFd::from(stream));
            let mut sshd = Command::new(SSHD);
            sshd.args(["-i", "-f"]).arg(config).stdin(input).stdout(output).stderr(Stdio::null());
            sshd.status()?;
            Ok(())
        });
    }
    Ok(())
}
