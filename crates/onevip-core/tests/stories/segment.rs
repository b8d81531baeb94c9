//! Three engines on one segment, and what a test may do to it.

use onevip_core::beat::{Beat, Incarnation};
use onevip_core::membership::{Engine, EngineConfig, Event, Failback, Family, Output, Timing};
use onevip_core::{BucketSet, Layout, NodeId, NodeSet, Time, Weight};
use std::time::Duration;

pub const BEAT: Duration = Duration::from_millis(50);

pub fn node(number: u8) -> NodeId {
    NodeId::new(number).unwrap()
}

pub fn config(number: u8, failback: Failback) -> EngineConfig {
    EngineConfig {
        me: node(number),
        host: u32::from(number),
        nodes: (1..=3).map(node).collect::<NodeSet>(),
        weight: Weight::NORMAL,
        layout: Layout::Balanced,
        pinned: NodeSet::EMPTY,
        seed: 0,
        failback,
        timing: Timing::new(BEAT),
    }
}

/// Engines on one perfect segment without delay.
pub struct Segment {
    pub now: Time,
    pub engines: Vec<Option<Engine>>,
    pub events: Vec<(usize, Event)>,
    /// What engines said of orphans (`Settled`), and when.
    pub settlings: Vec<(usize, Time, Time)>,
    /// What engines had watched, each time that changed.
    pub watches: Vec<(usize, BucketSet)>,
    /// Everything that was ever sent.
    pub sent: Vec<Beat>,
    /// Beats from or to this node are lost so often, in percent.
    pub loss: Option<(u8, u32)>,
    pub dice: u32,
    /// The VIP has both families.
    pub both_families: bool,
    /// The segment withholds this family from these nodes.
    pub withheld: Option<(Family, &'static [u8])>,
    /// The kernels of these nodes live, daemon or not.
    pub kernels: &'static [u8],
    /// The kernels of these answer no questions.
    pub unaskable: &'static [u8],
    /// The questions of these cannot be sent.
    pub cannot_ask: &'static [u8],
    /// The beats of these cannot be sent.
    pub cannot_send: &'static [u8],
    /// Nobody takes the beats of these.
    pub rejected: &'static [u8],
}

impl Segment {
    pub fn new() -> Self {
        let engines = (0..3).map(|_| None).collect();
        let now = Time::from_nanos(5_000_000_000);
        Self {
            now,
            engines,
            events: Vec::new(),
            settlings: Vec::new(),
            watches: Vec::new(),
            sent: Vec::new(),
            loss: None,
            dice: 1,
            both_families: false,
            withheld: None,
            kernels: &[],
            unaskable: &[],
            cannot_ask: &[],
            cannot_send: &[],
            rejected: &[],
        }
    }

    pub fn start(&mut self, number: u8, incarnation: u32) {
        self.start_with(config(number, Failback::Idle), incarnation);
    }

    pub fn start_with(&mut self, config: EngineConfig, incarnation: u32) {
        let index = config.me.index();
        let mut engine = Engine::new(config, Incarnation(incarnation), BucketSet::EMPTY, self.now);
        if self.both_families {
            engine.expect_both_families();
        }
        self.engines[index] = Some(engine);
        self.flush();
    }

    pub fn engine(&mut self, number: u8) -> &mut Engine {
        self.engines[number as usize - 1].as_mut().unwrap()
    }

    pub fn tell(&mut self, number: u8, input: impl FnOnce(&mut Engine, Time)) {
        let now = self.now;
        input(self.engine(number), now);
        self.flush();
    }

    /// Carries out everything that is to be done at this instant.
    pub fn flush(&mut self) {
        loop {
            let (mut sent, mut asked) = (Vec::new(), Vec::new());
            for (index, engine) in self.engines.iter_mut().enumerate() {
                while let Some(output) = engine.as_mut().and_then(Engine::poll_output) {
                    match output {
                        Output::Send(beat) => {
                            let works = !self.cannot_send.contains(&(index as u8 + 1));
                            engine.as_mut().unwrap().speaks(self.now, works);
                            sent.extend(works.then_some((index, *beat)));
                        }
                        Output::Probe(node) => asked.push((index, node)),
                        Output::Event(event) => self.events.push((index, event)),
                        Output::Watch(buckets) => self.watches.push((index, buckets)),
                        Output::Settled(since) => self.settlings.push((index, self.now, since)),
                        _ => {}
                    }
                }
            }
            if sent.is_empty() && asked.is_empty() {
                return;
            }
            for (from, node) in asked {
                self.ask(from, node);
            }
            for (from, beat) in sent {
                for to in (0..3).filter(|to| *to != from) {
                    let lost = self.loses(from, to) || self.rejected.contains(&(from as u8 + 1));
                    let (families, withheld) = (self.families(), self.withheld);
                    let Some(engine) = self.engines[to].as_mut().filter(|_| !lost) else { continue };
                    for &family in families {
                        let deaf =
                            |(what, whom): (Family, &[u8])| what == family && whom.contains(&(to as u8 + 1));
                        if !withheld.is_some_and(deaf) {
                            engine.beat_received(self.now, family, &beat);
                        }
                    }
                }
                self.sent.push(beat);
            }
        }
    }

    /// A question for a node's kernel: whether it leaves, and whether it is answered.
    pub fn ask(&mut self, from: usize, node: NodeId) {
        let (now, number) = (self.now, node.get());
        let Some(engine) = self.engines[from].as_mut() else { return };
        if self.cannot_ask.contains(&(from as u8 + 1)) {
            return;
        }
        engine.kernel_asked(now, node);
        let cut =
            self.loss.is_some_and(|(of, percent)| percent == 100 && [from as u8 + 1, number].contains(&of));
        let lives = self.engines[node.index()].is_some() || self.kernels.contains(&number);
        if lives && !cut && !self.unaskable.contains(&number) {
            self.engines[from].as_mut().unwrap().kernel_answered(now, node);
        }
    }

    pub fn families(&self) -> &'static [Family] {
        if self.both_families { &[Family::V4, Family::V6] } else { &[Family::V4] }
    }

    pub fn loses(&mut self, from: usize, to: usize) -> bool {
        let Some((node, percent)) = self.loss.filter(|(node, _)| [from, to].contains(&(*node as usize - 1)))
        else {
            return false;
        };
        assert!(node > 0);
        self.dice = self.dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223); // Numerical Recipes
        (self.dice >> 8) % 100 < percent
    }

    pub fn run(&mut self, beats: u32) {
        let end = self.now + BEAT * beats;
        while self.now < end {
            let due = self.engines.iter().flatten().map(Engine::poll_timeout).min().unwrap_or(end);
            self.now = due.clamp(self.now + Duration::from_micros(10), end);
            for (index, engine) in self.engines.iter_mut().enumerate() {
                let Some(engine) = engine else { continue };
                // Somebody else's frames always arrive on this segment, unless a cable is out.
                if self.loss != Some((index as u8 + 1, 100)) {
                    engine.frames_arrive(self.now);
                }
                if engine.poll_timeout() <= self.now {
                    engine.timeout(self.now);
                }
            }
            self.flush();
        }
    }

    pub fn claims(&self) -> Vec<usize> {
        self.engines.iter().map(|engine| engine.as_ref().map_or(0, |engine| engine.claims().len())).collect()
    }
}

pub fn settled() -> Segment {
    let mut segment = Segment::new();
    for number in 1..=3 {
        segment.start(number, 10);
    }
    segment.run(60);
    segment
}

/// How often this was said.
pub fn told(segment: &Segment, wanted: &Event) -> usize {
    segment.events.iter().filter(|(_, event)| event == wanted).count()
}
