//! What a node asks of itself: `[health]` and `[[check]]`, and what the answers do to its share.
//!
//! Every host may have checks of its own, so nothing of this enters the digest that nodes compare.

use crate::words::words;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// `[health]`, with defaults for what the file does not say.
#[derive(Clone, PartialEq, Debug)]
pub struct HealthSettings {
    /// What is asked of `sshd`.
    pub sshd: SshdCheck,
    /// Whether this node watches how the others' clients are served, and says so.
    pub peer_check: bool,
    /// Where `sshd` is asked; `None`: at the first address of the first VIP that serves TCP.
    pub address: Option<IpAddr>,
    /// On which port; `None`: the VIP's, 22 if it is among them.
    pub port: Option<u16>,
    /// Time between two questions while all is well.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// So many failures in a row, and the node is ill.
    pub fall: u32,
    /// So many good answers in a row, and it is well again.
    pub rise: u32,
    /// How often the banner of an `sshd` is asked for that nobody else connects to: each time leaves a line in its log.
    pub banner_every: Duration,
    /// How often a key exchange is made, with [`SshdCheck::Kex`].
    pub kex_every: Duration,
    /// Whether `/etc/nologin` and `/run/nologin` send new users elsewhere.
    pub nologin: NologinCheck,
    /// What counts as this host.
    pub scope: HostScope,
    /// PSI `full avg10` of memory, percent.
    pub memory_pressure: Thresholds,
    /// Memory that is left, percent.
    pub memory_left: Thresholds,
    /// PSI `some avg10` of the processors, percent.
    pub cpu_pressure: Thresholds,
    /// PSI `full avg10` of disks, percent.
    pub io_pressure: Thresholds,
    /// Processes and threads that could still be made, percent of the limit.
    pub processes_left: Thresholds,
    /// Open files that are left, percent of the kernel's limit.
    pub files_left: Thresholds,
    /// Room on a file system (blocks or inodes), percent.
    pub disk_left: Thresholds,
    /// The file systems that are looked at.
    pub filesystems: Vec<PathBuf>,
}

/// What is asked of `sshd`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SshdCheck {
    /// That it answers connections with its banner.
    #[default]
    Banner,
    /// That, and once in a while that a key exchange completes.
    Kex,
    /// Nothing.
    Off,
}

/// What a `nologin` file does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum NologinCheck {
    /// New users go elsewhere while it is there.
    #[default]
    Drain,
    /// Nothing.
    Ignore,
}

/// What counts as this host where its resources are looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HostScope {
    /// The machine.
    #[default]
    Host,
    /// The control group that the daemon runs in: for containers that have one for everything in them.
    Cgroup,
}

/// What happens to a node that fails a check.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Effect {
    /// Its weight goes down, step by step.
    Shed,
    /// It gets no new users while others feel better.
    #[default]
    Out,
}

/// From where on a figure has an effect, in percent; `None`: never.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Thresholds {
    /// The node sheds load.
    pub shed: Option<u8>,
    /// The node is out.
    pub out: Option<u8>,
}

/// Which way a figure gets worse.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Worse {
    /// The larger, the worse.
    Upwards,
    /// The smaller, the worse.
    Downwards,
}

/// One `[[check]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserCheck {
    /// Its name, unique.
    pub name: String,
    /// What the shell runs; it succeeds with exit code 0.
    pub command: String,
    /// Time between two runs.
    pub interval: Duration,
    /// A run that takes longer has failed.
    pub timeout: Duration,
    /// So many failures in a row count.
    pub fall: u32,
    /// So many successes in a row count.
    pub rise: u32,
    /// What a failure does.
    pub effect: Effect,
}

words!(SshdCheck { Banner = "banner", Kex = "kex", Off = "off" });
words!(NologinCheck { Drain = "drain", Ignore = "ignore" });
words!(HostScope { Host = "host", Cgroup = "cgroup" });
words!(Effect { Shed = "shed", Out = "out" });
