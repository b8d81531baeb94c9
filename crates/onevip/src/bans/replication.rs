//! How all nodes come to know: a thread that tells of changes, and asks others for theirs.
//!
//! A node where something is new says only *that* it is; whoever hears that asks for what is new, in a question of its own.
//! So nobody believes a message that it did not ask for, and a recorded one bans nobody. Besides, each node asks one
//! other per second, and whoever comes back into hearing at once: what a lost word, or a node that was away, missed is
//! made up for.

use super::list::NodeBans;
use super::wire::{AskBans, BansChanged, NewBans, Wake};
use crate::base::beat_loop::BeatLoopHandle;
use crate::rpc::transport::RpcHandle;
use onevip_core::{NodeId, NodeSet};
use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How often what ran out is ended, what changed stored, and somebody asked.
const TICK: Duration = Duration::from_secs(1);
/// Changes within this time are told together.
const TOGETHER: Duration = Duration::from_millis(20);
/// How long an answer may take: a little longer than the transport waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// Replicates bans until told to stop, to and from the nodes that the beat loop hears.
pub fn run(list: &NodeBans, wakes: &Receiver<Wake>, rpc: &RpcHandle, me: NodeId, beat_loop: &BeatLoopHandle) {
    let mut replicator = Replicator { list, rpc, me, known: HashMap::new(), asked: NodeSet::EMPTY, turn: 0 };
    let mut next_tick = Instant::now();
    let mut telling: Option<Instant> = None;
    loop {
        let until = telling.map_or(next_tick, |at| at.min(next_tick));
        match wakes.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Wake::Changed) => telling = telling.or(Some(Instant::now() + TOGETHER)),
            Ok(Wake::Hint { node, epoch, number }) => {
                if replicator
                    .known
                    .get(&node)
                    .is_none_or(|known| *known < (epoch, number) || known.0 != epoch)
                {
                    // Who does not answer is asked again in its turn.
                    let _ = replicator.ask(node);
                }
            }
            Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => {
                list.tick();
                return;
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if telling.is_some_and(|at| at <= Instant::now()) {
            telling = None;
            replicator.tell(&beat_loop.heard());
        }
        if next_tick <= Instant::now() {
            next_tick = Instant::now() + TICK;
            list.tick();
            replicator.look_around(&beat_loop.heard());
        }
    }
}

struct Replicator<'a> {
    list: &'a NodeBans,
    rpc: &'a RpcHandle,
    me: NodeId,
    /// Up to which change of which life of its daemon each node was heard out.
    known: HashMap<NodeId, (u64, u64)>,
    /// Who was heard, and answered, at the last look.
    asked: NodeSet,
    turn: usize,
}

impl Replicator<'_> {
    /// Says to all that there is something new. The transport says it again to those who do not answer.
    fn tell(&self, heard: &NodeSet) {
        let (epoch, number) = self.list.newest();
        // Nobody waits for what they say to it.
        self.rpc.ask_all(heard.iter(), &BansChanged { node: self.me.get(), epoch, number });
    }

    /// Asks those who have come into hearing, and one of the others in turn.
    fn look_around(&mut self, heard: &NodeSet) {
        let new: Vec<NodeId> = heard.iter().filter(|node| !self.asked.contains(*node)).collect();
        self.asked = *heard;
        for node in &new {
            if !self.ask(*node) {
                self.asked.remove(*node);
            }
        }
        self.turn += 1;
        if let Some(node) =
            heard.iter().nth(self.turn % heard.len().max(1)).filter(|node| !new.contains(node))
        {
            let _ = self.ask(node);
        }
    }

    /// Asks a node for everything that is new, and takes it in; false when it does not answer.
    fn ask(&mut self, node: NodeId) -> bool {
        loop {
            let (epoch, after) = self.known.get(&node).copied().unwrap_or_default();
            // No answer, or none that is understood: it will be its turn again.
            let Ok(NewBans { epoch, upto, number, bans }) =
                self.rpc.ask(node, &AskBans { epoch, after }, PATIENCE)
            else {
                return false;
            };
            let goes_on = upto < number && !bans.is_empty();
            self.list.take_in(node, bans);
            self.known.insert(node, (epoch, upto));
            if !goes_on {
                return true;
            }
        }
    }
}
