//! What the sockets of the service port tell about `sshd`, without asking it anything.
//!
//! `sshd` speaks first. So of a connection to which it has sent nothing yet, somebody waits for it: in the accept queue,
//! or for the process that shall serve it.

use super::queue::Remote;
use netlink_packet_sock_diag::constants::{IPPROTO_TCP, TCP_CLOSE_WAIT, TCP_ESTABLISHED, TCP_LISTEN};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetResponse, SocketId, StateFlags};
use onevip_host::sockets::{Wanted, dump};
use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// `last_data_sent` in the kernel's `struct tcp_info`: for a socket that has sent nothing, milliseconds of its life.
const LAST_DATA_SENT: usize = 44;
/// `bytes_received` in `struct tcp_info`.
const BYTES_RECEIVED: usize = 128;
/// `data_segs_out` in `struct tcp_info`, since Linux 4.6.
const DATA_SEGS_OUT: usize = 156;
/// A client that has sent less has not logged in: the key exchange alone takes about as much.
const LOGIN_BYTES: u64 = 2000;

/// What was seen at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketSnapshot {
    /// Whether anything listens.
    pub listens: bool,
    /// Connections that wait to be accepted.
    pub queue: u32,
    /// How long clients have been waiting for their first bytes, those that still do.
    pub waits: Vec<Duration>,
    /// Connections that were not there at the last look, and have got their first bytes.
    pub served: usize,
    /// Connections on which nobody has logged in yet.
    pub strangers: usize,
    /// Connections that came since the last look and were ended by this side, as far as that leaves a trace: one on
    /// which the client had spoken already is reset, and only the host's count of those tells of it. Clues, not proof.
    pub ended: u64,
    /// The kernel does not tell of its sockets.
    pub blind: bool,
}

/// Looks, and remembers whom it saw.
#[derive(Debug)]
pub struct Snapshotter {
    port: u16,
    /// The family of the connections that count, if not both do.
    family: Option<IpFamily>,
    known: Option<HashSet<Remote>>,
    /// Connections that this side has ended, and that the kernel still remembers (`TIME_WAIT` lasts a minute).
    ended: HashSet<Remote>,
    resets: Option<u64>,
}

impl Snapshotter {
    /// For a port.
    pub fn new(port: u16) -> Self {
        Self { port, family: None, known: None, ended: HashSet::new(), resets: None }
    }

    /// Connections to this family of addresses alone.
    pub fn only(self, family: IpFamily) -> Self {
        Self { family: Some(family), ..self }
    }

    /// Looks at listeners and connections. A walk through all sockets of the host, so not for every moment.
    ///
    /// # Errors
    /// The kernel's.
    pub fn look(&mut self) -> io::Result<SocketSnapshot> {
        let ends = StateFlags::FIN_WAIT1 | StateFlags::FIN_WAIT2 | StateFlags::TIME_WAIT;
        let states = StateFlags::LISTEN | StateFlags::ESTABLISHED | StateFlags::CLOSE_WAIT | ends;
        let wanted = Wanted { extensions: ExtensionFlags::INFO, ..self.wanted(states) };
        let (mut snapshot, mut here) = (SocketSnapshot::default(), HashSet::new());
        let mut ended = HashSet::new();
        dump(&wanted, |socket| -> Option<()> {
            let id = &socket.header.socket_id;
            match socket.header.state {
                TCP_LISTEN if !self.counts_listener(id.source_address) => {}
                TCP_LISTEN => {
                    snapshot.listens = true;
                    snapshot.queue += socket.header.recv_queue;
                }
                _ if self.family.is_some_and(|family| family != IpFamily::of(id.source_address)) => {}
                TCP_ESTABLISHED | TCP_CLOSE_WAIT => self.note(socket, &mut snapshot, &mut here),
                _ if remote(id).0 == id.source_address.to_canonical() => {}
                _ => drop(ended.insert(remote(id))),
            }
            None
        })?;
        let resets = resets_by_this_side();
        if let Some(known) = &self.known {
            let news = ended.iter().filter(|end| !known.contains(end) && !self.ended.contains(end)).count();
            let more = resets.zip(self.resets).map_or(0, |(now, before)| now.saturating_sub(before));
            snapshot.ended = news as u64 + more;
        }
        (self.ended, self.resets) = (ended, resets);
        self.known = Some(here);
        Ok(snapshot)
    }

