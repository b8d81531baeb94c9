//! One random life of one random cluster, from its seed.

use super::check::Violation;
use super::faults::{Fault, FaultKind, blame, odd};
use super::record::Digest;
use super::rng::Rng;
use super::world::{Setup, World};
use crate::membership::{Failback, Mutation};
use std::ops::RangeInclusive;

/// Makes the dice of the votes another one.
const VOTES: u64 = 0x766f_7465;
/// And those of hosts as no lab has them.
const ODDITIES: u64 = 0x6f64_6421;

/// How long a bucket may be on its way from one node to another: a message takes at most 0.6 ms here. Two nodes that do
/// not hear each other need a third to pass it on, at the speed of quick beats.
const fn hand_over_ns(kind: FaultKind) -> u64 {
    match kind {
        FaultKind::Hosts | FaultKind::Pauses | FaultKind::Lossy | FaultKind::Splits => 1_000_000,
        FaultKind::Links | FaultKind::Mixed => 15_000_000,
    }
}

/// What kind of lives to live.
#[derive(Clone, Debug)]
pub struct LifePlan {
    /// How large clusters are.
    pub nodes: RangeInclusive<usize>,
    /// Which faults they meet; `None`: any.
    pub kind: Option<FaultKind>,
    /// A bug to plant.
    pub mutation: Mutation,
    /// Print everything that happens.
    pub trace: bool,
    /// Record what the engines say.
    pub record: bool,
}

impl Default for LifePlan {
    fn default() -> Self {
        Self { nodes: 2..=64, kind: None, mutation: Mutation::None, trace: false, record: false }
    }
}

/// How a life went.
#[derive(Clone, Debug)]
pub struct LifeOutcome {
    /// Its seed.
    pub seed: u64,
    /// What faults it met.
    pub kind: FaultKind,
    /// How many nodes it had.
    pub nodes: usize,
    /// The first violation of an invariant.
    pub violation: Option<Violation>,
    /// Steps that were checked.
    pub steps: u64,
    /// Beats sent.
    pub beats: u64,
    /// Sessions opened.
    pub sessions: u64,
    /// New connections that two nodes answered.
    pub answered_twice: u64,
    /// Longest overlap of two nodes that heard each other, in nanoseconds.
    pub overlap_max_ns: u64,
    /// Of what the engines said, if it was recorded.
    pub digest: Option<Digest>,
}

/// Lives the life of this seed.
pub fn live(seed: u64, plan: &LifePlan) -> LifeOutcome {
    let mut rng = Rng::new(seed);
    let kind = plan.kind.unwrap_or_else(|| *rng.pick(&FaultKind::ALL));
    let nodes = size(&mut rng, &plan.nodes);
    let setup = Setup {
        nodes,
        failback: *rng.pick(&[Failback::Idle, Failback::Idle, Failback::Now, Failback::Manual]),
        clock_ppm: if rng.one_in(2) { 10_000 } else { 100 },
        mutation: plan.mutation,
        trace: plan.trace,
        wire: rng.one_in(16),
        measure: false,
        record: plan.record,
    };
    let mut world = World::new(setup, rng.clone());
    world.check.strict = kind == FaultKind::Hosts;
    world.check.lossy = matches!(kind, FaultKind::Lossy | FaultKind::Mixed);
    if world.check.lossy {
        world.net.duplicate_ppm = 20_000;
        world.net.late_ppm = 10_000;
        let everywhere = *rng.pick(&[0, 0, 10_000, 50_000]);
        world.net.loss_ppm.fill(everywhere);
    }
    // A dice of its own: whatever else happens in a life does not depend on whether somebody is suspected.
    let mut votes = Rng::new(seed ^ VOTES);
    let mut votes = votes.one_in(3).then_some(votes);
    let mut odds = Rng::new(seed ^ ODDITIES);
    let mut odds = odds.one_in(3).then_some(odds);
    for i in (0..nodes).filter(|_| odds.as_mut().is_some_and(|dice| dice.one_in(3))) {
        world.inflict(Fault::Unaskable(i, true));
    }
    let extras = [votes.as_mut(), odds.as_mut()];
    schedule(&mut world, &mut rng, kind, extras);
    if world.check.violation.is_none() {
        finish(&mut world, &mut rng, kind, votes.as_mut());
    }
    LifeOutcome {
        seed,
        kind,
        nodes,
        violation: world.check.violation.clone(),
        steps: world.check.steps,
        beats: world.totals.beats,
        sessions: world.totals.sessions,
        answered_twice: world.totals.answered_twice,
        overlap_max_ns: world.check.overlap_max,
        digest: world.recorder.map(|recorder| recorder.digest()),
    }
}

