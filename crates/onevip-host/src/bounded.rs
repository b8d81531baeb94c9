//! Runs a command that has an end: within its time, with all that it started, and with a bound on what is kept of what
//! it prints.
//!
//! It leads a process group of its own ([`ordinary`]), all of which is killed when its time is over. One that does not die (it waits for a disk that hangs) is not waited for.

use super::descriptors;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// One that was killed and does not die is waited for so long.
const DIES_WITHIN: Duration = Duration::from_millis(500);
/// How often a command is looked at that prints nothing.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often one is looked at that has closed its output, or was killed: it ends soon.
const LOOK_OFTEN: Duration = Duration::from_millis(5);

/// What of a command's output is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Capture {
    /// Nothing; what it prints to its standard error goes where ours goes.
    Nothing,
    /// What it prints to its standard output.
    Output,
    /// What it prints to its standard error.
    Errors,
}

/// What a command may take.
pub struct Bounds<'a> {
    /// How long it may run.
    pub time: Duration,
    /// How many bytes of what it prints are kept.
    pub bytes: usize,
    /// Whether it is ended once it has printed more; else the rest is read and forgotten.
    pub ends_when_full: bool,
    /// Whether what it has started may live on when it ends by itself.
    pub spares_rest: bool,
    /// Asked now and then: whether it is to be ended at once.
    pub ends: &'a dyn Fn() -> bool,
}

/// What came of a command.
#[derive(Debug)]
pub struct Ran {
    /// How it ended; `None` when it was ended.
    pub status: Option<ExitStatus>,
    /// What is kept of what it printed.
    pub printed: Vec<u8>,
    /// The process, when it was killed and does not die.
    pub undead: Option<Child>,
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

/// Runs it. Nothing is read by it, and what is not wanted of its output is thrown away.
///
/// # Errors
/// It cannot be started.
pub fn run(command: &mut Command, capture: Capture, bounds: &Bounds<'_>) -> io::Result<Ran> {
    let pipe = |wants| if wants { Stdio::piped() } else { Stdio::null() };
    command.stdin(Stdio::null());
    command.stdout(pipe(capture == Capture::Output));
    command.stderr(if capture == Capture::Nothing {
        Stdio::inherit()
    } else {
        pipe(capture == Capture::Errors)
    });
    let mut child = ordinary(command).spawn()?;
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    Ok(match (output, errors) {
        (Some(pipe), _) => finish(child, Printed::new(pipe), bounds),
        (_, Some(pipe)) => finish(child, Printed::new(pipe), bounds),
        _ => finish(child, Printed::<std::process::ChildStdout>::nothing(), bounds),
    })
}

/// Reads what it prints until it ends or has to.
fn finish<P: Read + AsFd>(child: Child, mut printed: Printed<P>, bounds: &Bounds<'_>) -> Ran {
    let until = Instant::now() + bounds.time;
    let is_full = |printed: &Printed<P>| bounds.ends_when_full && printed.all > bounds.bytes;
    let mut ended = has_ended(&child);
    while !ended && Instant::now() < until && !is_full(&printed) && !(bounds.ends)() {
        printed.wait(until, bounds.bytes);
        ended = has_ended(&child);
    }
    printed.read(bounds.bytes);
    let ended = ended && !is_full(&printed);
    if !(ended && bounds.spares_rest) {
        // It is not reaped yet, so the number is still that of its group.
        let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
    }
    match reap(child) {
        Ok(status) => Ran { status: status.filter(|_| ended), printed: printed.bytes, undead: None },
        Err(child) => Ran { status: None, printed: printed.bytes, undead: Some(child) },
    }
}

/// Whether it has ended, without reaping it.
fn has_ended(child: &Child) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let state = waitid(Id::Pid(Pid::from_raw(child.id().cast_signed())), flags);
    !matches!(state, Ok(WaitStatus::StillAlive))
}

/// How it ended, as far as that can be told; the process where it does not end.
fn reap(mut child: Child) -> Result<Option<ExitStatus>, Child> {
    let until = Instant::now() + DIES_WITHIN;
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < until => std::thread::sleep(LOOK_OFTEN),
            Ok(None) => return Err(child),
            other => return Ok(other.ok().flatten()),
        }
    }
}

/// What a command has printed.
struct Printed<P> {
    pipe: Option<P>,
    bytes: Vec<u8>,
    /// How much that was in all.
    all: usize,
}

impl<P> Printed<P> {
    const fn nothing() -> Self {
        Self { pipe: None, bytes: Vec::new(), all: 0 }
    }
}

impl<P: Read + AsFd> Printed<P> {
    fn new(pipe: P) -> Self {
        // Without it a read might wait for ever; then better nothing is read.
        let pipe = Some(pipe).filter(|pipe| fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok());
        Self { pipe, ..Self::nothing() }
    }