    /// Looks at listeners only: cheap. Connections count as not there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn glance(&self) -> io::Result<SocketSnapshot> {
        let queues = dump(&self.wanted(StateFlags::LISTEN), |listener| {
            let header = &listener.header;
            self.counts_listener(header.socket_id.source_address).then_some(header.recv_queue)
        })?;
        Ok(SocketSnapshot {
            listens: !queues.is_empty(),
            queue: queues.iter().sum(),
            ..SocketSnapshot::default()
        })
    }

    /// Looks who waits to be accepted at these addresses of this host: strangers, and questions of our own. Whoever has
    /// gone again is not seen, though in the queue.
    ///
    /// # Errors
    /// The kernel's.
    pub fn waiting(&self, addresses: &[IpAddr]) -> io::Result<HashSet<Remote>> {
        let waiting = dump(&self.wanted(StateFlags::ESTABLISHED | StateFlags::CLOSE_WAIT), |socket| {
            let id = &socket.header.socket_id;
            // An inode comes with the file descriptor.
            let waits = socket.header.inode == 0 && addresses.contains(&id.source_address.to_canonical());
            waits.then(|| remote(id))
        })?;
        Ok(waiting.into_iter().collect())
    }

    /// A listener at `::` may take connections of both families.
    fn counts_listener(&self, address: IpAddr) -> bool {
        let both = address.is_ipv6() && address.is_unspecified();
        both || self.family.is_none_or(|family| family == IpFamily::of(address))
    }

    fn wanted(&self, states: StateFlags) -> Wanted {
        Wanted { port: self.port, ..Wanted::all(IPPROTO_TCP, states) }
    }

    fn note(&self, socket: &InetResponse, snapshot: &mut SocketSnapshot, here: &mut HashSet<Remote>) {
        let id = &socket.header.socket_id;
        let remote = remote(id);
        if remote.0 == id.source_address.to_canonical() {
            return; // a question of our own, or somebody on this very host
        }
        let Some(info) = info(socket) else { return };
        let number = |at: usize| u32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
        let received = u64::from(number(BYTES_RECEIVED)) | u64::from(number(BYTES_RECEIVED + 4)) << 32;
        snapshot.strangers += usize::from(received < LOGIN_BYTES);
        if number(DATA_SEGS_OUT) == 0 {
            snapshot.waits.push(Duration::from_millis(u64::from(number(LAST_DATA_SENT))));
            return; // not known yet: when it is served, that is news
        }
        // At the first look everybody is new, and nobody was served just now.
        snapshot.served += usize::from(self.known.as_ref().is_some_and(|known| !known.contains(&remote)));
        here.insert(remote);
    }
}

/// A family of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IpFamily {
    /// IPv4, also where a socket of IPv6 serves it.
    V4,
    /// IPv6.
    V6,
}

impl IpFamily {
    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.to_canonical().is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl std::fmt::Display for IpFamily {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Self::V4 { "IPv4" } else { "IPv6" })
    }
}

/// How many connections of this host were closed before what the client had sent was read (`TCPAbortOnClose`): these
/// are reset, and leave no socket. Our probes are not among them.
fn resets_by_this_side() -> Option<u64> {
    netstat_field(&std::fs::read_to_string("/proc/thread-self/net/netstat").ok()?, "TCPAbortOnClose")
}

/// A number of `TcpExt` in `/proc/net/netstat`: a line of names, and a line of numbers in the same order.
fn netstat_field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, numbers) = (lines.next()?.split(' '), lines.next()?.split(' '));
    names.zip(numbers).find(|(found, _)| *found == name)?.1.parse().ok()
}

fn remote(id: &SocketId) -> Remote {
    (id.destination_address.to_canonical(), id.destination_port)
}

