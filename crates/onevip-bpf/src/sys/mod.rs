//! The bpf(2) system call, as far as this crate speaks it itself.
//!
//! aya loads the programs; pins, links and test runs are done here, because a link that aya owns is detached when the
//! process exits, and ours must outlive it.

pub(crate) mod netlink;

use std::ffi::CString;
use std::fs;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

// enum bpf_cmd of <linux/bpf.h>.
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_MAP_GET_NEXT_KEY: libc::c_long = 4;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_MAP_GET_FD_BY_ID: libc::c_long = 14;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_GET_FD_BY_ID: libc::c_long = 30;
const BPF_LINK_GET_NEXT_ID: libc::c_long = 31;
const BPF_LINK_DETACH: libc::c_long = 34;

/// `enum bpf_attach_type`: where a link attaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AttachPoint {
    TcxIngress = 46,
    TcxEgress = 47,
    Xdp = 37,
    Bind4 = 8,
    Bind6 = 9,
}

/// `BPF_F_BEFORE`: with no program named, before all others.
pub(crate) const BEFORE_ALL: u32 = 1 << 3;
/// `XDP_FLAGS_SKB_MODE`.
pub(crate) const XDP_GENERIC: u32 = 1 << 1;
/// `XDP_FLAGS_DRV_MODE`.
pub(crate) const XDP_NATIVE: u32 = 1 << 2;

/// Runs `command` with `attr`, which must be the layout that `command` expects.
fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<i32> {
    // SAFETY: `attr` is a live, exclusively borrowed value of exactly the size given; the kernel reads and writes
    // only within it and within the buffers it names, which the callers below keep alive across the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>() as libc::c_uint)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

fn bpf_fd<T>(command: libc::c_long, attr: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the command succeeded and returns a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn path_c(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

#[repr(C)]
#[derive(Default)]
struct ObjAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// Pins `fd` at `path`, which must not exist.
pub(crate) fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = path_c(path)?;
    let mut attr = ObjAttr { pathname: path.as_ptr() as u64, bpf_fd: fd.as_raw_fd() as u32, file_flags: 0 };
    bpf(BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Pins `fd` at `path`, in place of whatever is pinned there.
pub(crate) fn pin_over(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(crate::load::pins::FRESH_SUFFIX);
    let fresh = Path::new(&fresh);
    remove_if_there(fresh)?;
    pin(fd, fresh)?;
    fs::rename(fresh, path)
}

/// Removes a file; one that is not there is as good as removed.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Opens what is pinned at `path`.
pub(crate) fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = path_c(path)?;
    bpf_fd(BPF_OBJ_GET, &mut ObjAttr { pathname: path.as_ptr() as u64, ..ObjAttr::default() })
}

/// What kind of object a descriptor is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Map,
    Program,
    Link,
    Other,
}

/// The kind of object behind `fd`: asking one kind of object for another kind's info gives nonsense, not an error.
pub(crate) fn kind(fd: BorrowedFd<'_>) -> Kind {
    let name = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default();
    match name.to_string_lossy().as_ref() {
        "anon_inode:bpf-map" => Kind::Map,
        "anon_inode:bpf-prog" => Kind::Program,
        "anon_inode:bpf_link" | "anon_inode:bpf-link" => Kind::Link,
        _ => Kind::Other,
    }
}

#[repr(C)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

fn info<T>(fd: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let mut attr = InfoAttr {
        bpf_fd: fd.as_raw_fd() as u32,
        info_len: size_of::<T>() as u32,
        info: std::ptr::from_mut(info) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}

/// The head of `struct bpf_map_info`.
#[repr(C)]
#[derive(Default, Debug, Clone, Copy)]
pub(crate) struct MapInfo {
    pub kind: u32,
    pub id: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub flags: u32,
    pub name: [u8; 16],
}

pub(crate) fn map_info(fd: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let mut map = MapInfo::default();
    info(fd, &mut map)?;
    Ok(map)
}

/// The head of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default, Debug, Clone, Copy)]
pub(crate) struct ProgramInfo {
    pub kind: u32,
    pub id: u32,
    /// Hash over the instructions, without what differs from one load to the next.
    pub tag: [u8; 8],
    lengths_and_buffers: [u64; 3],
    pub load_time_ns: u64,
    uid: u32,
    map_count: u32,
    map_ids: u64,
    pub name: [u8; 16],
}

pub(crate) fn program_info(fd: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    let mut program = ProgramInfo::default();
    info(fd, &mut program)?;
    Ok(program)
}

/// The head of `struct bpf_link_info`, as tcx and XDP links fill it in.
#[repr(C)]
#[derive(Default, Debug, Clone, Copy)]
pub(crate) struct LinkInfo {
    pub kind: u32,
    pub id: u32,
    pub program_id: u32,
    padding: u32,
    /// 0 once the link has been detached or its interface is gone.
    pub ifindex: u32,
    /// tcx only.
    pub attach_type: u32,
}

/// `BPF_LINK_TYPE_XDP`.
pub(crate) const LINK_XDP: u32 = 6;
/// `BPF_LINK_TYPE_TCX`.
pub(crate) const LINK_TCX: u32 = 11;

pub(crate) fn link_info(fd: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut link = LinkInfo::default();
    info(fd, &mut link)?;
    Ok(link)
}

/// One program of a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub program: u32,
    /// Of its link; 0 when it was attached without one.
    pub link: u32,
}

/// `BPF_MPROG_MAX`: no chain is longer.
const CHAIN_MAX: usize = 64;

#[repr(C)]
struct QueryAttr {
    ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    program_ids: u64,
    count: u32,
    padding: u32,
    program_flags: u64,
    link_ids: u64,
    link_flags: u64,
    revision: u64,
}

/// The programs that tcx runs there, the first first. ENOENT when there are none, EINVAL when the kernel has no tcx.
pub(crate) fn chain(ifindex: u32, at: AttachPoint) -> io::Result<Vec<Place>> {
    let (mut programs, mut links) = ([0u32; CHAIN_MAX], [0u32; CHAIN_MAX]);
    let mut attr = QueryAttr {
        ifindex,
        attach_type: at as u32,
        query_flags: 0,
        attach_flags: 0,
        program_ids: programs.as_mut_ptr() as u64,
        count: CHAIN_MAX as u32,
        padding: 0,
        program_flags: 0,
        link_ids: links.as_mut_ptr() as u64,
        link_flags: 0,
        revision: 0,
    };
    bpf(BPF_PROG_QUERY, &mut attr)?;
    let places = programs.iter().zip(&links).map(|(&program, &link)| Place { program, link });
    Ok(places.take(attr.count as usize).collect())
}

#[repr(C)]
#[derive(Default)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

fn by_id(command: libc::c_long, id: u32) -> io::Result<OwnedFd> {
    bpf_fd(command, &mut IdAttr { id, ..IdAttr::default() })
}

/// Opens a program, whoever loaded it.
pub(crate) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    by_id(BPF_PROG_GET_FD_BY_ID, id)
}

/// Opens a map, whoever made it.
pub(crate) fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    by_id(BPF_MAP_GET_FD_BY_ID, id)
}

