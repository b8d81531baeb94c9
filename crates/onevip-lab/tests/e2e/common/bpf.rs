//! The few `bpf(2)` calls with which an administrator (or an accident) takes the kernel part apart, and the ones that
//! tell whether it is there.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const OBJ_GET: libc::c_long = 7;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const MAP_GET_FD_BY_ID: libc::c_long = 14;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const LINK_GET_FD_BY_ID: libc::c_long = 30;
const LINK_DETACH: libc::c_long = 34;

/// Where a program of somebody else's is put.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    Ingress = 46,
    Egress = 47,
}

/// Loads a tc program of somebody else's that passes every packet on to the stack, and to no other program, and puts it
/// before all others of an interface of this network namespace. It is there while both descriptors are open.
pub fn put_first(name: &str, interface: &str, side: Side) -> [OwnedFd; 2] {
    const PROG_LOAD: libc::c_long = 5;
    const LINK_CREATE: libc::c_long = 28;
    const SCHED_CLS: u32 = 3;
    const BEFORE: u32 = 1 << 3;
    // mov64 r0, TCX_PASS; exit.
    let instructions = [0xb7u64, 0x95];
    let mut padded = [0u8; 16];
    padded[..name.len()].copy_from_slice(name.as_bytes());
    let half = |at: usize| u64::from_ne_bytes(padded[at..at + 8].try_into().unwrap());
    let (code, license) = (instructions.as_ptr() as u64, c"GPL".as_ptr() as u64);
    let program = [low(SCHED_CLS, 2), code, license, 0, 0, 0, half(0), half(8)];
    let ifindex = nix::net::if_::if_nametoindex(interface).unwrap();
    let open = |command, mut attributes| {
        let fd = call(command, &mut attributes).unwrap();
        // SAFETY: the kernel has just given us this descriptor.
        unsafe { OwnedFd::from_raw_fd(fd as i32) }
    };
    let program = open(PROG_LOAD, program);
    let head = low(program.as_raw_fd() as u32, ifindex);
    let link = open(LINK_CREATE, [head, low(side as u32, BEFORE), 0, 0, 0, 0, 0, 0]);
    [program, link]
}

/// The id of the first program on a side of an interface of this network namespace.
pub fn first_on(interface: &str, side: Side) -> u32 {
    const PROG_QUERY: libc::c_long = 16;
    let ifindex = nix::net::if_::if_nametoindex(interface).unwrap();
    let mut programs = [0u32; 64];
    let at = programs.as_mut_ptr() as u64;
    call(PROG_QUERY, &mut [low(ifindex, side as u32), 0, at, 64, 0, 0, 0, 0]).unwrap();
    programs[0]
}

/// What has an id in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Program,
    Map,
    Link,
}

fn call(command: libc::c_long, attributes: &mut [u64; 8]) -> io::Result<libc::c_long> {
    // SAFETY: the attributes are 64 bytes, of which the kernel reads and writes no more than that; the addresses in
    // them are of memory that outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), 64) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn low(first: u32, second: u32) -> u64 {
    u64::from(first) | u64::from(second) << 32
}

/// Opens a pin.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let fd = call(OBJ_GET, &mut [path.as_ptr() as u64, 0, 0, 0, 0, 0, 0, 0])?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Takes a pinned link off its interface, as `bpftool link detach` does.
pub fn detach_link(path: &Path) {
    let link = open(path).unwrap();
    call(LINK_DETACH, &mut [link.as_raw_fd() as u64, 0, 0, 0, 0, 0, 0, 0]).unwrap();
}

/// Overwrites an element of a pinned array.
pub fn write_element(path: &Path, index: u32, value: &[u8]) {
    let map = open(path).unwrap();
    let (key, value) = ((&raw const index) as u64, value.as_ptr() as u64);
    call(MAP_UPDATE_ELEM, &mut [map.as_raw_fd() as u64, key, value, 0, 0, 0, 0, 0]).unwrap();
}

/// Reads an element of `size` bytes out of a pinned array.
pub fn read_element(path: &Path, index: u32, size: usize) -> Vec<u8> {
    let map = open(path).unwrap();
    let mut value = vec![0; size];
    let (key, into) = ((&raw const index) as u64, value.as_mut_ptr() as u64);
    call(MAP_LOOKUP_ELEM, &mut [map.as_raw_fd() as u64, key, into, 0, 0, 0, 0, 0]).unwrap();
    value
}

/// The size of an element of a pinned array, in bytes.
pub fn value_size(path: &Path) -> usize {
    info(path).unwrap()[3] as usize
}

/// The first words of the kernel's description of a pinned object.
fn info(path: &Path) -> io::Result<[u32; 64]> {
    let object = open(path)?;
    let mut info = [0u32; 64];
    let head = low(object.as_raw_fd() as u32, 256);
    call(OBJ_GET_INFO_BY_FD, &mut [head, info.as_mut_ptr() as u64, 0, 0, 0, 0, 0, 0])?;
    Ok(info)
}

/// The id of a pinned object (`id` is the second word of every kind of info but a link's, where `prog_id` follows it).
pub fn id(path: &Path) -> io::Result<u32> {
    info(path).map(|info| info[1])
}

/// The interface on which a pinned link's program runs; 0 when it was taken off.
pub fn link_interface(path: &Path) -> io::Result<u32> {
    info(path).map(|info| info[4])
}

/// The id of the program that a pinned link runs.
pub fn link_program(path: &Path) -> io::Result<u32> {
    info(path).map(|info| info[2])
}

/// Whether the kernel still has an object of this id.
pub fn exists(kind: Kind, id: u32) -> bool {
    let command = match kind {
        Kind::Program => PROG_GET_FD_BY_ID,
        Kind::Map => MAP_GET_FD_BY_ID,
        Kind::Link => LINK_GET_FD_BY_ID,
    };
    let Ok(fd) = call(command, &mut [u64::from(id), 0, 0, 0, 0, 0, 0, 0]) else { return false };
    // SAFETY: the kernel has just given us this descriptor.
    drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
    true
}
