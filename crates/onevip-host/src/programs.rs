//! Programs of this host that run with our rights: which may, and how.
//!
//! Nothing is run because a process or a variable names it. Programs are found in fixed places, and only those count
//! that root alone can change. Whatever runs has an end: its time, and a bound on what it prints.

use super::descriptors;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::fs;
use std::io::{self, Error, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where programs are, the distribution's first. The `PATH` of whoever starts us is not asked.
const PLACES: [&str; 6] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];
/// A program that has not said what it has to say by now will not.
const SPEAKS_WITHIN: Duration = Duration::from_secs(5);
/// One that was killed and does not die (it waits for a disk that hangs) is waited for so long.
const DIES_WITHIN: Duration = Duration::from_millis(500);
/// How often a program that closed its output is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The most that a program may print, in bytes: a ruleset of nftables with some ten thousand elements has a few million.
const PRINTED_MAX: usize = 8 << 20;
/// So many that do not die may there be; then no more are started.
const UNDEAD_MAX: usize = 8;

/// Those that were killed and did not die in time.
static UNDEAD: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// A program that may be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Where it was found. Some are several in one, and tell by this which is meant.
    place: PathBuf,
    /// Where that leads to.
    real: PathBuf,
}

impl Program {
    /// Its file, without symbolic links in the path.
    pub fn file(&self) -> &Path {
        &self.real
    }

    /// A command that runs it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.real);
        command.arg0(&self.place);
        command
    }
}

/// The programs of this name that may be run, in the order of their places.
pub fn all(name: &str) -> impl Iterator<Item = Program> {
    PLACES.iter().filter_map(move |place| {
        let place = Path::new(place).join(name);
        Some(Program { real: of_root_alone(&place).ok()?, place })
    })
}

/// The first of them.
pub fn find(name: &str) -> Option<Program> {
    all(name).next()
}

/// The real path of a file that nobody but root can change or replace: it and each directory above it belong to root,
/// and neither group nor others may write there. Since that holds for the whole of the path, which has no symbolic
/// links, it still leads to the same file when it is used. (An access list that lets others write shows in the mode of
/// the group.)
///
/// # Errors
/// There is no such regular file, or `PermissionDenied` with what somebody else could change.
pub fn of_root_alone(path: &Path) -> io::Result<PathBuf> {
    if !path.is_absolute() {
        return Err(Error::new(ErrorKind::InvalidInput, format!("{} is no absolute path", path.display())));
    }
    let real = fs::canonicalize(path)?;
    for part in real.ancestors() {
        let found = fs::symlink_metadata(part)?;
        let kind_fits = if part == real { found.is_file() } else { found.is_dir() };
        if !kind_fits || found.uid() != 0 || found.mode() & 0o022 != 0 {
            let words = format!("{} is not root's alone", part.display());
            return Err(Error::new(ErrorKind::PermissionDenied, words));
        }
    }
    Ok(real)
}

/// Makes what a thread of the daemon starts a process like any other: it leads a group of its own, no signal is
/// blocked, and it has as many descriptors as the daemon was given.
pub fn ordinary(command: &mut Command) -> &mut Command {
    let become_ordinary = || {
        SigSet::empty().thread_set_mask()?;
        descriptors::restore()
    };
    // SAFETY: between fork and exec the closure makes three system calls, which are async-signal-safe, and reads an
    // atomic; it allocates nothing.
    unsafe { command.process_group(0).pre_exec(become_ordinary) }
}

/// What a program prints, if it succeeds in time.
pub fn output_of(command: &mut Command) -> Option<String> {
    let child = start(command.stdout(Stdio::piped()).stderr(Stdio::null()))?;
    let (status, text) = finish(child, |child| child.stdout.take())?;
    status.success().then_some(text)
}

/// What a program complains, whether it succeeds or not, if it ends in time.
pub fn complaint_of(command: &mut Command) -> Option<String> {
    let child = start(command.stdout(Stdio::null()).stderr(Stdio::piped()))?;
    finish(child, |child| child.stderr.take()).map(|(_, text)| text)
}

fn start(command: &mut Command) -> Option<Child> {
    let mut undead = UNDEAD.lock().unwrap_or_else(PoisonError::into_inner);
    undead.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    if undead.len() >= UNDEAD_MAX {
        return None;
    }
    ordinary(command.stdin(Stdio::null())).spawn().ok()
}

/// Reads what it prints until it ends or its time does. Its group goes with it in either case.
fn finish<P: Read + AsFd>(
    mut child: Child,
    pipe: impl FnOnce(&mut Child) -> Option<P>,
) -> Option<(ExitStatus, String)> {
    let mut printed = Printed::new(pipe(&mut child));
    let until = Instant::now() + SPEAKS_WITHIN;
    let mut ended = has_ended(&child);
    while !ended && Instant::now() < until && printed.bytes.len() <= PRINTED_MAX {
        printed.wait(until);
        ended = has_ended(&child);
    }
    printed.read();
    // It is not reaped yet, so the number is still that of its group.
    let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
    let status = reap(child);
    if !ended || printed.bytes.len() > PRINTED_MAX {
        return None;
    }
    Some((status?, String::from_utf8_lossy(&printed.bytes).into_owned()))
}

