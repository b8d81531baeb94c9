//! Figures for the documentation: how long buckets go unanswered per kind of fault, how much stalling is tolerated, and
//! what a large cluster costs.

use super::faults::Fault;
use super::rng::Rng;
use super::world::{Setup, World};
use crate::ids::BucketSet;
use crate::membership::{Failback, Mutation};

/// Something that happens to a healthy cluster of four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incident {
    /// A host loses power.
    PowerOff,
    /// Every process of a host stops; its kernel lives, but nobody gets a banner.
    Freeze,
    /// The daemon alone stops.
    FreezeOnevip,
    /// The daemon alone dies.
    KillOnevip,
    /// A host is cut off.
    Cut,
    /// Nothing a host sends arrives.
    Mute,
    /// A host hears nothing.
    Deaf,
    /// A host is drained.
    Drain,
    /// A host says that it is ill.
    Unhealthy,
    /// A daemon says goodbye.
    Leave,
    /// A host joins, without any sessions in the way.
    Join,
    /// A host gets twice the weight.
    Reweight,
    /// A cut heals.
    Heal,
    /// A split in two halves heals.
    HealSplit,
    /// Two hosts lose power at once.
    PowerOffTwo,
}

impl Incident {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::PowerOff,
        Self::PowerOffTwo,
        Self::Freeze,
        Self::FreezeOnevip,
        Self::KillOnevip,
        Self::Cut,
        Self::Mute,
        Self::Deaf,
        Self::Drain,
        Self::Unhealthy,
        Self::Leave,
        Self::Join,
        Self::Reweight,
        Self::Heal,
        Self::HealSplit,
    ];
}

/// What came of one incident. Times in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gap {
    /// The longest time for which a bucket was answered by nobody whom clients can reach.
    pub unanswered_ns: u64,
    /// The longest time for which a bucket was answered by two that clients can reach.
    pub twice_ns: u64,
}

/// The world is looked at this often.
const LOOK_NS: u64 = 100_000;

/// Lets `incident` happen to a healthy cluster of `nodes` nodes.
pub fn measure(incident: Incident, nodes: usize, seed: u64) -> Gap {
    let mut world = healthy(nodes, seed, incident == Incident::Join);
    let (beat, last) = (world.beat_ns(), nodes - 1);
    let far = beat * 1000;
    match incident {
        Incident::PowerOff => world.inflict(Fault::PowerOff(last)),
        Incident::PowerOffTwo => {
            world.inflict(Fault::PowerOff(last));
            world.inflict(Fault::PowerOff(0));
        }
        Incident::Freeze | Incident::FreezeOnevip => world.inflict(Fault::Stop(last, far)),
        Incident::KillOnevip => world.inflict(Fault::Crash(last)),
        Incident::Cut => world.inflict(Fault::Unplug(last, true)),
        Incident::Mute => world.inflict(Fault::Mute(last, true)),
        Incident::Deaf => world.inflict(Fault::Deaf(last, true)),
        Incident::Drain => world.inflict(Fault::Drain(last)),
        Incident::Unhealthy => world.inflict(Fault::Feel(last, 2)),
        Incident::Leave => world.inflict(Fault::Leave(last)),
        Incident::Join => world.start(last),
        Incident::Reweight => world.inflict(Fault::Weight(last, 200)),
        Incident::Heal => {
            world.inflict(Fault::Split(1 << last));
            world.run_until(world.now + beat * 60);
            world.inflict(Fault::Split(0));
        }
        Incident::HealSplit => {
            world.inflict(Fault::Split(3));
            world.run_until(world.now + beat * 60);
            world.inflict(Fault::Split(0));
        }
    }
    watch(&mut world, incident == Incident::Freeze)
}

/// A cluster of which every node serves its share; the last one is still to join if `but_one`.
fn healthy(nodes: usize, seed: u64, but_one: bool) -> World {
    let mut rng = Rng::new(seed);
    let setup = Setup {
        nodes,
        failback: Failback::Now,
        clock_ppm: 100,
        mutation: Mutation::None,
        trace: false,
        wire: false,
        measure: false,
        record: false,
    };
    let mut world = World::new(setup, rng.clone());
    let beat = world.beat_ns();
    for i in 0..nodes - usize::from(but_one) {
        let at = rng.below(beat * 3);
        world.plan(at, Fault::Start(i));
    }
    world.run_until(beat * 60 + rng.below(beat));
    world
}

/// Looks on for three seconds.
fn watch(world: &mut World, frozen_last: bool) -> Gap {
    let mut gap = Gap::default();
    let began = world.now;
    let mut missing_since = vec![None; crate::ids::BUCKETS];
    let mut twice_since = missing_since.clone();
    while world.now < began + 3_000_000_000 {
        let (mut once, mut twice) = (BucketSet::EMPTY, BucketSet::EMPTY);
        for (i, node) in world.nodes.iter().enumerate() {
            let reached =
                !(world.net.mute[i] || world.net.deaf[i] || frozen_last && i == world.nodes.len() - 1);
            if reached {
                let answers = node.answers(world.now);
                twice = twice.or(&once.and(&answers));
                once = once.or(&answers);
            }
        }
        let missing = BucketSet::FULL.minus(&once);
        gap.unanswered_ns = gap.unanswered_ns.max(longest(&mut missing_since, &missing, world.now));
        gap.twice_ns = gap.twice_ns.max(longest(&mut twice_since, &twice, world.now));
        world.run_until(world.now + LOOK_NS);
    }
    gap
}

