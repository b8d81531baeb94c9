//! Connections from a node's own address to another's: a touch, and a call.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use onevip_health::sshd::probe::{BannerProbe, ProbeOutcome, dial};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

/// A touch that nothing comes of within this time was not taken.
const PATIENCE: Duration = Duration::from_secs(1);

/// Opens a call.
///
/// # Errors
/// The answer that is known already.
pub fn call(from: IpAddr, to: SocketAddr) -> Result<BannerProbe, ProbeOutcome> {
    dial(Some(from), to, |_| Ok(())).map(BannerProbe::over)
}

/// A connection whose handshake we do not complete: the kernel on the other side answers the SYN if somebody listens and
/// nothing on the way minds, and then gets a reset. The process that listens never hears of it.
pub struct Touch {
    stream: TcpStream,
    begun: Instant,
}

impl Touch {
    /// Begins; none if it is refused already.
    pub fn begin(from: IpAddr, to: SocketAddr, now: Instant) -> Option<Self> {
        dial(Some(from), to, delay_acks).ok().map(|stream| Self { stream, begun: now })
    }

    /// Whether it was taken; none while that is not known.
    pub fn outcome(&self, now: Instant) -> Option<bool> {
        let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::POLLOUT)];
        let ready = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
        if ready {
            return Some(matches!(self.stream.take_error(), Ok(None)) && self.stream.peer_addr().is_ok());
        }
        (now >= self.begun + PATIENCE).then_some(false)
    }
}

impl Drop for Touch {
    fn drop(&mut self) {
        let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
        // Without it the end is an orderly one, of which `sshd` would hear.
        let _ = setsockopt(&self.stream, sockopt::Linger, &at_once);
    }
}

impl AsFd for Touch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The kernel holds the last segment of the handshake back for as long as it may, so that a reset comes first.
/// (The standard library does this since Rust 1.89.)
fn delay_acks(stream: &TcpStream) -> nix::Result<()> {
    let (off, size) = (0 as libc::c_int, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: the option's value is alive and as long as said.
    let set = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_QUICKACK,
            (&raw const off).cast(),
            size,
        )
    };
    nix::errno::Errno::result(set).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use onevip_health::sshd::socket_snapshot::Snapshotter;
    use std::net::TcpListener;

    /// An address of this host at which no other test listens: a port that was ours may be somebody else's at once.
    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 77, 1));

    fn outcome(to: SocketAddr) -> bool {
        let Some(touch) = Touch::begin(LOCAL, to, Instant::now()) else { return false };
        loop {
            if let Some(taken) = touch.outcome(Instant::now()) {
                return taken;
            }
        }
    }

    #[test]
    fn a_touch_is_taken_by_the_kernel_and_never_reaches_the_listener() {
        let listener = TcpListener::bind((LOCAL, 0)).unwrap();
        let to = listener.local_addr().unwrap();
        assert!((0..20).all(|_| outcome(to)));
        assert_eq!(Snapshotter::new(to.port()).glance().unwrap().queue, 0);
        drop(listener);
        assert!(!outcome(to), "nobody listens");
    }

    #[test]
    fn a_call_comes_from_our_own_address() {
        let listener = TcpListener::bind((LOCAL, 0)).unwrap();
        let from = IpAddr::from([127, 0, 0, 9]);
        let _call = call(from, listener.local_addr().unwrap()).unwrap_or_else(|answer| panic!("{answer:?}"));
        assert_eq!(listener.accept().unwrap().1.ip(), from);
    }
}
