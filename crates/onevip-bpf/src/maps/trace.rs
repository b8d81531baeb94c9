//! Watching decisions as they are made.
//!
//! The programs tell of a decision only while a word in their configuration says that somebody watches, and only for as
//! long as that somebody keeps saying so: a tracer that is killed is forgotten within [`LIVES`].

use crate::clock::boot_time_ns;
use crate::error::{Error, Result};
use crate::maps::layout::{RawConfig, RawSettings, RawTrace, RawTracing, TRACE_FRAME_MAX};
use crate::maps::mapped::MappedArray;
use crate::maps::pinned;
use crate::sys;
use aya::maps::{Map, MapData, RingBuf};
use onevip_core::Reason;
use std::mem::{offset_of, size_of};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// How long the programs go on telling without hearing from the tracer.
pub const LIVES: Duration = Duration::from_secs(3);

/// Whose packets are to be seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceFilter {
    /// The first addresses of the prefix.
    pub prefix: IpAddr,
    /// Its length in bits.
    pub bits: u8,
}

/// The program that made a decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TracedBy {
    /// The authority, at tc ingress.
    Ingress,
    /// The early dropper.
    Xdp,
}

/// One decision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    /// Boot time in ns.
    pub time_ns: u64,
    /// Index of the interface.
    pub ifindex: u32,
    /// Who decided.
    pub by: TracedBy,
    /// What.
    pub reason: Reason,
    /// Length of the whole frame.
    pub length: usize,
    /// Its start, from the Ethernet header on: at most 192 bytes.
    pub frame: Vec<u8>,
}

/// The one who watches. Dropping it ends the watching at once.
pub struct Tracer {
    dir: PathBuf,
    config: MappedArray,
    tracing: MappedArray,
    ring: RingBuf<MapData>,
    map_id: u32,
    lost_before: u64,
}

impl Tracer {
    /// Begins to watch: packets from `filter` (and ICMP errors about its flows), or all that concern a VIP; at most
    /// `rate_max` a second.
    ///
    /// # Errors
    /// When nothing is pinned under `dir`, or it is of another release.
    pub fn begin(dir: &Path, filter: Option<TraceFilter>, rate_max: u32) -> Result<Self> {
        let map = |name: &str, size: usize| {
            MappedArray::new(pinned::sound(dir, name)?, size, 1, true)
                .map_err(Error::system(format!("map the BPF array {name} into memory")))
        };
        let traces = pinned::sound(dir, "traces")?;
        let map_id = sys::map_info(traces.as_fd()).map_err(Error::system("look at the map traces"))?.id;
        let ring = MapData::from_fd(traces).and_then(|map| RingBuf::try_from(Map::RingBuf(map)));
        let mut ring = ring.map_err(|error| Error::System {
            action: "open the ring buffer for traces".into(),
            source: std::io::Error::other(error),
        })?;
        // What an earlier tracer left; one turn of the buffer at most.
        for _ in 0..crate::maps::layout::TRACES_BYTES / 8 {
            if ring.next().is_none() {
                break;
            }
        }
        let config = map("config", size_of::<RawConfig>())?;
        let tracing = map("tracing", size_of::<RawTracing>())?;
        let mut tracer = Self { dir: dir.to_owned(), config, tracing, ring, map_id, lost_before: 0 };
        tracer.lost_before = tracer.lost_word().load(Ordering::Relaxed);
        tracer.choose(filter, rate_max);
        tracer.renew();
        Ok(tracer)
    }

    /// Goes on watching; to be called at least every second. False when the kernel part was made anew meanwhile, so
    /// that nothing more will come.
    pub fn renew(&self) -> bool {
        self.until_word().store(boot_time_ns() + LIVES.as_nanos() as u64, Ordering::Release);
        self.set_traced(1);
        let now = pinned::sound(&self.dir, "traces").ok().and_then(|fd| sys::map_info(fd.as_fd()).ok());
        now.is_some_and(|info| info.id == self.map_id)
    }

    /// The next decision, if there is one. Never waits.
    #[expect(clippy::should_implement_trait, reason = "the end is not an end: more may come")]
    pub fn next(&mut self) -> Option<Trace> {
        loop {
            let trace = decode(&self.ring.next()?);
            if trace.is_some() {
                return trace;
            }
        }
    }

