//! Real `ssh` sessions, as many as the machine carries, in each of which a line is typed now and then. One thread serves
//! them all; each costs an `ssh`, an `sshd` and a `cat`.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::lab::Lab;
use crate::process::check_interrupt;

/// How often it is looked whether a line is to be typed or has come back: two system calls for each session.
const STEP: Duration = Duration::from_millis(250);
/// Logins that go on side by side: what `sshd` lets in without thinking about `MaxStartups`.
const AT_ONCE: usize = 4;
/// A login that has not come about by then is none.
const LOGIN_WITHIN: Duration = Duration::from_secs(30);
/// Memory that is left to everybody else.
const SPARE_KIB: u64 = 2 * 1024 * 1024;

/// What became of one session.
#[derive(Clone, Copy, Debug)]
pub struct SshSessionLog {
    /// Whence.
    pub client: IpAddr,
    /// The node at the other end.
    pub node: u8,
    /// When the last line came back.
    pub heard: Instant,
    /// When the session was found to have ended against the user's will.
    pub lost: Option<Instant>,
}

struct LoadSession {
    ssh: Child,
    keys: ChildStdin,
    screen: ChildStdout,
    /// What has arrived of a line.
    begun: Vec<u8>,
    typed: u64,
    echoed: u64,
    due: Instant,
    log: SshSessionLog,
}

/// The load; dropping it ends all sessions.
pub struct SshLoad {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    sessions: Arc<Mutex<Vec<LoadSession>>>,
    interval: Duration,
}

impl SshLoad {
    /// No session yet. A line will be typed in each, once in this interval.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(interval: Duration) -> Result<Self> {
        let sessions = Arc::new(Mutex::new(Vec::<LoadSession>::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().name("ssh-load".into()).spawn({
            let (sessions, stop) = (Arc::clone(&sessions), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    lock(&sessions).iter_mut().for_each(|session| session.go_on(interval));
                    thread::sleep(STEP);
                }
            }
        })?;
        Ok(Self { stop, thread: Some(thread), sessions, interval })
    }

    /// Logs in from these addresses in turn until there are `wanted` sessions, or memory runs short. Returns how many
    /// there are.
    ///
    /// # Errors
    /// When a login fails, or the user interrupts.
    pub fn fill(&self, lab: &Lab, clients: &[IpAddr], wanted: usize) -> Result<usize> {
        let mut turn = self.lock().len();
        loop {
            check_interrupt()?;
            let there = self.lock().len();
            if there >= wanted || memory_left_kib()? < SPARE_KIB {
                return Ok(there);
            }
            let batch = AT_ONCE.min(wanted - there);
            let starting: Vec<(IpAddr, Child)> = (turn..turn + batch)
                .map(|at| clients[at % clients.len()])
                .map(|client| Ok((client, start_ssh(lab, client)?)))
                .collect::<Result<_>>()?;
            turn += batch;
            for (client, ssh) in starting {
                let session = LoadSession::enter(ssh, client, self.interval, turn)?;
                self.lock().push(session);
            }
        }
    }

    /// What became of every session so far.
    pub fn logs(&self) -> Vec<SshSessionLog> {
        self.lock().iter().map(|session| session.log).collect()
    }

    /// Ends the sessions that `which` picks, if they have not ended themselves.
    pub fn end(&self, which: impl Fn(&SshSessionLog) -> bool) {
        self.lock().retain(|session| !which(&session.log));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<LoadSession>> {
        lock(&self.sessions)
    }
}

impl Drop for SshLoad {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(sessions: &Mutex<Vec<LoadSession>>) -> MutexGuard<'_, Vec<LoadSession>> {
    sessions.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Memory that could be had without swapping (proc(5), `MemAvailable`).
fn memory_left_kib() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .context("/proc/meminfo has no MemAvailable")
}

fn start_ssh(lab: &Lab, client: IpAddr) -> Result<Child> {
    let mut ssh = lab.ssh_command(lab.vip_for(client), Some(client))?;
    ssh.arg("hostname; exec cat").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    ssh.spawn().context("cannot run ssh")
}

impl LoadSession {
    /// Waits until the node says its name.
    fn enter(mut ssh: Child, client: IpAddr, interval: Duration, number: usize) -> Result<Self> {
        let screen = ssh.stdout.take().context("ssh has no standard output")?;
        let keys = ssh.stdin.take().context("ssh has no standard input")?;
        let flags = OFlag::O_NONBLOCK;
        fcntl(screen.as_fd(), FcntlArg::F_SETFL(flags))?;
        fcntl(keys.as_fd(), FcntlArg::F_SETFL(flags))?;
        let now = Instant::now();
        // Not all in the same moment.
        let due = now + interval / 64 * (number % 64) as u32;
        let log = SshSessionLog { client, node: 0, heard: now, lost: None };
        let mut session = Self { ssh, keys, screen, begun: Vec::new(), typed: 0, echoed: 0, due, log };
        while now.elapsed() < LOGIN_WITHIN {
            if let Some(host) = session.lines().pop() {
                let number = host.strip_prefix("unix").and_then(|number| number.parse().ok());
                session.log.node = number.with_context(|| format!("{client} landed on {host:?}"))?;
                return Ok(session);
            }
            if session.log.lost.is_some() {
                bail!("{client} could not log in: ssh ended");
            }
            thread::sleep(Duration::from_millis(1));
        }
        bail!("{client} could not log in within {LOGIN_WITHIN:?}")
    }

    /// The lines that have arrived. Notes the end when there is one.
    fn lines(&mut self) -> Vec<String> {
        let mut bytes = [0; 4096];
        loop {
            match self.screen.read(&mut bytes) {
                Ok(0) => break self.log.lost = Some(Instant::now()),
                Ok(length) => self.begun.extend(&bytes[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => break self.log.lost = Some(Instant::now()),
            }
        }
        let Some(end) = self.begun.iter().rposition(|&byte| byte == b'\n') else { return Vec::new() };
        let whole: Vec<u8> = self.begun.drain(..=end).collect();
        String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
    }

    /// Reads what has come back, which must be what was typed, in order; types when it is time to.
    fn go_on(&mut self, interval: Duration) {
        if self.log.lost.is_some() {
            return;
        }
        for line in self.lines() {
            self.echoed += 1;
            if line != format!("line {}", self.echoed) {
                self.log.lost = Some(Instant::now());
                return;
            }
            self.log.heard = Instant::now();
        }
        if Instant::now() >= self.due {
            self.due += interval;
            // A session that has not been answered for long gets no more lines; an error shows at the next read.
            if self.typed < self.echoed + 16 && writeln!(self.keys, "line {}", self.typed + 1).is_ok() {
                self.typed += 1;
            }
        }
    }
}

impl Drop for LoadSession {
    fn drop(&mut self) {
        let _ = self.ssh.kill();
        let _ = self.ssh.wait();
    }
}
