//! Waiting, running with a deadline, and background processes that outlive the program that started them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::fcntl::OFlag;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, killpg, sigaction};
use nix::unistd::Pid;

/// Looks again this often: short against what is waited for, long against the cost of looking.
const LOOK_AGAIN: Duration = Duration::from_millis(3);

/// Long for a command that is fed, even on a machine that is very busy.
const FED_WITHIN: Duration = Duration::from_secs(30);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes SIGINT and SIGTERM end every wait of this module with an error instead of ending the program, so that
/// guards run and nothing is left behind. For programs; a test harness keeps its own handling.
///
/// # Errors
/// When the kernel refuses the handler.
pub fn catch_interrupts() -> Result<()> {
    extern "C" fn note(_: libc::c_int) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic.
        unsafe { sigaction(signal, &action) }.context("cannot catch signals")?;
    }
    Ok(())
}

/// Fails once the user has asked to stop.
///
/// # Errors
/// After a SIGINT, SIGTERM or SIGHUP, when [`catch_interrupts`] was called.
pub fn check_interrupt() -> Result<()> {
    ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
    Ok(())
}

/// Forgets an interrupt, so that cleaning up can wait for things again.
pub fn clear_interrupt() {
    INTERRUPTED.store(false, Ordering::Relaxed);
}

/// Looks every `step` whether `condition` holds; false when it does not by the deadline.
///
/// # Errors
/// When the user interrupts.
pub fn poll_until(deadline: Instant, step: Duration, mut condition: impl FnMut() -> bool) -> Result<bool> {
    loop {
        if condition() {
            return Ok(true);
        }
        check_interrupt()?;
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        std::thread::sleep(step.min(left));
    }
}

/// Waits until `condition` holds. `what` completes the sentence "waited 5 s for …".
///
/// # Errors
/// When the deadline passes first, or the user interrupts.
pub fn wait_until(deadline: Duration, what: &str, condition: impl FnMut() -> bool) -> Result<()> {
    let holds = poll_until(Instant::now() + deadline, LOOK_AGAIN, condition)?;
    ensure!(holds, "waited {deadline:?} for {what}, in vain");
    Ok(())
}

/// Lets time pass.
///
/// # Errors
/// When the user interrupts.
pub fn pause(length: Duration) -> Result<()> {
    poll_until(Instant::now() + length, Duration::from_millis(50), || false).map(drop)
}

/// Runs a command to its end and collects what it prints; it gets nothing on standard input.
///
/// # Errors
/// When it cannot start, or has not ended by the deadline (it is killed then, with all that it has started), or the user
/// interrupts.
pub fn run(command: &mut Command, deadline: Duration) -> Result<Output> {
    run_fed(command, None, deadline)
}

fn run_fed(command: &mut Command, input: Option<&str>, deadline: Duration) -> Result<Output> {
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn_group(command)?;
    let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // A program that gives up early closes its end; what it says about that is worth more than EPIPE.
        let _ = stdin.write_all(input.as_bytes());
    }
    let status = end_within(&mut child, &describe(command), deadline)?;
    let output = |thread: std::thread::JoinHandle<Vec<u8>>| thread.join().unwrap_or_default();
    Ok(Output { status, stdout: output(stdout), stderr: output(stderr) })
}

/// [`run`] with everything that is printed written to a file.
///
/// # Errors
/// As [`run`], and when the file cannot be written.
pub fn run_logged(command: &mut Command, log: &Path, deadline: Duration) -> Result<ExitStatus> {
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let mut child = spawn_group(command)?;
    end_within(&mut child, &describe(command), deadline)
}

/// Starts a command as the leader of a process group, so that it can be ended with all that it has started.
fn spawn_group(command: &mut Command) -> Result<Child> {
    let words = describe(command);
    command.process_group(0).spawn().with_context(|| format!("cannot run {words}; is its package installed?"))
}

/// Waits for the leader of a process group, and kills the group when it does not end.
fn end_within(child: &mut Child, words: &str, deadline: Duration) -> Result<ExitStatus> {
    let mut status = None;
    let ended = wait_until(deadline, &format!("the end of {words}"), || {
        status = child.try_wait().ok().flatten();
        status.is_some()
    });
    if let Err(error) = ended {
        signal_group(child.id().cast_signed(), Signal::SIGKILL);
        let _ = child.wait();
        return Err(error);
    }
    status.context("a process that ended has a status")
}

/// Runs a command that reads its work from standard input, and must succeed.
///
/// # Errors
/// As [`run`], and when the command fails: then with what it said.
pub fn feed(command: &mut Command, input: &str) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = run_fed(command, Some(input), FED_WITHIN)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} refused: {}\n{}", said.trim(), input.trim());
    Ok(())
}

