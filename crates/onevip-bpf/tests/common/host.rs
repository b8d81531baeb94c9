//! A host with real sockets: the VIP on one end of a veth pair, and the test as all its clients on the other.
//!
//! No program is attached to the pair, so that sockets come into being by the stack's own rules; the programs are run
//! over frames by `BPF_PROG_TEST_RUN` and look those sockets up.

use super::frame::{self, ACK, FIN, SYN};
use super::{VIP, VIP6, run, vip_for, wait_until};
use nix::net::if_::if_nametoindex;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

pub const NODE: &str = "node0";
pub const PEER: &str = "wire0";
pub const SSH: u16 = 22;
/// The sequence number with which every client begins.
pub const CLIENT_ISN: u32 = 7_000_000;

/// `st` of /proc/net/tcp.
pub const ESTABLISHED: &str = "01";
pub const SYN_SENT: &str = "02";
pub const SYN_RECV: &str = "03";
pub const TIME_WAIT: &str = "06";

/// Makes the veth pair: `node0` is the service interface, the test sends and listens on `wire0`.
pub fn veth() {
    run(&format!("ip link add {NODE} type veth peer name {PEER}"));
    run(&format!("ip link set {NODE} up"));
    run(&format!("ip link set {PEER} up"));
}

/// The wire that leads to the node.
pub struct Wire(OwnedFd);

impl Wire {
    pub fn open() -> Self {
        let all = i32::from(0x0003u16.to_be());
        // SAFETY: plain system call without pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK, all) };
        assert!(fd >= 0);
        // SAFETY: the descriptor is new.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: 0x0003u16.to_be(),
            sll_ifindex: if_nametoindex(PEER).unwrap() as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let (pointer, len) = (std::ptr::from_ref(&address).cast(), size_of::<libc::sockaddr_ll>() as u32);
        // SAFETY: the address is alive and as long as said.
        assert_eq!(unsafe { libc::bind(socket.as_raw_fd(), pointer, len) }, 0);
        Self(socket)
    }

    pub fn send(&self, frame: &[u8]) {
        assert_eq!(nix::unistd::write(&self.0, frame).unwrap(), frame.len());
    }

    /// A wire whose frames arrive with nothing but their Ethernet header in one piece: the kernel puts what lies
    /// beyond the announced header length of a large frame into pages of its own.
    pub fn open_scattering() -> Self {
        const PACKET_VNET_HDR: libc::c_int = 15;
        let wire = Self::open();
        let (on, len) = (1 as libc::c_int, size_of::<libc::c_int>() as u32);
        // SAFETY: the option value is alive and as long as said.
        let set = unsafe {
            let value = std::ptr::from_ref(&on).cast();
            libc::setsockopt(wire.0.as_raw_fd(), libc::SOL_PACKET, PACKET_VNET_HDR, value, len)
        };
        assert_eq!(set, 0);
        wire
    }

    /// Sends a frame of more than a page over such a wire.
    pub fn send_scattered(&self, frame: &[u8]) {
        assert!(frame.len() > 4096);
        // struct virtio_net_hdr: no flags, no segmentation, 14 bytes of headers.
        let header = [0u8, 0, 14, 0, 0, 0, 0, 0, 0, 0];
        self.send(&[&header, frame].concat());
    }

    /// The next frame that came from the node, if any is there.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = [0u8; 2048];
        nix::unistd::read(&self.0, &mut buffer).ok().map(|len| buffer[..len].to_vec())
    }
}

/// The host and its clients.
pub struct Host {
    wire: Wire,
    mac: [u8; 6],
    /// One for each family.
    listeners: [TcpListener; 2],
    streams: Vec<TcpStream>,
}

/// What the host's server listens with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listener {
    Tcp,
    /// As programs in Go do by default, and whatever `mptcpize` starts. Clients of plain TCP are served as well.
    Mptcp,
}

impl Listener {
    fn open(self, address: IpAddr) -> TcpListener {
        use nix::sys::socket::{Backlog, SockaddrStorage, bind, listen};
        const IPPROTO_MPTCP: libc::c_int = 262;
        if self == Self::Tcp {
            return TcpListener::bind((address, SSH)).unwrap();
        }
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        // SAFETY: plain system call without pointers.
        let fd = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, IPPROTO_MPTCP) };
        assert!(fd >= 0, "MPTCP: {}", std::io::Error::last_os_error());
        // SAFETY: the descriptor is new.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        bind(fd, &SockaddrStorage::from(SocketAddr::new(address, SSH))).unwrap();
        listen(&socket, Backlog::new(16).unwrap()).unwrap();
        TcpListener::from(socket)
    }
}

impl Host {
    /// A host that listens on the VIP's port 22.
    pub fn new() -> Self {
        Self::listening(Listener::Tcp)
    }

    /// A host that listens so on the VIP's port 22.
    pub fn listening(listener: Listener) -> Self {
        veth();
        run(&format!("ip address add 198.51.100.1/24 dev {NODE}"));
        run(&format!("ip address add {VIP}/32 dev {NODE}"));
        run(&format!("ip address add 2001:db8::1/64 dev {NODE} nodad"));
        run(&format!("ip address add {VIP6}/128 dev {NODE} nodad preferred_lft 0"));
        for interface in ["all", NODE] {
            sysctl(&format!("net/ipv4/conf/{interface}/rp_filter"), "0");
        }
        let listeners = [IpAddr::from(VIP), VIP6.into()].map(|address| listener.open(address));
        Self { wire: Wire::open(), mac: mac_of(NODE), listeners, streams: Vec::new() }
    }

