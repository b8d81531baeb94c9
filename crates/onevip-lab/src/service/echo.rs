//! The lab's own service: greets with one byte, the node's number, and sends back whatever arrives.
//!
//! One process a node, a single thread around `epoll`, so that thousands of connections a second cost little. It
//! belongs to the node: it is frozen, starved and killed with it. (`onevip-lab echo` is what runs there.)

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use anyhow::Result;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::listen::both_families;
use crate::plan::Name;
use crate::process::go_first;

/// Where it listens (RFC 862 gave echo this port).
pub const PORT: u16 = 7;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// Most of one connection that is sent back at once, in bytes.
const CHUNK: usize = 2048;
/// By what `epoll` knows the listeners; connections go by their descriptors, which are small.
const LISTENERS: [u64; 2] = [u64::MAX - 1, u64::MAX];

/// Starts the service on a node and waits until it listens.
///
/// # Errors
/// When it does not start: then with the end of its log.
pub fn start(name: &Name, id: u8) -> Result<()> {
    super::start(name, id, &["echo", &id.to_string()], PORT)
}

/// Serves for ever, as the node of this number.
///
/// # Errors
/// When the port is taken or the kernel refuses `epoll`.
pub fn serve(id: u8) -> Result<()> {
    go_first();
    let listeners = both_families(PORT, BACKLOG)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    for (listener, key) in listeners.iter().zip(LISTENERS) {
        listener.set_nonblocking(true)?;
        epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, key))?;
    }
    let mut connections: HashMap<u64, TcpStream> = HashMap::new();
    let mut events = [EpollEvent::empty(); 64];
    loop {
        let ready = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            ready => ready?,
        };
        for event in &events[..ready] {
            if let Some(which) = LISTENERS.iter().position(|key| *key == event.data()) {
                accept_all(&listeners[which], id, &epoll, &mut connections)?;
            } else if connections.get_mut(&event.data()).is_some_and(|connection| !answer(connection)) {
                connections.remove(&event.data());
            }
        }
    }
}

fn accept_all(
    listener: &TcpListener,
    id: u8,
    epoll: &Epoll,
    connections: &mut HashMap<u64, TcpStream>,
) -> io::Result<()> {
    loop {
        let mut connection = match listener.accept() {
            Ok((connection, _)) => connection,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // Gone again before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        connection.set_nonblocking(true)?;
        connection.set_nodelay(true)?;
        if connection.write_all(&[id]).is_err() {
            continue;
        }
        let key = u64::from(connection.as_raw_fd().unsigned_abs());
        epoll.add(&connection, EpollEvent::new(EpollFlags::EPOLLIN, key))?;
        connections.insert(key, connection);
    }
}

/// Sends back what has arrived; false when the connection has ended (or its client does not read).
fn answer(connection: &mut TcpStream) -> bool {
    let mut bytes = [0; CHUNK];
    match connection.read(&mut bytes) {
        Ok(0) => false,
        Ok(length) => connection.write_all(&bytes[..length]).is_ok(),
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}
