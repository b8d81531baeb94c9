//! Open connections that carry data all the while, and a diary of each: what was sent when, what came back when, and
//! how it ended.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::dial::{dial, end_abruptly};
use crate::lab::Lab;
use crate::plan::{Host, vip4};
use crate::process::go_first;
use crate::service::echo;

/// Between two things that a session says, unless told otherwise: a fast typing hand, or a slow build log.
const INTERVAL: Duration = Duration::from_millis(100);
/// A session that does not begin by then is none.
const OPENS_WITHIN: Duration = Duration::from_secs(5);
/// How long it may take until something that arrived is read.
const STEP: u8 = 10;
/// Entries of a diary; older ones are forgotten.
const DIARY: usize = 1200;
/// Bytes of one message.
const MESSAGE: usize = 8;

/// The diary of one session.
#[derive(Clone, Debug)]
pub struct SessionLog {
    /// Whence.
    pub client: Ipv4Addr,
    /// The node at its other end.
    pub node: u8,
    /// When something was sent (a message that the kernel took).
    pub sent: VecDeque<Instant>,
    /// When an answer arrived.
    pub heard: VecDeque<Instant>,
    /// When it ended against the client's will, and how.
    pub lost: Option<(Instant, String)>,
}

struct EchoSession {
    stream: TcpStream,
    due: Instant,
    log: SessionLog,
}

/// A thread that keeps sessions busy until it is dropped.
pub struct Sessions {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    all: Arc<Mutex<Vec<EchoSession>>>,
    interval: Duration,
}

impl Sessions {
    /// None yet.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start() -> Result<Self> {
        Self::every(INTERVAL)
    }

    /// None yet; each will say something in this interval.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn every(interval: Duration) -> Result<Self> {
        let all = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().name("sessions".into()).spawn({
            let (all, stop) = (Arc::clone(&all), Arc::clone(&stop));
            move || {
                go_first();
                while !stop.load(Ordering::Relaxed) {
                    wait_for_any(&all);
                    all.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .iter_mut()
                        .for_each(|session| session.go_on(interval));
                }
            }
        })?;
        Ok(Self { stop, thread: Some(thread), all, interval })
    }

    /// Opens a session from each of these addresses of a client host, all at once.
    ///
    /// # Errors
    /// When one of them does not begin within five seconds.
    pub fn open(&self, lab: &Lab, host: Host, clients: &[Ipv4Addr]) -> Result<()> {
        let to = SocketAddrV4::new(vip4(), echo::PORT);
        let dialled = lab.inside(&host.to_string(), || {
            clients.iter().map(|&client| Ok((client, dial(client, to)?))).collect::<Result<Vec<_>>>()
        })??;
        let deadline = Instant::now() + OPENS_WITHIN;
        for (number, (client, stream)) in dialled.into_iter().enumerate() {
            let session =
                EchoSession::begin(client, stream, deadline, self.interval / 16 * (number % 16) as u32)?;
            self.lock().push(session);
        }
        Ok(())
    }

    /// Closes the sessions that `which` picks.
    pub fn close(&self, which: impl Fn(&SessionLog) -> bool) {
        self.lock().retain(|session| {
            let keep = !which(&session.log);
            if !keep {
                end_abruptly(&session.stream);
            }
            keep
        });
    }

    /// The diaries as they are now.
    pub fn logs(&self) -> Vec<SessionLog> {
        self.lock().iter().map(|session| session.log.clone()).collect()
    }

    /// The diaries without what was sent and heard: cheap.
    pub fn glance(&self) -> Vec<SessionLog> {
        let short = |log: &SessionLog| SessionLog {
            client: log.client,
            node: log.node,
            sent: VecDeque::new(),
            heard: log.heard.back().copied().into_iter().collect(),
            lost: log.lost.clone(),
        };
        self.lock().iter().map(|session| short(&session.log)).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<EchoSession>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.lock().iter().for_each(|session| end_abruptly(&session.stream));
    }
}

/// Waits until something has arrived for any session, at most a step.
fn wait_for_any(all: &Mutex<Vec<EchoSession>>) {
    let sessions = all.lock().unwrap_or_else(PoisonError::into_inner);
    let streams: Vec<TcpStream> = sessions
        .iter()
        .filter(|session| session.log.lost.is_none())
        .filter_map(|session| session.stream.try_clone().ok())
        .collect();
    drop(sessions);
    let mut fds: Vec<PollFd> = streams.iter().map(|s| PollFd::new(s.as_fd(), PollFlags::POLLIN)).collect();
    // Interrupted by a signal: then it is looked at a little early.
    let _ = poll(&mut fds, PollTimeout::from(STEP));
}

impl EchoSession {
    fn begin(client: Ipv4Addr, mut stream: TcpStream, deadline: Instant, first: Duration) -> Result<Self> {
        let mut greeting = [0];
        loop {
            match stream.read(&mut greeting) {
                Ok(length) => {
                    ensure!(length == 1, "a session from {client} was closed at once");
                    break;
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    ensure!(
                        Instant::now() < deadline,
                        "a session from {client} did not begin within {OPENS_WITHIN:?}"
                    );
                    thread::sleep(Duration::from_millis(1));
                }
                Err(e) => return Err(e).with_context(|| format!("a session from {client} did not begin")),
            }
        }
        let now = Instant::now();
        // Not all in the same moment.
        let due = now + first;
        let diary = || VecDeque::with_capacity(64);
        let log = SessionLog { client, node: greeting[0], sent: diary(), heard: diary(), lost: None };
        Ok(Self { stream, due, log })
    }

    /// Reads what has arrived, and says something when it is time to.
    fn go_on(&mut self, interval: Duration) {
        if self.log.lost.is_some() {
            return;
        }
        let mut bytes = [0; 4096];
        let read = self.stream.read(&mut bytes);
        let now = Instant::now();
        match read {
            Ok(0) => self.log.lost = Some((now, "closed by the node".into())),
            Ok(_) => note(&mut self.log.heard, now),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => self.log.lost = Some((now, error.to_string())),
        }
        if now >= self.due && self.log.lost.is_none() {
            self.due = now + interval;
            // An error shows at the next read; a full buffer is a session that pauses.
            if self.stream.write(&[b'.'; MESSAGE]).is_ok() {
                note(&mut self.log.sent, now);
            }
        }
    }
}

fn note(diary: &mut VecDeque<Instant>, now: Instant) {
    if diary.len() == DIARY {
        diary.pop_front();
    }
    diary.push_back(now);
}
