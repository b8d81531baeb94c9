//! A cluster in virtual time: events in order, nodes that act on them, and a checker that watches every step.

use super::check::Checker;
use super::host::{Clock, Host, HostKernel, Input};
use super::net::Net;
use super::queue::{Queue, SimEvent};
use super::record::Recorder;
use super::rng::Rng;
use crate::beat::{Beat, Health, Incarnation};
use crate::beat::{Key, Keyring, Receiver, Sealer};
use crate::ids::{Bucket, BucketSet, NodeId, NodeSet};
use crate::membership::{Engine, EngineConfig, Event, Failback, Family, Mutation, Output, Timing};
use crate::table::{Layout, Weight};
use crate::time::Time;
use std::rc::Rc;

/// What one cluster is like.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How many nodes, 1 to 64.
    pub nodes: usize,
    /// When planned moves happen.
    pub failback: Failback,
    /// Clock rates differ by up to this many parts per million.
    pub clock_ppm: u64,
    /// A bug to plant.
    pub mutation: Mutation,
    /// Print everything that happens.
    pub trace: bool,
    /// Beats are sealed, travel as bytes by both families, and are opened.
    pub wire: bool,
    /// Measure the engine's real time.
    pub measure: bool,
    /// Record what the engines say.
    pub record: bool,
}

/// The cluster.
pub struct World {
    /// True time in nanoseconds.
    pub now: u64,
    /// The hosts; index 0 is node 1.
    pub nodes: Vec<Host>,
    /// What lies between them.
    pub net: Net,
    /// All randomness.
    pub rng: Rng,
    /// Watches.
    pub check: Checker,
    /// The timers.
    pub timing: Timing,
    pub(super) setup: Setup,
    /// Takes in what the engines say, if it is recorded.
    pub(super) recorder: Option<Recorder>,
    sealer: Sealer,
    queue: Queue,
    /// What has happened so often.
    pub totals: Totals,
}

/// What has happened so often in a cluster.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Beats sent.
    pub beats: u64,
    /// Largest beat, in bytes on the wire.
    pub beat_bytes_max: usize,
    /// Sessions opened.
    pub sessions: u64,
    /// New connections that two nodes answered.
    pub answered_twice: u64,
    /// How often a node claimed something, since the owner of the world last reset this.
    pub gains: u64,
    /// How often a node did not hear another any more.
    pub losses: u64,
    /// How often a lease ran out under claims.
    pub lapses: u64,
}

/// A call that seems to take longer was interrupted by other work on the machine that simulates.
pub(super) const CUT_NS: u64 = 100_000;

/// The hosts begin some seconds after their clocks do.
const EPOCH_NS: u64 = 10_000_000_000;

impl World {
    /// A cluster whose nodes are all off.
    pub fn new(setup: Setup, mut rng: Rng) -> Self {
        let timing = Timing::default();
        let all: NodeSet = NodeId::all().take(setup.nodes).collect();
        let net = Net::new(setup.nodes, &mut rng);
        let nodes = all
            .iter()
            .map(|me| Host {
                config: EngineConfig {
                    me,
                    host: u32::from(me.get()) * 1000,
                    nodes: all,
                    weight: Weight::NORMAL,
                    layout: Layout::Balanced,
                    // Some, so that reserves take part in everything that happens.
                    pinned: NodeId::all().take(setup.nodes / 2).collect(),
                    seed: 7,
                    failback: setup.failback,
                    timing,
                },
                engine: None,
                receiver: None,
                incarnation: Incarnation(100),
                suspects: None,
                askable: NodeSet::EMPTY,
                unaskable: false,
                mute_since: None,
                kernel: HostKernel::booted(),
                clock: Clock {
                    rate_ppm: 1_000_000 - setup.clock_ppm + rng.below(2 * setup.clock_ppm + 1),
                    at: 0,
                    shows: EPOCH_NS + rng.below(EPOCH_NS),
                },
                powered: true,
                stopped_until: None,
                paused_until: None,
                inbox: Vec::new(),
                timer: 0,
                timer_at: 0,
                heard_before: 0,
                leaving: false,
                running_since: 0,
                cost_ns: 0,
            })
            .collect();
        let check = Checker::new(setup.nodes, timing);
        let recorder = setup.record.then(Recorder::default);
        let mut world = Self {
            now: 0,
            nodes,
            net,
            rng,
            check,
            timing,
            setup,
            recorder,
            sealer: Sealer::new(&Keyring::new(Key::from_bytes([7; 32]), []), "sim", "vip"),
            queue: Queue::default(),
            totals: Totals::default(),
        };
        world.after(0, SimEvent::Clients);
        world
    }

