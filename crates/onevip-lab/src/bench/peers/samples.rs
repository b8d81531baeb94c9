//! What became of attempts, and the questions that are asked of them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::load::attempts::{Attempt, Attempts};
use crate::process::poll_until;

/// So long everybody has to be answered to count as served.
const STEADY: Duration = Duration::from_millis(600);

/// What became of the attempts, by client, in the order in which they were made.
#[derive(Default)]
pub struct AttemptSamples(BTreeMap<Ipv4Addr, Vec<Attempt>>);

impl AttemptSamples {
    /// Takes attempts in until a condition holds; false when it does not in time.
    ///
    /// # Errors
    /// When the user interrupts.
    pub fn watch(
        &mut self,
        attempts: &Attempts,
        within: Duration,
        condition: impl Fn(&Self) -> bool,
    ) -> Result<bool> {
        poll_until(Instant::now() + within, Duration::from_millis(10), || {
            attempts.outcomes.try_iter().for_each(|attempt| self.note(attempt));
            condition(self)
        })
    }

    /// One that failed is known later than one that was answered.
    fn note(&mut self, attempt: Attempt) {
        let own = self.0.entry(attempt.client).or_default();
        let place = own.partition_point(|other| other.begun <= attempt.begun);
        own.insert(place, attempt);
    }

    /// Whether all attempts of late were answered, from everybody.
    pub fn served(&self, clients: &[Ipv4Addr], limit: Duration) -> bool {
        let now = Instant::now();
        clients.iter().all(|client| {
            let own = self.0.get(client).map_or(&[][..], Vec::as_slice);
            let recent = || own.iter().rev().take_while(|attempt| now - attempt.begun <= STEADY + limit);
            recent().count() > 0 && recent().all(|attempt| attempt.answered)
        })
    }

    /// From the first attempt since `from` that failed to the first after the last one that did; no time at all when
    /// none failed, and none when the last one did.
    pub fn gap(&self, client: Ipv4Addr, from: Instant) -> Option<f64> {
        let own = self.0.get(&client)?;
        let failed = |attempt: &&Attempt| attempt.begun >= from && !attempt.answered;
        let Some(first) = own.iter().find(failed) else { return Some(0.0) };
        let last = own.iter().rposition(|attempt| !attempt.answered)?;
        let next = own.get(last + 1)?;
        Some((next.begun - first.begun).as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 101);

    fn samples(start: Instant, outcomes: &[(u64, bool)]) -> AttemptSamples {
        let mut samples = AttemptSamples::default();
        for &(ms, answered) in outcomes {
            samples.note(Attempt { client: CLIENT, begun: start + Duration::from_millis(ms), answered });
        }
        samples
    }

    #[test]
    fn a_gap_runs_from_the_first_failure_to_the_success_after_the_last() {
        let start = Instant::now();
        // Known out of order: failures come in late.
        let samples =
            samples(start, &[(0, true), (300, true), (350, true), (50, false), (150, false), (100, true)]);
        let gap = samples.gap(CLIENT, start).unwrap();
        assert!((gap - 0.25).abs() < 1e-9, "{gap}");
    }

    #[test]
    fn no_failure_is_no_gap_and_no_success_no_end_of_it() {
        let start = Instant::now();
        assert_eq!(samples(start, &[(0, true), (50, true)]).gap(CLIENT, start), Some(0.0));
        assert_eq!(samples(start, &[(0, true), (50, false)]).gap(CLIENT, start), None);
        assert_eq!(AttemptSamples::default().gap(CLIENT, start), None);
    }

    #[test]
    fn served_means_every_attempt_of_late() {
        let start = Instant::now().checked_sub(Duration::from_millis(200)).unwrap();
        let limit = Duration::from_millis(400);
        assert!(samples(start, &[(0, true), (50, true)]).served(&[CLIENT], limit));
        assert!(!samples(start, &[(0, true), (50, false)]).served(&[CLIENT], limit));
        assert!(!AttemptSamples::default().served(&[CLIENT], limit));
    }
}
