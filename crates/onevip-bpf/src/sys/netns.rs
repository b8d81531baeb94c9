//! Which network namespace this is.

use std::mem::size_of;
use std::os::fd::AsRawFd;

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