    /// The beat time in nanoseconds.
    pub fn beat_ns(&self) -> u64 {
        self.timing.beat.as_nanos() as u64
    }

    pub(super) fn after(&mut self, span: u64, what: SimEvent) {
        self.queue.push(self.now + span, what);
    }

    /// Lets everything happen up to true time `until`, or until an invariant is violated.
    pub fn run_until(&mut self, until: u64) {
        while self.check.violation.is_none() {
            let Some((at, what)) = self.queue.pop_until(until) else { break };
            self.now = at;
            self.handle(what);
        }
        if self.check.violation.is_none() {
            self.now = until;
        }
    }

    fn handle(&mut self, what: SimEvent) {
        match what {
            SimEvent::Arrive(to, input) => self.arrive(to, input),
            SimEvent::Timer(node, timer) => {
                if self.nodes[node].timer == timer && self.nodes[node].runs() {
                    // There are always clients to be heard, if anything can be.
                    let hears = self.net.hears(node);
                    self.act(node, |engine, now| {
                        engine.timeout(now);
                        if hears && engine.doubts_reception(now) {
                            engine.frames_arrive(now);
                        }
                    });
                }
            }
            SimEvent::Continue(node) => self.carry_on(node),
            SimEvent::Resume(node) => self.resume(node),
            SimEvent::Clients => {
                self.clients();
                let span = self.beat_ns() / 2 + self.rng.below(self.timing.beat.as_nanos() as u64);
                self.after(span, SimEvent::Clients);
            }
            SimEvent::Scan(node) => {
                if self.nodes[node].runs() {
                    let held = self.nodes[node].kernel.held;
                    self.act(node, |engine, now| engine.sessions_scanned(now, held, now));
                }
                if self.nodes[node].engine.is_some() {
                    let span = self.beat_ns() * 10;
                    self.after(span, SimEvent::Scan(node));
                }
            }
            SimEvent::Fault(fault) => self.inflict(fault),
        }
    }

    /// Starts the daemon of `node`.
    pub fn start(&mut self, node: usize) {
        let off = !self.nodes[node].powered || self.nodes[node].paused_until.is_some();
        if self.nodes[node].engine.is_some() || off {
            return;
        }
        let n = &mut self.nodes[node];
        n.incarnation.0 += 1;
        n.leaving = false;
        n.stopped_until = None;
        n.inbox.clear();
        n.running_since = self.now;
        let local = n.clock.local(self.now);
        let mut engine = Engine::new(n.config.clone(), n.incarnation, n.kernel.held, local);
        engine.mutate(self.setup.mutation);
        engine.expect_answers(n.askable);
        n.engine = Some(engine);
        n.receiver = self.setup.wire.then(|| Receiver::new(self.sealer.clone()));
        if self.setup.trace {
            self.trace(node, &format!("starts, incarnation {}", self.nodes[node].incarnation.0));
        }
        self.carry_out(node);
        self.testify(node);
        let span = self.beat_ns() * 10;
        self.after(span, SimEvent::Scan(node));
    }

    /// Feeds the engine of `node` and carries out what it says.
    pub(super) fn act(&mut self, node: usize, input: impl FnOnce(&mut Engine, Time)) {
        let n = &mut self.nodes[node];
        let local = n.clock.local(self.now);
        if let Some(engine) = n.engine.as_mut() {
            let began = self.setup.measure.then(std::time::Instant::now);
            input(engine, local);
            if let Some(began) = began {
                n.cost_ns += (began.elapsed().as_nanos() as u64).min(CUT_NS);
            }
            self.carry_out(node);
        }
    }

