//! Somebody else's programs: tiny ones that return one number, attached as their owners would.

use super::host::NODE;
use nix::net::if_::if_nametoindex;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

const PROG_LOAD: libc::c_long = 5;
const OBJ_PIN: libc::c_long = 6;
const LINK_CREATE: libc::c_long = 28;
const SCHED_CLS: u64 = 3;
const BEFORE: u64 = 1 << 3;
/// What a program answers that passes a packet on to the stack, and to nobody else.
pub const OK: i32 = 0;
/// Further answers that end a chain.
pub const RECLASSIFY: i32 = 1;
pub const PIPE: i32 = 3;
/// What one answers that leaves the packet to the next.
pub const NEXT: i32 = -1;
pub const INGRESS: u32 = 46;
pub const EGRESS: u32 = 47;

fn bpf(command: libc::c_long, attr: &mut [u64]) -> io::Result<i32> {
    // SAFETY: the kernel reads the attributes, whose length it is told, and what they name, which the callers keep.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of_val(attr)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

fn bpf_fd(command: libc::c_long, attr: &mut [u64]) -> OwnedFd {
    // SAFETY: the kernel has just given us this descriptor.
    unsafe { OwnedFd::from_raw_fd(bpf(command, attr).unwrap()) }
}

/// Loads a tc program that returns `answer`.
pub fn load(name: &str, answer: i32) -> OwnedFd {
    // mov64 r0, answer; exit.
    let instructions = [0xb7u64 | u64::from(answer as u32) << 32, 0x95];
    let mut padded = [0u8; 16];
    padded[..name.len()].copy_from_slice(name.as_bytes());
    let half = |at: usize| u64::from_ne_bytes(padded[at..at + 8].try_into().unwrap());
    let (code, license) = (instructions.as_ptr() as u64, c"GPL".as_ptr() as u64);
    bpf_fd(PROG_LOAD, &mut [SCHED_CLS | 2 << 32, code, license, 0, 0, 0, half(0), half(8)])
}

/// Puts a program before all others of a side of the node's interface, for as long as the link is open.
///
/// One whose link was closed just now may still be there: whoever lists the links of this kernel holds each for a moment.
pub fn put_first(program: &OwnedFd, side: u32) -> OwnedFd {
    let ifindex = u64::from(if_nametoindex(NODE).unwrap());
    let head = program.as_raw_fd() as u64 | ifindex << 32;
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match bpf(LINK_CREATE, &mut [head, u64::from(side) | BEFORE << 32, 0, 0]) {
            // SAFETY: the kernel has just given us this descriptor.
            Ok(link) => return unsafe { OwnedFd::from_raw_fd(link) },
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && Instant::now() < until => {
                std::thread::yield_now();
            }
            Err(error) => panic!("the program cannot be put first: {error}"),
        }
    }
}

/// Pins a program, where `tc` finds it.
pub fn pin(program: &OwnedFd, path: &str) {
    let path = CString::new(path).unwrap();
    bpf(OBJ_PIN, &mut [path.as_ptr() as u64, program.as_raw_fd() as u64]).unwrap();
}

/// The ids of the links on a side of the node's interface, the first first.
pub fn chain_of(side: u32) -> Vec<u32> {
    const PROG_QUERY: libc::c_long = 16;
    let ifindex = u64::from(if_nametoindex(NODE).unwrap());
    let (mut programs, mut links) = ([0u32; 64], [0u32; 64]);
    let (programs, links_at) = (programs.as_mut_ptr() as u64, links.as_mut_ptr() as u64);
    let mut attr = [ifindex | u64::from(side) << 32, 0, programs, 64, 0, links_at, 0, 0];
    bpf(PROG_QUERY, &mut attr).unwrap();
    links[..attr[3] as u32 as usize].to_vec()
}
