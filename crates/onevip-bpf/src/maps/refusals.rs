//! SYNs that are to be answered with a refusal, as the ingress program hands them over.

use crate::error::{Error, Result};
use crate::maps::layout::RawRefusal;
use aya::maps::{Map, MapData, RingBuf};
use onevip_core::limit::Refusal;
use std::mem::size_of;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A SYN that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The interface on which it arrived.
    pub ifindex: u32,
    /// How it is to be answered.
    pub refusal: Refusal,
    /// The MAC from which it came.
    pub from: [u8; 6],
    /// The packet, from its IP header on.
    pub packet: Vec<u8>,
}

/// The reading end of the ring buffer.
pub struct Refusals(RingBuf<MapData>);

impl Refusals {
    pub(crate) fn new(fd: OwnedFd) -> Result<Self> {
        let ring = MapData::from_fd(fd).and_then(|map| RingBuf::try_from(Map::RingBuf(map)));
        ring.map(Self).map_err(|error| Error::System {
            action: "open the ring buffer for refusals".into(),
            source: std::io::Error::other(error),
        })
    }

    /// The next one, if any. Never waits.
    #[expect(clippy::should_implement_trait, reason = "the end is not an end: more may arrive")]
    pub fn next(&mut self) -> Option<Refused> {
        loop {
            let refused = decode(&self.0.next()?);
            if refused.is_some() {
                return refused;
            }
        }
    }
}

/// Readable (`poll`) when a SYN was refused. Read all before waiting again.
impl AsFd for Refusals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn decode(record: &[u8]) -> Option<Refused> {
    if record.len() < size_of::<RawRefusal>() {
        return None;
    }
    // SAFETY: the record is at least as long as a RawRefusal, of which every bit pattern is one.
    let raw = unsafe { record.as_ptr().cast::<RawRefusal>().read_unaligned() };
    let mut from = [0; 6];
    from.copy_from_slice(&raw.ethernet[6..12]);
    let refusal = if raw.action == 1 { Refusal::Reset } else { Refusal::Unreachable };
    let packet = raw.packet.get(..raw.length as usize)?.to_vec();
    Some(Refused { ifindex: raw.ifindex, refusal, from, packet })
}