/// Whether it has ended, without reaping it.
fn has_ended(child: &Child) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let state = waitid(Id::Pid(Pid::from_raw(child.id().cast_signed())), flags);
    !matches!(state, Ok(WaitStatus::StillAlive))
}

fn reap(mut child: Child) -> Option<ExitStatus> {
    let until = Instant::now() + DIES_WITHIN;
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < until => std::thread::sleep(LOOK_EVERY),
            Ok(None) => break,
            other => return other.ok().flatten(),
        }
    }
    UNDEAD.lock().unwrap_or_else(PoisonError::into_inner).push(child);
    None
}

/// What a program has printed.
struct Printed<P> {
    pipe: Option<P>,
    bytes: Vec<u8>,
}

impl<P: Read + AsFd> Printed<P> {
    fn new(pipe: Option<P>) -> Self {
        // Without it a read might wait for ever; then better nothing is read.
        let pipe = pipe.filter(|pipe| fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok());
        Self { pipe, bytes: Vec::new() }
    }

    fn wait(&mut self, until: Instant) {
        let most = until.saturating_duration_since(Instant::now()).min(LOOK_EVERY * 4);
        match &self.pipe {
            // A pipe that is at its end is always ready: then only the end of the program is waited for.
            None => std::thread::sleep(most.min(LOOK_EVERY)),
            Some(pipe) => {
                let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
                let _ = poll(&mut fds, PollTimeout::from(most.as_millis() as u16));
            }
        }
        self.read();
    }

    fn read(&mut self) {
        let mut some = [0; 16 * 1024];
        while let Some(pipe) = self.pipe.as_mut().filter(|_| self.bytes.len() <= PRINTED_MAX) {
            match pipe.read(&mut some) {
                Ok(0) => self.pipe = None,
                Ok(length) => self.bytes.extend_from_slice(&some[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.pipe = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_a_program_says_is_told_apart_from_its_complaints() {
        assert_eq!(output_of(&mut sh("echo a; echo b >&2")).as_deref(), Some("a\n"));
        assert_eq!(output_of(&mut sh("echo a; exit 1")), None);
        assert_eq!(complaint_of(&mut sh("echo a; echo b >&2; exit 1")).as_deref(), Some("b\n"));
        assert_eq!(output_of(&mut Command::new("/nonexistent")), None);
    }

    #[test]
    fn what_it_leaves_behind_neither_holds_us_nor_lives_on() {
        let begun = Instant::now();
        let text = output_of(&mut sh("sleep 60 & echo $!")).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(30), "it is not waited for");
        let gone = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", text.trim())).unwrap_or_default();
            // A zombie waits for init.
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
        };
        while !gone() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{text} lives");
            std::thread::sleep(LOOK_EVERY);
        }
    }

    #[test]
    fn a_program_without_an_end_is_ended() {
        let begun = Instant::now();
        assert_eq!(output_of(&mut sh("echo a; exec sleep 60")), None);
        assert_eq!(output_of(&mut sh("exec yes")), None, "it prints too much");
        assert!(begun.elapsed() < Duration::from_secs(40));
    }

    #[test]
    fn nothing_is_blocked_in_a_child() {
        let ended = std::thread::spawn(|| {
            SigSet::from_iter([Signal::SIGTERM]).thread_block().unwrap();
            output_of(&mut sh("kill -TERM $$; echo lives"))
        });
        assert_eq!(ended.join().unwrap(), None);
    }

    #[test]
    fn only_what_root_alone_can_change_may_be_run() {
        assert!(of_root_alone(Path::new("/bin/sh")).unwrap().starts_with("/usr/bin"));
        assert!(find("sh").is_some() && find("no-such-program").is_none());
        let mut told = find("sh").unwrap().command();
        let told = output_of(told.args(["-c", "echo $0"]));
        assert_eq!(told.as_deref(), Some("/usr/bin/sh\n"), "by the name under which it was found");
        assert!(of_root_alone(Path::new("bin/sh")).is_err(), "not absolute");
        assert!(of_root_alone(Path::new("/usr/bin")).is_err(), "no file");
        let dir = std::env::temp_dir().join(format!("onevip-programs-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (file, link) = (dir.join("file"), dir.join("link"));
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
        symlink("/bin/sh", &link).unwrap();
        assert!(of_root_alone(&file).unwrap_err().to_string().contains("/tmp is not root's alone"));
        assert!(of_root_alone(&link).is_ok(), "what counts is where it leads");
        fs::remove_dir_all(&dir).unwrap();
    }
}
