//! Limits: how many connections a source may open within a time. The reference of `bpf/limit.h` in `onevip-bpf`.
//!
//! The window slides, exactly: an attempt is refused when the one that came `burst` attempts before it is not yet older
//! than the window. With refused attempts counted as well this is what `-m recent --update --seconds W --hitcount N
//! -j REJECT`, followed by `-m recent --set`, does: `--update` notes an attempt that it refuses, `--set` one that passes.

use crate::prefix::Prefix;
use crate::words::words;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

/// The largest burst.
pub const BURST_MAX: u8 = 32;
/// The longest window.
pub const WINDOW_MAX: Duration = Duration::from_secs(3600);

/// What becomes of an attempt that is one too many.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Refusal {
    /// It disappears; the client tries again, which is an attempt of its own.
    Drop,
    /// A TCP reset, as `REJECT --reject-with tcp-reset` sends it.
    Reset,
    /// An ICMP message "port unreachable", as `REJECT` sends it.
    #[default]
    Unreachable,
}

words!(Refusal { Unreachable = "icmp-port-unreachable", Reset = "tcp-reset", Drop = "drop" });

/// At most so many attempts of a source within so long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limit {
    /// 1 to [`BURST_MAX`].
    pub burst: u8,
    /// At least 1 ms, at most [`WINDOW_MAX`].
    pub window: Duration,
    /// Whether a refused attempt counts as well: then whoever goes on trying stays out.
    pub counts_refused: bool,
    /// What becomes of it.
    pub refusal: Refusal,
    /// Leading bits of an IPv4 address that make a source, 1 to 32.
    pub v4_prefix: u8,
    /// Leading bits of an IPv6 address that make a source, 1 to 128.
    pub v6_prefix: u8,
    /// Who is not counted.
    pub allow: Vec<Prefix>,
}

impl Limit {
    /// The source to which an address belongs.
    pub fn source(&self, address: IpAddr) -> Prefix {
        let length = if address.is_ipv4() { self.v4_prefix } else { self.v6_prefix };
        Prefix::new(address, length).unwrap_or_else(|| Prefix::host(address))
    }

    /// Whether an address is not counted.
    pub fn allows(&self, address: IpAddr) -> bool {
        let host = Prefix::host(address);
        self.allow.iter().any(|network| network.contains(&host))
    }
}

/// The attempts of one source that matter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// When they were, in ms on any clock that does not go back; the oldest first, at most `burst`.
    stamps: VecDeque<u64>,
}

impl Count {
    /// Another attempt; whether it is admitted.
    pub fn attempt(&mut self, limit: &Limit, now_ms: u64) -> bool {
        let burst = usize::from(limit.burst);
        let over = self.stamps.len() >= burst
            && now_ms - self.stamps[self.stamps.len() - burst] <= limit.window.as_millis() as u64;
        if !over || limit.counts_refused {
            self.stamps.push_back(now_ms);
            if self.stamps.len() > burst {
                self.stamps.pop_front();
            }
        }
        !over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limit(burst: u8, seconds: u64, counts_refused: bool) -> Limit {
        Limit {
            burst,
            window: Duration::from_secs(seconds),
            counts_refused,
            refusal: Refusal::Drop,
            v4_prefix: 32,
            v6_prefix: 64,
            allow: vec!["10.0.0.0/8".parse().expect("a network")],
        }
    }

    fn admitted(limit: &Limit, at_ms: &[u64]) -> Vec<bool> {
        let mut count = Count::default();
        at_ms.iter().map(|now| count.attempt(limit, *now)).collect()
    }

    #[test]
    fn the_classic_rule_two_within_seven_seconds() {
        let classic = limit(2, 7, true);
        assert_eq!(admitted(&classic, &[0, 1000, 2000]), [true, true, false]);
        assert_eq!(
            admitted(&classic, &[0, 1000, 7001]),
            [true, true, true],
            "the first is older than the window"
        );
        assert_eq!(admitted(&classic, &[0, 1000, 7000]), [true, true, false], "at its edge it counts");
        let stubborn = [0, 3000, 6000, 9000, 12_000, 25_000];
        assert_eq!(
            admitted(&classic, &stubborn),
            [true, true, false, false, false, true],
            "what was refused counts: whoever goes on trying stays out"
        );
        assert_eq!(
            admitted(&limit(2, 7, false), &[0, 1000, 2000, 3000, 7001, 7500, 8001]),
            [true, true, false, false, true, false, true],
            "where refused attempts do not count, waiting is enough"
        );
    }

    #[test]
    fn sources_are_addresses_or_networks_and_some_are_not_counted() {
        let limit = limit(2, 7, true);
        let source = |text: &str| limit.source(text.parse().expect("an address")).to_string();
        assert_eq!(source("192.0.2.7"), "192.0.2.7");
        assert_eq!(source("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert!(limit.allows(IpAddr::from([10, 1, 2, 3])) && !limit.allows(IpAddr::from([11, 1, 2, 3])));
    }

    proptest! {
        /// The rules of xt_recent, as its source has them: a list of stamps per source, `--update` with `--hitcount`
        /// counts those not older than the window and notes the attempt if there are enough, `--set` notes it otherwise.
        #[test]
        fn it_is_what_xt_recent_does(gaps in prop::collection::vec(0u64..4000, 1..80), burst in 1u8..20, seconds in 1u64..20) {
            let limit = limit(burst, seconds, true);
            let (mut now, mut count, mut stamps) = (0, Count::default(), Vec::new());
            for gap in gaps {
                now += gap;
                let hits = stamps.iter().filter(|stamp| **stamp + seconds * 1000 >= now).count();
                stamps.push(now);
                prop_assert_eq!(count.attempt(&limit, now), hits < usize::from(burst));
            }
        }
    }
}
