//! Bulk data in both directions: a service of the lab, and flows that fill it.
//!
//! One byte from the client says which direction: `u`, the service counts what arrives, and says at the end how much it
//! was; `d`, it sends until the client has enough. (`onevip-lab bulk` is what runs on a node.)

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::listen::both_families;
use crate::dial::{connect, end_abruptly};
use crate::plan::Name;

/// Where it listens.
pub const PORT: u16 = 5001;
/// Bytes written and read at once.
const CHUNK: usize = 256 << 10;
/// A flow that has not ended by then is stuck.
const STUCK: Duration = Duration::from_secs(20);
/// Flows that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Which direction the data goes, as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    Up,
    /// To the client.
    Down,
}

impl Direction {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// Starts the service on a node and waits until it listens.
///
/// # Errors
/// When it does not start: then with the end of its log.
pub fn start(name: &Name, id: u8) -> Result<()> {
    super::start(name, id, &["bulk"], PORT)
}

/// Serves for ever.
///
/// # Errors
/// When the port is taken.
pub fn serve() -> Result<()> {
    let [v4, v6] = both_families(PORT, BACKLOG)?;
    thread::spawn(move || accept_all(&v6));
    accept_all(&v4)
}

fn accept_all(listener: &TcpListener) -> Result<()> {
    for connection in listener.incoming() {
        let connection = connection?;
        // A flow that breaks is the client's to notice.
        thread::spawn(move || drop(serve_one(connection)));
    }
    Ok(())
}

fn serve_one(mut connection: TcpStream) -> io::Result<()> {
    let mut direction = [0];
    connection.read_exact(&mut direction)?;
    let mut chunk = vec![0; CHUNK];
    if direction == *b"d" {
        loop {
            connection.write_all(&chunk)?;
        }
    }
    let mut total = 0u64;
    loop {
        match connection.read(&mut chunk)? {
            0 => return connection.write_all(&total.to_be_bytes()),
            length => total += length as u64,
        }
    }
}

/// Runs flows side by side for `length`, in the namespace of the calling thread, and returns how many bytes a second
/// have arrived, all together.
///
/// # Errors
/// When a flow cannot be opened, or breaks.
pub fn flows(ends: &[(IpAddr, IpAddr)], direction: Direction, length: Duration) -> Result<f64> {
    let ready = Barrier::new(ends.len());
    // One moment for all: whoever gets a processor late must not have a time of its own to fill.
    let start = OnceLock::new();
    let results = thread::scope(|scope| {
        let flow = |&(from, to): &(IpAddr, IpAddr)| {
            let (ready, start) = (&ready, &start);
            scope.spawn(move || {
                let stream = connect(from, SocketAddr::new(to, PORT));
                // Also those that failed have to be there, or nobody would begin.
                ready.wait();
                let stream = stream.with_context(|| format!("no way from {from} to {to} port {PORT}"))?;
                let begun = *start.get_or_init(Instant::now);
                run(stream, direction, begun, length)
                    .with_context(|| format!("the flow from {from} to {to} broke"))
            })
        };
        let threads: Vec<_> = ends.iter().map(flow).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a flow panicked"))?)
            .collect::<Result<Vec<(u64, Duration)>>>()
    })?;
    let bytes: u64 = results.iter().map(|(bytes, _)| bytes).sum();
    let longest = results.iter().map(|(_, took)| *took).max().unwrap_or(length);
    Ok(bytes as f64 / longest.as_secs_f64())
}

/// Bytes that have arrived, and how long that took since `begun`.
fn run(
    mut stream: TcpStream,
    direction: Direction,
    begun: Instant,
    length: Duration,
) -> io::Result<(u64, Duration)> {
    stream.set_read_timeout(Some(STUCK))?;
    stream.set_write_timeout(Some(STUCK))?;
    let mut chunk = vec![0; CHUNK];
    match direction {
        Direction::Up => {
            stream.write_all(b"u")?;
            while begun.elapsed() < length {
                stream.write_all(&chunk)?;
            }
            stream.shutdown(Shutdown::Write)?;
            // What counts is what has arrived, and when.
            let mut total = [0; 8];
            stream.read_exact(&mut total)?;
            Ok((u64::from_be_bytes(total), begun.elapsed()))
        }
        Direction::Down => {
            stream.write_all(b"d")?;
            let mut total = 0;
            while begun.elapsed() < length {
                match stream.read(&mut chunk)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    length => total += length as u64,
                }
            }
            let took = begun.elapsed();
            end_abruptly(&stream);
            Ok((total, took))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn what_arrives_is_counted_both_ways() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            listener.incoming().for_each(|connection| drop(thread::spawn(|| serve_one(connection.unwrap()))))
        });
        for direction in [Direction::Up, Direction::Down] {
            let stream = TcpStream::connect(address).unwrap();
            let (bytes, took) = run(stream, direction, Instant::now(), Duration::from_millis(50)).unwrap();
            assert!(bytes >= CHUNK as u64 / 4, "{direction:?}: {bytes} bytes");
            assert!(took >= Duration::from_millis(50));
        }
    }
}
