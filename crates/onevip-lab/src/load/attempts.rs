//! Attempts to get in at any address and port, by the client's kernel: each is either answered within its time, or not.
//!
//! Other than the [SYN prober](super::syn_prober), which speaks to the cluster MAC by hand, this one resolves addresses as any
//! client does; so it can measure systems that move an address from one MAC to another as well.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::dial::{dial, end_abruptly};
use crate::lab::Lab;
use crate::netns;
use crate::plan::Host;
use crate::process::go_first;

/// How often it looks.
const STEP: Duration = Duration::from_millis(2);

/// What is attempted.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Where.
    pub to: SocketAddrV4,
    /// Between two attempts from one address.
    pub interval: Duration,
    /// The first byte has to be there by then. Less than the second after which TCP repeats a SYN, so that an attempt
    /// tells of the moment in which it was made.
    pub limit: Duration,
}

/// One attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Whence.
    pub client: Ipv4Addr,
    /// When.
    pub begun: Instant,
    /// Whether it was answered in time.
    pub answered: bool,
}

/// A thread that makes attempts from all addresses in turn until it is dropped.
pub struct Attempts {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// What became of them.
    pub outcomes: Receiver<Attempt>,
}

impl Attempts {
    /// Begins, on the host `client` of a lab.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(lab: &Lab, clients: &[Ipv4Addr], target: Target) -> Result<Self> {
        let (sender, outcomes) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let (name, clients) = (lab.name().clone(), clients.to_vec());
        let thread = thread::Builder::new().name("attempts".into()).spawn({
            let stop = Arc::clone(&stop);
            move || {
                // A host that is not there is found out by whoever waits for outcomes.
                let _ = netns::inside(&name, Host::Client, || run(&clients, target, &sender, &stop));
            }
        })?;
        Ok(Self { stop, thread: Some(thread), outcomes })
    }
}

impl Drop for Attempts {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(clients: &[Ipv4Addr], target: Target, sender: &Sender<Attempt>, stop: &AtomicBool) {
    go_first();
    let apart = target.interval / u32::try_from(clients.len()).unwrap_or(1).max(1);
    let (mut due, mut turn) = (Instant::now(), 0);
    let mut pending: Vec<(Attempt, TcpStream)> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        // After a stall there is no catching up: a burst would measure itself.
        if now.duration_since(due) > target.interval {
            due = now;
        }
        while due <= now {
            let attempt = Attempt { client: clients[turn % clients.len()], begun: now, answered: false };
            match dial(attempt.client, target.to) {
                Ok(stream) => pending.push((attempt, stream)),
                Err(_) => drop(sender.send(attempt)),
            }
            (due, turn) = (due + apart, turn + 1);
        }
        pending.retain_mut(|(attempt, stream)| match outcome(stream, attempt.begun, target.limit) {
            None => true,
            Some(answered) => {
                end_abruptly(stream);
                let _ = sender.send(Attempt { answered, ..*attempt });
                false
            }
        });
        thread::sleep(STEP);
    }
}

/// None while it may still be answered.
fn outcome(stream: &mut TcpStream, begun: Instant, limit: Duration) -> Option<bool> {
    match stream.read(&mut [0]) {
        Ok(length) => Some(length > 0),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
            (begun.elapsed() >= limit).then_some(false)
        }
        Err(_) => Some(false),
    }
}
