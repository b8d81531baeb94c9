//! Connecting from a given address of a host: waiting for the connection, or only beginning it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect as connect_socket, setsockopt, socket,
    sockopt,
};

/// Begins a connection in the namespace of the calling thread. The stream does not block; it is there once it can be
/// written to or read from.
///
/// # Errors
/// When the address is not there, or there is no way to the target.
pub fn dial(from: Ipv4Addr, to: SocketAddrV4) -> io::Result<TcpStream> {
    let stream = bound(from.into(), SockFlag::SOCK_NONBLOCK)?;
    stream.set_nodelay(true)?;
    match connect_socket(stream.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(stream),
        Err(error) => Err(error.into()),
    }
}

/// A connection in the namespace of the calling thread, to an address of the same family.
///
/// # Errors
/// When the address is not there, there is no way to the target, or nobody listens.
pub fn connect(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    connect_bound(bound(from, SockFlag::empty())?, to)
}

/// [`connect`], and neither that nor anything that is said later takes longer than `patience`.
///
/// # Errors
/// As [`connect`], and when it takes longer.
pub fn connect_within(from: IpAddr, to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let stream = bound(from, SockFlag::empty())?;
    // It bounds connecting as well (socket(7), SO_SNDTIMEO).
    stream.set_write_timeout(Some(patience))?;
    stream.set_read_timeout(Some(patience))?;
    connect_bound(stream, to)
}

fn connect_bound(stream: TcpStream, to: SocketAddr) -> io::Result<TcpStream> {
    connect_socket(stream.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(stream)
}

/// A socket with an address and a port that the kernel chooses.
fn bound(from: IpAddr, flags: SockFlag) -> io::Result<TcpStream> {
    let family = if from.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket: OwnedFd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | flags, None)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0)))?;
    Ok(TcpStream::from(socket))
}

/// Makes closing a stream a reset: nothing of it stays behind on either side.
pub fn end_abruptly(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // A socket that is dead already needs no option.
    let _ = setsockopt(stream, sockopt::Linger, &linger);
}
