//! TCP segments in Ethernet frames, made and read by hand: what the SYN prober speaks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use onevip_core::checksum;

/// Bytes of the Ethernet header.
const ETHERNET: usize = 14;
/// Bytes of an IPv4 header without options.
const IP: usize = 20;
/// Bytes of an IPv6 header.
const IP6: usize = 40;
/// Bytes of a TCP header without options.
const TCP: usize = 20;
/// Bytes of a frame that carries no data.
pub const FRAME: usize = ETHERNET + IP + TCP;
/// The same over IPv6.
pub const FRAME6: usize = ETHERNET + IP6 + TCP;

/// The flags of a segment that matter here, as they lie in the header.
pub mod flag {
    /// The sender has said all.
    pub const FIN: u8 = 0x01;
    /// A connection begins.
    pub const SYN: u8 = 0x02;
    /// There is no such connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
}

/// A TCP segment over IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// MAC that the frame comes from.
    pub from_mac: [u8; 6],
    /// MAC that it is for.
    pub to_mac: [u8; 6],
    /// Address and port that it comes from.
    pub from: (Ipv4Addr, u16),
    /// Address and port that it is for.
    pub to: (Ipv4Addr, u16),
    /// Number of its first byte.
    pub seq: u32,
    /// Number of the next byte that is expected.
    pub ack: u32,
    /// See [`flag`].
    pub flags: u8,
    /// Bytes of data that it carries. Only read, never made.
    pub data: u16,
}

impl Segment {
    /// The frame, with both checksums; without data, whatever `data` says.
    pub fn frame(&self) -> [u8; FRAME] {
        let mut frame = [0; FRAME];
        self.write_ethernet(&mut frame, [0x08, 0x00]);
        let ip = &mut frame[ETHERNET..];
        ip[..4].copy_from_slice(&[0x45, 0, 0, (IP + TCP) as u8]);
        ip[6] = 0x40; // not to be fragmented
        ip[8..10].copy_from_slice(&[64, 6]);
        ip[12..16].copy_from_slice(&self.from.0.octets());
        ip[16..20].copy_from_slice(&self.to.0.octets());
        let sum = checksum::internet(&ip[..IP]);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        self.write_tcp(&mut ip[IP..], self.from.0.into(), self.to.0.into());
        frame
    }

    /// The same over IPv6, between these addresses instead of its own.
    pub fn frame6(&self, from: Ipv6Addr, to: Ipv6Addr) -> [u8; FRAME6] {
        let mut frame = [0; FRAME6];
        self.write_ethernet(&mut frame, [0x86, 0xdd]);
        let ip = &mut frame[ETHERNET..];
        ip[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, TCP as u8, 6, 64]);
        ip[8..24].copy_from_slice(&from.octets());
        ip[24..40].copy_from_slice(&to.octets());
        self.write_tcp(&mut ip[IP6..], from.into(), to.into());
        frame
    }

    fn write_ethernet(&self, frame: &mut [u8], kind: [u8; 2]) {
        frame[..6].copy_from_slice(&self.to_mac);
        frame[6..12].copy_from_slice(&self.from_mac);
        frame[12..14].copy_from_slice(&kind);
    }

    /// The TCP header, with its checksum between these addresses.
    fn write_tcp(&self, tcp: &mut [u8], from: IpAddr, to: IpAddr) {
        tcp[..2].copy_from_slice(&self.from.1.to_be_bytes());
        tcp[2..4].copy_from_slice(&self.to.1.to_be_bytes());
        tcp[4..8].copy_from_slice(&self.seq.to_be_bytes());
        tcp[8..12].copy_from_slice(&self.ack.to_be_bytes());
        tcp[12..14].copy_from_slice(&[0x50, self.flags]);
        tcp[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
        let sum = checksum::transport(from, to, 6, tcp);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    }

    /// Reads a frame; none when it is no TCP over IPv4, or cut short, or a later fragment. Checksums are not looked
    /// at: between namespaces they are often left to hardware that is not there.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let (ethernet, ip) = frame.split_at_checked(ETHERNET)?;
        if ethernet[12..] != [0x08, 0x00] || ip.len() < IP || ip[0] >> 4 != 4 || ip[9] != 6 {
            return None;
        }
        let header = usize::from(ip[0] & 0x0f) * 4;
        let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x1fff;
        let tcp = ip.get(header..total.min(ip.len()))?;
        if header < IP || fragment != 0 || tcp.len() < TCP {
            return None;
        }
        let offset = usize::from(tcp[12] >> 4) * 4;
        let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
        let number = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
        let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        Some(Self {
            from_mac: ethernet[6..12].try_into().ok()?,
            to_mac: ethernet[..6].try_into().ok()?,
            from: (address(12), port(0)),
            to: (address(16), port(2)),
            seq: number(4),
            ack: number(8),
            flags: tcp[13],
            data: u16::try_from(total.checked_sub(header + offset)?).ok()?,
        })
    }

    /// True when all of these flags are set.
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment() -> Segment {
        Segment {
            from_mac: [2, 0, 0, 0, 2, 1],
            to_mac: [1, 0, 0x5e, 0x33, 0x64, 10],
            from: (Ipv4Addr::new(198, 51, 100, 101), 20_000),
            to: (Ipv4Addr::new(198, 51, 100, 10), 7),
            seq: 0xfedc_ba98,
            ack: 77,
            flags: flag::SYN,
            data: 0,
        }
    }

    #[test]
    fn a_segment_reads_back() {
        assert_eq!(Segment::parse(&segment().frame()), Some(segment()));
    }

    #[test]
    fn checksums_are_right() {
        let frame = segment().frame();
        assert_eq!(checksum::internet(&frame[14..34]), 0);
        let (from, to) = (segment().from.0.into(), segment().to.0.into());
        assert_eq!(checksum::transport(from, to, 6, &frame[34..]), 0);
    }

    #[test]
    fn over_ipv6_it_is_the_same_segment_with_a_checksum_of_its_own() {
        let (from, to) = (Ipv6Addr::LOCALHOST, Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10));
        let frame = segment().frame6(from, to);
        assert_eq!((&frame[12..14], frame[20]), (&[0x86, 0xdd][..], 6));
        assert_eq!((&frame[22..38], &frame[38..54]), (&from.octets()[..], &to.octets()[..]));
        assert_eq!(checksum::transport(from.into(), to.into(), 6, &frame[54..]), 0);
        assert_eq!(frame[54..70], segment().frame()[34..50], "all of TCP but its checksum");
    }

    #[test]
    fn what_is_cut_short_or_something_else_is_none() {
        let frame = segment().frame();
        assert!((0..FRAME).all(|length| Segment::parse(&frame[..length]).is_none()));
        let mut udp = frame;
        udp[23] = 17;
        assert_eq!(Segment::parse(&udp), None);
        let mut fragment = frame;
        fragment[21] = 1;
        assert_eq!(Segment::parse(&fragment), None);
    }

    #[test]
    fn data_is_counted_without_the_padding_of_the_frame() {
        let mut frame = segment().frame().to_vec();
        frame[17] += 1;
        frame.extend([b'x', 0, 0, 0, 0, 0]);
        assert_eq!(Segment::parse(&frame).unwrap().data, 1);
    }
}
