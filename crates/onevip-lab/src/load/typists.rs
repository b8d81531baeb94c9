//! People in real `ssh` sessions who type a line five times a second.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::lab::Lab;
use crate::session::Session;

/// Between a line that came back and the next one.
const REST: Duration = Duration::from_millis(200);
/// How long a typist waits for a line before looking whether there is any session left.
const LOOK: Duration = Duration::from_millis(500);

/// What a typist has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// When the last line came back.
    pub heard: Option<Instant>,
    /// When the session was found to have ended.
    pub lost: Option<Instant>,
    /// Lines that came back.
    pub lines: u64,
}

/// A typing person; dropping it closes the session.
pub struct Typist {
    /// Whence.
    pub client: IpAddr,
    /// The node at the other end.
    pub host: String,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Typist {
    /// Logs in from a client's address and begins to type.
    ///
    /// # Errors
    /// When the login fails.
    pub fn log_in(lab: &Lab, from: IpAddr) -> Result<Self> {
        let mut session = lab.quiet_session(from)?;
        let host = session.host.clone();
        let (seen, stop) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
        let thread = thread::Builder::new().name(format!("typist-{from}")).spawn({
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            move || type_on(&mut session, &seen, &stop)
        })?;
        Ok(Self { client: from, host, seen, stop, thread: Some(thread) })
    }

    /// What it has seen until now.
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Typist {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn type_on(session: &mut Session, seen: &Mutex<Seen>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let echoed = session.echo(LOOK).is_ok();
        let open = session.is_open();
        let now = Instant::now();
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if echoed {
            seen.heard = Some(now);
            seen.lines += 1;
        } else if !open {
            seen.lost = Some(now);
            return;
        }
        drop(seen);
        if echoed {
            thread::sleep(REST);
        }
    }
}