/// Opens a link, whoever made it.
pub(crate) fn link_by_id(id: u32) -> io::Result<OwnedFd> {
    by_id(BPF_LINK_GET_FD_BY_ID, id)
}

/// The ids of a program's maps, up to 64 of them.
pub(crate) fn program_maps(program: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut ids = vec![0u32; 64];
    let mut head = ProgramInfo {
        map_count: ids.len() as u32,
        map_ids: ids.as_mut_ptr() as u64,
        ..ProgramInfo::default()
    };
    info(program, &mut head)?;
    ids.truncate(head.map_count as usize);
    Ok(ids)
}

/// The id of the link by which an XDP program is on an interface of this network namespace; 0 when it has none. All links
/// of all namespaces are gone through, so the program must be known to be there.
pub(crate) fn xdp_link_of(program_id: u32, ifindex: u32) -> io::Result<u32> {
    let mut attr = IdAttr::default();
    loop {
        match bpf(BPF_LINK_GET_NEXT_ID, &mut attr) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            other => other?,
        };
        attr = IdAttr { id: attr.next_id, ..IdAttr::default() };
        // It may be gone by now.
        let info = link_by_id(attr.id).and_then(|link| link_info(link.as_fd()));
        if info.is_ok_and(|i| i.kind == LINK_XDP && i.program_id == program_id && i.ifindex == ifindex) {
            return Ok(attr.id);
        }
    }
}

