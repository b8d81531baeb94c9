//! Whole connections, a hundred a second, made by the client's kernel: what a user's `ssh` would meet.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::dial::{dial, end_abruptly};
use crate::lab::Lab;
use crate::netns;
use crate::plan::{Host, vip4};
use crate::process::go_first;
use crate::service::echo;

/// Between two connections, over all addresses.
pub const INTERVAL: Duration = Duration::from_millis(10);
/// A connection without greeting has failed by then.
pub const LIMIT: Duration = Duration::from_secs(5);
/// A connection that took longer had its SYN retransmitted (after 1 s, RFC 6298).
pub const RETRANSMITTED: Duration = Duration::from_millis(900);
/// How often the connector looks.
const STEP: Duration = Duration::from_millis(4);

/// One connection and its outcome.
#[derive(Clone, Debug)]
pub struct TcpConnection {
    /// Whence.
    pub client: Ipv4Addr,
    /// When the connection was begun.
    pub begun: Instant,
    /// How long it took until the greeting, and the node that greeted; or why it failed.
    pub outcome: Result<(Duration, u8), String>,
}

/// A thread that connects from all addresses in turn until it is dropped.
pub struct TcpConnector {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    begun: Arc<AtomicUsize>,
    /// What became of the connections, as it turns out: a connection that fails is known after up to [`LIMIT`].
    pub connections: Receiver<TcpConnection>,
}

impl TcpConnector {
    /// Connects to the VIP from addresses of one client host.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(lab: &Lab, host: Host, clients: &[Ipv4Addr]) -> Result<Self> {
        let (sender, connections) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let begun = Arc::new(AtomicUsize::new(0));
        let (name, clients) = (lab.name().clone(), clients.to_vec());
        let thread = thread::Builder::new().name(format!("connector-{host}")).spawn({
            let (stop, begun) = (Arc::clone(&stop), Arc::clone(&begun));
            move || {
                // A host that is not there is found out by whoever waits for connections.
                let _ = netns::inside(&name, host, || run(&clients, &sender, &begun, &stop));
            }
        })?;
        Ok(Self { stop, thread: Some(thread), begun, connections })
    }

    /// How many connections it has begun.
    pub fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }
}

impl Drop for TcpConnector {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct PendingConnection {
    stream: TcpStream,
    client: Ipv4Addr,
    begun: Instant,
}

fn run(clients: &[Ipv4Addr], sender: &Sender<TcpConnection>, count: &AtomicUsize, stop: &AtomicBool) {
    go_first();
    let to = SocketAddrV4::new(vip4(), echo::PORT);
    let mut turn = 0;
    let mut due = Instant::now();
    let mut pending: Vec<PendingConnection> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now.duration_since(due) > INTERVAL * 10 {
            due = now;
        }
        while due <= now {
            due += INTERVAL;
            let client = clients[turn % clients.len()];
            turn += 1;
            count.fetch_add(1, Ordering::Relaxed);
            let begun = Instant::now();
            match dial(client, to) {
                Ok(stream) => pending.push(PendingConnection { stream, client, begun }),
                Err(error) => {
                    let _ = sender.send(TcpConnection { client, begun, outcome: Err(error.to_string()) });
                }
            }
        }
        pending.retain_mut(|connection| match outcome(connection) {
            None => true,
            Some(outcome) => {
                end_abruptly(&connection.stream);
                let _ = sender.send(TcpConnection {
                    client: connection.client,
                    begun: connection.begun,
                    outcome,
                });
                false
            }
        });
        thread::sleep(STEP);
    }
}

/// What has become of a connection; none while that is open.
fn outcome(connection: &mut PendingConnection) -> Option<Result<(Duration, u8), String>> {
    let mut greeting = [0];
    match connection.stream.read(&mut greeting) {
        Ok(0) => Some(Err("closed without a greeting".into())),
        Ok(_) => Some(Ok((connection.begun.elapsed(), greeting[0]))),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
            (connection.begun.elapsed() >= LIMIT).then(|| Err(format!("no greeting within {LIMIT:?}")))
        }
        Err(error) => Some(Err(error.to_string())),
    }
}
