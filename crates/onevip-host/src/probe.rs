//! Looks whether somebody outside the cluster already uses a VIP, before it is taken.
//!
//! An ARP probe as in RFC 5227 §2.1.1 (sender 0.0.0.0, so that nobody learns from it), or a solicitation from `::` as in
//! RFC 4862 §5.4.2, but quicker: the nodes of a cluster answer for the VIP with the cluster MAC, so only an answer that
//! names another MAC counts.

use crate::neighbours::Neighbours;
use crate::netlink::Link;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// RFC 5227 sends three probes; one lost frame must not let a stranger pass unseen.
const PROBES: u32 = 3;
/// How long after each probe answers are awaited. Hosts on a LAN answer within a few milliseconds.
const WAIT_PER_PROBE: Duration = Duration::from_millis(150);

/// Asks the LAN of `link` who has `vip`; the MAC of a stranger who answers, or `None`.
///
/// # Errors
/// The packet socket could not be opened or used.
pub fn find_stranger(link: &Link, vip: IpAddr, cluster_mac: [u8; 6]) -> io::Result<Option<[u8; 6]>> {
    let socket = Neighbours::open(link, vip)?;
    for _ in 0..PROBES {
        socket.ask(None, vip)?;
        let until = Instant::now() + WAIT_PER_PROBE;
        while wait(&socket, until)? {
            while let Some(found) = socket.next()? {
                if found.ip == vip && found.mac != cluster_mac {
                    return Ok(Some(found.mac));
                }
            }
        }
    }
    Ok(None)
}

/// Waits for a frame; false when the time is over.
fn wait(socket: &Neighbours, until: Instant) -> io::Result<bool> {
    let left = until.saturating_duration_since(Instant::now());
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(left.as_millis() as u16)) {
        Ok(ready) => Ok(ready > 0 && !left.is_zero()),
        Err(nix::errno::Errno::EINTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