    fn carry_out(&mut self, node: usize) {
        let mut changed = false;
        while let Some(output) = self.nodes[node].engine.as_mut().and_then(|engine| engine.poll_output()) {
            if let Some(recorder) = &mut self.recorder {
                recorder.note(self.now, node, &output);
            }
            match output {
                Output::Release(buckets) => {
                    self.check.released(self.now, node, &self.nodes, buckets);
                    let kernel = &mut self.nodes[node].kernel;
                    kernel.mine = kernel.mine.minus(&buckets);
                    changed = true;
                }
                Output::Lease(until) => {
                    changed |= self.check.leased(self.now, node, &self.nodes, until);
                    self.nodes[node].kernel.lease = until;
                }
                Output::Settled(_) | Output::Watch(_) => {}
                Output::Elsewhere(buckets) => {
                    self.nodes[node].kernel.elsewhere = buckets;
                    self.check.elsewhere(self.now, &self.nodes, &self.net);
                }
                Output::Gain(buckets) => {
                    self.totals.gains += 1;
                    let kernel = &mut self.nodes[node].kernel;
                    kernel.mine = kernel.mine.or(&buckets);
                    self.check.elsewhere(self.now, &self.nodes, &self.net);
                    if self.setup.trace {
                        self.trace(node, &format!("gains {}", buckets.len()));
                    }
                    changed = true;
                }
                Output::Send(beat) => self.send(node, *beat),
                Output::Probe(whom) => self.probe(node, whom),
                Output::Event(event) => {
                    self.take_down(node, &event);
                    self.totals.losses += u64::from(matches!(event, Event::Lost { .. }));
                    self.totals.lapses += u64::from(matches!(event, Event::Lapsed));
                    if self.setup.trace {
                        self.trace(node, &format!("{event:?}"));
                    }
                }
                Output::Left => {
                    self.nodes[node].engine = None;
                    self.nodes[node].kernel.mine = BucketSet::EMPTY;
                    changed = true;
                }
            }
        }
        self.set_timer(node);
        let heard = self.nodes[node].engine.as_ref().map_or(0, |engine| engine.alive().word());
        if changed || heard != self.nodes[node].heard_before {
            self.nodes[node].heard_before = heard;
            self.check.step(self.now, &self.nodes, &self.net, Some(node));
        }
    }

    /// What a daemon writes into its state directory.
    fn take_down(&mut self, node: usize, event: &Event) {
        match event {
            Event::Askable(whom, false) => self.nodes[node].askable = self.nodes[node].askable.without(*whom),
            Event::Outlived(known) => {
                let (next, disk) =
                    (Incarnation(known.0 + 1), self.beat_ns() / 10 + self.rng.below(self.beat_ns()));
                self.nodes[node].incarnation = self.nodes[node].incarnation.max(next);
                self.after(disk, SimEvent::Arrive(node, Input::Reincarnate(next)));
            }
            _ => {}
        }
    }

    pub(super) fn set_timer(&mut self, node: usize) {
        let Some(engine) = &self.nodes[node].engine else { return };
        if let Some(recorder) = &mut self.recorder {
            recorder.note(self.now, node, &engine.poll_timeout());
        }
        let due = self.nodes[node].clock.true_time(engine.poll_timeout()).max(self.now);
        let n = &mut self.nodes[node];
        if due != n.timer_at || due <= self.now {
            n.timer += 1;
            n.timer_at = due;
            let (timer, span) = (n.timer, due - self.now);
            self.after(span, SimEvent::Timer(node, timer));
        }
    }

    fn send(&mut self, from: usize, beat: Beat) {
        self.totals.beats += 1;
        let n = &mut self.nodes[from];
        let (local, works) = (n.clock.local(self.now), n.mute_since.is_none());
        if let Some(engine) = n.engine.as_mut() {
            engine.speaks(local, works);
        }
        let inputs = if self.setup.wire {
            let datagram = Rc::new(self.sealer.seal(&beat));
            self.totals.beat_bytes_max = self.totals.beat_bytes_max.max(datagram.len());
            if let Some(recorder) = &mut self.recorder {
                recorder.note(self.now, from, &*datagram);
            }
            vec![Input::Datagram(datagram.clone(), Family::V4), Input::Datagram(datagram, Family::V6)]
        } else {
            vec![Input::Beat(Rc::new(beat))]
        };
        for to in 0..self.nodes.len() {
            if to == from || !self.net.passes(from, to) || self.net.loses(from, to, &mut self.rng) {
                continue;
            }
            let copies = 1 + u64::from(self.rng.chance_ppm(self.net.duplicate_ppm));
            for input in (0..copies).flat_map(|_| &inputs) {
                let span = self.net.delay(self.timing.beat.as_nanos() as u64, &mut self.rng);
                self.after(span, SimEvent::Arrive(to, input.clone()));
            }
        }
    }

