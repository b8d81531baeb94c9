//! ARP on a packet socket: questions and answers that the kernel's own ARP would not ask or show.
//!
//! Packet sockets see frames before any filter of this host does. Used to look for strangers before a VIP is taken
//! ([`super::probe`]), and to ask whether the kernel of a silent node still lives (the daemon's prober).

use super::announcement::Announcement;
use crate::netlink::Link;
use crate::packet_socket;
use nix::sys::socket::{MsgFlags, recv};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The operation of an answer.
const REPLY: [u8; 2] = [0, 2];

/// An ARP frame without padding: Ethernet header and message.
const LEN: usize = 42;

/// A socket for the ARP frames of one interface.
#[derive(Debug)]
pub struct ArpSocket {
    fd: OwnedFd,
    own_mac: [u8; 6],
}

impl ArpSocket {
    /// Opens one on an Ethernet interface. Reading never waits.
    ///
    /// # Errors
    /// The kernel's: `CAP_NET_RAW` is missing, the interface is gone. [`io::ErrorKind::Unsupported`] when the
    /// interface is no Ethernet.
    pub fn open(link: &Link) -> io::Result<Self> {
        let own_mac = link.mac.ok_or(io::ErrorKind::Unsupported)?;
        Ok(Self { fd: packet_socket::open(link.index, libc::ETH_P_ARP, &[])?, own_mac })
    }

    /// Asks everybody who has `target`, in the name of `sender` (0.0.0.0: of nobody, so that nobody learns from it).
    ///
    /// # Errors
    /// The kernel's: the link is down or gone.
    pub fn ask(&self, sender: Ipv4Addr, target: Ipv4Addr) -> io::Result<()> {
        nix::unistd::write(&self.fd, &request(self.own_mac, sender, target))?;
        Ok(())
    }

    /// The next announcement that has arrived; other frames are passed over. `None` when there is nothing to read.
    ///
    /// # Errors
    /// The kernel's: the link is down or gone.
    pub fn next(&self) -> io::Result<Option<Announcement>> {
        loop {
            let mut frame = [0; 128];
            match recv(self.fd.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                Ok(length) => match announcement(&frame[..length], self.own_mac) {
                    Some(found) if found.mac != self.own_mac => return Ok(Some(found)),
                    _ => {}
                },
                Err(nix::errno::Errno::EAGAIN) => return Ok(None),
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for ArpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn request(own_mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> [u8; LEN] {
    let mut frame = [0; LEN];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&own_mac);
    frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&own_mac);
    frame[28..32].copy_from_slice(&sender.octets());
    frame[38..42].copy_from_slice(&target.octets());
    frame
}

/// What a frame says about its sender, where it is an ARP message that says anything.
fn announcement(frame: &[u8], own_mac: [u8; 6]) -> Option<Announcement> {
    let arp = frame.get(14..LEN)?;
    if frame[12..14] != [8, 6] || arp[..6] != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let ip: [u8; 4] = arp[14..18].try_into().ok()?;
    let mac = arp[8..14].try_into().ok()?;
    let asked = arp[6..8] == REPLY && arp[18..24] == own_mac;
    (ip != [0; 4]).then_some(Announcement { ip: IpAddr::from(ip), mac, asked })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_is_read_and_a_probe_is_none() {
        let vip = Ipv4Addr::new(198, 51, 100, 10);
        assert_eq!(announcement(&request([2; 6], Ipv4Addr::UNSPECIFIED, vip), [4; 6]), None);
        let announced = request([2; 6], vip, vip);
        let found = Announcement { ip: vip.into(), mac: [2; 6], asked: false };
        assert_eq!(announcement(&announced, [4; 6]), Some(found));
        assert_eq!(announcement(&announced[..LEN - 1], [4; 6]), None);
        let mut answer = announced;
        answer[21] = 2;
        answer[32..38].fill(4);
        assert_eq!(announcement(&answer, [4; 6]), Some(Announcement { asked: true, ..found }));
        assert_eq!(announcement(&answer, [5; 6]), Some(found), "somebody else's answer");
        let mut other = announced;
        other[13] = 0;
        assert_eq!(announcement(&other, [4; 6]), None, "not ARP");
    }
}
