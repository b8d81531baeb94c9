//! `onevip-lab bench peers`: how long nobody answers when something fails, beside keepalived and HAProxy.
//!
//! Every contestant has two hosts with `sshd` in a lab of its own; all labs run side by side. Those of a lane take turns
//! in failing; lanes go on at the same time, since what is waited for are timers and not processors.
//! Clients attempt to get in all the while ([`crate::load::attempts`]); what counts are those that the failing host
//! served. A *gap* is the time from the first of a client's attempts that failed to the first after the last that did.

mod contestant;
mod keepalived;
pub mod samples;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};

use self::contestant::{Contestant, PeerSystem};
use self::samples::AttemptSamples;

pub use self::contestant::greeted_by;
use super::results::{Aim, BenchResults};
use super::rounds::{Progress, take_turns};
use super::stats::{median, sorted};
use crate::load::attempts::{Attempts, Target};
use crate::service::echo;

/// Client addresses; half of them, more or less, meet the host that fails.
const CLIENTS: usize = 24;
/// A system that is not in order by now will not come to order by itself.
const ORDER_WITHIN: Duration = Duration::from_secs(40);
/// How long answers to one ARP request are collected.
const ASKED: Duration = Duration::from_millis(300);
const HOSTS: &str = "hosts that answer ARP for the address";
const GAP: &str = "gap, median of the clients";
const WORST: &str = "gap, worst client";
const UNSERVED: &str = "clients that were not served again while it was watched";

/// What happens to the host that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PeerFault {
    PowerOff,
    FreezeDaemon,
    FreezeSshd,
}

impl PeerFault {
    const ALL: [Self; 3] = [Self::PowerOff, Self::FreezeDaemon, Self::FreezeSshd];

    fn word(self) -> &'static str {
        match self {
            Self::PowerOff => "power-off of a host",
            Self::FreezeDaemon => "daemon frozen",
            Self::FreezeSshd => "sshd frozen",
        }
    }

    /// How long it is watched at least. A frozen daemon may go unnoticed until a second host takes the address, 3.6 s
    /// later at VRRP's defaults.
    fn least(self) -> Duration {
        match self {
            Self::PowerOff | Self::FreezeSshd => Duration::from_millis(1500),
            Self::FreezeDaemon => Duration::from_secs(5),
        }
    }

    /// How long it is watched at most: who is not served by then counts as not served again. HAProxy needs 11 s at its
    /// defaults to give a host up; when it is frozen itself there is nothing to wait for.
    fn most(self) -> Duration {
        match self {
            Self::PowerOff | Self::FreezeSshd => Duration::from_secs(12),
            Self::FreezeDaemon => Duration::from_secs(6),
        }
    }

    /// A frozen `sshd` can only be noticed at its own port, and each attempt there costs it a process.
    fn target(self, to: Ipv4Addr) -> Target {
        let target = |port, interval, limit| Target {
            to: SocketAddrV4::new(to, port),
            interval: Duration::from_millis(interval),
            limit: Duration::from_millis(limit),
        };
        match self {
            Self::PowerOff | Self::FreezeDaemon => target(echo::PORT, 50, 400),
            Self::FreezeSshd => target(22, 400, 900),
        }
    }
}

/// Measures, all labs side by side.
///
/// # Errors
/// When a lab cannot be built, a system does not come to order, or the user interrupts.
pub fn run(name: &str, rounds: usize, command: String) -> Result<BenchResults> {
    let mut results = BenchResults::new("peers", command);
    results.set("rounds", rounds);
    results.set("hosts of each", contestant::NODES);
    let progress = Progress::new("peers");
    progress.tell("a lab for each", true);
    let set_up = |kind: &PeerSystem| Contestant::set_up(*kind, name, CLIENTS);
    let mut lanes: Vec<Vec<Contestant>> =
        PeerSystem::LANES.iter().map(|lane| lane.iter().map(set_up).collect()).collect::<Result<_>>()?;
    for fault in PeerFault::ALL {
        let figures = all_lanes(&mut lanes, fault, rounds, &progress)?;
        // In the order of `ALL`, whoever was ready first.
        for kind in PeerSystem::ALL {
            let own = figures.iter().filter(|figures| figures.kind == kind);
            own.for_each(|figures| figures.note(fault, &mut results));
        }
    }
    lanes.into_iter().flatten().try_for_each(Contestant::take_down)?;
    let peers =
        [PeerSystem::Keepalived, PeerSystem::KeepalivedFast, PeerSystem::Haproxy, PeerSystem::HaproxyFast];
    for peer in peers {
        results.aims.push(Aim::at_most(GAP, PeerSystem::Onevip.word(), Some(peer.word()), 1.0));
    }
    results.finish();
    Ok(results)
}

