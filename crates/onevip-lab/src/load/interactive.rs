//! Users in real `ssh` sessions who type a line five times a second.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::lab::Lab;
use crate::ssh_session::SshSession;

/// Between a line that came back and the next one.
const REST: Duration = Duration::from_millis(200);
/// How long a user waits for a line before looking whether there is any session left.
const LOOK: Duration = Duration::from_millis(500);

/// What a user has noticed.
#[derive(Clone, Debug, Default)]
pub struct InteractiveLog {
    /// When the last line came back.
    pub heard: Option<Instant>,
    /// When the session was found to have ended.
    pub lost: Option<Instant>,
    /// Lines that came back.
    pub lines: u64,
}

/// A user who types; dropping it closes the session.
pub struct InteractiveUser {
    /// Whence.
    pub client: IpAddr,
    /// The node at the other end.
    pub host: String,
    log: Arc<Mutex<InteractiveLog>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl InteractiveUser {
    /// Logs in from a client's address and begins to type.
    ///
    /// # Errors
    /// When the login fails.
    pub fn log_in(lab: &Lab, from: IpAddr) -> Result<Self> {
        let mut session = lab.quiet_session(from)?;
        let host = session.host.clone();
        let (log, stop) = (Arc::new(Mutex::new(InteractiveLog::default())), Arc::new(AtomicBool::new(false)));
        let thread = thread::Builder::new().name(format!("user-{from}")).spawn({
            let (log, stop) = (Arc::clone(&log), Arc::clone(&stop));
            move || type_on(&mut session, &log, &stop)
        })?;
        Ok(Self { client: from, host, log, stop, thread: Some(thread) })
    }

    /// What the user has noticed until now.
    pub fn log(&self) -> InteractiveLog {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for InteractiveUser {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn type_on(session: &mut SshSession, log: &Mutex<InteractiveLog>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let echoed = session.echo(LOOK).is_ok();
        let open = session.is_open();
        let now = Instant::now();
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        if echoed {
            log.heard = Some(now);
            log.lines += 1;
        } else if !open {
            log.lost = Some(now);
            return;
        }
        drop(log);
        if echoed {
            thread::sleep(REST);
        }
    }
}
