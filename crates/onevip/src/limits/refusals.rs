//! The answer to a refused SYN: an ICMP message or a reset, in the VIP's name. And the reset of an orphan, where those of
//! this host's stack do not leave.
//!
//! Crafted here and not by the program: a SYN that comes from a neighbour without a wire (veth, virtio) has only half a
//! checksum, which its carrier completes on the way out, wherever the program would have put something else by then. While
//! no daemon runs, refused SYNs just disappear.

use crate::base::interfaces::Interfaces;
use crate::base::supervisor::StopSignal;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use onevip_bpf::{Refusals, Refused};
use onevip_core::checksum::Checksum;
use onevip_core::limit::Refusal;
use onevip_host::frames::FrameSender;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Answers in a second, at most: what Linux allows itself as well (`net.ipv4.icmp_msgs_per_sec`).
const PER_SECOND: u32 = 1000;

const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// Answers until told to stop, each from the own MAC that its interface has now.
pub fn answer(refusals: &mut Refusals, interfaces: &Interfaces, sender: &FrameSender, stop: &StopSignal) {
    let (mut second, mut left) = (Instant::now(), PER_SECOND);
    while !stop.is_set() {
        let mut fds = [refusals.as_fd(), stop.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, PollTimeout::NONE);
        if second.elapsed() >= Duration::from_secs(1) {
            (second, left) = (Instant::now(), PER_SECOND);
        }
        while let Some(refused) = refusals.next() {
            let Some(own) = interfaces.mac_of(refused.ifindex).filter(|_| left > 0) else { continue };
            let Some((ethertype, frame)) = frame(&refused, &own) else { continue };
            left -= 1;
            // Whoever gets none tries again, and is refused again.
            let _ = sender.send_frame(refused.ifindex, ethertype, &frame);
        }
    }
}

/// The frame that answers, with its EtherType; `None` where the packet cannot be read.
fn frame(refused: &Refused, own_mac: &[u8; 6]) -> Option<(u16, Vec<u8>)> {
    let (ethertype, packet) = match refused.packet.first()? >> 4 {
        4 => (0x0800, ipv4(&refused.packet, refused.refusal)?),
        6 => (0x86dd, ipv6(&refused.packet, refused.refusal)?),
        _ => return None,
    };
    let mut frame = [&refused.from[..], own_mac].concat();
    frame.extend(u16::to_be_bytes(ethertype));
    frame.extend(packet);
    Some((ethertype, frame))
}

fn ipv4(packet: &[u8], refusal: Refusal) -> Option<Vec<u8>> {
    let header = usize::from(packet[0] & 0x0f) * 4;
    let (client, vip) = (packet.get(12..16)?, packet.get(16..20)?);
    let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let (protocol, mut payload, at) = match refusal {
        Refusal::Drop => return None,
        Refusal::Reset => (TCP, reset(packet.get(header..)?, length.checked_sub(header)?)?, 16),
        Refusal::Unreachable => (ICMP, [&[3, 3, 0, 0, 0, 0, 0, 0][..], packet].concat(), 2),
    };
    let (client, vip): ([u8; 4], [u8; 4]) = (client.try_into().ok()?, vip.try_into().ok()?);
    let pseudo = match refusal {
        Refusal::Reset => Checksum::of_pseudo_header(vip.into(), client.into(), protocol, payload.len()),
        _ => Checksum::new(),
    };
    put(pseudo, &mut payload, at);
    let total = (20 + payload.len()) as u16;
    let mut ip = vec![0x45, 0];
    ip.extend(total.to_be_bytes());
    // Not to be fragmented, and so without a number of its own (RFC 6864).
    ip.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    ip.extend(vip);
    ip.extend(client);
    put(Checksum::new(), &mut ip, 10);
    Some([ip, payload].concat())
}

fn ipv6(packet: &[u8], refusal: Refusal) -> Option<Vec<u8>> {
    let (client, vip) = (packet.get(8..24)?, packet.get(24..40)?);
    let length = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
    let (protocol, mut payload, at) = match refusal {
        // Behind extension headers nobody looks for a reset's numbers: such a SYN is told by ICMP, too.
        Refusal::Reset if packet[6] == TCP => (TCP, reset(packet.get(40..)?, length)?, 16),
        Refusal::Drop => return None,
        Refusal::Reset | Refusal::Unreachable => {
            (ICMPV6, [&[1, 4, 0, 0, 0, 0, 0, 0][..], packet].concat(), 2)
        }
    };
    let (client, vip): ([u8; 16], [u8; 16]) = (client.try_into().ok()?, vip.try_into().ok()?);
    let pseudo = Checksum::of_pseudo_header(vip.into(), client.into(), protocol, payload.len());
    put(pseudo, &mut payload, at);
    let mut ip = vec![0x60, 0, 0, 0];
    ip.extend((payload.len() as u16).to_be_bytes());
    ip.extend([protocol, 64]);
    ip.extend(vip);
    ip.extend(client);
    Some([ip, payload].concat())
}

/// A reset as RFC 9293 3.10.7.1 has it for a closed port: of a segment that acknowledges something it takes the number; of
/// any other, as a SYN, it acknowledges what that says.
fn reset(of: &[u8], length: usize) -> Option<Vec<u8>> {
    let header = of.first_chunk::<20>()?;
    let [from, to] = [&header[..2], &header[2..4]];
    let carried = length.checked_sub(usize::from(header[12] >> 4) * 4)?;
    let mut segment = [to, from].concat();
    if header[13] & ACK != 0 {
        segment.extend(&header[8..12]);
        segment.extend([0, 0, 0, 0, 0x50, RST, 0, 0, 0, 0, 0, 0]);
    } else {
        let sequence = u32::from_be_bytes(header[4..8].try_into().ok()?);
        let opens = u32::from(header[13] & (SYN | FIN) != 0);
        segment.extend([0; 4]);
        segment.extend(sequence.wrapping_add(opens + carried as u32).to_be_bytes());
        segment.extend([0x50, RST | ACK, 0, 0, 0, 0, 0, 0]);
    }
    Some(segment)
}

