//! Clients that connect to SSH and wait for its banner, several a second: whether it comes, and when.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::dial::{dial, end_abruptly};
use crate::lab::Lab;
use crate::netns;
use crate::plan::{Host, vip4};
use crate::process::go_first;

/// Between two attempts, over all addresses.
const INTERVAL: Duration = Duration::from_millis(100);
/// Whoever has waited so long without a banner goes away.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// How often somebody looks whether the banner has come.
const STEP: Duration = Duration::from_millis(5);

/// One attempt.
#[derive(Clone, Debug)]
pub struct BannerAttempt {
    /// Whence.
    pub client: Ipv4Addr,
    /// When it was begun.
    pub begun: Instant,
    /// How long the banner took; none when there was none.
    pub banner: Option<Duration>,
}

/// A thread that connects from all addresses of `client` in turn until it is dropped.
pub struct BannerClients {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    attempts: Arc<Mutex<Vec<BannerAttempt>>>,
}

impl BannerClients {
    /// Begins.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(lab: &Lab) -> Result<Self> {
        let (stop, attempts) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (name, clients) = (lab.name().clone(), lab.plan().addresses4(Host::Client));
        let thread = thread::Builder::new().name("banner-clients".into()).spawn({
            let (stop, attempts) = (Arc::clone(&stop), Arc::clone(&attempts));
            // A host that is not there is found out by whoever counts attempts.
            move || drop(netns::inside(&name, Host::Client, || run(&clients, &attempts, &stop)))
        })?;
        Ok(Self { stop, thread: Some(thread), attempts })
    }

    /// The attempts that have come to an end, by their end.
    pub fn attempts(&self) -> Vec<BannerAttempt> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for BannerClients {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(clients: &[Ipv4Addr], attempts: &Mutex<Vec<BannerAttempt>>, stop: &AtomicBool) {
    go_first();
    let to = SocketAddrV4::new(vip4(), 22);
    let (mut turn, mut due) = (0, Instant::now());
    let mut waiting: Vec<(Ipv4Addr, Instant, TcpStream)> = Vec::new();
    let note = |client, begun, banner| {
        attempts.lock().unwrap_or_else(PoisonError::into_inner).push(BannerAttempt { client, begun, banner });
    };
    while !stop.load(Ordering::Relaxed) {
        if Instant::now() >= due {
            due = Instant::now() + INTERVAL;
            let client = clients[turn % clients.len()];
            turn += 1;
            match dial(client, to) {
                Ok(stream) => waiting.push((client, Instant::now(), stream)),
                Err(_) => note(client, Instant::now(), None),
            }
        }
        waiting.retain_mut(|(client, begun, stream)| {
            let Some(banner) = banner(stream, *begun) else { return true };
            end_abruptly(stream);
            note(*client, *begun, banner);
            false
        });
        thread::sleep(STEP);
    }
}

/// How the attempt ended; none while it goes on.
fn banner(stream: &mut TcpStream, begun: Instant) -> Option<Option<Duration>> {
    let mut bytes = [0; 64];
    match stream.read(&mut bytes) {
        Ok(length) => Some(bytes[..length].starts_with(b"SSH-").then(|| begun.elapsed())),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
            (begun.elapsed() >= PATIENCE).then_some(None)
        }
        Err(_) => Some(None),
    }
}
