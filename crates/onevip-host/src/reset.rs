//! Resets the TCP connections of a VIP that is about to leave this host.
//!
//! With its address gone a session would freeze until its client gives up: nothing tells either end. So the kernel is
//! told to end the sockets (`SOCK_DESTROY`) while the address is still there and the programs still pass it: their clients
//! get a reset at once. Nothing else is touched: no listener, no UDP, no socket of another address.

use super::netlink::{connected, dialogue_each};
use super::sockets::{Wanted, dump};
use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST};
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, TCP_SYN_RECV};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_packet_sock_diag::{SockDiagDestroy, SockDiagMessage};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use std::io;
use std::net::IpAddr;

/// How often sockets are looked for: between a look and its resets another connection may have come.
const ROUNDS: usize = 3;

/// The socket of a connection.
struct Connection {
    family: u8,
    id: SocketId,
    /// Somebody from elsewhere is logged in by it, rather than about to be.
    is_session: bool,
}

/// Resets all connections of these addresses. `say` is told before how many sessions that ends, if any, and what could not be done.
pub fn sessions_of(addresses: &[IpAddr], say: impl FnMut(&str)) {
    if !addresses.is_empty() {
        reset(addresses, say);
    }
}

fn reset(addresses: &[IpAddr], mut say: impl FnMut(&str)) {
    let mut told = false;
    for _ in 0..ROUNDS {
        let connections = match connections(addresses) {
            Ok(connections) if connections.is_empty() => return,
            Ok(connections) => connections,
            Err(error) => {
                return say(&format!("cannot look for sessions to reset: {error}; any there freeze"));
            }
        };
        let sessions = connections.iter().filter(|connection| connection.is_session).count();
        if sessions > 0 && !std::mem::replace(&mut told, true) {
            say(&format!("resetting {sessions} session{}", if sessions == 1 { "" } else { "s" }));
        }
        if let Err(error) = connections.into_iter().try_for_each(destroy) {
            let why = match error.raw_os_error() {
                Some(libc::EOPNOTSUPP) => "this kernel cannot (it lacks CONFIG_INET_DIAG_DESTROY)".to_owned(),
                _ => error.to_string(),
            };
            return say(&format!("cannot reset them: {why}; they freeze until their clients give up"));
        }
    }
}

/// The connections whose own end is one of these addresses, IPv4 also on sockets of IPv6.
fn connections(addresses: &[IpAddr]) -> io::Result<Vec<Connection>> {
    let idle = StateFlags::LISTEN | StateFlags::TIME_WAIT | StateFlags::CLOSE;
    let connection = |response: &InetResponse| {
        let (header, id) = (&response.header, &response.header.socket_id);
        addresses.contains(&id.source_address.to_canonical()).then(|| Connection {
            family: header.family,
            id: id.clone(),
            is_session: header.state != TCP_SYN_RECV && id.source_address != id.destination_address,
        })
    };
    dump(&Wanted::all(IPPROTO_TCP, StateFlags::all() & !idle), connection)
}

/// Ends a socket, and resets its peer. Quiet when it has ended by itself.
fn destroy(connection: Connection) -> io::Result<()> {
    debug_assert!([AF_INET, AF_INET6].contains(&connection.family));
    let request = SockDiagMessage::InetRequest(InetRequest {
        family: connection.family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id: connection.id,
    });
    let socket = connected(NETLINK_SOCK_DIAG)?;
    match dialogue_each(&socket, SockDiagDestroy::new(request), NLM_F_REQUEST | NLM_F_ACK, drop) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