/// Puts a checksum where it still is 0.
fn put(sum: Checksum, payload: &mut [u8], at: usize) {
    let sum = sum.with(payload).finish();
    payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use onevip_core::checksum;
    use std::net::IpAddr;

    const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
    const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    /// A SYN to port 22 with four bytes of data and sequence number 1000.
    fn syn(v6: bool) -> Vec<u8> {
        let mut tcp = [&40000u16.to_be_bytes()[..], &22u16.to_be_bytes(), &1000u32.to_be_bytes()].concat();
        tcp.extend([0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0, 1, 2, 3, 4]);
        let mut ip = if v6 {
            vec![0x60, 0, 0, 0, 0, 24, TCP, 60]
        } else {
            vec![0x45, 0, 0, 44, 0, 0, 0, 0, 60, TCP, 0, 0]
        };
        let addresses: &[u8] = if v6 {
            &[
                0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0,
                0, 0, 0, 0, 0, 0x10,
            ]
        } else {
            &[198, 51, 100, 101, 198, 51, 100, 10]
        };
        ip.extend(addresses);
        [ip, tcp].concat()
    }

    fn answered(v6: bool, refusal: Refusal) -> Vec<u8> {
        let refused = Refused { ifindex: 2, refusal, from: CLIENT_MAC, packet: syn(v6) };
        frame(&refused, &OWN_MAC).unwrap().1
    }

    /// The address that these bytes are.
    fn address(bytes: &[u8]) -> IpAddr {
        match <[u8; 4]>::try_from(bytes) {
            Ok(v4) => v4.into(),
            Err(_) => <[u8; 16]>::try_from(bytes).unwrap().into(),
        }
    }

    #[test]
    fn a_reset_fits_the_syn_and_comes_from_the_vip() {
        for (v6, header, addresses) in [(false, 20, 12..20), (true, 40, 8..40)] {
            let frame = answered(v6, Refusal::Reset);
            assert_eq!((&frame[..6], &frame[6..12]), (&CLIENT_MAC[..], &OWN_MAC[..]));
            let (packet, before) = (&frame[14..], syn(v6));
            let middle = addresses.len() / 2 + addresses.start;
            assert_eq!(packet[addresses.start..middle], before[middle..addresses.end], "from the VIP");
            assert_eq!(packet[middle..addresses.end], before[addresses.start..middle], "to the client");
            let segment = &packet[header..];
            assert_eq!(segment[..4], [0, 22, 0x9c, 0x40]);
            assert_eq!(u32::from_be_bytes(segment[8..12].try_into().unwrap()), 1005, "the SYN and its data");
            assert_eq!(segment[13], RST | ACK);
            let (from, to) = (&packet[addresses.start..middle], &packet[middle..addresses.end]);
            assert_eq!(checksum::transport(address(from), address(to), TCP, segment), 0);
            assert!(v6 || checksum::internet(&packet[..20]) == 0);
        }
    }

    #[test]
    fn a_reset_of_an_orphan_is_the_one_that_its_sender_believes() {
        let mut packet = syn(false);
        packet[20 + 8..20 + 12].copy_from_slice(&7_000_000u32.to_be_bytes());
        packet[20 + 13] = ACK;
        let refused = Refused { ifindex: 2, refusal: Refusal::Reset, from: CLIENT_MAC, packet };
        let (_, frame) = frame(&refused, &OWN_MAC).unwrap();
        let segment = &frame[14 + 20..];
        assert_eq!(
            (&segment[4..8], segment[13]),
            (&7_000_000u32.to_be_bytes()[..], RST),
            "what it acknowledged"
        );
        assert_eq!(checksum::transport(address(&frame[26..30]), address(&frame[30..34]), TCP, segment), 0);
    }

    #[test]
    fn port_unreachable_quotes_the_syn() {
        let frame = answered(false, Refusal::Unreachable);
        let (ip, icmp) = frame[14..].split_at(20);
        assert_eq!((ip[9], &icmp[..2], &icmp[8..]), (ICMP, &[3, 3][..], &syn(false)[..]));
        assert_eq!((checksum::internet(ip), checksum::internet(icmp)), (0, 0));
        let frame = answered(true, Refusal::Unreachable);
        let (ip, icmp) = frame[14..].split_at(40);
        assert_eq!((ip[6], &icmp[..2], &icmp[8..]), (ICMPV6, &[1, 4][..], &syn(true)[..]));
        assert_eq!(checksum::transport(address(&ip[8..24]), address(&ip[24..40]), ICMPV6, icmp), 0);
    }

    #[test]
    fn what_is_cut_short_is_not_answered() {
        for v6 in [false, true] {
            let whole = syn(v6);
            for length in 0..whole.len() - 10 {
                let refused = Refused {
                    ifindex: 2,
                    refusal: Refusal::Reset,
                    from: CLIENT_MAC,
                    packet: whole[..length].to_vec(),
                };
                assert_eq!(frame(&refused, &OWN_MAC), None, "{length} bytes");
            }
            let dropped = Refused { ifindex: 2, refusal: Refusal::Drop, from: CLIENT_MAC, packet: whole };
            assert_eq!(frame(&dropped, &OWN_MAC), None);
        }
    }
}
