//! Looks whether somebody outside the cluster already uses a VIP, before it is taken.
//!
//! An ARP probe as in RFC 5227 §2.1.1 (sender 0.0.0.0, so that nobody learns from it), but quicker: the nodes of a
//! cluster answer for the VIP with the cluster MAC, so only an answer that names another MAC counts. Packet sockets
//! see frames before any filter of this host does.

use crate::host::netlink::Link;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socket};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// RFC 5227 sends three probes; one lost frame must not let a stranger pass unseen.
const PROBES: u32 = 3;
/// How long after each probe answers are awaited. Hosts on a LAN answer within a few milliseconds.
const WAIT_PER_PROBE: Duration = Duration::from_millis(150);
const ARP_LEN: usize = 42;

/// Asks the LAN of `link` who has `vip`; the MAC of a stranger who answers, or `None`.
///
/// # Errors
/// The packet socket could not be opened or used.
pub fn find_stranger(link: &Link, vip: Ipv4Addr, cluster_mac: [u8; 6]) -> io::Result<Option<[u8; 6]>> {
    let Some(own_mac) = link.mac else { return Ok(None) };
    let socket = packet_socket(link.index)?;
    let frame = probe_frame(own_mac, vip);
    for _ in 0..PROBES {
        nix::unistd::write(&socket, &frame)?;
        let until = Instant::now() + WAIT_PER_PROBE;
        while let Some(received) = receive_until(&socket, until)? {
            match announced_by(&received, vip) {
                Some(mac) if mac != cluster_mac && mac != own_mac => return Ok(Some(mac)),
                _ => {}
            }
        }
    }
    Ok(None)
}

/// The MAC that a frame claims to be at `vip`, where it is an ARP message that says so.
fn announced_by(frame: &[u8], vip: Ipv4Addr) -> Option<[u8; 6]> {
    let arp = frame.get(14..ARP_LEN)?;
    let about_vip =
        frame[12..14] == [0x08, 0x06] && arp[..6] == [0, 1, 8, 0, 6, 4] && arp[14..18] == vip.octets();
    if about_vip { arp[8..14].try_into().ok() } else { None }
}

fn probe_frame(own_mac: [u8; 6], vip: Ipv4Addr) -> [u8; ARP_LEN] {
    let mut frame = [0; ARP_LEN];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&own_mac);
    frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&own_mac);
    frame[38..42].copy_from_slice(&vip.octets());
    frame
}

/// A socket for ARP frames of one interface.
fn packet_socket(link: u32) -> io::Result<OwnedFd> {
    let protocol = (libc::ETH_P_ARP as u16).to_be();
    let fd =
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    // SAFETY: sockaddr_ll is plain data; all zeroes is a valid value of it.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = link as i32;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address is complete, its length is its own, and the call only reads it.
    let bound = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) };
    if bound == 0 { Ok(fd) } else { Err(io::Error::last_os_error()) }
}

/// The next frame, or `None` when the time is over.
fn receive_until(socket: &OwnedFd, until: Instant) -> io::Result<Option<Vec<u8>>> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::from(left.as_millis() as u16);
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        if left.is_zero() || poll(&mut fds, timeout)? == 0 {
            return Ok(None);
        }
        let mut frame = vec![0; 128];
        match recv(socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            Ok(length) => {
                frame.truncate(length);
                return Ok(Some(frame));
            }
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_announcement_of_the_vip_counts() {
        let vip = Ipv4Addr::new(198, 51, 100, 10);
        let probe = probe_frame([2; 6], vip);
        assert_eq!(announced_by(&probe, vip), None, "a probe announces nothing");
        let mut answer = probe;
        answer[21] = 2;
        answer[28..32].copy_from_slice(&vip.octets());
        assert_eq!(announced_by(&answer, vip), Some([2; 6]));
        assert_eq!(announced_by(&answer[..41], vip), None);
        assert_eq!(announced_by(&answer, Ipv4Addr::new(198, 51, 100, 11)), None);
    }
}
