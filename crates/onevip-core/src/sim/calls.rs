//! A few engines that get every call in any order, sensible or not: for recordings.
//!
//! Lives look for violations, so their hosts behave. Here nobody does: there are twins, beats that cannot be read,
//! families that stay away, answers from kernels that nobody asked. No invariant is checked; what engines say is
//! recorded.

use super::record::{Digest, Recorder};
use super::rng::Rng;
use crate::beat::{Beat, Facts, Health, Incarnation};
use crate::ids::{BucketSet, NodeId, NodeSet};
use crate::membership::{Engine, EngineConfig, Failback, Family, Output, Timing};
use crate::table::{Layout, Weight};
use crate::time::Time;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

const STEPS: u32 = 1500;

/// Something on its way to an engine.
#[derive(Clone)]
enum InFlight {
    Beat(Family, Rc<Beat>),
    Asked(NodeId),
    Answered(NodeId),
}

struct Calls {
    rng: Rng,
    recorder: Recorder,
    now: Time,
    engines: Vec<Engine>,
    configs: Vec<EngineConfig>,
    /// By arrival, then by the order in which they were sent.
    on_their_way: BTreeMap<(Time, u64), (usize, InFlight)>,
    sent: u64,
    newest: Option<Rc<Beat>>,
    /// IPv6 does not reach this one.
    filtered: usize,
}

/// Everything that the engines of this seed say.
pub fn record(seed: u64) -> Digest {
    let mut rng = Rng::new(seed);
    let nodes = rng.between(1, 6) as usize;
    let configs: Vec<EngineConfig> = (0..nodes).map(|i| config(&mut rng, i, nodes)).collect();
    let now = Time::from_nanos(10_000_000_000);
    let filtered = rng.below(12) as usize;
    let mut calls = Calls {
        rng,
        recorder: Recorder::default(),
        now,
        engines: Vec::new(),
        configs,
        on_their_way: BTreeMap::new(),
        sent: 0,
        newest: None,
        filtered,
    };
    for i in 0..nodes {
        let engine = calls.begin(i, Incarnation(100));
        calls.engines.push(engine);
        calls.carry_out(i);
    }
    for step in 0..STEPS {
        calls.step();
        if step % 16 == 0 {
            calls.look();
        }
    }
    calls.look();
    calls.recorder.digest()
}

fn node(index: usize) -> NodeId {
    NodeId::from_index(index).expect("at most 64 nodes")
}

fn config(rng: &mut Rng, me: usize, nodes: usize) -> EngineConfig {
    EngineConfig {
        me: node(me),
        host: me as u32 * 1000,
        nodes: NodeId::all().take(nodes).collect(),
        weight: Weight::new(*rng.pick(&[0, 50, 100, 100, 200])).unwrap_or_default(),
        layout: *rng.pick(&[Layout::Balanced, Layout::Balanced, Layout::ClusterIp { total: 4 }]),
        seed: rng.below(3) as u32,
        pinned: NodeId::all().take(rng.below(3) as usize).collect(),
        failback: *rng.pick(&[Failback::Idle, Failback::Now, Failback::Manual]),
        timing: Timing::new(Duration::from_millis(*rng.pick(&[20, 50]))),
    }
}

impl Calls {
    fn begin(&mut self, i: usize, incarnation: Incarnation) -> Engine {
        let sessions = self.buckets();
        let mut engine = Engine::new(self.configs[i].clone(), incarnation, sessions, self.now);
        if self.rng.one_in(2) {
            engine.expect_both_families();
        }
        engine.expect_answers(self.nodes());
        engine
    }

    fn buckets(&mut self) -> BucketSet {
        let (first, step) = (self.rng.below(1024) as u16, self.rng.between(1, 60) as usize);
        (first..1024).step_by(step).filter_map(crate::ids::Bucket::new).collect()
    }

    fn nodes(&mut self) -> NodeSet {
        let word = self.rng.number();
        NodeId::all().take(self.engines.len()).filter(|node| word >> node.index() & 1 == 1).collect()
    }

    fn step(&mut self) {
        let timers = self.engines.iter().map(Engine::poll_timeout).min().unwrap_or(Time::NEVER);
        let arrival = self.on_their_way.first_key_value().map_or(Time::NEVER, |(key, _)| key.0);
        match self.rng.below(40) {
            0 => self.call(),
            1 => self.now = self.now + Duration::from_micros(self.rng.below(3_000)),
            2 if self.rng.one_in(20) => self.now = self.now + Duration::from_millis(self.rng.below(400)),
            _ if arrival <= timers => {
                let Some(((at, _), (to, message))) = self.on_their_way.pop_first() else { return };
                self.now = self.now.max(at);
                self.arrive(to, &message);
            }
            _ => {
                self.now = self.now.max(timers);
                let due = self.engines.iter().position(|engine| engine.poll_timeout() == timers);
                let i = due.unwrap_or_default();
                self.engines[i].timeout(self.now);
                self.carry_out(i);
            }
        }
    }