/// A name as the kernel keeps it, up to its NUL.
pub(crate) fn name_of(name: &[u8; 16]) -> String {
    String::from_utf8_lossy(name.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
}

#[repr(C)]
struct LinkCreateAttr {
    program: u32,
    /// The index of an interface, or a descriptor.
    target: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    padding: u32,
    expected_revision: u64,
}

/// Attaches a program to an interface for as long as the link is open or pinned.
pub(crate) fn link_create(
    program: BorrowedFd<'_>,
    ifindex: u32,
    at: AttachPoint,
    flags: u32,
) -> io::Result<OwnedFd> {
    create(program, ifindex, at, flags)
}

/// Attaches a program to a cgroup for as long as the link is open or pinned, and the cgroup is there.
pub(crate) fn link_create_on(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    at: AttachPoint,
) -> io::Result<OwnedFd> {
    create(program, cgroup.as_raw_fd() as u32, at, 0)
}

fn create(program: BorrowedFd<'_>, target: u32, at: AttachPoint, flags: u32) -> io::Result<OwnedFd> {
    let mut attr = LinkCreateAttr {
        program: program.as_raw_fd() as u32,
        target,
        attach_type: at as u32,
        flags,
        relative: 0,
        padding: 0,
        expected_revision: 0,
    };
    bpf_fd(BPF_LINK_CREATE, &mut attr)
}

/// `BPF_LINK_TYPE_CGROUP`.
const LINK_CGROUP: u32 = 3;

/// Whether a link is alive and on a cgroup.
pub(crate) fn link_is_on_cgroup(fd: BorrowedFd<'_>) -> bool {
    // The first member for cgroups is their id, which is 0 once the link has been detached; its lower half is the member
    // for interfaces, and no half of an id in use is 0 before four thousand million groups were made.
    link_info(fd).is_ok_and(|info| info.kind == LINK_CGROUP && info.ifindex != 0)
}

/// The cookie of the network namespace that this thread is in; 0 where the kernel (before 5.14) does not tell.
pub(crate) fn netns_cookie() -> u64 {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let Ok(probe) = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None) else {
        return 0;
    };
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: both pointers are to live values, and the kernel writes no more than the length says.
    let asked = unsafe {
        let value = (&raw mut cookie).cast();
        libc::getsockopt(probe.as_raw_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE, value, &raw mut length)
    };
    if asked == 0 { cookie } else { 0 }
}

#[repr(C)]
struct LinkUpdateAttr {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// Puts another program in the place of a link's, without a packet in between that meets none.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkUpdateAttr {
        link: link.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        flags: 0,
        old_program: 0,
    };
    bpf(BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Detaches a link now, whoever else still has it open.
pub(crate) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    bpf(BPF_LINK_DETACH, &mut (link.as_raw_fd() as u32)).map(drop)
}

#[repr(C)]
struct ElementAttr {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Reads one element of an array into `value`, which must be as large as the kernel will write.
pub(crate) fn array_read(map: BorrowedFd<'_>, index: u32, value: &mut [u64]) -> io::Result<()> {
    let mut attr = ElementAttr {
        map: map.as_raw_fd() as u32,
        padding: 0,
        key: std::ptr::from_ref(&index) as u64,
        value: value.as_mut_ptr() as u64,
        flags: 0,
    };
    bpf(BPF_MAP_LOOKUP_ELEM, &mut attr).map(drop)
}

/// What one entry of a map takes: `key` and `value` live as long as the result, and are as large as the map's.
fn element<K, V>(map: BorrowedFd<'_>, key: *const K, value: *const V) -> ElementAttr {
    ElementAttr { map: map.as_raw_fd() as u32, padding: 0, key: key as u64, value: value as u64, flags: 0 }
}

/// Puts a value under a key; both must be of the map's sizes.
pub(crate) fn map_put<K: Copy, V: Copy>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    bpf(BPF_MAP_UPDATE_ELEM, &mut element(map, key, value)).map(drop)
}

/// The same into a map whose values have locks, each of which is taken meanwhile.
pub(crate) fn map_put_locked<K: Copy, V: Copy>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    const LOCKED: u64 = 4;
    bpf(BPF_MAP_UPDATE_ELEM, &mut ElementAttr { flags: LOCKED, ..element(map, key, value) }).map(drop)
}

