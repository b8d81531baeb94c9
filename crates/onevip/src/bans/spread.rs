//! How all nodes come to know: a thread that tells of changes, and asks others for theirs.
//!
//! A node with news says only *that* it has some; whoever hears that asks for what is new, in a question of its own.
//! So nobody believes a letter that it did not ask for, and a recorded one bans nobody. Besides, each node asks one
//! other per second, and whoever comes back into hearing at once: what a lost word, or a node that was away, missed is
//! made up for.

use super::keeper::Keeper;
use crate::daemon::desk::{Mail, Slot};
use crate::desk::question::{Answer, Question};
use onevip_core::{NodeId, NodeSet};
use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How often what ran out is ended, what changed stored, and somebody asked.
const TICK: Duration = Duration::from_secs(1);
/// Changes within this time are told together.
const TOGETHER: Duration = Duration::from_millis(20);
/// How long an answer may take: a little longer than the desk waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the thread is woken for.
pub enum Wake {
    /// The list has changed here.
    Changed,
    /// Another node has news.
    Hint {
        /// Which.
        node: NodeId,
        /// In which life of its daemon.
        epoch: u64,
        /// The number of its newest change.
        number: u64,
    },
    /// End.
    Stop,
}

/// Spreads bans until told to stop. `heard` says which nodes can be heard now; none with a fixed set of nodes.
pub fn spread(
    keeper: &Keeper,
    wakes: &Receiver<Wake>,
    letters: &Slot,
    me: NodeId,
    heard: impl Fn() -> NodeSet,
) {
    let mut spreader =
        Spreader { keeper, letters, me, known: HashMap::new(), asked: NodeSet::EMPTY, turn: 0 };
    let mut next_tick = Instant::now();
    let mut telling: Option<Instant> = None;
    loop {
        let until = telling.map_or(next_tick, |at| at.min(next_tick));
        match wakes.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Wake::Changed) => telling = telling.or(Some(Instant::now() + TOGETHER)),
            Ok(Wake::Hint { node, epoch, number }) => {
                if spreader.known.get(&node).is_none_or(|known| *known < (epoch, number) || known.0 != epoch)
                {
                    // Who does not answer is asked again in its turn.
                    let _ = spreader.ask(node);
                }
            }
            Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => {
                keeper.tick();
                return;
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if telling.is_some_and(|at| at <= Instant::now()) {
            telling = None;
            spreader.tell(&heard());
        }
        if next_tick <= Instant::now() {
            next_tick = Instant::now() + TICK;
            keeper.tick();
            spreader.look_around(&heard());
        }
    }
}

struct Spreader<'a> {
    keeper: &'a Keeper,
    letters: &'a Slot,
    me: NodeId,
    /// Up to which change of which life of its daemon each node was heard out.
    known: HashMap<NodeId, (u64, u64)>,
    /// Who was heard, and answered, at the last look.
    asked: NodeSet,
    turn: usize,
}

impl Spreader<'_> {
    /// Says to all that there is news. The desk says it again to those who do not answer.
    fn tell(&self, heard: &NodeSet) {
        let (epoch, number) = self.keeper.newest();
        let question = Question::BansChanged { node: self.me.get(), epoch, number };
        for node in heard.iter() {
            let (to, _) = channel();
            self.letters.post(Mail::Ask { node, question: question.clone(), to });
        }
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
            let (to, answer) = channel();
            if !self.letters.post(Mail::Ask { node, question: Question::Bans { epoch, after }, to }) {
                return false;
            }
            // No answer, or none that is understood: it will be its turn again.
            let Ok((_, Ok(Answer::Bans { epoch, upto, number, bans }))) = answer.recv_timeout(PATIENCE)
            else {
                return false;
            };
            let goes_on = upto < number && !bans.is_empty();
            self.keeper.take_in(node, bans);
            self.known.insert(node, (epoch, upto));
            if !goes_on {
                return true;
            }
        }
    }
}
