//! Model check: three engines, every order in which beats of one instant can arrive, bounded loss, crashes, freezes.
//!
//! The same engine code as everywhere, driven by [`stateright`] instead of by chance. Time passes only when every beat
//! in flight was delivered or lost, and then to the next moment at which an engine wants to act; so an execution is a
//! sequence of choices, and all of them up to the horizon are looked at. Deliveries to different nodes at one instant
//! commute; one order of the receivers stands for all. Every node begins at another phase of the beat.
#![allow(clippy::unwrap_used)] // A test may panic, its helpers included.

use onevip_core::beat::{Beat, Incarnation};
use onevip_core::membership::{Engine, EngineConfig, Failback, Family, Mutation, Output, Timing};
use onevip_core::{BucketSet, Layout, NodeId, NodeSet, Time, Weight};
use stateright::{Checker, Model, Property};
use std::collections::VecDeque;
use std::time::Duration;

const NODES: usize = 3;

/// What may happen, and for how long.
#[derive(Clone, Debug)]
struct Bounds {
    /// What has happened when the model begins.
    prelude: Prelude,
    /// Beats that may be lost.
    losses: u8,
    /// Faults that may begin.
    faults: u8,
    /// Which.
    kinds: Vec<Fault>,
    /// How long it goes on, in tenths of a beat.
    horizon: u32,
    mutation: Mutation,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Prelude {
    /// All three serve.
    Settled,
    /// Two serve, the third is about to.
    Joining,
    /// Two serve, and node 2 has just been told to leave its share to node 1.
    Draining,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fault {
    /// The daemon dies and later starts anew.
    Crash,
    /// The daemon is stopped and later goes on.
    Freeze,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Deliver(usize, usize),
    Lose(usize, usize),
    Tick,
    Begin(Fault, usize),
    Restart(usize),
    Thaw(usize),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Host {
    engine: Option<Engine>,
    frozen: bool,
    incarnation: u32,
    mine: BucketSet,
    elsewhere: BucketSet,
    lease: Time,
    /// Buckets with sessions: all it ever answered for.
    held: BucketSet,
    /// A lapsed lease was renewed over claims.
    revived: bool,
    /// It answered for a bucket, for however short a time, without knowing of a session elsewhere.
    ignorant: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    now: Time,
    quiet_since: Time,
    hosts: Vec<Host>,
    /// `links[from * NODES + to]`.
    links: Vec<VecDeque<Box<Beat>>>,
    losses: u8,
    faults: u8,
}

fn node(index: usize) -> NodeId {
    NodeId::from_index(index).unwrap()
}

fn config(index: usize) -> EngineConfig {
    EngineConfig {
        me: node(index),
        host: index as u32,
        nodes: (0..NODES).map(node).collect::<NodeSet>(),
        weight: Weight::NORMAL,
        layout: Layout::Balanced,
        pinned: NodeSet::EMPTY,
        seed: 0,
        failback: Failback::Now,
        timing: Timing::default(),
    }
}

impl State {
    fn dark(bounds: &Bounds) -> Self {
        let host = Host {
            engine: None,
            frozen: false,
            incarnation: 1,
            mine: BucketSet::EMPTY,
            elsewhere: BucketSet::EMPTY,
            lease: Time::ZERO,
            held: BucketSet::EMPTY,
            revived: false,
            ignorant: false,
        };
        Self {
            now: Time::from_nanos(1_000_000_000),
            quiet_since: Time::ZERO,
            hosts: vec![host; NODES],
            links: vec![VecDeque::new(); NODES * NODES],
            losses: bounds.losses,
            faults: bounds.faults,
        }
    }

    fn start(&mut self, index: usize, mutation: Mutation) {
        let host = &mut self.hosts[index];
        host.incarnation += 1;
        let mut engine = Engine::new(config(index), Incarnation(host.incarnation), host.held, self.now);
        engine.mutate(mutation);
        host.engine = Some(engine);
        self.carry_out(index);
    }

    /// Carries out what the engine of this host says; probes are answered at once by any kernel, all of which live.
    fn carry_out(&mut self, index: usize) {
        while let Some(output) = self.hosts[index].engine.as_mut().and_then(Engine::poll_output) {
            let now = self.now;
            let host = &mut self.hosts[index];
            match output {
                Output::Release(buckets) => host.mine = host.mine.minus(&buckets),
                Output::Lease(until) => {
                    host.revived |= now >= host.lease && until > now && !host.mine.is_empty();
                    host.lease = until;
                }
                Output::Elsewhere(buckets) => host.elsewhere = buckets,
                Output::Gain(buckets) => host.mine = host.mine.or(&buckets),
                Output::Send(beat) => {
                    for to in (0..NODES).filter(|to| *to != index && self.hosts[*to].engine.is_some()) {
                        self.links[index * NODES + to].push_back(beat.clone());
                    }
                }
                Output::Probe(whom) => {
                    if let Some(engine) = host.engine.as_mut() {
                        engine.kernel_answered(now, whom);
                    }
                }
                Output::Settled(_) | Output::Watch(_) | Output::Event(_) => {}
                Output::Left => host.engine = None,
            }
            self.serve();
        }
    }

    /// Every bucket that is answered for gets a session; nobody may then reset sessions of others.
    fn serve(&mut self) {
        for (m, n) in (0..NODES).flat_map(|m| (0..NODES).map(move |n| (m, n))).filter(|(m, n)| m != n) {
            let resets = self.answers(m).minus(&self.hosts[m].elsewhere);
            self.hosts[m].ignorant |= !resets.and(&self.hosts[n].held).is_empty();
        }
        for index in 0..NODES {
            let answers = self.answers(index);
            self.hosts[index].held = self.hosts[index].held.or(&answers);
        }
    }

    fn answers(&self, index: usize) -> BucketSet {
        let host = &self.hosts[index];
        if self.now < host.lease { host.mine } else { BucketSet::EMPTY }
    }

    fn act(&mut self, index: usize, input: impl FnOnce(&mut Engine, Time)) {
        let now = self.now;
        if let Some(engine) = self.hosts[index].engine.as_mut() {
            input(engine, now);
            self.carry_out(index);
        }
    }

    /// The first receiver, and the senders it could hear next.
    fn deliverable(&self) -> Option<(usize, Vec<usize>)> {
        (0..NODES).filter(|to| !self.hosts[*to].frozen && self.hosts[*to].engine.is_some()).find_map(|to| {
            let senders: Vec<usize> =
                (0..NODES).filter(|from| !self.links[from * NODES + to].is_empty()).collect();
            (!senders.is_empty()).then_some((to, senders))
        })
    }

    fn deliver(&mut self, from: usize, to: usize) {
        if let Some(beat) = self.links[from * NODES + to].pop_front() {
            self.act(to, |engine, now| engine.beat_received(now, Family::V4, &beat));
        }
    }

    /// Time passes until somebody wants to act.
    fn tick(&mut self) {
        let running = |host: &&Host| !host.frozen && host.engine.is_some();
        let due = self
            .hosts
            .iter()
            .filter(running)
            .filter_map(|host| host.engine.as_ref())
            .map(Engine::poll_timeout);
        self.now =
            due.min().unwrap_or(self.now + Timing::default().beat).max(self.now + Duration::from_nanos(1));
        for index in 0..NODES {
            let host = &self.hosts[index];
            let is_due = host.engine.as_ref().is_some_and(|engine| engine.poll_timeout() <= self.now);
            if is_due && !host.frozen {
                let held = host.held;
                self.act(index, |engine, now| engine.sessions_scanned(now, held, now));
            }
        }
        self.serve();
    }

    /// Runs without any choice until `until`.
    fn run(&mut self, until: Time) {
        while self.now < until {
            while let Some((to, senders)) = self.deliverable() {
                self.deliver(senders[0], to);
            }
            self.tick();
        }
    }
}

impl Bounds {
    fn begin(&self) -> State {
        let mut state = State::dark(self);
        let beat = Timing::default().beat;
        let first = if self.prelude == Prelude::Joining { NODES - 1 } else { NODES };
        for index in 0..first {
            state.start(index, self.mutation);
            let until = state.now + beat * 3 / 10;
            state.run(until);
        }
        let until = state.now + beat * 30;
        state.run(until);
        match self.prelude {
            Prelude::Settled => {}
            Prelude::Joining => {
                state.start(NODES - 1, self.mutation);
                let until = state.now + beat * 195 / 10;
                state.run(until);
            }
            Prelude::Draining => state.act(1, |engine, now| engine.drain(now)),
        }
        state.quiet_since = state.now;
        state
    }

    fn is_over(&self, state: &State) -> bool {
        let beat = Timing::default().beat;
        state.now >= self.begin_time() + beat * self.horizon / 10
    }

    fn begin_time(&self) -> Time {
        thread_local!(static BEGAN: std::cell::RefCell<Vec<(String, Time)>> = const { std::cell::RefCell::new(Vec::new()) });
        let key = format!("{:?} {:?}", self.prelude, self.mutation);
        BEGAN.with_borrow_mut(|known| {
            if let Some((_, time)) = known.iter().find(|(k, _)| *k == key) {
                return *time;
            }
            let time = self.begin().now;
            known.push((key, time));
            time
        })
    }
}

impl Model for Bounds {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![self.begin()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        if self.is_over(state) {
            return;
        }
        if let Some((to, senders)) = state.deliverable() {
            for from in senders {
                actions.push(Step::Deliver(from, to));
                if state.losses > 0 {
                    actions.push(Step::Lose(from, to));
                }
            }
            return;
        }
        actions.push(Step::Tick);
        for (index, host) in state.hosts.iter().enumerate() {
            if host.engine.is_none() {
                actions.push(Step::Restart(index));
            } else if host.frozen {
                actions.push(Step::Thaw(index));
            } else if state.faults > 0 {
                actions.extend(self.kinds.iter().map(|kind| Step::Begin(*kind, index)));
            }
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        match step {
            Step::Deliver(from, to) => state.deliver(from, to),
            Step::Lose(from, to) => {
                state.links[from * NODES + to].pop_front();
                state.losses -= 1;
                state.quiet_since = state.now;
            }
            Step::Tick => state.tick(),
            Step::Begin(Fault::Crash, index) => {
                state.faults -= 1;
                state.quiet_since = state.now;
                state.hosts[index].engine = None;
                for from in 0..NODES {
                    state.links[from * NODES + index].clear();
                }
            }
            Step::Begin(Fault::Freeze, index) => {
                state.faults -= 1;
                state.quiet_since = state.now;
                state.hosts[index].frozen = true;
            }
            Step::Restart(index) => {
                state.quiet_since = state.now;
                state.start(index, self.mutation);
            }
            Step::Thaw(index) => {
                state.quiet_since = state.now;
                state.hosts[index].frozen = false;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("I1: one claims", |_, state: &State| {
                let mut all = BucketSet::EMPTY;
                (0..NODES).all(|index| {
                    let answers = state.answers(index);
                    let twice = !all.and(&answers).is_empty();
                    all = all.or(&answers);
                    !twice
                })
            }),
            Property::always("I2: all is claimed", |_, state: &State| {
                let settled = state.now >= state.quiet_since + Timing::default().beat * 10;
                let all = (0..NODES).fold(BucketSet::EMPTY, |all, index| all.or(&state.answers(index)));
                !settled || state.deliverable().is_some() || all == BucketSet::FULL
            }),
            Property::always("I4: no lapsed lease is revived", |_, state: &State| {
                state.hosts.iter().all(|host| !host.revived)
            }),
            Property::always("I6: no orphan reset reaches a living flow", |_, state: &State| {
                state.hosts.iter().all(|host| !host.ignorant)
            }),
            Property::sometimes("the end is reached", |model: &Self, state: &State| model.is_over(state)),
        ]
    }
}

/// Looks at everything within `bounds`; returns the names of the properties that do not hold, and how many states there
/// were.
fn check(bounds: Bounds) -> (Vec<&'static str>, usize) {
    let what = format!(
        "{:?} {:?} losses {} faults {}",
        bounds.prelude, bounds.mutation, bounds.losses, bounds.faults
    );
    let began = std::time::Instant::now();
    let checker = bounds.checker().threads(2).spawn_dfs().join();
    let mut broken: Vec<&'static str> = checker.discoveries().into_keys().collect();
    broken.retain(|name| *name != "the end is reached");
    broken.sort_unstable();
    println!("{what}: {} states, {:?}, broken: {broken:?}", checker.unique_state_count(), began.elapsed());
    (broken, checker.unique_state_count())
}

fn joining(mutation: Mutation) -> Bounds {
    Bounds { prelude: Prelude::Joining, losses: 2, faults: 0, kinds: vec![], horizon: 40, mutation }
}

fn crashing(mutation: Mutation) -> Bounds {
    let kinds = vec![Fault::Crash];
    Bounds { prelude: Prelude::Settled, losses: 0, faults: 1, kinds, horizon: 130, mutation }
}

fn freezing(mutation: Mutation) -> Bounds {
    let kinds = vec![Fault::Freeze];
    Bounds { prelude: Prelude::Settled, losses: 0, faults: 1, kinds, horizon: 130, mutation }
}

fn draining(mutation: Mutation) -> Bounds {
    let kinds = vec![Fault::Crash];
    Bounds { prelude: Prelude::Draining, losses: 2, faults: 0, kinds, horizon: 40, mutation }
}

#[test]
fn a_hand_over_to_a_newcomer_is_safe_whatever_is_lost() {
    let (broken, states) = check(joining(Mutation::None));
    assert!(broken.is_empty(), "{broken:?}");
    assert!(states > 1000);
}

#[test]
fn a_drain_is_safe_whatever_is_lost() {
    let (broken, states) = check(draining(Mutation::None));
    assert!(broken.is_empty(), "{broken:?}");
    assert!(states > 1000);
}

#[test]
fn a_crash_and_a_restart_at_any_moment_are_safe() {
    let (broken, states) = check(crashing(Mutation::None));
    assert!(broken.is_empty(), "{broken:?}");
    assert!(states > 1000);
}

#[test]
fn a_freeze_and_a_thaw_at_any_moment_are_safe() {
    let (broken, states) = check(freezing(Mutation::None));
    assert!(broken.is_empty(), "{broken:?}");
    assert!(states > 1000);
}

#[test]
fn planted_bugs_are_found() {
    assert!(!check(joining(Mutation::ClaimBeforeRelease)).0.is_empty());
    assert!(!check(freezing(Mutation::LeaseLongerThanDeath)).0.is_empty());
    assert!(!check(joining(Mutation::ElsewhereAfterMine)).0.is_empty());
    assert!(!check(freezing(Mutation::LapseKeepsClaims)).0.is_empty());
}
