//! The bpf(2) system call itself, and the numbers of its commands.

use std::io;
use std::mem::size_of;
use std::os::fd::{FromRawFd, OwnedFd};

// enum bpf_cmd of <linux/bpf.h>.
pub(super) const BPF_MAP_CREATE: libc::c_long = 0;
pub(super) const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
pub(super) const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
pub(super) const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
pub(super) const BPF_MAP_GET_NEXT_KEY: libc::c_long = 4;
pub(super) const BPF_PROG_LOAD: libc::c_long = 5;
pub(super) const BPF_OBJ_PIN: libc::c_long = 6;
pub(super) const BPF_OBJ_GET: libc::c_long = 7;
pub(super) const BPF_PROG_TEST_RUN: libc::c_long = 10;
pub(super) const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
pub(super) const BPF_MAP_GET_FD_BY_ID: libc::c_long = 14;
pub(super) const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
pub(super) const BPF_PROG_QUERY: libc::c_long = 16;
pub(super) const BPF_LINK_CREATE: libc::c_long = 28;
pub(super) const BPF_LINK_UPDATE: libc::c_long = 29;
pub(super) const BPF_LINK_GET_FD_BY_ID: libc::c_long = 30;
pub(super) const BPF_LINK_GET_NEXT_ID: libc::c_long = 31;
pub(super) const BPF_LINK_DETACH: libc::c_long = 34;

/// Runs `command` with `attr`, which must be the layout that `command` expects.
pub(super) fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<i32> {
    // SAFETY: `attr` is a live, exclusively borrowed value of exactly the size given; the kernel reads and writes
    // only within it and within the buffers it names, which the callers keep alive across the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>() as libc::c_uint)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// The same for a command that returns a new descriptor.
pub(super) fn bpf_fd<T>(command: libc::c_long, attr: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the command succeeded and returns a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
