//! The sources that the programs count, one attempt to connect after the other.

use crate::error::{Error, Result};
use crate::maps::layout::{BURST_MAX, LIMIT_SEED, OWNER_V6, RawSource, SOURCES, WAYS};
use crate::maps::set::Maps;
use crate::sys;
use onevip_core::Prefix;
use onevip_core::hash::jhash2;
use onevip_core::limit::Limit;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

/// How far, in ms, two tellings of one attempt may lie apart: an answer that was lost is sent again after 150 ms.
const SAME_ATTEMPT_MS: u64 = 250;

/// One source's attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The number of the limit, from 1 on: the limits of all services in the order of the configuration.
    pub limit: u8,
    /// The source.
    pub source: Prefix,
    /// When it tried, in ms of boot time, the oldest first; at most 32.
    pub stamps_ms: Vec<u64>,
    /// How many attempts were refused.
    pub refused: u64,
}

/// A handle on the sources.
#[derive(Clone, Debug)]
pub struct Sources(pub(crate) Arc<Maps>);

impl Sources {
    /// All sources that were counted and not forgotten; `limits` are those in force, by their numbers from 1 on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn list(&self, limits: &[&Limit]) -> Result<Vec<Counted>> {
        let mut all = Vec::new();
        for index in 0..SOURCES as u32 {
            let raw = self.read(index)?;
            if raw.attempts > 0 {
                all.extend(decode(&raw, limits));
            }
        }
        Ok(all)
    }

    /// Puts in what another node has counted, beside what was counted here.
    ///
    /// # Errors
    /// The kernel's.
    pub fn merge(&self, limit: u8, source: &Prefix, stamps_ms: &[u64], refused: u64) -> Result<()> {
        let (start, end) = halves(source.address());
        let owner = u32::from(limit) | if source.is_v6() { OWNER_V6 } else { 0 };
        let words = [start as u32, (start >> 32) as u32, end as u32, (end >> 32) as u32, owner];
        let set = jhash2(&words, LIMIT_SEED) as usize % (SOURCES / WAYS);
        let mut chosen = None;
        for index in (set * WAYS) as u32..((set + 1) * WAYS) as u32 {
            let raw = self.read(index)?;
            let is_it = (raw.start, raw.end, raw.owner) == (start, end, owner);
            let quieter =
                chosen.as_ref().is_none_or(|(_, other): &(u32, RawSource)| raw.last_ns < other.last_ns);
            if is_it || quieter {
                chosen = Some((index, raw));
            }
            if is_it {
                break;
            }
        }
        let Some((index, old)) = chosen else { return Ok(()) };
        let mut raw = RawSource { start, end, owner, refused, ..RawSource::default() };
        let same = (old.start, old.end, old.owner) == (start, end, owner);
        if same {
            raw.refused += old.refused;
        }
        let stamps = united(&if same { stamps_of(&old) } else { Vec::new() }, stamps_ms);
        for stamp in &stamps[stamps.len().saturating_sub(BURST_MAX)..] {
            raw.stamps[raw.attempts as usize % BURST_MAX] = *stamp as u32;
            raw.attempts += 1;
            raw.last_ns = stamp * 1_000_000;
        }
        let map = self.0.sources.as_fd();
        sys::map_put_locked(map, &index, &raw).map_err(Error::system("take over the count of a source"))
    }

    fn read(&self, index: u32) -> Result<RawSource> {
        let found = sys::map_get(self.0.sources.as_fd(), &index);
        Ok(found.map_err(Error::system("read the sources that are counted"))?.unwrap_or_default())
    }
}

/// Attempts counted here and attempts told by another node, in order, each once. What is told again comes with another delay, so
/// a told attempt is one that is known when one within [`SAME_ATTEMPT_MS`] is, and was not taken for another already: two
/// attempts within one millisecond stay two, and what is told twice counts once.
fn united(known: &[u64], told: &[u64]) -> Vec<u64> {
    let (mut known, mut told) = (known.to_vec(), told.to_vec());
    known.sort_unstable();
    told.sort_unstable();
    let mut all = known.clone();
    let mut next = 0;
    for stamp in told {
        while next < known.len() && known[next] + SAME_ATTEMPT_MS < stamp {
            next += 1;
        }
        if next < known.len() && known[next] <= stamp + SAME_ATTEMPT_MS {
            next += 1;
        } else {
            all.push(stamp);
        }
    }
    all.sort_unstable();
    all
}

/// The newest stamps, the oldest of them first, as whole numbers of ms.
fn stamps_of(raw: &RawSource) -> Vec<u64> {
    let last = raw.last_ns / 1_000_000;
    let first = raw.attempts.saturating_sub(BURST_MAX as u32);
    // The ring has the lower half of each number; all are not later than the newest, and not older than 49 days.
    let whole = |at: u32| {
        let ago = (last as u32).wrapping_sub(raw.stamps[at as usize % BURST_MAX]);
        last.saturating_sub(ago.into())
    };
    (first..raw.attempts).map(whole).collect()
}

fn decode(raw: &RawSource, limits: &[&Limit]) -> Option<Counted> {
    let number = (raw.owner & (OWNER_V6 - 1)) as u8;
    let limit = limits.get(usize::from(number).checked_sub(1)?)?;
    let (address, length) = if raw.owner & OWNER_V6 != 0 {
        let halves = [raw.start.to_ne_bytes(), raw.end.to_ne_bytes()].concat();
        (IpAddr::from(<[u8; 16]>::try_from(halves).ok()?), limit.v6_prefix)
    } else {
        (IpAddr::from((raw.start as u32).to_ne_bytes()), limit.v4_prefix)
    };
    let source = Prefix::new(address, length)?;
    Some(Counted { limit: number, source, stamps_ms: stamps_of(raw), refused: raw.refused })
}

/// An address as the programs have it.
fn halves(address: IpAddr) -> (u64, u64) {
    let half = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
    match address {
        IpAddr::V4(v4) => (u32::from_ne_bytes(v4.octets()).into(), 0),
        IpAddr::V6(v6) => (half(&v6.octets()[..8]), half(&v6.octets()[8..])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source that tried at these times, in ms of boot time.
    fn tried(at_ms: &[u64]) -> RawSource {
        let mut raw = RawSource::default();
        for at in at_ms {
            raw.stamps[raw.attempts as usize % BURST_MAX] = *at as u32;
            raw.attempts += 1;
            raw.last_ns = at * 1_000_000;
        }
        raw
    }

    #[test]
    fn attempts_within_a_millisecond_are_two_and_what_is_told_twice_counts_once() {
        assert_eq!(united(&[], &[500, 500]), [500, 500]);
        assert_eq!(united(&[500, 500], &[502, 503]), [500, 500], "told again, a little later");
        assert_eq!(united(&[500, 500], &[499, 500, 501]), [500, 500, 501], "one more");
        assert_eq!(united(&[500, 800, 900], &[510, 810]), [500, 800, 900], "and one of its own");
        assert_eq!(united(&[5000], &[100, 4000, 6000]), [100, 4000, 5000, 6000], "at another time");
    }

    #[test]
    fn stamps_are_whole_however_long_the_host_is_up() {
        for end in [1u64 << 31, 1 << 32, 3 << 31, 1 << 33, 40 << 32] {
            let at_ms = [end - 3_600_000, end - 7000, end - 1, end, end + 1, end + 7000];
            assert_eq!(stamps_of(&tried(&at_ms)), at_ms);
        }
    }
}
