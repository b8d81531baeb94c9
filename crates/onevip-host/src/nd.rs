//! Neighbour discovery on a packet socket: what `arp.rs` does for IPv4, for IPv6 (RFC 4861).

use super::announcement::Announcement;
use crate::netlink::Link;
use crate::packet_socket;
use nix::sys::socket::{MsgFlags, recv};
use onevip_core::checksum;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const ETHERNET: usize = 14;
const IPV6: usize = 40;
/// Where the ICMPv6 message begins, and where its options.
const MESSAGE: usize = ETHERNET + IPV6;
const OPTIONS: usize = MESSAGE + 24;

const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOURCE_LINK_ADDRESS: u8 = 1;
const TARGET_LINK_ADDRESS: u8 = 2;
/// The flag of an advertisement that answers a solicitation.
const SOLICITED: u8 = 0x40;
/// Only who is on the LAN can send this.
const HOP_LIMIT: u8 = 255;

/// A socket for the neighbour advertisements of one interface.
#[derive(Debug)]
pub struct NdSocket {
    fd: OwnedFd,
    own_mac: [u8; 6],
}

impl NdSocket {
    /// Opens one on an Ethernet interface. Reading never waits.
    ///
    /// # Errors
    /// The kernel's: `CAP_NET_RAW` is missing, the interface is gone. [`io::ErrorKind::Unsupported`] when the
    /// interface is no Ethernet.
    pub fn open(link: &Link) -> io::Result<Self> {
        let own_mac = link.mac.ok_or(io::ErrorKind::Unsupported)?;
        Ok(Self { fd: packet_socket::open(link.index, libc::ETH_P_IPV6, &advertisements_only())?, own_mac })
    }

    /// Asks who has `target`, in the name of `sender` (`::`: of nobody, so that nobody learns from it).
    ///
    /// # Errors
    /// The kernel's: the link is down or gone.
    pub fn ask(&self, sender: Ipv6Addr, target: Ipv6Addr) -> io::Result<()> {
        nix::unistd::write(&self.fd, &solicitation(self.own_mac, sender, target))?;
        Ok(())
    }

    /// The next advertisement that has arrived. `None` when there is nothing to read.
    ///
    /// # Errors
    /// The kernel's: the link is down or gone.
    pub fn next(&self) -> io::Result<Option<Announcement>> {
        loop {
            let mut frame = [0; 256];
            match recv(self.fd.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                Ok(length) => match advertisement(&frame[..length], self.own_mac) {
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

impl AsFd for NdSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Lets neighbour advertisements through, and spares this socket the rest of the LAN's IPv6.
fn advertisements_only() -> [libc::sock_filter; 6] {
    const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let instruction = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    [
        instruction(LOAD_BYTE, 0, (ETHERNET + 6) as u32),
        instruction(IF_EQUAL, 3, u32::from(ICMPV6)),
        instruction(LOAD_BYTE, 0, MESSAGE as u32),
        instruction(IF_EQUAL, 1, u32::from(ADVERTISEMENT)),
        instruction(RETURN, 0, u32::MAX),
        instruction(RETURN, 0, 0),
    ]
}

/// The group in which whoever has `target` is asked (RFC 4291 2.7.1).
fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = target.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

fn solicitation(own_mac: [u8; 6], sender: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let group = solicited_node(target);
    let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    // RFC 4861 4.3: who has no address must not give its MAC.
    if !sender.is_unspecified() {
        message.extend([SOURCE_LINK_ADDRESS, 1]);
        message.extend(own_mac);
    }
    let sum = checksum::transport(sender.into(), group.into(), ICMPV6, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());

    let [.., a, b, c, d] = group.octets();
    let mut frame = vec![0x33, 0x33, a, b, c, d];
    frame.extend(own_mac);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend((message.len() as u16).to_be_bytes());
    frame.extend([ICMPV6, HOP_LIMIT]);
    frame.extend(sender.octets());
    frame.extend(group.octets());
    frame.extend(message);
    frame
}

/// What a frame says, where it is a neighbour advertisement. One that was asked for in unicast may leave the MAC out;
/// then the frame's own source is as good.
fn advertisement(frame: &[u8], own_mac: [u8; 6]) -> Option<Announcement> {
    let message = frame.get(MESSAGE..OPTIONS)?;
    if frame[12..14] != [0x86, 0xdd] || frame[20] != ICMPV6 || frame[21] != HOP_LIMIT {
        return None;
    }
    if message[..2] != [ADVERTISEMENT, 0] {
        return None;
    }
    let target: [u8; 16] = message[8..].try_into().ok()?;
    let said = target_link_address(&frame[OPTIONS..]);
    // The kernel's own questions go to the one neighbour whom it knows; Linux leaves the MAC out of its answers to those
    // (`ndisc_recv_ns`), and RFC 4861 4.4 wants it in answers to questions to the group, as ours are.
    let asked = message[4] & SOLICITED != 0 && frame[..6] == own_mac && said.is_some();
    let mac = said.or_else(|| frame[6..12].try_into().ok())?;
    Some(Announcement { ip: IpAddr::from(target), mac, asked })
}

fn target_link_address(mut options: &[u8]) -> Option<[u8; 6]> {
    while let [kind, eights, ..] = *options {
        let length = usize::from(eights) * 8;
        if length == 0 {
            return None;
        }
        let option = options.get(..length)?;
        if kind == TARGET_LINK_ADDRESS {
            return option[2..8].try_into().ok();
        }
        options = &options[length..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0xab12, 0x3456);
    const SENDER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

    #[test]
    fn a_question_goes_to_the_group_of_its_target_with_a_right_checksum() {
        let asked = solicitation([2; 6], SENDER, TARGET);
        assert_eq!(asked[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        assert_eq!(solicited_node(TARGET), "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap());
        assert_eq!(
            checksum::transport(SENDER.into(), solicited_node(TARGET).into(), ICMPV6, &asked[MESSAGE..]),
            0
        );
        assert_eq!(asked.len(), OPTIONS + 8);
        let nobodys = solicitation([2; 6], Ipv6Addr::UNSPECIFIED, TARGET);
        assert_eq!(nobodys.len(), OPTIONS, "who has no address does not give its MAC");
    }

    #[test]
    fn an_answer_is_read_and_a_question_is_none() {
        let mut frame = solicitation([2; 6], SENDER, TARGET);
        assert_eq!(advertisement(&frame, [4; 6]), None);
        frame[MESSAGE] = ADVERTISEMENT;
        let from_frame = Announcement { ip: TARGET.into(), mac: [2; 6], asked: false };
        assert_eq!(
            advertisement(&frame, [4; 6]),
            Some(from_frame),
            "without the option, the frame's source counts"
        );
        frame[OPTIONS] = TARGET_LINK_ADDRESS;
        frame[OPTIONS + 2..OPTIONS + 8].copy_from_slice(&[7; 6]);
        assert_eq!(
            advertisement(&frame, [4; 6]),
            Some(Announcement { ip: TARGET.into(), mac: [7; 6], asked: false })
        );
        frame[MESSAGE + 4] = SOLICITED;
        frame[..6].fill(4);
        let answer = Announcement { ip: TARGET.into(), mac: [7; 6], asked: true };
        assert_eq!(advertisement(&frame, [4; 6]), Some(answer));
        assert_eq!(advertisement(&frame[..OPTIONS], [4; 6]).map(|found| found.asked), Some(false), "unicast");
        assert_eq!(advertisement(&frame[..OPTIONS - 1], [4; 6]), None);
        frame[21] = 64;
        assert_eq!(advertisement(&frame, [4; 6]), None, "it came through a router");
    }
}