    fn wait(&mut self, until: Instant, keep: usize) {
        let most = until.saturating_duration_since(Instant::now()).min(LOOK_EVERY);
        match &self.pipe {
            // A pipe that is at its end is always ready: then only the end of the command is waited for.
            None => std::thread::sleep(most.min(LOOK_OFTEN)),
            Some(pipe) => {
                let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
                let _ = poll(&mut fds, PollTimeout::from(most.as_millis() as u16));
            }
        }
        self.read(keep);
    }

    /// Reads what is there, for at most some megabytes at a time, and keeps the beginning.
    fn read(&mut self, keep: usize) {
        let mut some = [0; 16 * 1024];
        for _ in 0..256 {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut some) {
                Ok(0) => self.pipe = None,
                Ok(length) => {
                    self.all = self.all.saturating_add(length);
                    let room = keep.saturating_sub(self.bytes.len()).min(length);
                    self.bytes.extend_from_slice(&some[..room]);
                }
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
    use std::fs;

    const LONG: Duration = Duration::from_secs(60);

    /// Whether a process lives; a zombie, which waits for init, does not.
    fn lives(pid: i32) -> bool {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    }

    fn ran(script: &str, capture: Capture, time: Duration, bytes: usize) -> Ran {
        let bounds = Bounds { time, bytes, ends_when_full: false, spares_rest: false, ends: &|| false };
        run(Command::new("/bin/sh").args(["-c", script]), capture, &bounds).unwrap()
    }

    #[test]
    fn what_is_wanted_is_kept_up_to_its_bound() {
        let said =
            |script, wanted, bytes| String::from_utf8(ran(script, wanted, LONG, bytes).printed).unwrap();
        assert_eq!(said("echo a; echo b >&2", Capture::Output, 100), "a\n");
        assert_eq!(said("echo a; echo b >&2", Capture::Errors, 100), "b\n");
        assert_eq!(said("echo a; echo b >&2", Capture::Nothing, 100), "");
        assert_eq!(said("echo abcdef", Capture::Output, 3), "abc");
        let much = ran("head -c 3000000 /dev/zero", Capture::Output, LONG, 10);
        assert!(much.status.is_some_and(|status| status.success()) && much.printed.len() == 10);
    }

    #[test]
    fn one_without_an_end_is_ended_with_all_it_started() {
        let begun = Instant::now();
        let out = ran("sleep 60 & echo $!; wait", Capture::Output, Duration::from_millis(300), 100);
        assert!(out.status.is_none() && out.undead.is_none() && begun.elapsed() < LONG / 2);
        let pid = String::from_utf8(out.printed).unwrap().trim().parse().unwrap();
        while lives(pid) {
            assert!(begun.elapsed() < LONG / 2, "{pid} lives");
            std::thread::sleep(LOOK_OFTEN);
        }
        let told = Bounds { time: LONG, bytes: 0, ends_when_full: false, spares_rest: false, ends: &|| true };
        let ended = run(Command::new("/bin/sleep").arg("60"), Capture::Nothing, &told).unwrap();
        assert!(ended.status.is_none() && begun.elapsed() < LONG / 2, "told to end");
        let full =
            Bounds { time: LONG, bytes: 100, ends_when_full: true, spares_rest: false, ends: &|| false };
        assert!(run(&mut Command::new("yes"), Capture::Output, &full).unwrap().status.is_none());
        assert!(run(&mut Command::new("/nonexistent"), Capture::Output, &full).is_err());
    }

    #[test]
    fn what_a_command_left_behind_lives_on_only_where_it_may() {
        for spares_rest in [false, true] {
            let bounds =
                Bounds { time: LONG, bytes: 100, ends_when_full: false, spares_rest, ends: &|| false };
            let script = "trap '' HUP; sleep 60 > /dev/null & echo $!";
            let mut command = Command::new("/bin/sh");
            let out = run(command.args(["-c", script]), Capture::Output, &bounds).unwrap();
            assert!(out.status.is_some_and(|status| status.success()));
            let pid: i32 = String::from_utf8(out.printed).unwrap().trim().parse().unwrap();
            if spares_rest {
                assert!(lives(pid), "{pid} does not live");
                nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
            } else {
                let begun = Instant::now();
                while fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") S "))
                {
                    assert!(begun.elapsed() < LONG / 2, "{pid} lives");
                    std::thread::sleep(LOOK_OFTEN);
                }
            }
        }
    }

    #[test]
    fn nothing_is_blocked_in_a_command() {
        let ended = std::thread::spawn(|| {
            SigSet::from_iter([Signal::SIGTERM]).thread_block().unwrap();
            ran("kill -TERM $$; echo lives", Capture::Output, LONG, 100)
        });
        let out = ended.join().unwrap();
        assert!(out.printed.is_empty() && out.status.is_some_and(|status| status.code().is_none()));
    }
}
