//! The processes of this host, read from `/proc`: which of them have a socket, and what they say of themselves.
//!
//! Works without systemd, logind or utmp. The links in `/proc/PID/fd` of other users' processes can be read with
//! `CAP_SYS_PTRACE` only; without it sessions are still told, but not whose they are.
//!
//! Anybody can give a process any name, title and environment, and make them long. So nothing follows from a name
//! alone: what matters is asked of the kernel, above all [`is_of_root`]; and no file is read beyond a bound.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The most processes that are looked at.
const PROCESSES_MAX: usize = 65_536;

/// The most that is read of a file of a process, in bytes. How long some are (`environ`, `cmdline`) is up to its user: a
/// quarter of the stack limit, 2 MB by default; and our memory is locked. What `sshd` writes there has less than one
/// kilobyte.
const FILE_MAX: u64 = 64 * 1024;

/// The most descriptors of a process that are looked at. A server with that many connections is none of people's logins.
const DESCRIPTORS_MAX: usize = 65_536;

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

/// The processes of root that have one of these sockets. Whoever listens is older than those that serve somebody, so
/// that a search mostly ends soon, and it keeps nothing.
pub fn of_root_with(inodes: &HashSet<u32>) -> impl Iterator<Item = Process> {
    let has_one = |pid| sockets_of(pid).any(|inode| inodes.contains(&inode));
    all().filter(move |process| is_of_root(process.pid) && has_one(process.pid))
}

/// Whether a process is root's through and through, by its real, effective and saved user: nobody else can have started
/// it, or tell it what to do. (Who owns its directory in `/proc` says nothing: any process can make that root.)
pub fn is_of_root(pid: i32) -> bool {
    file(pid, "status").is_some_and(|status| is_status_of_root(&String::from_utf8_lossy(&status)))
}

/// The number of the user that a process belongs to: its real one.
pub fn user_of(pid: i32) -> Option<u32> {
    let status = file(pid, "status")?;
    let status = String::from_utf8_lossy(&status);
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next()?.parse().ok()
}

/// A name with a line break in it is written as `\n` there (proc_pid_status(5)), so it cannot forge a line.
fn is_status_of_root(status: &str) -> bool {
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    users.is_some_and(|users| {
        users.split_whitespace().count() == 4 && users.split_whitespace().all(|user| user == "0")
    })
}

/// Whether a process runs the program in this very file.
pub fn runs(pid: i32, program: &Path) -> bool {
    let place = |file: fs::Metadata| (file.dev(), file.ino());
    match (fs::metadata(format!("/proc/{pid}/exe")), fs::metadata(program)) {
        (Ok(running), Ok(program)) => place(running) == place(program),
        _ => false,
    }
}

/// Whether OpenSSH's server gives its processes this name: since 9.8 there are `sshd-session` and `sshd-auth`, too.
pub fn is_sshd(name: &str) -> bool {
    name == "sshd" || name.starts_with("sshd-")
}

/// Whether mosh's server gives its processes this name.
pub fn is_mosh(name: &str) -> bool {
    name == "mosh-server"
}

/// What a variable in the environment of a process said when it began; `None` also when that stands beyond the bound.
pub fn variable(pid: i32, name: &str) -> Option<String> {
    let mut bytes = file(pid, "environ")?;
    if bytes.len() as u64 == FILE_MAX {
        // What is cut off in the middle would be another value.
        bytes.truncate(bytes.iter().rposition(|byte| *byte == 0)?);
    }
    let pairs =
        bytes.split(|byte| *byte == 0).filter_map(|pair| std::str::from_utf8(pair).ok()?.split_once('='));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

/// What a process calls itself: its command line, which `sshd` overwrites; the beginning of a very long one.
pub fn title(pid: i32) -> String {
    let bytes = file(pid, "cmdline").unwrap_or_default();
    let words = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect::<Vec<_>>();
    words.join(" ").trim().to_owned()
}

/// The beginning of a file that the kernel keeps of a process, at most [`FILE_MAX`] bytes.
pub fn file(pid: i32, name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(format!("/proc/{pid}/{name}")).ok()?.take(FILE_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
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
    // A name may be any bytes, and must not hide its process.
    parse(&String::from_utf8_lossy(&file(pid, "stat")?))
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
    entries.take(DESCRIPTORS_MAX).filter_map(|entry| {
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
        let by_root = of_root_with(&inodes).any(|process| process.pid == me);
        assert_eq!(by_root, nix::unistd::geteuid().is_root());
        assert!(processes.get(me).is_some_and(|process| process.parent != 0));
    }

    #[test]
    fn only_a_process_that_is_roots_in_every_way_is_roots() {
        let of = |users: &str| is_status_of_root(&format!("Name:\tx\nUid:\t{users}\nGid:\t0\t0\t0\t0\n"));
        assert!(of("0\t0\t0\t0"));
        for user in ["1000\t0\t0\t0", "0\t1000\t0\t0", "0\t0\t1000\t0", "0\t0", ""] {
            assert!(!of(user), "{user}");
        }
        assert!(!is_status_of_root("Name:\t\\nUid:\t0\t0\t0\t0\nUid:\t1000\t1000\t1000\t1000\n"));
        assert_eq!(is_of_root(std::process::id() as i32), nix::unistd::getuid().is_root());
        assert!(!is_of_root(i32::MAX));
        assert_eq!(user_of(std::process::id() as i32), Some(nix::unistd::getuid().as_raw()));
    }

    /// A process that was started just now has neither yet.
    fn until_it_has(pid: i32, name: &str) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while file(pid, name).is_none_or(|bytes| bytes.is_empty()) {
            assert!(std::time::Instant::now() < deadline, "{pid} has no {name}");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    #[test]
    fn a_huge_environment_is_read_to_a_bound_and_yields_no_half_values() {
        let long = "x".repeat(50_000);
        let mut sleep = std::process::Command::new("sleep");
        sleep.arg("60").env_clear();
        // They stand in the order of their names.
        for name in ["LOGNAME", "MIDDLE", "NEXT"].into_iter().chain(["Z0", "Z1", "Z2", "Z3", "Z4", "Z5"]) {
            sleep.env(name, if name == "LOGNAME" { "anna" } else { &long });
        }
        let mut child = sleep.spawn().unwrap();
        let pid = child.id() as i32;
        until_it_has(pid, "environ");
        let found =
            ["LOGNAME", "MIDDLE", "NEXT", "Z5"].map(|name| variable(pid, name).map(|value| value.len()));
        let read = file(pid, "environ").unwrap().len();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, [Some(4), Some(50_000), None, None]);
        assert_eq!(read as u64, FILE_MAX);
    }

    #[test]
    fn a_huge_command_line_is_read_to_a_bound() {
        let word = "x".repeat(100_000);
        let script = ["-c", "sleep 60; true"];
        let mut child = std::process::Command::new("/bin/sh").args(script).args([&word; 12]).spawn().unwrap();
        until_it_has(child.id() as i32, "cmdline");
        let title = title(child.id() as i32);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(title.starts_with("/bin/sh -c sleep 60; true xxx"), "{title}");
        assert!(title.len() as u64 <= FILE_MAX);
    }
}