/// What one turn has shown.
struct Figures {
    kind: PeerSystem,
    /// Seconds, sorted.
    gaps: Vec<f64>,
    unserved_percent: f64,
    hosts: usize,
}

impl Figures {
    fn note(&self, fault: PeerFault, results: &mut BenchResults) {
        let mut note =
            |metric, unit, figure| results.note(metric, fault.word(), self.kind.word(), unit, figure);
        note(GAP, "s", median(&self.gaps).unwrap_or(0.0));
        note(WORST, "s", self.gaps.last().copied().unwrap_or(0.0));
        note(UNSERVED, "%", self.unserved_percent);
        note(HOSTS, "", self.hosts as f64);
    }
}

/// All rounds of a fault; of each contestant in the order of the rounds.
fn all_lanes(
    lanes: &mut [Vec<Contestant>],
    fault: PeerFault,
    rounds: usize,
    progress: &Progress,
) -> Result<Vec<Figures>> {
    thread::scope(|scope| {
        let lane = |lane| {
            scope.spawn(move || {
                let mut figures = Vec::new();
                take_turns(progress, fault.word(), rounds, lane, |contestant| {
                    figures.push(fail(contestant, fault)?);
                    Ok(())
                })?;
                Ok(figures)
            })
        };
        let threads: Vec<_> = lanes.iter_mut().map(|contestants| lane(&mut contestants[..])).collect();
        let all = threads.into_iter().map(|t| t.join().map_err(|_| anyhow!("a thread panicked"))?);
        let all: Vec<Result<Vec<Figures>>> = all.collect();
        Ok(all.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    })
}

/// One turn: breaks a contestant, waits until it serves everybody again, and mends it.
fn fail(contestant: &mut Contestant, fault: PeerFault) -> Result<Figures> {
    let kind = contestant.kind;
    let affected = contestant.affected()?;
    let target = fault.target(contestant.address());
    let attempts = Attempts::start(&contestant.lab, &affected, target)?;
    let mut samples = AttemptSamples::default();
    let ready = samples.watch(&attempts, ORDER_WITHIN, |samples| samples.served(&affected, target.limit))?;
    ensure!(ready, "{} does not serve everybody before the fault", kind.word());
    let from = Instant::now();
    contestant.inflict(fault)?;
    samples.watch(&attempts, fault.most(), |samples| {
        from.elapsed() >= fault.least() && samples.served(&affected, target.limit)
    })?;
    let gaps: Vec<Option<f64>> =
        affected.iter().map(|&client| samples.gap(client, from - target.limit)).collect();
    let never = gaps.iter().filter(|gap| gap.is_none()).count();
    let gaps = sorted(gaps.into_iter().map(|gap| gap.unwrap_or(fault.most().as_secs_f64())));
    let answers = contestant.lab.who_has("client", contestant.address(), ASKED)?;
    let hosts: BTreeSet<&str> = answers.iter().map(|answer| answer.frame_source.as_str()).collect();
    let unserved_percent = never as f64 * 100.0 / affected.len() as f64;
    let figures = Figures { kind, gaps, unserved_percent, hosts: hosts.len() };
    contestant.heal(fault)?;
    let healed = samples.watch(&attempts, ORDER_WITHIN, |samples| samples.served(&affected, target.limit))?;
    ensure!(healed, "{} does not serve everybody after {}", kind.word(), fault.word());
    drop(attempts);
    contestant.settle(ORDER_WITHIN)?;
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_becomes_a_sample_of_each_metric() {
        let mut results = BenchResults::new("test", String::new());
        let gaps = vec![0.1, 0.2, 0.9];
        let figures = Figures { kind: PeerSystem::OnevipFast, gaps, unserved_percent: 25.0, hosts: 2 };
        figures.note(PeerFault::PowerOff, &mut results);
        let of =
            |metric| results.find(metric, PeerFault::PowerOff.word(), "onevip, fast").unwrap().samples[0];
        assert_eq!([of(GAP), of(WORST), of(UNSERVED), of(HOSTS)], [0.2, 0.9, 25.0, 2.0]);
    }

    #[test]
    fn every_fault_is_watched_at_least_for_less_than_at_most() {
        assert!(PeerFault::ALL.into_iter().all(|fault| fault.least() < fault.most()));
    }
}
