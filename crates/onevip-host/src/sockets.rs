//! Which TCP connections of the VIPs live on this host: the kernel's own answer, by `sock_diag`.
//!
//! The kernel's socket table is the connection table of the cluster; this is where it is read as a whole (the ingress
//! program asks it flow by flow). A dump of some thousand sockets takes milliseconds, so it has no place in the beat
//! loop.

use crate::netlink::{connected, dialogue_each};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{
    AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP, TCP_LISTEN, TCP_SYN_RECV, TCP_TIME_WAIT,
};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use onevip_core::{Answerer, Flow, Selector, Transport};
use std::io;
use std::net::IpAddr;

/// A TCP connection of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its addresses and ports; IPv4 as IPv4, also on a dual-stack socket.
    pub flow: Flow,
    /// How far it has come.
    pub phase: TcpPhase,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpPhase {
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
    let all = Wanted::all(IPPROTO_TCP, StateFlags::all() & !StateFlags::LISTEN);
    dump(&all, |response| connection(&response.header.socket_id, response.header.state))
}

/// A UDP socket of this network namespace that is bound to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The address; unspecified for all.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its inode.
    pub inode: u32,
}

/// All UDP sockets of this network namespace.
///
/// # Errors
/// The kernel's: `sock_diag` is refused. One that cannot tell of UDP (`CONFIG_INET_UDP_DIAG`) tells of none.
pub fn bound() -> io::Result<Vec<Bound>> {
    let bound = |response: &InetResponse| Bound {
        address: response.header.socket_id.source_address.to_canonical(),
        port: response.header.socket_id.source_port,
        inode: response.header.inode,
    };
    match dump(&Wanted::all(IPPROTO_UDP, StateFlags::all()), |response| Some(bound(response))) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
        found => found,
    }
}

/// Those on which a session of a VIP lives: bound to its address, on a port of this node's slice of a service that is
/// answered by sockets. (A socket bound to all addresses answers from another than the VIP, so that none can live on it; and
/// anybody may have one there, as the port of a question.)
pub fn by_socket<'a>(
    bound: &'a [Bound],
    addresses: &'a [IpAddr],
    selector: &'a Selector,
) -> impl Iterator<Item = &'a Bound> {
    bound.iter().filter(|socket| {
        let service = selector.service(Transport::Udp, socket.port);
        let own = service.is_some_and(
            |service| matches!(service.answerer, Answerer::Socket(slice) if slice.contains(socket.port)),
        );
        own && addresses.contains(&socket.address)
    })
}

/// Of which sockets the kernel shall tell, and what.
pub struct Wanted {
    /// `IPPROTO_TCP` or `IPPROTO_UDP`.
    pub protocol: u8,
    /// In these states.
    pub states: StateFlags,
    /// On this local port; 0 for all.
    pub port: u16,
    /// What else to tell.
    pub extensions: ExtensionFlags,
}

impl Wanted {
    /// All of a protocol in these states.
    pub fn all(protocol: u8, states: StateFlags) -> Self {
        Self { protocol, states, port: 0, extensions: ExtensionFlags::empty() }
    }
}

/// What the kernel says of sockets, both families, as far as it is picked. Nothing else is kept: a host may have many.
///
/// # Errors
/// As [`connections`].
pub fn dump<T>(wanted: &Wanted, mut pick: impl FnMut(&InetResponse) -> Option<T>) -> io::Result<Vec<T>> {
    let mut found = Vec::new();
    for (family, mut socket_id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        socket_id.source_port = wanted.port;
        let socket = connected(NETLINK_SOCK_DIAG)?;
        let request = InetRequest {
            family,
            protocol: wanted.protocol,
            extensions: wanted.extensions.clone(),
            states: wanted.states.clone(),
            socket_id,
        };
        let request = SockDiagMessage::InetRequest(request);
        dialogue_each(&socket, request, NLM_F_REQUEST | NLM_F_DUMP, |reply| {
            if let SockDiagMessage::InetResponse(response) = reply {
                found.extend(pick(&response));
            }
        })?;
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
        phase: match state {
            TCP_SYN_RECV => TcpPhase::HalfOpen,
            TCP_TIME_WAIT => TcpPhase::TimeWait,
            _ => TcpPhase::Session,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use onevip_core::{HashMode, Hasher, NodeId, Service, Slice};
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
        assert!(ends.iter().all(|c| c.phase == TcpPhase::Session));
        assert!(ends.iter().any(|c| c.flow.local_port == client.local_addr().unwrap().port()));
    }

    #[test]
    fn sessions_live_on_the_vips_own_sockets_in_this_nodes_slice() {
        let slice = Slice::of(NodeId::new(3).unwrap(), 16).unwrap();
        let mosh = Service {
            transport: Transport::Udp,
            ports: 60000..=60999,
            mode: HashMode::SourceIp,
            answerer: Answerer::Socket(slice),
            limit: None,
        };
        let selector = Selector { services: vec![mosh], ..Selector::uniform(Hasher::DEFAULT) };
        let vip: IpAddr = "198.51.100.10".parse().unwrap();
        let socket = |address: IpAddr, port| Bound { address, port, inode: 1 };
        let all = [
            socket(vip, 60002),
            socket(vip, 60018),
            socket(vip, 60001),
            socket(vip, 53),
            socket("0.0.0.0".parse().unwrap(), 60034),
        ];
        let found: Vec<u16> = by_socket(&all, &[vip], &selector).map(|socket| socket.port).collect();
        assert_eq!(found, [60002, 60018]);
    }

    #[test]
    fn a_datagram_socket_is_seen() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let all = bound().unwrap();
        assert!(all.iter().any(|bound| (bound.address, bound.port) == (address.ip(), address.port())));
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