    fn arrive(&mut self, to: usize, message: &InFlight) {
        let (engine, now) = (&mut self.engines[to], self.now);
        match message {
            InFlight::Beat(family, beat) => engine.beat_received(now, *family, beat),
            InFlight::Asked(node) => engine.kernel_asked(now, *node),
            InFlight::Answered(node) => engine.kernel_answered(now, *node),
        }
        self.carry_out(to);
    }

    fn send(&mut self, to: usize, delay_us: u64, message: InFlight) {
        self.sent += 1;
        let at = self.now + Duration::from_micros(delay_us);
        self.on_their_way.insert((at, self.sent), (to, message));
    }

    fn carry_out(&mut self, i: usize) {
        let mut left = false;
        while let Some(output) = self.engines[i].poll_output() {
            self.recorder.note(self.now.nanos(), i, &output);
            match output {
                Output::Send(beat) => self.spread(i, Rc::new(*beat)),
                Output::Probe(whom) => {
                    self.send(i, 10, InFlight::Asked(whom));
                    if !self.rng.one_in(4) {
                        self.send(i, 400, InFlight::Answered(whom));
                    }
                }
                Output::Left => left = true,
                _ => {}
            }
        }
        self.recorder.note(self.now.nanos(), i, &self.engines[i].poll_timeout());
        if left {
            let incarnation = Incarnation(self.engines[i].incarnation().0 + 1);
            self.engines[i] = self.begin(i, incarnation);
            self.carry_out(i);
        }
    }

    fn spread(&mut self, from: usize, beat: Rc<Beat>) {
        self.newest = Some(beat.clone());
        for to in (0..self.engines.len()).filter(|to| *to != from) {
            for family in [Family::V4, Family::V6] {
                if self.rng.one_in(12) || family == Family::V6 && to == self.filtered {
                    continue;
                }
                let delay_us = self.rng.between(50, 900);
                self.send(to, delay_us, InFlight::Beat(family, beat.clone()));
            }
        }
    }

    /// One call that a daemon could make, of all that there are.
    fn call(&mut self) {
        let i = self.rng.below(self.engines.len() as u64) as usize;
        let about = node(self.rng.below(7) as usize);
        let (nodes, more, buckets) = (self.nodes(), self.nodes(), self.buckets());
        let (engine, rng, now) = (&mut self.engines[i], &mut self.rng, self.now);
        match rng.below(20) {
            0 => engine.unreadable_beat(now),
            1 => engine.health_changed(now, Health::new(rng.below(4) as u8)),
            2 => engine.drain(now),
            3 | 4 => engine.undrain(now),
            5 => engine.leave(now),
            6 => engine.rebalance(now),
            7 => {
                let changed = config(rng, i, self.configs.len());
                self.configs[i] = changed.clone();
                engine.reconfigure(now, changed);
            }
            8 => engine.facts_changed(Facts { sessions: rng.below(9) as u32, ..Facts::default() }),
            9 => engine.sessions_scanned(now, buckets, now - Duration::from_millis(rng.below(90))),
            10 => engine.frames_arrive(now),
            11 => engine.testify(now, nodes, more),
            12 => engine.speaks(now, rng.one_in(3)),
            13 => engine.kernel_spoke(now, about),
            14 => {
                let forgotten = engine.forget(now, about);
                self.recorder.note(now.nanos(), i, &forgotten);
            }
            15 => engine.addresses_changed(now, nodes),
            16 => engine.reincarnate(now, Incarnation(engine.incarnation().0 + 1)),
            17 => engine.timeout(now),
            _ => return self.mislead(i, about),
        }
        self.carry_out(i);
    }

    /// A beat of somebody who is not who he says.
    fn mislead(&mut self, i: usize, from: NodeId) {
        let Some(mut beat) = self.newest.as_deref().cloned() else { return };
        beat.from = if self.rng.one_in(2) { node(i) } else { from };
        beat.peers.retain(|report| report.node != from);
        if self.rng.one_in(2) {
            beat.host += 1;
        }
        beat.incarnation.0 += self.rng.below(2) as u32;
        beat.claims = self.buckets();
        beat.rebalance += self.rng.below(2) as u32;
        beat.testimony.able = self.nodes();
        self.engines[i].beat_received(self.now, Family::V4, &beat);
        self.carry_out(i);
    }

    fn look(&mut self) {
        for (i, engine) in self.engines.iter().enumerate() {
            self.recorder.look(self.now.nanos(), i, engine, self.now);
        }
    }
}