    /// Makes the stack believe in a client on the wire.
    fn introduce(&self, client: IpAddr) {
        let mac = frame::CLIENT_MAC.map(|byte| format!("{byte:02x}")).join(":");
        run(&format!("ip neighbour replace {client} lladdr {mac} nud permanent dev {NODE}"));
    }

    /// Sends a segment with a checksum that the stack accepts.
    fn send(&self, client: IpAddr, port: u16, flags: u8, seq: u32, ack: u32) {
        let mut frame =
            frame::to_vip(client, 6, &frame::tcp_with_checksum(client, port, SSH, flags, seq, ack));
        frame[..6].copy_from_slice(&self.mac);
        self.wire.send(&frame);
    }

    /// Puts a frame on the wire, addressed to the node's own MAC.
    pub fn deliver(&self, frame: &[u8]) {
        let mut frame = frame.to_vec();
        frame[..6].copy_from_slice(&self.mac);
        self.wire.send(&frame);
    }

    /// Sends a SYN and returns the sequence number of the SYN-ACK: the handshake is half done.
    pub fn half_open(&self, client: IpAddr, port: u16) -> u32 {
        self.introduce(client);
        self.send(client, port, SYN, CLIENT_ISN, 0);
        self.await_segment(client, port, SYN | ACK)
    }

    /// Opens a connection; returns the sequence number of the host's SYN-ACK.
    pub fn connect(&mut self, client: IpAddr, port: u16) -> u32 {
        let isn = self.half_open(client, port);
        self.send(client, port, ACK, CLIENT_ISN + 1, isn.wrapping_add(1));
        self.streams.push(self.listeners[usize::from(client.is_ipv6())].accept().unwrap().0);
        assert_eq!(state_of(client, port).as_deref(), Some(ESTABLISHED));
        isn
    }

    /// Leaves a TIME_WAIT socket behind: the host closes first.
    pub fn time_wait(&mut self, client: IpAddr, port: u16) {
        let isn = self.connect(client, port);
        drop(self.streams.pop());
        let fin = self.await_segment(client, port, FIN | ACK);
        assert_eq!(fin, isn.wrapping_add(1));
        self.send(client, port, FIN | ACK, CLIENT_ISN + 1, fin.wrapping_add(1));
        wait_until("the socket is in TIME_WAIT", || state_of(client, port).as_deref() == Some(TIME_WAIT));
    }

    /// Begins a connection from the VIP to a client that does not answer; returns the socket and its own port.
    pub fn syn_sent(&self, client: IpAddr, client_port: u16) -> (OwnedFd, u16) {
        self.introduce(client);
        begin_connection(vip_for(client), client, client_port)
    }

    /// The sequence number of the next segment to a client with exactly these flags.
    fn await_segment(&self, client: IpAddr, port: u16, flags: u8) -> u32 {
        let mut found = None;
        wait_until("the host sends a segment", || {
            while let Some(frame) = self.wire.receive() {
                let (ethertype, dest, tcp) = match client {
                    IpAddr::V4(v4) => ([0x08, 0x00], (30, v4.octets().to_vec()), 34),
                    IpAddr::V6(v6) => ([0x86, 0xdd], (38, v6.octets().to_vec()), 54),
                };
                let to_client = frame.len() >= tcp + 20
                    && frame[12..14] == ethertype
                    && frame[dest.0..].starts_with(&dest.1);
                if to_client
                    && frame[tcp + 2..tcp + 4] == port.to_be_bytes()
                    && frame[tcp + 13] & 0x17 == flags
                {
                    let seq = &frame[tcp + 4..tcp + 8];
                    found = Some(u32::from_be_bytes([seq[0], seq[1], seq[2], seq[3]]));
                }
            }
            found.is_some()
        });
        found.unwrap()
    }
}

/// Begins a connection from an address of this host; returns the socket and its own port.
pub fn begin_connection(from: IpAddr, to: IpAddr, to_port: u16) -> (OwnedFd, u16) {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, getsockname, socket,
    };
    let family = if from.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).unwrap();
    let at = |address: IpAddr, port| SockaddrStorage::from(SocketAddr::new(address, port));
    bind(fd.as_raw_fd(), &at(from, 0)).unwrap();
    assert_eq!(connect(fd.as_raw_fd(), &at(to, to_port)), Err(nix::errno::Errno::EINPROGRESS));
    let own = getsockname::<SockaddrStorage>(fd.as_raw_fd()).unwrap();
    let port = match (own.as_sockaddr_in(), own.as_sockaddr_in6()) {
        (Some(v4), _) => v4.port(),
        (_, Some(v6)) => v6.port(),
        _ => panic!("neither family"),
    };
    (fd, port)
}

/// The state of the VIP's socket for this client, as /proc/net/tcp and tcp6 have it.
pub fn state_of(client: IpAddr, port: u16) -> Option<String> {
    let (file, octets) = match client {
        IpAddr::V4(v4) => ("tcp", v4.octets().to_vec()),
        IpAddr::V6(v6) => ("tcp6", v6.octets().to_vec()),
    };
    let words = octets.chunks(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap()));
    let address: String = words.map(|word| format!("{word:08X}")).collect();
    let wanted = format!("{address}:{port:04X}");
    let table = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(2);
        (fields.next()? == wanted).then(|| fields.next().map(str::to_owned))?
    })
}

pub fn sysctl(name: &str, value: &str) {
    fs::write(format!("/proc/sys/{name}"), value).unwrap();
}

pub fn mac_of(interface: &str) -> [u8; 6] {
    let shown = run(&format!("ip -brief link show dev {interface}"));
    let text = shown.split_whitespace().nth(2).unwrap();
    let bytes: Vec<u8> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}
