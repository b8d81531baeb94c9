//! Eyes on the wire: a thread that looks at every frame that arrives somewhere, and keeps what a story is about.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use onevip_lab::Lab;
use onevip_lab::neighbour::NdMessage;
use onevip_lab::wire::ArpMessage;

use super::{VIP, VIP6};

/// How long after the end of a story its last frames may take to arrive.
const LAST_FRAMES: Duration = Duration::from_millis(50);

/// Watches one interface until it is asked what it saw.
pub struct Watch<T> {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    seen: Arc<Mutex<Vec<T>>>,
}

impl<T: Send + 'static> Watch<T> {
    /// Keeps what `of` makes of the frames that arrive at an interface of a host (see [`Lab::tap`]).
    pub fn on(
        lab: &Lab,
        host: &str,
        interface: &str,
        of: impl Fn(&[u8]) -> Option<T> + Send + 'static,
    ) -> Self {
        let tap = lab.tap(host, interface).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            let keep = |frame: Vec<u8>| kept.lock().unwrap().extend(of(&frame));
            // A link that goes down says so once; the tap hears again when it is up.
            while !stopped.load(Ordering::Relaxed) {
                tap.next(Instant::now() + LAST_FRAMES).unwrap_or_default().into_iter().for_each(keep);
            }
            tap.until(Instant::now() + LAST_FRAMES).unwrap_or_default().into_iter().for_each(keep);
        });
        Self { stop, thread, seen }
    }

    /// What it has seen so far, looked at while it goes on.
    pub fn so_far<R>(&self, look: impl FnOnce(&[T]) -> R) -> R {
        look(&self.seen.lock().unwrap())
    }

    /// Everything that it saw.
    pub fn seen(self) -> Vec<T> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

impl Watch<Segment> {
    /// Resets that arrive at the client in the VIP's name, whoever sent them.
    pub fn resets(lab: &Lab) -> Self {
        Self::on(lab, "client", "eth0", |frame| Segment::from_vip(frame).filter(Segment::is_reset))
    }

    /// Every TCP segment that a node sends in the VIP's name to a client's address.
    pub fn said_by(lab: &Lab, node: u8, client: std::net::IpAddr) -> Self {
        let to_client = move |segment: &Segment| segment.destination == client;
        Self::on(lab, "switch", &format!("unix{node}"), move |frame| {
            Segment::from_vip(frame).filter(to_client)
        })
    }
}

impl Watch<ArpMessage> {
    /// ARP messages that say where the VIP is.
    pub fn announcements(lab: &Lab, host: &str, interface: &str) -> Self {
        Self::on(lab, host, interface, |frame| ArpMessage::parse(frame).filter(|m| m.sender_address == VIP))
    }
}

impl Watch<NdMessage> {
    /// Neighbour messages that say where the VIP is, or whose checksum is wrong.
    pub fn neighbour_announcements(lab: &Lab, host: &str, interface: &str) -> Self {
        Self::on(lab, host, interface, |frame| {
            NdMessage::parse(frame).filter(|m| (m.bound() == VIP6 && m.link_address.is_some()) || !m.is_whole)
        })
    }
}

/// What a story needs to know of a TCP segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub source_port: u16,
    pub destination_port: u16,
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: u8,
}

impl Segment {
    /// Reads a segment out of an untagged IP frame.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let (header, ip) = frame.split_at_checked(14)?;
        let v4 = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?));
        let v6 =
            |at: usize| Some(IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(ip.get(at..at + 16)?).ok()?)));
        let (source, destination, tcp) = match header[12..14] {
            [8, 0] if *ip.get(9)? == 6 => (v4(12)?, v4(16)?, usize::from(ip[0] & 15) * 4),
            [0x86, 0xdd] if *ip.get(6)? == 6 => (v6(8)?, v6(24)?, 40),
            _ => return None,
        };
        let tcp = ip.get(tcp..)?.get(..20)?;
        let short = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let long = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
        Some(Self {
            source,
            destination,
            source_port: short(0),
            destination_port: short(2),
            sequence: long(4),
            acknowledgement: long(8),
            flags: tcp[13],
        })
    }

    fn from_vip(frame: &[u8]) -> Option<Self> {
        Self::parse(frame).filter(|segment| [VIP.into(), IpAddr::from(VIP6)].contains(&segment.source))
    }

    pub fn is_reset(&self) -> bool {
        self.flags & 4 != 0
    }
}
