//! `onevip-lab bench peers`: how long nobody answers when something fails, beside keepalived and HAProxy.
//!
//! Every contestant has two hosts with `sshd` in a lab of its own; all labs run side by side, and take turns in failing.
//! Clients attempt to get in all the while ([`crate::load::attempts`]); what counts are those that the failing host
//! served. A *gap* is the time from the first of a client's attempts that failed to the first after the last that did.

mod contestant;
mod keepalived;
pub mod tape;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use self::contestant::{Contestant, Kind};
use self::tape::Tape;

pub use self::contestant::greeted_by;
use super::rounds::{Progress, take_turns};
use super::sheet::{Aim, Sheet};
use super::stats::{median, sorted};
use crate::load::attempts::{Attempts, Target};
use crate::load::echo;

/// Client addresses; half of them, more or less, meet the host that fails.
const CLIENTS: usize = 24;
/// A fault is watched at most so long: who is not served by then counts as not served again.
const MOST: Duration = Duration::from_secs(12);
/// A system that is not in order by now will not come to order by itself.
const ORDER_WITHIN: Duration = Duration::from_secs(40);
/// How long answers to one ARP request are collected.
const ASKED: Duration = Duration::from_millis(300);
const HOSTS: &str = "hosts that answer ARP for the address";
const GAP: &str = "gap, median of the clients";
const WORST: &str = "gap, worst client";
const UNSERVED: &str = "clients that were not served again within 12 s";

/// What happens to the host that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    PowerOff,
    FreezeDaemon,
    FreezeSshd,
}

impl Fault {
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
pub fn run(name: &str, rounds: usize, command: String) -> Result<Sheet> {
    let mut sheet = Sheet::new("peers", command);
    sheet.set("rounds", rounds);
    sheet.set("hosts of each", contestant::NODES);
    let progress = Progress::new("peers");
    progress.tell("a lab for each", true);
    let mut contestants: Vec<Contestant> =
        Kind::ALL.into_iter().map(|kind| Contestant::set_up(kind, name, CLIENTS)).collect::<Result<_>>()?;
    for fault in Fault::ALL {
        take_turns(&progress, fault.word(), rounds, &mut contestants, |contestant| {
            play(contestant, fault, &mut sheet)
        })?;
    }
    contestants.into_iter().try_for_each(Contestant::take_down)?;
    for peer in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Onevip) {
        sheet.aims.push(Aim::at_most(GAP, Kind::Onevip.word(), Some(peer.word()), 1.0));
    }
    sheet.finish();
    Ok(sheet)
}

fn play(contestant: &mut Contestant, fault: Fault, sheet: &mut Sheet) -> Result<()> {
    let affected = contestant.affected()?;
    let target = fault.target(contestant.address());
    let attempts = Attempts::start(&contestant.lab, &affected, target)?;
    let mut tape = Tape::default();
    let ready = tape.watch(&attempts, ORDER_WITHIN, |tape| tape.served(&affected, target.limit))?;
    ensure!(ready, "{} does not serve everybody before the fault", contestant.kind.word());
    let from = Instant::now();
    contestant.inflict(fault)?;
    tape.watch(&attempts, MOST, |tape| {
        from.elapsed() >= fault.least() && tape.served(&affected, target.limit)
    })?;
    let gaps: Vec<Option<f64>> =
        affected.iter().map(|&client| tape.gap(client, from - target.limit)).collect();
    let never = gaps.iter().filter(|gap| gap.is_none()).count();
    let gaps = sorted(gaps.into_iter().map(|gap| gap.unwrap_or(MOST.as_secs_f64())));
    let mut note =
        |metric, unit, figure| sheet.note(metric, fault.word(), contestant.kind.word(), unit, figure);
    note(GAP, "s", median(&gaps).unwrap_or(0.0));
    note(WORST, "s", gaps.last().copied().unwrap_or(0.0));
    note(UNSERVED, "%", never as f64 * 100.0 / affected.len() as f64);
    let answers = contestant.lab.who_has("client", contestant.address(), ASKED)?;
    let hosts: BTreeSet<&str> = answers.iter().map(|answer| answer.frame_source.as_str()).collect();
    note(HOSTS, "", hosts.len() as f64);
    contestant.heal(fault)?;
    let healed = tape.watch(&attempts, ORDER_WITHIN, |tape| tape.served(&affected, target.limit))?;
    ensure!(healed, "{} does not serve everybody after {}", contestant.kind.word(), fault.word());
    drop(attempts);
    contestant.settle(ORDER_WITHIN)
}
