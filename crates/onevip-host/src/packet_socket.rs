//! Packet sockets bound to one interface and one EtherType.

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Opens one that takes the frames which `filter` lets through; reading never waits.
///
/// # Errors
/// The kernel's: `CAP_NET_RAW` is missing, the interface is gone.
pub(super) fn open(link: u32, ethertype: libc::c_int, filter: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
    // Before it is bound, or unfiltered frames would already wait in it.
    if !filter.is_empty() {
        attach(&fd, filter)?;
    }
    // SAFETY: sockaddr_ll is plain data; all zeroes is a valid value of it.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (ethertype as u16).to_be();
    address.sll_ifindex = link as i32;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address is complete, its length is its own, and the call only reads it.
    let bound = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) };
    if bound == 0 { Ok(fd) } else { Err(io::Error::last_os_error()) }
}

fn attach(fd: &OwnedFd, filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: the program and its instructions outlive the call, which copies and does not change them.
    let set = unsafe {
        let value = (&raw const program).cast();
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, value, length)
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
