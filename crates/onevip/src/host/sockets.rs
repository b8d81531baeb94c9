//! Which TCP connections of the VIPs live on this host: the kernel's own answer, by `sock_diag`.
//!
//! The kernel's socket table is the connection table of the cluster; this is where it is read as a whole (the ingress
//! program asks it flow by flow). A dump of some thousand sockets takes milliseconds, so it has no place in the beat
//! loop.

use crate::host::netlink::{connected, dialogue};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{
    AF_INET, AF_INET6, IPPROTO_TCP, TCP_LISTEN, TCP_SYN_RECV, TCP_TIME_WAIT,
};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use onevip_core::Flow;
use std::io;

/// A TCP connection of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its addresses and ports; IPv4 as IPv4, also on a dual-stack socket.
    pub flow: Flow,
    /// How far it has come.
    pub stage: Stage,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its handshake is not complete.
    HalfOpen,
    /// It is a session, or ends as one.
    Session,
    /// It has ended; its socket only answers what the network still delivers of it.
    TimeWait,
}

/// All TCP connections of this network namespace, listeners left out.
///
/// # Errors
/// The kernel's: `sock_diag` is missing (`CONFIG_INET_DIAG`) or refused.
pub fn connections() -> io::Result<Vec<Connection>> {
    let found = dump(StateFlags::all() & !StateFlags::LISTEN, ExtensionFlags::empty())?;
    Ok(found
        .iter()
        .filter_map(|response| connection(&response.header.socket_id, response.header.state))
        .collect())
}

/// What the kernel says of all TCP sockets in these states, both families.
///
/// # Errors
/// As [`connections`].
pub(super) fn dump(states: StateFlags, extensions: ExtensionFlags) -> io::Result<Vec<InetResponse>> {
    let mut found = Vec::new();
    for (family, socket_id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        let socket = connected(NETLINK_SOCK_DIAG)?;
        let request = InetRequest {
            family,
            protocol: IPPROTO_TCP,
            extensions: extensions.clone(),
            states: states.clone(),
            socket_id,
        };
        let replies = dialogue(&socket, SockDiagMessage::InetRequest(request), NLM_F_REQUEST | NLM_F_DUMP)?;
        found.extend(replies.into_iter().filter_map(|reply| match reply {
            SockDiagMessage::InetResponse(response) => Some(*response),
            _ => None,
        }));
    }
    Ok(found)
}

fn connection(id: &SocketId, state: u8) -> Option<Connection> {
    (state != TCP_LISTEN).then(|| Connection {
        flow: Flow {
            remote: id.destination_address.to_canonical(),
            remote_port: id.destination_port,
            local: id.source_address.to_canonical(),
            local_port: id.source_port,
        },
        stage: match state {
            TCP_SYN_RECV => Stage::HalfOpen,
            TCP_TIME_WAIT => Stage::TimeWait,
            _ => Stage::Session,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_connection_is_seen_from_both_ends_and_a_listener_is_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (_server, _) = listener.accept().unwrap();
        let found = connections().unwrap();
        let ends: Vec<_> = found
            .iter()
            .filter(|c| c.flow.local_port == address.port() || c.flow.remote_port == address.port())
            .collect();
        assert_eq!(ends.len(), 2, "{ends:?}");
        assert!(ends.iter().all(|c| c.stage == Stage::Session));
        assert!(ends.iter().any(|c| c.flow.local_port == client.local_addr().unwrap().port()));
    }

    #[test]
    fn ipv4_on_a_dual_stack_socket_is_ipv4() {
        let Ok(listener) = TcpListener::bind("[::]:0") else { return };
        let port = listener.local_addr().unwrap().port();
        let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (_server, _) = listener.accept().unwrap();
        let found = connections().unwrap();
        assert!(found.iter().any(|c| c.flow.local_port == port && c.flow.local.is_ipv4()));
    }
}