/// [`run`], and its success is required; returns standard output.
///
/// # Errors
/// As [`run`], and when the command fails: then with what it printed on standard error.
pub fn run_ok(command: &mut Command, deadline: Duration) -> Result<String> {
    let words = describe(command);
    let output = run(command, deadline)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{words}: {}: {}", output.status, stderr.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Starts a background process in a session of its own, a child of init: whoever starts a lab may end (or crash), the
/// lab goes on, and nobody has to reap. Its output is appended to `log`. Returns its process id.
///
/// # Errors
/// When it cannot be started.
pub fn spawn_background(command: &mut Command, log: &Path) -> Result<i32> {
    let words = describe(command);
    let log_file = OpenOptions::new().create(true).append(true).open(log);
    let log_file = log_file.with_context(|| format!("cannot open {}", log.display()))?;
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    command.stdin(Stdio::null()).stdout(log_file.try_clone()?).stderr(log_file);
    let detach = {
        let writer = writer.try_clone()?;
        move || {
            // SAFETY: the child of this fork goes on to exec, its parent ends at once without running any destructor.
            match unsafe { libc::fork() } {
                -1 => return Err(io::Error::last_os_error()),
                0 => {}
                // SAFETY: `_exit` is async-signal-safe and touches no memory of ours.
                _ => unsafe { libc::_exit(0) },
            }
            nix::unistd::setsid()?;
            nix::unistd::write(writer.as_fd(), &nix::unistd::getpid().as_raw().to_ne_bytes())?;
            Ok(())
        }
    };
    // SAFETY: the closure makes only async-signal-safe system calls on files opened before the fork.
    unsafe { command.pre_exec(detach) };
    let spawned = command.spawn().and_then(|mut intermediate| intermediate.wait());
    spawned.with_context(|| format!("cannot start {words}"))?;
    drop(writer);
    let mut pid = [0; 4];
    File::from(reader).read_exact(&mut pid).with_context(|| format!("{words} did not start"))?;
    Ok(i32::from_ne_bytes(pid))
}

/// True while a process exists and is not a mere zombie.
pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the command name, which may itself contain brackets and blanks.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Sends a signal; a process that is gone already is no error.
pub fn signal(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Sends a signal to a process group, by its leader; one that is gone already is no error.
pub fn signal_group(leader: i32, signal: Signal) {
    let _ = killpg(Pid::from_raw(leader), signal);
}

/// Lets the calling thread, or the processes it becomes, go before ordinary work: a measurement shall wait for the
/// cluster, not for whatever else this machine does.
pub fn go_first() {
    // SAFETY: 0 names the caller; no memory is involved. Without the right, it just does not go first.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -15) };
}

/// The last lines of a log, for error messages.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_a_sentence() {
        let message = wait_until(Duration::from_millis(1), "rain", || false).unwrap_err().to_string();
        assert_eq!(message, "waited 1ms for rain, in vain");
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let start = Instant::now();
        let error = run(Command::new("sleep").arg("60"), Duration::from_millis(20)).unwrap_err();
        assert!(error.to_string().contains("the end of sleep 60"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn what_a_command_has_started_ends_with_it() {
        let file = std::env::temp_dir().join(format!("onevip-lab-child-{}", std::process::id()));
        let script = format!("sleep 60 & echo $! >{}; wait", file.display());
        let pid = || fs::read_to_string(&file).ok()?.trim().parse::<i32>().ok();
        let mut command = Command::new("sh");
        let shell = std::thread::scope(|scope| {
            let shell = scope.spawn(|| run(command.args(["-c", &script]), Duration::from_secs(1)));
            wait_until(Duration::from_secs(20), "the child", || pid().is_some()).unwrap();
            shell.join().unwrap()
        });
        let child = pid().unwrap();
        fs::remove_file(&file).unwrap();
        assert!(shell.is_err(), "it waits for its child");
        wait_until(Duration::from_secs(20), "the child to end", || !is_alive(child)).unwrap();
    }

    #[test]
    fn a_command_is_fed_and_its_refusal_quoted() {
        feed(&mut Command::new("cat"), "words").unwrap();
        let mut refuses = Command::new("sh");
        let error =
            feed(refuses.args(["-c", "read word; echo no $word >&2; exit 1"]), "please\n").unwrap_err();
        assert_eq!(error.to_string(), "sh refused: no please\nplease");
    }

    #[test]
    fn a_failure_quotes_what_the_command_said() {
        let mut command = Command::new("sh");
        let error =
            run_ok(command.args(["-c", "echo why >&2; exit 3"]), Duration::from_secs(20)).unwrap_err();
        assert!(error.to_string().contains("why") && error.to_string().contains('3'), "{error}");
    }

    #[test]
    fn a_background_process_is_nobodys_zombie() {
        let pid = spawn_background(&mut Command::new("true"), Path::new("/dev/null")).unwrap();
        wait_until(Duration::from_secs(20), "its end", || !is_alive(pid)).unwrap();
    }

    #[test]
    fn what_cannot_start_is_an_error_here() {
        assert!(spawn_background(&mut Command::new("/nonexistent"), Path::new("/dev/null")).is_err());
    }
}
