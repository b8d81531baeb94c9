//! Listening on, and speaking to, the wire of a lab: raw frames, and the question "who answers for this address?".
//!
//! For tests and the demo, which must see what really arrives and not what a tool makes of it.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};

use crate::lab::Lab;
use crate::net::INTERFACE;
use crate::plan::LabPlan;

/// Longest frame a tap hears whole; offloads can make one of nearly 64 KiB.
const FRAME_MAX: usize = 1 << 16;
/// Room for what arrives while nobody reads, in bytes.
const BUFFER: usize = 8 << 20;

/// A raw socket on one interface: it hears every frame that arrives there, and sends frames as they are.
pub struct Tap {
    socket: OwnedFd,
}

impl Tap {
    /// Opens a tap in the namespace of the calling thread.
    fn open(interface: &str) -> Result<Self> {
        let index =
            if_nametoindex(interface).with_context(|| format!("there is no interface {interface} here"))?;
        let all = SockProtocol::EthAll;
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, all)?;
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
        set_ignore_outgoing(&socket)?;
        bind(&socket, index)?;
        Ok(Self { socket })
    }

    /// Sends a frame, Ethernet header included.
    ///
    /// # Errors
    /// When the interface is down or the frame too long.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        send(self.socket.as_raw_fd(), frame, MsgFlags::empty()).context("cannot send a frame")?;
        Ok(())
    }

    /// The next frame that arrives before `deadline`; none when none does.
    ///
    /// # Errors
    /// When the interface goes away.
    pub fn next(&self, deadline: Instant) -> Result<Option<Vec<u8>>> {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up: a timeout of zero would spin through the last millisecond.
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        if poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
            return Ok(None);
        }
        let mut frame = vec![0; FRAME_MAX];
        let length = recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT)?;
        frame.truncate(length);
        Ok(Some(frame))
    }

    /// What `read` makes of the next frame that is there already and of which it makes anything; none when no more
    /// frame is there. Frames longer than 2 KiB are seen cut short.
    ///
    /// # Errors
    /// When the interface goes away.
    pub fn read_now<T>(&self, read: impl Fn(&[u8]) -> Option<T>) -> Result<Option<T>> {
        let mut frame = [0; 2048];
        loop {
            match recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => {
                    if let Some(found) = read(&frame[..length]) {
                        return Ok(Some(found));
                    }
                }
                Err(Errno::EAGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Every frame that arrives until `deadline`.
    ///
    /// # Errors
    /// As [`Tap::next`].
    pub fn until(&self, deadline: Instant) -> Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        while Instant::now() < deadline {
            frames.extend(self.next(deadline)?);
        }
        Ok(frames)
    }
}

fn set_ignore_outgoing(socket: &OwnedFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer and the length describe `on`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_IGNORE_OUTGOING,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn bind(socket: &OwnedFd, interface: libc::c_uint) -> io::Result<()> {
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = interface.cast_signed();
    // SAFETY: the pointer and the length describe `address`, which outlives the call.
    let result = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as libc::socklen_t)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl Lab {
    /// Listens on an interface of a host: `eth0` of a station, or on the switch the port that is named as a host
    /// (what arrives there is what that host sends).
    ///
    /// # Errors
    /// When there is no such host or interface.
    pub fn tap(&self, host: &str, interface: &str) -> Result<Tap> {
        self.inside(host, || Tap::open(interface))?
    }

    /// Asks the whole network once, by ARP broadcast from `host`, who has `target`, and collects every answer that
    /// arrives within `window`.
    ///
    /// # Errors
    /// When the host is not there or its link is down.
    pub fn who_has(&self, host: &str, target: Ipv4Addr, window: Duration) -> Result<Vec<ArpMessage>> {
        let station = self.plan().host(host)?;
        let (mac, own) = (parse_mac(&LabPlan::mac(station)), self.plan().addresses4(station)[0]);
        let tap = self.tap(host, INTERFACE)?;
        tap.send(&arp_request(mac, own, target))?;
        let frames = tap.until(Instant::now() + window)?;
        let answers = frames.iter().filter_map(|frame| ArpMessage::parse(frame));
        Ok(answers.filter(|m| m.is_reply && m.sender_address == target).collect())
    }
}

/// What an ARP message says about its sender (RFC 826).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArpMessage {
    /// A reply, else a request.
    pub is_reply: bool,
    /// The MAC that the Ethernet frame came from.
    pub frame_source: String,
    /// The MAC that the message binds to the address.
    pub sender_mac: String,
    /// The address.
    pub sender_address: Ipv4Addr,
    /// The address it is for.
    pub target_address: Ipv4Addr,
}

impl ArpMessage {
    /// Reads an ARP message for IPv4 over Ethernet out of an untagged frame; none when it is anything else.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let (header, arp) = frame.split_at_checked(14)?;
        if header[12..14] != [0x08, 0x06] || arp.len() < 28 || arp[..6] != [0, 1, 8, 0, 6, 4] {
            return None;
        }
        let address = |at: usize| Ipv4Addr::new(arp[at], arp[at + 1], arp[at + 2], arp[at + 3]);
        Some(Self {
            is_reply: arp[6..8] == [0, 2],
            frame_source: show_mac(&header[6..12]),
            sender_mac: show_mac(&arp[8..14]),
            sender_address: address(14),
            target_address: address(24),
        })
    }
}

fn arp_request(mac: [u8; 6], own: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(mac);
    frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(own.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame.resize(60, 0);
    frame
}

/// A MAC as people write it.
pub(crate) fn show_mac(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":")
}

/// Reads a MAC of six pairs of hex digits; what is no digit counts as 0.
pub(crate) fn parse_mac(text: &str) -> [u8; 6] {
    let mut mac = [0; 6];
    for (byte, digits) in mac.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(digits, 16).unwrap_or(0);
    }
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back() {
        let (own, target) = (Ipv4Addr::new(198, 51, 100, 101), Ipv4Addr::new(198, 51, 100, 10));
        let frame = arp_request(parse_mac("02:00:00:00:02:01"), own, target);
        let message = ArpMessage::parse(&frame).unwrap();
        assert!(!message.is_reply);
        assert_eq!((message.sender_address, message.target_address), (own, target));
        assert_eq!(
            (message.sender_mac.as_str(), message.frame_source.as_str()),
            ("02:00:00:00:02:01", "02:00:00:00:02:01")
        );
    }

    #[test]
    fn what_is_no_arp_is_none() {
        assert_eq!(ArpMessage::parse(&[0; 13]), None);
        assert_eq!(ArpMessage::parse(&[0; 60]), None);
        let short = [&[0xff; 12][..], &[0x08, 0x06, 0, 1, 8, 0, 6, 4]].concat();
        assert_eq!(ArpMessage::parse(&short), None);
    }
}