/// How long the longest member of `set` has been in it.
fn longest(since: &mut [Option<u64>], set: &BucketSet, now: u64) -> u64 {
    let mut longest = 0;
    for (bucket, since) in crate::ids::Bucket::all().zip(since) {
        *since = set.contains(bucket).then(|| since.unwrap_or(now));
        longest = longest.max(since.map_or(0, |since| now + LOOK_NS - since));
    }
    longest
}

/// What stalls did to a cluster that had nothing else to bear.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stalls {
    /// How many daemons were stopped, for how long each.
    pub stalls: u64,
    /// How often a node claimed something because of it.
    pub gains: u64,
    /// How often a node lost sight of another.
    pub losses: u64,
    /// How often a lease ran out.
    pub lapses: u64,
}

/// `nodes` nodes for `seconds` simulated seconds, in which every daemon is stopped for 90 to 140 ms about once a second.
pub fn stall(nodes: usize, seconds: u64, seed: u64) -> Stalls {
    let mut world = healthy(nodes, seed, false);
    let mut rng = Rng::new(seed + 1);
    (world.totals.gains, world.totals.losses, world.totals.lapses) = (0, 0, 0);
    let mut stalls = 0;
    for who in 0..nodes {
        let mut at = rng.below(1_000_000_000);
        while at < seconds * 1_000_000_000 {
            let span = rng.between(90_000_000, 140_000_000);
            world.plan(at, Fault::Stop(who, span));
            stalls += 1;
            at += span + rng.between(200_000_000, 1_500_000_000);
        }
    }
    world.run_until(world.now + seconds * 1_000_000_000);
    Stalls { stalls, gains: world.totals.gains, losses: world.totals.losses, lapses: world.totals.lapses }
}

/// What a cluster costs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Processor time of one node's engine, seals included, in nanoseconds per simulated second.
    pub node_ns_per_second: u64,
    /// Length of the longest beat, in bytes.
    pub beat_bytes: usize,
    /// Beats one node sends in a second.
    pub beats_per_second: f64,
}

/// A healthy cluster of `nodes` nodes at rest for `seconds` simulated seconds; beats travel sealed and twice.
pub fn cost(nodes: usize, seconds: u64) -> Cost {
    let setup = Setup {
        nodes,
        failback: Failback::Idle,
        clock_ppm: 100,
        mutation: Mutation::None,
        trace: false,
        wire: true,
        measure: true,
        record: false,
    };
    let mut world = World::new(setup, Rng::new(1));
    for i in 0..nodes {
        world.plan(i as u64 * 700_000, Fault::Start(i));
    }
    let warm = world.beat_ns() * 60;
    world.run_until(warm);
    world.totals.beats = 0;
    for node in &mut world.nodes {
        node.cost_ns = 0;
    }
    world.run_until(warm + seconds * 1_000_000_000);
    let total: u64 = world.nodes.iter().map(|node| node.cost_ns).sum();
    Cost {
        node_ns_per_second: total / nodes as u64 / seconds,
        beat_bytes: world.totals.beat_bytes_max,
        beats_per_second: world.totals.beats as f64 / nodes as f64 / seconds as f64,
    }
}

/// What a minute in which one of `nodes` nodes loses part of its frames did to a healthy cluster.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lossy {
    /// Claims of the lossy node at the end.
    pub claims: usize,
    /// How often any node claimed something.
    pub gains: u64,
    /// How often a node lost sight of another.
    pub losses: u64,
    /// How often a lease ran out.
    pub lapses: u64,
    /// New connections that two nodes answered.
    pub answered_twice: u64,
    /// Of so many.
    pub sessions: u64,
}

/// The last of `nodes` nodes loses `ppm` millionths of what it sends and receives, for a minute.
pub fn lossy(nodes: usize, ppm: u32, seed: u64) -> Lossy {
    let mut world = healthy(nodes, seed, false);
    world.check.lossy = true;
    (world.totals.gains, world.totals.losses, world.totals.lapses, world.totals.sessions) = (0, 0, 0, 0);
    world.inflict(Fault::Loss(nodes - 1, ppm));
    world.run_until(world.now + 60_000_000_000);
    let claims = world.nodes[nodes - 1].kernel.mine.len();
    let (answered_twice, sessions) = (world.totals.answered_twice, world.totals.sessions);
    Lossy {
        claims,
        gains: world.totals.gains,
        losses: world.totals.losses,
        lapses: world.totals.lapses,
        answered_twice,
        sessions,
    }
}
