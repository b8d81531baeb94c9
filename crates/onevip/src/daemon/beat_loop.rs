//! The beat loop: the one thread on which a node's claims depend.
//!
//! It renews the lease and writes the flags, and does nothing that can block: no logging, no files, no netlink, no
//! memory that might be paged out. Everything else tells it what it needs through [`Command`]s and learns what it did
//! through atomics. It alone writes flags and lease, so every word of the kernel part has one writer.

use onevip_bpf::Words;
use onevip_core::{Bucket, BucketSet, Flags};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// The lease, in beat times. A node falls silent this long after its loop last ran, and before anyone takes its place.
pub const LEASE_BEATS: u32 = 4;

/// What the rest of the daemon tells the beat loop.
#[derive(Debug)]
pub enum Command {
    /// A scan found sockets in these buckets of a VIP.
    Guests {
        /// Index of the VIP.
        vip: usize,
        /// The buckets.
        buckets: BucketSet,
    },
    /// Stop; the lease is left to run out, or ended at once.
    Stop {
        /// Whether this node shall fall silent at once.
        release: bool,
    },
}

/// What is to be written for one VIP.
#[derive(Clone, Debug, Default)]
pub struct VipState {
    /// Buckets that this node claims.
    pub claims: BucketSet,
    /// Buckets in which it has sockets.
    pub guests: BucketSet,
    /// Buckets in which another living kernel may hold flows.
    pub elsewhere: BucketSet,
}

impl VipState {
    fn flags(&self, bucket: Bucket) -> Flags {
        let bit = |set: &BucketSet, flag| if set.contains(bucket) { flag } else { Flags::NONE };
        bit(&self.claims, Flags::MINE)
            .with(bit(&self.guests, Flags::GUESTS))
            .with(bit(&self.elsewhere, Flags::ELSEWHERE))
    }
}

/// The state of the loop.
pub struct BeatLoop {
    words: Words,
    vips: Vec<VipState>,
    beat: Duration,
    realtime: Arc<AtomicBool>,
}

impl BeatLoop {
    /// A loop that will claim what `vips` say, one entry for each VIP of the kernel part. Writes all flags once: what
    /// an earlier daemon left is forgotten, except that a bucket never loses its guests on the way.
    pub fn new(words: Words, vips: Vec<VipState>, beat: Duration, realtime: Arc<AtomicBool>) -> Self {
        for (index, vip) in vips.iter().enumerate() {
            for bucket in Bucket::all() {
                words.set_flags(index, bucket, vip.flags(bucket));
            }
        }
        Self { words, vips, beat, realtime }
    }

    /// Runs until told to stop.
    pub fn run(mut self, commands: &Receiver<Command>) {
        let realtime = super::realtime::make_current_thread_realtime().is_ok();
        self.realtime.store(realtime, Ordering::Relaxed);
        let mut next = Instant::now();
        loop {
            let now = Instant::now();
            if now >= next {
                self.renew_lease();
                next = now + self.beat;
            }
            match commands.recv_timeout(next.saturating_duration_since(now)) {
                Ok(Command::Guests { vip, buckets }) => self.set_guests(vip, buckets),
                Ok(Command::Stop { release }) => {
                    if release {
                        self.words.set_lease_deadline_ns(0);
                    }
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
                // The rest of the daemon is gone; its lease runs out with it.
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn renew_lease(&self) {
        let lease = self.beat * LEASE_BEATS;
        self.words.set_lease_deadline_ns(onevip_bpf::boot_time_ns() + lease.as_nanos() as u64);
    }

    /// Writes only the words that change, so that flags set by hand for an experiment stay as they are.
    fn set_guests(&mut self, vip: usize, guests: BucketSet) {
        let Some(state) = self.vips.get_mut(vip) else { return };
        let changed = state.guests.minus(&guests).or(&guests.minus(&state.guests));
        state.guests = guests;
        for bucket in changed.iter() {
            self.words.set_flags(vip, bucket, state.flags(bucket));
        }
    }
}