/// Mostly small clusters, sometimes large ones.
fn size(rng: &mut Rng, range: &RangeInclusive<usize>) -> usize {
    let (low, high) = (*range.start() as u64, *range.end() as u64);
    let high = match rng.below(500) {
        0 => high,
        1..=5 => high.min(24),
        6..=50 => high.min(10),
        _ => high.min(5),
    };
    rng.between(low, high.max(low)) as usize
}

/// Starts the nodes and lets faults happen, and their ends.
fn schedule(world: &mut World, rng: &mut Rng, kind: FaultKind, [mut votes, mut odds]: [Option<&mut Rng>; 2]) {
    let (beat, nodes) = (world.beat_ns(), world.nodes.len());
    let together = rng.one_in(2);
    for i in 0..nodes {
        let at = if together { rng.below(beat) } else { rng.below(beat * 40) };
        world.plan(at, Fault::Start(i));
    }
    let mut at = beat * rng.between(10, 60);
    let mut last = at;
    for _ in 0..rng.between(1, 8) {
        for (span, fault) in kind.fault(rng, nodes, beat) {
            world.plan(at + span, fault);
            last = last.max(at + span);
        }
        for (span, fault) in votes.as_deref_mut().map(|dice| blame(dice, nodes, beat)).unwrap_or_default() {
            world.plan(at + span, fault);
            last = last.max(at + span);
        }
        let links = kind != FaultKind::Hosts;
        for (span, fault) in odds.as_deref_mut().map(|dice| odd(dice, nodes, beat, links)).unwrap_or_default()
        {
            world.plan(at + span, fault);
            last = last.max(at + span);
        }
        at += if rng.one_in(3) { rng.below(beat * 3) } else { rng.below(beat * 40) };
    }
    world.run_until(last.max(at) + 1);
}

/// Repairs everything, perhaps leaves one last fault standing, waits as long as I2 allows, and looks on for a while.
fn finish(world: &mut World, rng: &mut Rng, kind: FaultKind, votes: Option<&mut Rng>) {
    let beat = world.beat_ns();
    world.repair();
    world.net.loss_ppm.fill(0);
    world.net.late_ppm = 0;
    if matches!(kind, FaultKind::Links | FaultKind::Splits | FaultKind::Mixed) && rng.one_in(2) {
        if rng.one_in(2) {
            world.run_until(world.now + rng.below(beat * 40));
        }
        let standing =
            if kind == FaultKind::Mixed { *rng.pick(&[FaultKind::Links, FaultKind::Splits]) } else { kind };
        for (_, fault) in standing.standing(rng, world.nodes.len()) {
            world.inflict(fault);
        }
    }
    if let Some(dice) = votes.and_then(|dice| dice.one_in(2).then_some(dice)) {
        // Now and then everybody is suspected by everybody.
        let all = dice.one_in(4);
        for i in 0..world.nodes.len() {
            if all || dice.one_in(2) {
                world.inflict(Fault::Blame(i, if all { u64::MAX } else { dice.number() }));
            }
        }
    }
    world.run_until(world.now + beat * 10);
    let mut differed = false;
    for _ in 0..20 {
        if world.check.violation.is_some() {
            return;
        }
        let before = world.check.unsettled(world.now, &world.nodes, &world.net);
        world.run_until(world.now + hand_over_ns(kind));
        let after = world.check.unsettled(world.now, &world.nodes, &world.net);
        world.check.settled(world.now, &before, &after);
        world.check.justice(world.now, &world.nodes, &world.net);
        // Word of a change may have to wait for the next quick beat.
        if differed && before.views_differ && after.views_differ {
            world.check.views_differ(world.now);
        }
        differed = after.views_differ;
        world.run_until(world.now + beat / 2);
    }
}