fn info(socket: &InetResponse) -> Option<&[u8]> {
    socket.nlas.iter().find_map(|nla| match nla {
        Nla::TcpInfo(bytes) if bytes.len() >= DATA_SEGS_OUT + 4 => Some(bytes.as_slice()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    /// A connection between two loopback addresses, as from another host.
    fn connect(port: u16) -> TcpStream {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
        use std::os::fd::AsRawFd;
        let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 9, 0)).unwrap();
        connect(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)).unwrap();
        fd.into()
    }

    #[test]
    fn whoever_waits_is_seen_until_the_first_bytes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut snapshotter = Snapshotter::new(port);
        assert_eq!(
            snapshotter.look().unwrap(),
            SocketSnapshot { listens: true, ..SocketSnapshot::default() }
        );
        let _client = connect(port);
        let snapshot = snapshotter.look().unwrap();
        assert!(
            (snapshot.queue, snapshot.strangers, snapshot.served) == (1, 1, 0) && snapshot.waits.len() == 1,
            "{snapshot:?}"
        );
        let (mut server, _) = listener.accept().unwrap();
        let snapshot = snapshotter.look().unwrap();
        assert!(snapshot.queue == 0 && snapshot.waits.len() == 1, "{snapshot:?}");
        server.write_all(b"SSH-2.0-x\r\n").unwrap();
        let snapshot = snapshotter.look().unwrap();
        assert_eq!((snapshot.waits.len(), snapshot.served), (0, 1));
        assert_eq!(snapshotter.look().unwrap().served, 0, "that was no news any more");
        drop(listener);
        assert!(!snapshotter.glance().unwrap().listens);
    }

    #[test]
    fn whoever_was_closed_without_a_word_is_seen_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut snapshotter = Snapshotter::new(port);
        assert_eq!(snapshotter.look().unwrap().ended, 0);
        let client = connect(port);
        drop(listener.accept().unwrap());
        assert!(snapshotter.look().unwrap().ended >= 1, "an orderly end");
        assert!(snapshotter.ended.len() == 1 && snapshotter.look().unwrap().served == 0);
        let resets = resets_by_this_side().unwrap();
        drop(client);
        let mut client = connect(port);
        client.write_all(b"SSH-2.0-client\r\n").unwrap();
        drop(listener.accept().unwrap());
        assert!(resets_by_this_side().unwrap() > resets, "with a reset");
        assert!(snapshotter.look().unwrap().ended >= 1);
    }

    #[test]
    fn a_family_counts_its_own_connections_only() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let _client = connect(port);
        for (family, strangers) in [(IpFamily::V4, 1), (IpFamily::V6, 0)] {
            assert_eq!(Snapshotter::new(port).only(family).look().unwrap().strangers, strangers, "{family}");
        }
    }

    #[test]
    fn a_field_of_netstat_is_found_by_its_name() {
        let text = "TcpExt: SyncookiesSent TCPAbortOnClose\nTcpExt: 3 17\nIpExt: InNoRoutes\nIpExt: 0\n";
        assert_eq!(netstat_field(text, "TCPAbortOnClose"), Some(17));
        assert_eq!(netstat_field(text, "InNoRoutes"), None);
    }

    #[test]
    fn own_questions_do_not_count() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let _own = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let snapshot = Snapshotter::new(port).look().unwrap();
        assert_eq!((snapshot.queue, snapshot.strangers, snapshot.waits.len()), (1, 0, 0));
    }

    #[test]
    fn whoever_is_not_accepted_is_known_by_name() {
        for (here, elsewhere) in [("127.0.0.1", "127.0.0.2"), ("::1", "::2")] {
            let [here, elsewhere]: [IpAddr; 2] = [here, elsewhere].map(|address| address.parse().unwrap());
            let listener = TcpListener::bind((here, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let waiting = |at| Snapshotter::new(port).waiting(&[at]).unwrap();
            let clients = [(); 2].map(|()| TcpStream::connect((here, port)).unwrap());
            let [first, second] = clients.each_ref().map(|client| client.local_addr().unwrap());
            let name = |of: std::net::SocketAddr| (of.ip(), of.port());
            assert_eq!(waiting(here), HashSet::from([name(first), name(second)]));
            let _served = listener.accept().unwrap();
            assert_eq!(waiting(here), HashSet::from([name(second)]), "accepted, though nothing was said");
            assert_eq!(waiting(elsewhere), HashSet::new(), "another address of this host");
        }
    }
}
