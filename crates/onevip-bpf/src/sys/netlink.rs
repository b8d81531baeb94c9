//! clsact, for kernels without tcx: the few rtnetlink requests that put a program into a filter.
//!
//! Our filters have a preference and a handle of their own, so they neither replace nor are replaced by anybody
//! else's, and a filter is only ever touched when it also carries our program's name.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The direction of the packets that a program or filter sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TcDirection {
    Ingress,
    Egress,
}

impl TcDirection {
    pub(crate) const BOTH: [TcDirection; 2] = [TcDirection::Egress, TcDirection::Ingress];

    pub(crate) const fn word(self) -> &'static str {
        match self {
            TcDirection::Ingress => "ingress",
            TcDirection::Egress => "egress",
        }
    }

    /// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS or _EGRESS)`.
    const fn parent(self) -> u32 {
        match self {
            TcDirection::Ingress => 0xffff_fff2,
            TcDirection::Egress => 0xffff_fff3,
        }
    }
}

/// Ours is the first filter that sees a packet: beats must reach the daemon before any firewall.
const PREFERENCE: u32 = 1;
/// "onev" and "onew": nobody chooses these by accident. Two, because of several filters of one preference the newest is
/// the first: to be first again one is added under the other handle before the old one goes.
const HANDLES: [u32; 2] = [0x6f6e_6576, 0x6f6e_6577];
const ALL_PROTOCOLS: u16 = 0x0003u16.to_be();
const CLSACT_PARENT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
const NESTED: u16 = 1 << 15;
const DIRECT_ACTION: u32 = 1;

const HEADER_LEN: usize = 16;
const TCMSG_LEN: usize = 20;
const IFINFOMSG_LEN: usize = 16;
const IFLA_XDP: u16 = 43;
/// `IFLA_XDP_PROG_ID`, and where there are several modes at once `IFLA_XDP_DRV_PROG_ID` and `IFLA_XDP_SKB_PROG_ID`.
const IFLA_XDP_IDS: [u16; 3] = [4, 5, 6];

/// A BPF filter of our preference, as the kernel describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Filter {
    handle: u32,
    pub name: String,
    pub program_id: u32,
}

impl Filter {
    /// Whether an onevip put it there.
    pub(crate) fn is_ours(&self) -> bool {
        HANDLES.contains(&self.handle)
    }
}

/// A socket to the kernel's traffic control, in the namespace of the thread that opened it.
pub(crate) struct TrafficControl {
    socket: OwnedFd,
    sequence: u32,
}

