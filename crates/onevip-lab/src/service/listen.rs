//! Listening in both families: a listener for each, since one for both would see IPv4 clients through a socket of IPv6,
//! which no `sshd` does.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn6, bind, listen, setsockopt, socket, sockopt,
};

/// IPv4 and IPv6, on all addresses of the host, with room for so many connections that wait to be accepted.
///
/// # Errors
/// When the port is taken, or the host has no IPv6.
pub fn both_families(port: u16, backlog: i32) -> Result<[TcpListener; 2]> {
    let v4 = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        .with_context(|| format!("cannot listen on port {port}"))?;
    // Again, with more room than the standard library asks for.
    listen(&v4, Backlog::new(backlog)?)?;
    // A port of 0 is any port, and both have the same.
    let v6 = only_v6(v4.local_addr()?.port(), backlog)
        .with_context(|| format!("cannot listen on port {port} of IPv6"))?;
    Ok([v4, v6])
}

fn only_v6(port: u16, backlog: i32) -> nix::Result<TcpListener> {
    let socket: OwnedFd = socket(AddressFamily::Inet6, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    bind(socket.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0)))?;
    listen(&socket, Backlog::new(backlog)?)?;
    Ok(TcpListener::from(socket))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, TcpStream};

    use super::*;

    #[test]
    fn each_family_has_a_listener_of_its_own() {
        let [v4, v6] = both_families(0, 4).unwrap();
        let port = v4.local_addr().unwrap().port();
        for (listener, to) in [(v4, IpAddr::from(Ipv4Addr::LOCALHOST)), (v6, Ipv6Addr::LOCALHOST.into())] {
            let _client = TcpStream::connect((to, port)).unwrap();
            assert_eq!(listener.accept().unwrap().1.ip(), to);
        }
    }
}