/// Takes a key out; false when it was not there.
pub(crate) fn map_remove<K: Copy>(map: BorrowedFd<'_>, key: &K) -> io::Result<bool> {
    match bpf(BPF_MAP_DELETE_ELEM, &mut element(map, key, std::ptr::null::<u8>())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other.map(|_| true),
    }
}

/// The value under exactly this key.
pub(crate) fn map_get<K: Copy, V: Copy + Default>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value = V::default();
    match bpf(BPF_MAP_LOOKUP_ELEM, &mut element(map, key, std::ptr::from_mut(&mut value))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(|_| Some(value)),
    }
}

/// The key behind this one, or the first.
pub(crate) fn map_next_key<K: Copy + Default>(map: BorrowedFd<'_>, key: Option<&K>) -> io::Result<Option<K>> {
    let mut next = K::default();
    let after = key.map_or(std::ptr::null(), std::ptr::from_ref);
    match bpf(BPF_MAP_GET_NEXT_KEY, &mut element(map, after, std::ptr::from_mut(&mut next))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(|_| Some(next)),
    }
}

#[repr(C)]
#[derive(Default)]
struct TestRunAttr {
    program: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration_ns: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
}

/// Outcome of [`test_run`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRun {
    /// What the program returned the last time.
    pub returned: u32,
    /// Mean duration of one run, in whole ns.
    pub duration_ns: u32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// Runs a loaded program over `frame` as often as `repeat` says (`BPF_PROG_TEST_RUN`), in the network namespace of
/// the calling thread. For tests and benchmarks. Frames shorter than an Ethernet header are refused by the kernel.
pub fn test_run(program: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> io::Result<TestRun> {
    let mut out = vec![0u8; frame.len() + 256];
    let mut attr = TestRunAttr {
        program: program.as_raw_fd() as u32,
        data_size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        data_size_out: out.len() as u32,
        data_out: out.as_mut_ptr() as u64,
        repeat,
        ..TestRunAttr::default()
    };
    bpf(BPF_PROG_TEST_RUN, &mut attr)?;
    out.truncate(attr.data_size_out as usize);
    Ok(TestRun { returned: attr.retval, duration_ns: attr.duration_ns, frame: out })
}

#[repr(C)]
#[derive(Default)]
struct ProgramLoadAttr {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
}

#[repr(C)]
struct MapCreateAttr {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

/// A tc program that does what another does, by a tail call: the kernel refuses to have one program twice in a chain.
#[derive(Debug)]
pub(crate) struct StandIn {
    pub program: OwnedFd,
    /// The other program is taken out of it when the last descriptor is closed.
    _calls: OwnedFd,
}

/// Makes a stand-in for a tc program.
pub(crate) fn stand_in(program: BorrowedFd<'_>) -> io::Result<StandIn> {
    const BPF_MAP_CREATE: libc::c_long = 0;
    const PROG_ARRAY: u32 = 3;
    const SCHED_CLS: u32 = 3;
    let mut array = MapCreateAttr { kind: PROG_ARRAY, key_size: 4, value_size: 4, max_entries: 1, flags: 0 };
    let calls = bpf_fd(BPF_MAP_CREATE, &mut array)?;
    map_put(calls.as_fd(), &0u32, &(program.as_raw_fd() as u32))?;
    let map = (calls.as_raw_fd() as u64) << 32;
    // r2 = the map; r3 = 0; bpf_tail_call, which does not return; or else r0 = TCX_NEXT; exit. (r1 is the packet.)
    let instructions = [0x1218 | map, 0, 0x3b7, 0x85 | 12 << 32, 0xb7 | u64::from(u32::MAX) << 32, 0x95];
    let program = load(SCHED_CLS, &instructions)?;
    Ok(StandIn { program, _calls: calls })
}

/// Loads a program that does nothing but return `result`, to measure what running any program costs. `kind` is a
/// `BPF_PROG_TYPE_*`: 3 for tc, 6 for XDP.
pub fn load_empty(kind: u32, result: i32) -> io::Result<OwnedFd> {
    // mov64 r0, result; exit.
    load(kind, &[0xb7u64 | (result as u32 as u64) << 32, 0x95])
}

fn load(kind: u32, instructions: &[u64]) -> io::Result<OwnedFd> {
    let mut attr = ProgramLoadAttr {
        kind,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"Dual BSD/GPL".as_ptr() as u64,
    };
    bpf_fd(BPF_PROG_LOAD, &mut attr)
}