    fn probe(&mut self, from: usize, whom: NodeId) {
        let to = whom.index();
        let lost = self.net.loses(from, to, &mut self.rng) || self.net.loses(to, from, &mut self.rng);
        self.after(0, SimEvent::Arrive(from, Input::KernelAsked(whom)));
        let asked = &self.nodes[to];
        let lives = asked.powered && asked.paused_until.is_none() && !asked.unaskable;
        if lives && self.net.connected(from, to) && !lost {
            let span = 2 * self.net.delay(0, &mut self.rng);
            self.after(span, SimEvent::Arrive(from, Input::KernelAnswered(whom)));
        }
    }

    /// Some clients connect, some hang up.
    fn clients(&mut self) {
        self.check.step(self.now, &self.nodes, &self.net, None);
        self.look();
        for _ in 0..3 {
            let bucket = Bucket::new(self.rng.below(1024) as u16).expect("below 1024");
            let side = *self.rng.pick(&self.net.side);
            let mut answers = 0;
            for i in 0..self.nodes.len() {
                let reached = self.net.side[i] == side && !self.net.deaf[i] && !self.net.mute[i];
                if reached && self.nodes[i].answers(self.now).contains(bucket) {
                    answers += 1;
                    let kernel = &mut self.nodes[i].kernel;
                    kernel.sessions[bucket.index()] += 1;
                    kernel.held.insert(bucket);
                    self.totals.sessions += 1;
                }
            }
            self.totals.answered_twice += u64::from(answers > 1);
        }
        for _ in 0..2 {
            let i = self.rng.below(self.nodes.len() as u64) as usize;
            let bucket = self.rng.below(1024) as usize;
            let kernel = &mut self.nodes[i].kernel;
            let found = kernel.held.iter().find(|b| b.index() >= bucket);
            if let Some(found) = found {
                kernel.sessions[found.index()] -= 1;
                if kernel.sessions[found.index()] == 0 {
                    kernel.held.remove(found);
                }
            }
        }
    }

    /// Records what people see of every daemon that runs.
    fn look(&mut self) {
        let Some(recorder) = &mut self.recorder else { return };
        for (i, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.runs()) {
            if let Some(engine) = &node.engine {
                recorder.look(self.now, i, engine, node.clock.local(self.now));
            }
        }
    }

    /// Says how `node` feels.
    pub fn feel(&mut self, node: usize, health: Health) {
        if self.nodes[node].runs() {
            self.act(node, |engine, now| engine.health_changed(now, health));
        }
    }

    /// From now on the nodes whose bit is set find that `node` does not serve, and all others that it does.
    pub fn blame(&mut self, node: usize, by: u64) {
        let Some(blamed) = NodeId::from_index(node) else { return };
        for i in (0..self.nodes.len()).filter(|i| *i != node) {
            let suspects = self.nodes[i].suspects.unwrap_or_default().without(blamed);
            self.nodes[i].suspects = Some(if by >> i & 1 == 1 { suspects.with(blamed) } else { suspects });
            self.testify(i);
        }
    }

    /// Lets `node` say whom it suspects, if it ever looked.
    pub(super) fn testify(&mut self, node: usize) {
        let Some(suspects) = self.nodes[node].suspects.filter(|_| self.nodes[node].runs()) else { return };
        let all = self.nodes[node].config.nodes;
        self.act(node, |engine, now| engine.testify(now, all, suspects));
    }

    pub(super) fn trace(&self, node: usize, what: &str) {
        println!("{:>10.6} s  n{:<2}  {what}", self.now as f64 / 1e9, node + 1);
    }
}
