//! What the programs noted of connections of other nodes' clients, for the check of peers.

use crate::error::Result;
use crate::maps::counters::Counters;
use crate::maps::layout::{FLOW_ENDED, FLOW_OPEN, FLOW_REPEATED, FLOW_SERVED, FLOWS, RawFlow, TICK_SHIFT};
use crate::maps::set::Maps;
use onevip_core::peer_check::{ClientFlow, Progress};
use onevip_core::{BUCKETS, Bucket, Time};
use std::os::fd::AsFd;
use std::sync::Arc;

/// A look at the connections in sampled buckets. No system calls; never in anybody's way.
#[derive(Clone, Debug)]
pub struct Flows(pub(crate) Arc<Maps>);

impl Flows {
    /// How many segments the programs have looked at more closely than others.
    ///
    /// # Errors
    /// When the kernel refuses to read the counters.
    pub fn sampled_segments(&self) -> Result<u64> {
        Counters::read_sampled_segments(self.0.counters_fd().as_fd())
    }

    /// Everything that is noted, with the index of its VIP. What is older than 52 days (2^32 ticks) seems younger by
    /// that.
    pub fn look(&self, now: Time) -> impl Iterator<Item = (usize, ClientFlow)> {
        (0..FLOWS).filter_map(move |place| client_flow(&self.0.flow(place), now))
    }
}

/// Ticks that a stamp may lie ahead of the reader's clock: the programs write after it was read. A second is far more
/// than the reader takes, and so little of the 52 days of the ring of ticks that nothing old is taken for it.
const AHEAD_TICKS: u32 = (1_000_000_000u64 >> TICK_SHIFT) as u32;

/// How many ticks ago that was. Stamps are the lower half of the tick's number.
fn ticks_since(then: u32, now: u32) -> u32 {
    if then.wrapping_sub(now) <= AHEAD_TICKS { 0 } else { now.wrapping_sub(then) }
}

fn client_flow(raw: &RawFlow, now: Time) -> Option<(usize, ClientFlow)> {
    if raw.hash == 0 {
        return None;
    }
    let tick = now.nanos() >> TICK_SHIFT;
    let at = |then: u32| {
        let ticks = tick.saturating_sub(ticks_since(then, tick as u32).into());
        Time::from_nanos(ticks << TICK_SHIFT)
    };
    let has = |bit: u32| raw.state & bit != 0;
    let progress = if has(FLOW_SERVED) {
        Progress::Served
    } else if has(FLOW_OPEN) {
        Progress::Open { since: at(raw.opened), ended: has(FLOW_ENDED).then(|| at(raw.ended)) }
    } else if has(FLOW_REPEATED) {
        Progress::Repeated
    } else {
        Progress::Begun
    };
    let (vip, bucket) = (usize::from(raw.word) / BUCKETS, Bucket::new(raw.word % BUCKETS as u16)?);
    Some((vip, ClientFlow { bucket, port: raw.port, source: raw.source, begun: at(raw.begun), progress }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_reads_in_time() {
        let now = Time::from_nanos(5_000 << TICK_SHIFT);
        let raw =
            RawFlow { hash: 1, word: 1024 + 7, port: 22, begun: 4_000, opened: 4_500, ..RawFlow::default() };
        let read = |state| client_flow(&RawFlow { state, ..raw }, now).unwrap();
        let (vip, seen) = read(FLOW_OPEN | FLOW_REPEATED);
        assert_eq!((vip, seen.bucket.get(), seen.port), (1, 7, 22));
        assert_eq!(seen.begun.nanos() >> TICK_SHIFT, 4_000);
        let Progress::Open { since, ended: None } = seen.progress else { panic!("{seen:?}") };
        assert_eq!(since.nanos() >> TICK_SHIFT, 4_500);
        assert_eq!(read(FLOW_REPEATED).1.progress, Progress::Repeated);
        assert_eq!(read(FLOW_OPEN | FLOW_SERVED).1.progress, Progress::Served);
        assert_eq!(read(0).1.progress, Progress::Begun);
        assert!(client_flow(&RawFlow::default(), now).is_none());
        let later = RawFlow { begun: 5_001, ..raw };
        assert_eq!(client_flow(&later, now).unwrap().1.begun, now, "written after the clock was read");
    }
    /// What a connection that began `age` ticks before `now` seems to have begun at, in ticks of the whole clock.
    fn begun(now: u64, age: u64) -> u64 {
        let raw = RawFlow { hash: 1, begun: now.wrapping_sub(age) as u32, ..RawFlow::default() };
        let (_, seen) = client_flow(&raw, Time::from_nanos(now << TICK_SHIFT)).unwrap();
        seen.begun.nanos() >> TICK_SHIFT
    }

    #[test]
    fn nothing_old_is_new_however_long_the_host_is_up() {
        let (half, whole) = (1u64 << 31, 1u64 << 32);
        let uptimes = [half, whole, half + whole, 2 * whole, 40 * whole];
        let ages = [0, 1, 1000, half - 1, half, half + 1, half + 100_000_000, whole - 2000];
        for now in uptimes.into_iter().flat_map(|at| [at - 2, at - 1, at, at + 1, at + 2, at + 5_000]) {
            for age in ages.into_iter().filter(|age| *age <= now) {
                assert_eq!(begun(now, age), now - age, "{age} ticks ago, after {now}");
            }
            let ahead = u64::from(AHEAD_TICKS);
            let raw = RawFlow { hash: 1, begun: (now + ahead) as u32, ..RawFlow::default() };
            let (_, seen) = client_flow(&raw, Time::from_nanos(now << TICK_SHIFT)).unwrap();
            assert_eq!(seen.begun.nanos() >> TICK_SHIFT, now, "written after the clock was read");
        }
    }
}
