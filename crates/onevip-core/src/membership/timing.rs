//! Every timer of the protocol, derived from one setting.
//!
//! In the order of events after a node loses power: `probe` its silence is noticed and its kernel is asked; `alone`
//! whoever hears nobody else renews its own lease; `lease` its kernel has stopped claiming; `death` the others claim.
//! `lease < death` with room for clocks that differ by 1 % is what keeps two nodes from claiming the same bucket.

use std::time::Duration;

/// The timers. All derive from the beat time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Timing {
    /// Time between two periodic beats. Default 50 ms.
    pub beat: Duration,
    /// Two beats are never closer than this, however much there is to say: 1/8 beat.
    pub quick: Duration,
    /// While an intent waits for acknowledgements, or a conflict lasts, beats go out this often: 1/4 beat.
    pub nag: Duration,
    /// A timeout that comes later than this means that our own loop was stopped: 1 beat.
    pub stall: Duration,
    /// A peer that is silent for this long has its kernel asked whether it still answers: 2.1 beats.
    pub probe_after: Duration,
    /// Until a peer has been silent for this long, its sessions' packets are noted by everybody, so that whoever takes
    /// its buckets over need not wait for one more retransmission before it resets them: 20 beats.
    pub watch: Duration,
    /// Time between two such questions: 1/2 beat.
    pub probe_every: Duration,
    /// A kernel that did answer is asked again after this, while its daemon stays silent: 5 beats.
    pub probe_again: Duration,
    /// A kernel that did not is asked again after this: 20 beats.
    pub probe_gone: Duration,
    /// A kernel that answered while its daemon spoke is asked again after this, and so is one that answered none of
    /// [`ASKS`] questions: 600 beats.
    pub ask_again: Duration,
    /// A segment that no kernel seems to want is reset only if one of its flow came this long before, too: 3 beats. By
    /// then a kernel that has just come back into reach has said so, and a retransmission takes longer (0.2 s).
    pub orphan_wait: Duration,
    /// Nobody who knows us has spoken for this long: it is to be found out whether we hear anything. And none of our beats
    /// could be sent for this long: we cannot speak. 1.5 beats.
    pub doubt: Duration,
    /// Nobody who knows us has spoken for this long: we are alone, and renew our lease without them. 3 beats.
    pub alone: Duration,
    /// A peer that speaks, but does not acknowledge a beat we sent this long ago, does not hear us if its beats go on
    /// like that for another beat time: 2.5 beats.
    pub deaf: Duration,
    /// Our claims are valid for this long after the *sending* of the newest beat that anybody acknowledged: 5 beats.
    pub lease: Duration,
    /// A peer that is silent for this long is not there: 5.25 beats.
    pub death: Duration,
    /// A joining node listens this long when others serve: 20 beats.
    pub listen: Duration,
    /// A joining node listens this long when nobody serves: 6 beats.
    pub listen_alone: Duration,
    /// A draining or leaving node whose buckets nobody wants gives them up after this: 10 beats.
    pub goodbye: Duration,
    /// A node that has fallen out for the third time within `memory` takes no share for this long, unless the others are
    /// worse; the fourth time for twice as long, and so on: 20 beats.
    pub hold: Duration,
    /// For how long falls are remembered: 1200 beats, a minute.
    pub memory: Duration,
    /// A beat that says "rebalance" moves busy buckets, too, for this long: 20 beats.
    pub rebalance: Duration,
}

/// How many questions in a row a kernel leaves unanswered before it counts as gone.
pub const PROBES: u32 = 12;

/// How many questions in a row, one a beat, a kernel leaves unanswered while its daemon speaks before its silence counts
/// for nothing. With 30 % of the frames lost, one kernel in 200 is taken for such by mistake, until it is asked again.
pub const ASKS: u32 = 8;

impl Timing {
    /// The timers for this beat time (10 ms to 1 s make sense).
    pub const fn new(beat: Duration) -> Self {
        Self {
            beat,
            quick: times(beat, 1, 8),
            nag: times(beat, 1, 4),
            stall: beat,
            probe_after: times(beat, 21, 10),
            watch: times(beat, 20, 1),
            probe_every: times(beat, 1, 2),
            probe_again: times(beat, 5, 1),
            probe_gone: times(beat, 20, 1),
            ask_again: times(beat, 600, 1),
            orphan_wait: times(beat, 3, 1),
            doubt: times(beat, 3, 2),
            alone: times(beat, 3, 1),
            deaf: times(beat, 5, 2),
            lease: times(beat, 5, 1),
            death: times(beat, 21, 4),
            listen: times(beat, 20, 1),
            listen_alone: times(beat, 6, 1),
            goodbye: times(beat, 10, 1),
            hold: times(beat, 20, 1),
            memory: times(beat, 1200, 1),
            rebalance: times(beat, 20, 1),
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::new(Duration::from_millis(50))
    }
}

/// `beat × numerator / denominator`.
const fn times(beat: Duration, numerator: u64, denominator: u64) -> Duration {
    Duration::from_nanos(beat.as_nanos() as u64 * numerator / denominator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_falls_silent_before_it_is_replaced_even_if_clocks_differ_by_one_percent() {
        let timing = Timing::default();
        assert!(timing.lease * 101 < timing.death * 99);
        assert!(timing.alone < timing.lease);
        assert!(timing.stall < timing.alone);
    }
}