impl TrafficControl {
    pub(crate) fn open() -> io::Result<Self> {
        // SAFETY: plain system call without pointers.
        let fd = unsafe {
            libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        Ok(Self { socket: unsafe { OwnedFd::from_raw_fd(fd) }, sequence: 0 })
    }

    /// Makes a clsact qdisc; false when there is one (or an ingress qdisc, which sits in the same place) already.
    pub(crate) fn qdisc_make(&mut self, ifindex: u32) -> io::Result<bool> {
        let mut request = TcRequest::new(libc::RTM_NEWQDISC, libc::NLM_F_CREATE | libc::NLM_F_EXCL, ifindex);
        request.tcmsg(CLSACT_HANDLE, CLSACT_PARENT, 0);
        request.attribute(TCA_KIND, b"clsact\0");
        match self.run(request) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes the clsact qdisc and everything in it.
    pub(crate) fn qdisc_remove(&mut self, ifindex: u32) -> io::Result<()> {
        let mut request = TcRequest::new(libc::RTM_DELQDISC, 0, ifindex);
        request.tcmsg(CLSACT_HANDLE, CLSACT_PARENT, 0);
        self.run(request).map(drop)
    }

    /// Makes `program` the first filter of its direction, in place of what is ours there, without a gap.
    pub(crate) fn filter_put_first(
        &mut self,
        ifindex: u32,
        direction: TcDirection,
        program: BorrowedFd<'_>,
        name: &str,
    ) -> io::Result<()> {
        let filters = self.filters(ifindex, direction)?;
        // A filter that is replaced keeps its place; one under a new handle becomes the first.
        let handle = match filters.first() {
            Some(first) if first.is_ours() => first.handle,
            _ => {
                let free = HANDLES.into_iter().find(|handle| filters.iter().all(|f| f.handle != *handle));
                free.unwrap_or(HANDLES[0])
            }
        };
        let mut request =
            TcRequest::filter(libc::RTM_NEWTFILTER, libc::NLM_F_CREATE, ifindex, direction, handle);
        request.attribute(TCA_KIND, b"bpf\0");
        let options = request.nest_begin(TCA_OPTIONS);
        request.attribute(TCA_BPF_FD, &(program.as_raw_fd() as u32).to_ne_bytes());
        request.attribute(TCA_BPF_NAME, &[name.as_bytes(), b"\0"].concat());
        request.attribute(TCA_BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes());
        request.nest_end(options);
        self.run(request)?;
        for old in filters.iter().filter(|filter| filter.is_ours() && filter.handle != handle) {
            self.filter_remove(ifindex, direction, old)?;
        }
        Ok(())
    }

    /// The BPF filters of our preference in the order in which they see a packet: nothing comes before them.
    pub(crate) fn filters(&mut self, ifindex: u32, direction: TcDirection) -> io::Result<Vec<Filter>> {
        let mut request = TcRequest::new(libc::RTM_GETTFILTER, libc::NLM_F_DUMP, ifindex);
        request.tcmsg(0, direction.parent(), PREFERENCE << 16 | u32::from(ALL_PROTOCOLS));
        match self.run(request) {
            Ok(answers) => Ok(answers.iter().filter_map(|answer| filter_read(answer)).collect()),
            // No qdisc, no interface.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT | libc::ENODEV)) =>
            {
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// Removes a filter of ours.
    pub(crate) fn filter_remove(
        &mut self,
        ifindex: u32,
        direction: TcDirection,
        filter: &Filter,
    ) -> io::Result<()> {
        let mut request = TcRequest::filter(libc::RTM_DELTFILTER, 0, ifindex, direction, filter.handle);
        request.attribute(TCA_KIND, b"bpf\0");
        self.run(request).map(drop)
    }

    /// The ids of the XDP programs on an interface: one, or one of each mode.
    pub(crate) fn xdp_programs(&mut self, ifindex: u32) -> io::Result<Vec<u32>> {
        let mut request = TcRequest::new(libc::RTM_GETLINK, 0, ifindex);
        request.ifinfomsg();
        let answers = self.run(request)?;
        let body = answers.first().and_then(|answer| answer.get(IFINFOMSG_LEN..)).unwrap_or_default();
        let xdp = attributes(body).find(|(kind, _)| *kind == IFLA_XDP).map_or(&[][..], |(_, xdp)| xdp);
        let ids = attributes(xdp).filter(|(kind, id)| IFLA_XDP_IDS.contains(kind) && id.len() >= 4);
        let mut ids: Vec<u32> = ids.map(|(_, id)| word(id, 0)).collect();
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// Whether anybody has a filter on this direction.
    pub(crate) fn filters_present(&mut self, ifindex: u32, direction: TcDirection) -> io::Result<bool> {
        let mut request = TcRequest::new(libc::RTM_GETTFILTER, libc::NLM_F_DUMP, ifindex);
        request.tcmsg(0, direction.parent(), 0);
        Ok(!self.run(request)?.is_empty())
    }

    /// Sends a request and gathers the bodies of the answers.
    fn run(&mut self, mut request: TcRequest) -> io::Result<Vec<Vec<u8>>> {
        self.sequence += 1;
        let bytes = request.finish(self.sequence);
        // SAFETY: the buffer is alive and as long as said.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut answers = Vec::new();
        let mut buffer = vec![0u8; 32 * 1024];
        loop {
            // SAFETY: the buffer is alive, exclusively ours, and as long as said.
            let got =
                unsafe { libc::recv(self.socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            if got < 0 {
                return Err(io::Error::last_os_error());
            }
            if self.read_answers(&buffer[..got as usize], &mut answers)? {
                return Ok(answers);
            }
        }
    }

    /// Takes the messages of one datagram apart; true when the last one has been seen.
    fn read_answers(&self, mut datagram: &[u8], answers: &mut Vec<Vec<u8>>) -> io::Result<bool> {
        while datagram.len() >= HEADER_LEN {
            let len = word(datagram, 0) as usize;
            if len < HEADER_LEN || len > datagram.len() {
                return Err(io::Error::from(io::ErrorKind::InvalidData));
            }
            let (kind, sequence) = (u16::from_ne_bytes([datagram[4], datagram[5]]), word(datagram, 8));
            let body = &datagram[HEADER_LEN..len];
            if sequence == self.sequence {
                match i32::from(kind) {
                    libc::NLMSG_DONE => return Ok(true),
                    libc::NLMSG_ERROR if body.len() >= 4 => {
                        let error = word(body, 0) as i32;
                        return if error == 0 { Ok(true) } else { Err(io::Error::from_raw_os_error(-error)) };
                    }
                    _ => answers.push(body.to_vec()),
                }
            }
            datagram = &datagram[len.next_multiple_of(4).min(datagram.len())..];
        }
        Ok(false)
    }
}

/// Reads a filter from an answer; `None` for what is no BPF filter.
fn filter_read(body: &[u8]) -> Option<Filter> {
    let handle = word(body.get(..TCMSG_LEN)?, 8);
    let options = attributes(&body[TCMSG_LEN..]).find(|(kind, _)| *kind == TCA_OPTIONS)?.1;
    let value = |wanted| attributes(options).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    // Those of the old kind of BPF have neither.
    let name = value(TCA_BPF_NAME).and_then(|name| name.split(|&byte| byte == 0).next()).unwrap_or_default();
    Some(Filter {
        handle,
        name: String::from_utf8_lossy(name).into_owned(),
        program_id: value(TCA_BPF_ID).filter(|id| id.len() >= 4).map_or(0, |id| word(id, 0)),
    })
}

/// The attributes in `bytes`, up to the first that is cut short.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]));
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]) & !NESTED;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// A request under construction: netlink header, `struct tcmsg`, attributes.
struct TcRequest {
    bytes: Vec<u8>,
    ifindex: u32,
}

impl TcRequest {
    fn new(kind: u16, flags: i32, ifindex: u32) -> Self {
        let mut bytes = vec![0; HEADER_LEN];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        // Without ACK a dump ends with DONE, with it everything else ends with ERROR 0.
        let ack = if flags & libc::NLM_F_DUMP == libc::NLM_F_DUMP { 0 } else { libc::NLM_F_ACK };
        let flags = (libc::NLM_F_REQUEST | ack | flags) as u16;
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        Self { bytes, ifindex }
    }

    /// A request about a filter of ours.
    fn filter(kind: u16, flags: i32, ifindex: u32, direction: TcDirection, handle: u32) -> Self {
        let mut request = Self::new(kind, flags, ifindex);
        request.tcmsg(handle, direction.parent(), PREFERENCE << 16 | u32::from(ALL_PROTOCOLS));
        request
    }

    fn tcmsg(&mut self, handle: u32, parent: u32, info: u32) {
        for field in [0, self.ifindex, handle, parent, info] {
            self.bytes.extend(field.to_ne_bytes());
        }
    }

    /// `struct ifinfomsg`.
    fn ifinfomsg(&mut self) {
        for field in [0, self.ifindex, 0, 0] {
            self.bytes.extend(field.to_ne_bytes());
        }
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.bytes.extend(((value.len() + 4) as u16).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn nest_begin(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.attribute(kind | NESTED, &[]);
        start
    }

    fn nest_end(&mut self, start: usize) {
        let len = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
    }

    fn finish(&mut self, sequence: u32) -> &[u8] {
        let len = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&len.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        &self.bytes
    }
}
