//! New sessions at a steady pace, each of which says something for a while and ends.
//!
//! What a planned change must not cost them: a session that does not begin, or ends before its time.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use serde::Serialize;

use crate::dial::dial;
use crate::lab::Lab;
use crate::netns;
use crate::plan::{Host, Name, vip4};
use crate::process::go_first;
use crate::service::echo;

/// A session that has not begun by then has failed.
const BEGINS_WITHIN: Duration = Duration::from_secs(10);
/// Between two things that a session says.
const SAYS_EVERY: Duration = Duration::from_millis(100);
/// How often every session is looked at.
const STEP: Duration = Duration::from_millis(5);

/// What became of all of them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ShortSessionTotals {
    /// Sessions that were begun.
    pub begun: usize,
    /// Those that ended when their time was over.
    pub completed: usize,
    /// Why others never began.
    pub failed: Vec<String>,
    /// Where, and how, others were cut.
    pub cut: Vec<String>,
    /// The longest wait for a greeting, in seconds.
    pub longest_wait: f64,
}

/// A thread that opens sessions until it is asked for the totals.
pub struct ShortSessions {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<ShortSessionTotals>>,
}

impl ShortSessions {
    /// Opens one `every` so often, from all addresses of `client` in turn; each stays for `stay`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(lab: &Lab, every: Duration, stay: Duration) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (name, clients) = (lab.name().clone(), lab.plan().addresses4(Host::Client));
        let thread = thread::Builder::new().name("short-sessions".into()).spawn({
            let stop = Arc::clone(&stop);
            move || run(&name, &clients, every, stay, &stop)
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Opens no more, waits until the last has ended, and says how it was.
    ///
    /// # Errors
    /// When the thread has come to harm.
    pub fn totals(mut self) -> Result<ShortSessionTotals> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().ok_or_else(|| anyhow!("the totals were asked for twice"))?;
        thread.join().map_err(|_| anyhow!("the thread of the sessions panicked"))
    }
}

impl Drop for ShortSessions {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

fn run(
    name: &Name,
    clients: &[Ipv4Addr],
    every: Duration,
    stay: Duration,
    stop: &AtomicBool,
) -> ShortSessionTotals {
    let mut totals = ShortSessionTotals::default();
    let ran = netns::inside(name, Host::Client, || {
        go_first();
        let (mut due, mut all) = (Instant::now(), Vec::new());
        while !(stop.load(Ordering::Relaxed) && all.is_empty()) {
            if Instant::now() >= due && !stop.load(Ordering::Relaxed) {
                due += every;
                let client = clients[totals.begun % clients.len()];
                totals.begun += 1;
                match dial(client, SocketAddrV4::new(vip4(), echo::PORT)) {
                    Ok(stream) => all.push(ShortSession::new(client, stream)),
                    Err(error) => totals.failed.push(format!("{client}: {error}")),
                }
            }
            all.retain_mut(|session| session.go_on(stay, &mut totals));
            thread::sleep(STEP);
        }
    });
    if let Err(error) = ran {
        totals.failed.push(format!("{error:#}"));
    }
    totals
}

struct ShortSession {
    client: Ipv4Addr,
    stream: TcpStream,
    begun: Instant,
    /// The node, once it has greeted, and since when.
    with: Option<(u8, Instant)>,
    says: Instant,
    said: usize,
    heard: usize,
}

impl ShortSession {
    fn new(client: Ipv4Addr, stream: TcpStream) -> Self {
        let now = Instant::now();
        Self { client, stream, begun: now, with: None, says: now, said: 0, heard: 0 }
    }

    /// False when it has ended.
    fn go_on(&mut self, stay: Duration, totals: &mut ShortSessionTotals) -> bool {
        let mut bytes = [0; 256];
        match self.stream.read(&mut bytes) {
            Ok(0) => return self.end("closed".to_owned(), totals),
            Ok(length) if self.with.is_none() => {
                self.with = Some((bytes[0], Instant::now()));
                self.heard += length - 1;
                totals.longest_wait = totals.longest_wait.max(self.begun.elapsed().as_secs_f64());
            }
            Ok(length) => self.heard += length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {}
            Err(error) => return self.end(error.to_string(), totals),
        }
        let Some((_, since)) = self.with else {
            return self.begun.elapsed() < BEGINS_WITHIN || self.end("no greeting".to_owned(), totals);
        };
        // Everything that was said has to come back before the session ends.
        let overdue = since.elapsed() > stay + BEGINS_WITHIN;
        if since.elapsed() >= stay && (self.heard == self.said || overdue) {
            if overdue {
                return self.end(format!("{} of {} bytes came back", self.heard, self.said), totals);
            }
            totals.completed += 1;
            return false;
        }
        if Instant::now() >= self.says && since.elapsed() < stay {
            self.says = Instant::now() + SAYS_EVERY;
            // An error shows at the next read.
            self.said += self.stream.write(b"hello").unwrap_or(0);
        }
        true
    }

    fn end(&self, how: String, totals: &mut ShortSessionTotals) -> bool {
        match self.with {
            Some((node, since)) => {
                let after = since.elapsed();
                totals.cut.push(format!("{} with unix{node} after {after:.1?}: {how}", self.client));
            }
            None => totals.failed.push(format!("{}: {how}", self.client)),
        }
        false
    }
}