    /// Decisions that were made but not told since the last call, because there were too many.
    pub fn lost(&mut self) -> u64 {
        let lost = self.lost_word().load(Ordering::Relaxed);
        lost - std::mem::replace(&mut self.lost_before, lost)
    }

    /// Lets the time run out that [`Tracer::renew`] gave, as if the process had been killed. For tests.
    #[doc(hidden)]
    pub fn run_out(&self) {
        self.until_word().store(1, Ordering::Release);
    }

    /// Whether the programs still believe that somebody watches. For tests.
    #[doc(hidden)]
    pub fn is_on(&self) -> bool {
        (0..2).any(|half| self.traced_word(half).load(Ordering::Acquire) != 0)
    }

    fn choose(&self, filter: Option<TraceFilter>, rate_max: u32) {
        let mut raw = RawTracing { rate_max, ..RawTracing::default() };
        if let Some(TraceFilter { prefix, bits }) = filter {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0).to_be_bytes();
            let mut address = [0; 16];
            match prefix {
                IpAddr::V4(v4) => address[..4].copy_from_slice(&v4.octets()),
                IpAddr::V6(v6) => address = v6.octets(),
            }
            raw.family = if prefix.is_ipv4() { 4 } else { 6 };
            for (at, (address, mask)) in address.iter().zip(mask).enumerate() {
                raw.words[at / 4][at % 4] = address & mask;
                raw.mask[at / 4][at % 4] = mask;
            }
        }
        // Nobody reads them before the word that says so is set.
        self.until_word().store(0, Ordering::Release);
        let base = self.tracing.element(0);
        // SAFETY: both fields lie within the mapped RawTracing, and this process is the one that writes them.
        unsafe {
            base.add(offset_of!(RawTracing, family)).cast::<u32>().write_volatile(raw.family);
            base.add(offset_of!(RawTracing, rate_max)).cast::<u32>().write_volatile(raw.rate_max);
            base.add(offset_of!(RawTracing, words)).cast::<[[u8; 4]; 4]>().write_volatile(raw.words);
            base.add(offset_of!(RawTracing, mask)).cast::<[[u8; 4]; 4]>().write_volatile(raw.mask);
        }
    }

    /// In both halves: the daemon may flip them at any time. (It also writes the one that is not in force, and so makes
    /// a tracer blind until it renews.)
    fn set_traced(&self, traced: u32) {
        (0..2).for_each(|half| self.traced_word(half).store(traced, Ordering::Release));
    }

    fn traced_word(&self, half: usize) -> &AtomicU32 {
        let settings = offset_of!(RawConfig, halves) + (half & 1) * size_of::<RawSettings>();
        // SAFETY: an aligned word within the mapped RawConfig, accessed atomically.
        unsafe {
            self.config
                .element(0)
                .add(settings + offset_of!(RawSettings, traced))
                .cast::<AtomicU32>()
                .as_ref()
        }
    }

    fn word64(&self, offset: usize) -> &AtomicU64 {
        let at: NonNull<u8> = self.tracing.element(0);
        // SAFETY: the offsets are those of aligned 64-bit fields of the mapped RawTracing.
        unsafe { at.add(offset).cast::<AtomicU64>().as_ref() }
    }

    fn until_word(&self) -> &AtomicU64 {
        self.word64(offset_of!(RawTracing, until_ns))
    }

    fn lost_word(&self) -> &AtomicU64 {
        self.word64(offset_of!(RawTracing, lost))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.until_word().store(0, Ordering::Release);
        self.set_traced(0);
    }
}

/// Readable (`poll`) when a decision has been told.
impl AsFd for Tracer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

fn decode(record: &[u8]) -> Option<Trace> {
    let (head, rest) = record.split_at_checked(size_of::<RawTrace>())?;
    // SAFETY: `head` is as long as a RawTrace, of which every bit pattern is one.
    let head = unsafe { head.as_ptr().cast::<RawTrace>().read_unaligned() };
    Some(Trace {
        time_ns: head.time_ns,
        ifindex: head.ifindex,
        by: if head.program == 0 { TracedBy::Ingress } else { TracedBy::Xdp },
        reason: Reason::of_number(head.reason.into())?,
        length: head.length as usize,
        frame: rest.get(..usize::from(head.captured).min(TRACE_FRAME_MAX))?.to_vec(),
    })
}
