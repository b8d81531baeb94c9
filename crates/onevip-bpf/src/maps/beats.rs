//! Beats, as the ingress program hands them over.

use crate::error::{Error, Result};
use crate::maps::layout::{DATAGRAM_MAX, RawBeat};
use aya::maps::{Map, MapData, RingBuf};
use std::mem::size_of;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A beat that arrived: an IP datagram to a VIP's beat port. Nobody has authenticated it yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeatDatagram {
    /// Index of the VIP.
    pub vip: usize,
    /// Index of the address, counted over the addresses of all VIPs in the order of the configuration.
    pub address: usize,
    /// Boot time of its arrival in the kernel, in ns: however late it is read, this is when it came.
    pub received_ns: u64,
    /// Length of the datagram on the wire, in bytes, with whatever padding the link added.
    pub length: usize,
    /// The datagram from its IP header on, at most 1600 bytes of it.
    pub datagram: Vec<u8>,
}

/// The reading end of the ring buffer.
pub struct Beats(RingBuf<MapData>);

impl Beats {
    pub(crate) fn new(fd: OwnedFd) -> Result<Self> {
        let ring = MapData::from_fd(fd).and_then(|map| RingBuf::try_from(Map::RingBuf(map)));
        ring.map(Self).map_err(|error| Error::System {
            action: "open the ring buffer for beats".into(),
            source: std::io::Error::other(error),
        })
    }

    /// Throws away what is in the buffer: beats from before this daemon's time say nothing any more.
    pub(crate) fn drain(&mut self) {
        // One turn of the buffer at most, so that a busy link cannot hold us here.
        for _ in 0..crate::maps::layout::BEATS_BYTES / 8 {
            if self.0.next().is_none() {
                return;
            }
        }
    }

    /// The next beat that has arrived, if any. Never waits.
    #[expect(clippy::should_implement_trait, reason = "the end is not an end: more may arrive")]
    pub fn next(&mut self) -> Option<BeatDatagram> {
        loop {
            let beat = decode(&self.0.next()?);
            if beat.is_some() {
                return beat;
            }
        }
    }
}

/// Readable (`poll`, `epoll`) when a beat has arrived. Read all beats before waiting again.
impl AsFd for Beats {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn decode(record: &[u8]) -> Option<BeatDatagram> {
    let (head, rest) = record.split_at_checked(size_of::<RawBeat>())?;
    // SAFETY: `head` is as long as a RawBeat, of which every bit pattern is one.
    let head = unsafe { head.as_ptr().cast::<RawBeat>().read_unaligned() };
    let datagram = rest.get(..(head.captured as usize).min(DATAGRAM_MAX))?.to_vec();
    Some(BeatDatagram {
        vip: head.vip as usize,
        address: head.address as usize,
        received_ns: head.received_ns,
        length: head.length as usize,
        datagram,
    })
}
