//! The processes of this host, read from `/proc`: which of them have a socket, and what they say of themselves.
//!
//! Works without systemd, logind or utmp. The links in `/proc/PID/fd` of other users' processes can be read with
//! `CAP_SYS_PTRACE` only; without it sessions are still told, but not whose they are.

use std::collections::{HashMap, HashSet};
use std::fs;

/// The most processes that are looked at.
const PROCESSES_MAX: usize = 65_536;

/// Majors of the pseudo terminals (`Documentation/admin-guide/devices.txt`), 256 of them each.
const PTS_MAJORS: std::ops::RangeInclusive<u32> = 136..=143;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its name, at most 15 bytes.
    pub name: String,
    /// The number of the pseudo terminal that controls it.
    pub pts: Option<u32>,
    /// When it began, in clock ticks since boot. With the number it tells a process from a later one.
    pub began: u64,
}

/// All processes at one moment.
#[derive(Debug, Default)]
pub struct Processes(HashMap<i32, Process>);

impl Processes {
    /// Looks.
    pub fn look() -> Self {
        Self(all().map(|process| (process.pid, process)).collect())
    }

    /// The process with this number.
    pub fn get(&self, pid: i32) -> Option<&Process> {
        self.0.get(&pid)
    }

    /// The process with this number, its parent, the parent of that, and so on.
    pub fn line_of(&self, pid: i32) -> Vec<i32> {
        let parent = |pid: &i32| self.get(*pid).map(|process| process.parent).filter(|parent| *parent > 0);
        std::iter::successors(Some(pid), parent).take(PROCESSES_MAX).collect()
    }

    /// Those whose parent is one of `parents`.
    pub fn children(&self, parents: &[i32]) -> impl Iterator<Item = &Process> {
        self.0.values().filter(move |process| parents.contains(&process.parent))
    }

    /// Which processes have which of these sockets, ascending by number. Looks at `sshd`'s first, since they have
    /// nearly all of them, and at the others only when some are left.
    pub fn holders(&self, inodes: &HashSet<u32>) -> HashMap<u32, Vec<i32>> {
        let mut found: HashMap<u32, Vec<i32>> = HashMap::new();
        let (sshds, others): (Vec<&Process>, Vec<_>) =
            self.0.values().partition(|process| is_sshd(&process.name));
        for group in [sshds, others] {
            if inodes.iter().all(|inode| found.contains_key(inode)) {
                break;
            }
            for process in group {
                for inode in sockets_of(process.pid).filter(|inode| inodes.contains(inode)) {
                    found.entry(inode).or_default().push(process.pid);
                }
            }
        }
        for pids in found.values_mut() {
            pids.sort_unstable();
            pids.dedup();
        }
        found
    }
}

/// The first `sshd` that has one of these sockets. The one that listens is older than those that serve somebody, so that the
/// search mostly ends soon, and it keeps nothing.
pub fn sshd_with(inodes: &HashSet<u32>) -> Option<i32> {
    let mut sshds = all().filter(|process| is_sshd(&process.name)).map(|process| process.pid);
    sshds.find(|pid| sockets_of(*pid).any(|inode| inodes.contains(&inode)))
}

/// Whether a process of this name is one of OpenSSH's server: since 9.8 there are `sshd-session` and `sshd-auth`, too.
pub fn is_sshd(name: &str) -> bool {
    name == "sshd" || name.starts_with("sshd-")
}

/// Whether a process of this name serves a session of mosh.
pub fn is_mosh(name: &str) -> bool {
    name == "mosh-server"
}

/// What a variable in the environment of a process said when it began.
pub fn variable(pid: i32, name: &str) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let pairs =
        bytes.split(|byte| *byte == 0).filter_map(|pair| std::str::from_utf8(pair).ok()?.split_once('='));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

/// What a process calls itself: its command line, which `sshd` overwrites.
pub fn title(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect::<Vec<_>>();
    words.join(" ").trim().to_owned()
}

/// The number of ticks in a second by which the kernel counts process times.
pub fn ticks_per_second() -> u64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    ticks.and_then(|ticks| u64::try_from(ticks).ok()).filter(|ticks| *ticks > 0).unwrap_or(100)
}

fn all() -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.take(PROCESSES_MAX).filter_map(read)
}

fn read(pid: i32) -> Option<Process> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads `/proc/PID/stat` (proc_pid_stat(5)). The name may itself contain blanks and brackets.
fn parse(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let terminal: i32 = fields.get(4)?.parse().ok()?;
    Some(Process {
        pid: pid.parse().ok()?,
        parent: fields.get(1)?.parse().ok()?,
        name: name.to_owned(),
        pts: pts_number(terminal as u32),
        began: fields.get(19)?.parse().ok()?,
    })
}

/// The pseudo terminal with this device number: its major is in bits 8 to 19, its minor in the others.
fn pts_number(device: u32) -> Option<u32> {
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00);
    PTS_MAJORS.contains(&major).then(|| (major - PTS_MAJORS.start()) * 256 + minor)
}

fn sockets_of(pid: i32) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;
    use std::os::linux::fs::MetadataExt;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = "4711 (a) b (c) S 12 4711 4711 34821 4711 4194304 1 0 0 0 0 0 0 0 20 0 1 0 123456 0 0";
        let process = parse(stat).unwrap();
        assert_eq!((process.pid, process.parent, process.name.as_str()), (4711, 12, "a) b (c"));
        assert_eq!((process.pts, process.began), (Some(5), 123_456));
        assert_eq!(parse(&stat.replace("34821", "0")).unwrap().pts, None);
        assert_eq!(parse("4711 (x"), None);
    }

    #[test]
    fn terminals_beyond_the_first_256_are_told_apart() {
        assert_eq!(pts_number(136 << 8), Some(0));
        assert_eq!(pts_number(137 << 8 | 3), Some(259));
        assert_eq!(pts_number(136 << 8 | 1 << 20 | 5), Some(261));
        assert_eq!(pts_number(4 << 8 | 1), None, "a virtual console");
    }

    #[test]
    fn the_holder_of_a_socket_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = fs::metadata(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap().st_ino() as u32;
        let processes = Processes::look();
        let me = std::process::id() as i32;
        let inodes = HashSet::from([inode]);
        assert!(processes.holders(&inodes)[&inode].contains(&me));
        assert_eq!(sshd_with(&inodes), None, "its holder is no sshd");
        assert!(processes.get(me).is_some_and(|process| process.parent != 0));
    }
}
