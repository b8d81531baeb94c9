//! Watches whether what the programs let in is answered, by what they count going out: the judgement is
//! [`AnswersHysteresis`]'s.

use crate::base::current::{Configured, Current};
use crate::base::supervisor::StopSignal;
use onevip_bpf::{ClientKind, EffectCounters, EffectCounts};
use onevip_health::answers::{AnswersHysteresis, Gauge, Openings, ResetWatch, Turn};
use onevip_health::impact::{DEAD, Finding, Impact};
use onevip_health::monitor::{self, SSHD};
use onevip_health::results::{ANSWERS, Results};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it looks.
const TICK: Duration = Duration::from_millis(500);
/// How many clients have to be left without an answer: what one sends may be dropped by a filter, as of a ban.
const SOURCES_MIN: usize = 2;
/// How long to wait before saying again that it cannot look.
const COMPLAIN_AGAIN: Duration = Duration::from_secs(300);

/// What a gauge reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reading {
    /// SYNs of clients of this kind.
    Syns(ClientKind),
    /// What neighbours ask.
    Questions,
}

/// One gauge's place among the counters.
#[derive(Clone, Copy, Debug)]
struct Place {
    index: usize,
    address: IpAddr,
    reading: Reading,
}

impl Place {
    fn words(&self) -> String {
        let address = self.address;
        match self.reading {
            Reading::Syns(kind) => {
                format!("SYNs of {} clients to {address} come in, and no SYN-ACK leaves", kind.word())
            }
            Reading::Questions if address.is_ipv4() => {
                format!("ARP requests for {address} come in, and no reply leaves")
            }
            Reading::Questions => {
                format!("neighbour solicitations for {address} come in, and no advertisement leaves")
            }
        }
    }

    fn openings(&self, counts: &EffectCounts) -> Openings {
        match self.reading {
            Reading::Syns(kind) => {
                let seen = counts.of(self.index, kind);
                Openings {
                    asked: seen.syns,
                    answered: seen.syn_acks + seen.resets,
                    source: counts.newest(self.index, kind, self.address),
                }
            }
            Reading::Questions => {
                let seen = counts.of(self.index, ClientKind::OnLink);
                Openings { asked: seen.questions, answered: seen.answers, source: None }
            }
        }
    }
}

/// All gauges of a configuration, and says to the programs which port counts.
fn places(configured: &Configured, effects: &EffectCounters) -> Vec<Place> {
    let mut places = Vec::new();
    let mut index = 0;
    for plan in &configured.plan.vips {
        let port = monitor::ssh_port(&configured.config.health, &plan.vip);
        for address in plan.vip.addresses.iter().copied() {
            effects.set_port(index, port.unwrap_or(0));
            let syns = ClientKind::ALL.map(Reading::Syns).into_iter().filter(|_| port.is_some());
            let readings = syns.chain([Reading::Questions]);
            places.extend(readings.map(|reading| Place { index, address, reading }));
            index += 1;
        }
    }
    places
}

/// Looks until told to stop.
pub fn watch(current: &Current, effects: &EffectCounters, results: &Arc<Results>, stop: &StopSignal) {
    let places = places(&current.get(), effects);
    let gauge = |place: &Place| {
        let sources = if place.reading == Reading::Questions { 0 } else { SOURCES_MIN };
        Gauge::new(place.words(), sources)
    };
    let mut hysteresis = AnswersHysteresis::new(places.iter().map(gauge).collect());
    let mut complained: Option<Instant> = None;
    let mut resets = vec![ResetWatch::default(); places.len()];
    // Whether a filter is gone nobody can see while resets are ours; a new daemon tries anew.
    effects.set_daemon_resets(false);
    while !stop.wait(TICK) {
        let counts = match effects.read() {
            Ok(counts) => counts,
            Err(error) => {
                if complained.is_none_or(|last| last.elapsed() >= COMPLAIN_AGAIN) {
                    tracing::error!("cannot tell whether this node answers: {error}");
                    complained = Some(Instant::now());
                }
                continue;
            }
        };
        if !counts.daemon_resets {
            see_to_resets(&places, &mut resets, &counts, effects);
        }
        let openings: Vec<Openings> = places.iter().map(|place| place.openings(&counts)).collect();
        // A frozen sshd with a full queue answers no SYN either, and its own check says when it is well.
        let mute_sshd = results.impact_of(SSHD) > Impact::Shed;
        let pardoned = |gauge: usize| mute_sshd && places[gauge].reading != Reading::Questions;
        let finding = match hysteresis.look(Instant::now(), &openings, pardoned) {
            None => continue,
            Some(Turn::Mute(words)) => Finding::ill(Impact::Out(DEAD), words),
            Some(Turn::Answers) => Finding::well("an answer left again"),
            Some(Turn::Retry) => {
                Finding::well("not known; it takes new users again, to see whether it answers")
            }
        };
        results.record(ANSWERS, finding, Duration::MAX);
    }
}

/// Where the stack's resets do not leave, orphans are reset by the daemon from now on: see `limits::refusals`.
fn see_to_resets(
    places: &[Place],
    resets: &mut [ResetWatch],
    counts: &EffectCounts,
    effects: &EffectCounters,
) {
    for (place, watch) in places.iter().zip(resets) {
        let Reading::Syns(kind) = place.reading else { continue };
        let seen = counts.of(place.index, kind);
        if watch.look(Instant::now(), seen.orphans, seen.resets) {
            tracing::warn!(
                "segments of ended sessions of {} clients to {} are let in, and no reset leaves this host, as of a packet \
                 filter; onevip resets them itself from now on",
                kind.word(),
                place.address
            );
            effects.set_daemon_resets(true);
            return;
        }
    }
}
