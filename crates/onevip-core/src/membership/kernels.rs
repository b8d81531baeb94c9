//! Whose kernel may still hold sessions of which bucket.
//!
//! A node whose daemon is silent still has a kernel full of live sessions. So `ELSEWHERE` is about kernels: it is set
//! for what a node said it holds until that node says otherwise, or until its kernel no longer answers for its own
//! address.
//!
//! Silence is evidence only from a kernel that is known to answer. So while a node beats, its kernel is asked now and
//! then: one that answers is *askable*, and only an askable one can be found gone. And only questions that are known to
//! have left count as unanswered ones, and only while something arrives here and our own beats go out.

use super::dirty::Dirty;
use super::timing::{ASKS, PROBES};
use super::{Engine, Event, Output};
use crate::ids::{BucketSet, NodeId, NodeSet};
use crate::time::Time;

/// What the kernel part was told of orphans.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct OrphanFlags {
    /// See [`Output::Elsewhere`].
    elsewhere: BucketSet,
    /// See [`Output::Watch`].
    watched: BucketSet,
    /// See [`Output::Settled`].
    settled: Time,
}

impl OrphanFlags {
    /// No orphan may be reset, and nothing that was seen of any counts.
    pub fn reset(now: Time) -> Self {
        Self { elsewhere: BucketSet::FULL, watched: BucketSet::EMPTY, settled: now }
    }
}

impl Engine {
    /// The buckets in which another living kernel may hold sessions.
    pub fn elsewhere(&self) -> BucketSet {
        self.orphans.elsewhere
    }

    /// Earlier lives of this daemon had answers from the kernels of these nodes. Call it once, before anything else;
    /// without it, the kernel of a node that is silent from the start is never found gone.
    pub fn expect_answers(&mut self, nodes: NodeSet) {
        for (_, peer) in self.peers.iter_mut().filter(|(node, _)| nodes.contains(*node)) {
            peer.kernel.askable = Some(true);
        }
    }

    /// These nodes have other addresses from now on: whether those answer is not known.
    pub fn addresses_changed(&mut self, now: Time, nodes: NodeSet) {
        for (_, peer) in self.peers.iter_mut().filter(|(node, _)| nodes.contains(*node)) {
            peer.kernel.askable = None;
            peer.kernel.unanswered = 0;
            peer.kernel.ask_soon(now);
        }
    }

    /// The question of the newest [`Output::Probe`] for `node` has left this host.
    pub fn kernel_asked(&mut self, now: Time, node: NodeId) {
        self.wake(now);
        let silence_means_something = self.silence_means_something(now);
        let after = self.config.timing.probe_after;
        if let Some(peer) = self.peers.get_mut(node) {
            if now < peer.arrived + after {
                peer.kernel.ignored += 1;
            } else if silence_means_something {
                peer.kernel.unanswered += 1;
            } else {
                peer.kernel.unanswered = 0;
            }
        }
        if !self.is_settled(now) {
            self.settle(now);
        }
    }

    /// The kernel of `node` answered a question of ours for one of its addresses.
    pub fn kernel_answered(&mut self, now: Time, node: NodeId) {
        self.wake(now);
        if let Some(peer) = self.peers.get_mut(node) {
            let kernel = &mut peer.kernel;
            (kernel.ignored, kernel.next_ask) = (0, now + self.config.timing.ask_again);
            if kernel.askable.replace(true) == Some(false) {
                self.outputs.push_back(Output::Event(Event::Askable(node, true)));
            }
        }
        self.kernel_lives(now, node);
        self.settle(now);
    }

    /// The kernel of `node` said something of its own accord: it lives, but whether it answers is another question.
    pub fn kernel_spoke(&mut self, now: Time, node: NodeId) {
        self.wake(now);
        self.kernel_lives(now, node);
        self.settle(now);
    }

    fn kernel_lives(&mut self, now: Time, node: NodeId) {
        let timing = self.config.timing;
        if self.kernel_gone(node) {
            self.distrust_orphans_before(now);
        }
        let Some(peer) = self.peers.get_mut(node) else { return };
        if now < peer.arrived + timing.probe_after {
            return; // Its daemon says so, too.
        }
        if peer.kernel.gone {
            self.outputs.push_back(Output::Event(Event::KernelAnswers(node)));
        }
        self.dirty.mark(Dirty::ELSEWHERE);
        if peer.kernel.gone || peer.kernel.unanswered > 1 {
            // It was out of reach for a while, and may have claimed anything meanwhile.
            peer.known_sessions = BucketSet::FULL;
        }
        (peer.kernel.unanswered, peer.kernel.next_probe) = (0, now + timing.probe_again);
        peer.kernel.gone = false;
    }

    /// Asks the kernels of nodes that speak now and then, so that their silence means something one day.
    fn ask_the_living(&mut self, now: Time) {
        let timing = self.config.timing;
        let due = |peer: &super::Peer| {
            peer.heard && now < peer.arrived + timing.probe_after && now >= peer.kernel.next_ask
        };
        for (node, peer) in self.peers.iter_mut().filter(|(_, peer)| due(peer)) {
            let kernel = &mut peer.kernel;
            if kernel.ignored < ASKS {
                kernel.next_ask = now + timing.beat;
                self.outputs.push_back(Output::Probe(node));
                continue;
            }
            (kernel.ignored, kernel.next_ask) = (0, now + timing.ask_again);
            if kernel.askable.replace(false) != Some(false) {
                self.outputs.push_back(Output::Event(Event::Askable(node, false)));
            }
        }
    }

    /// Asks the kernels of silent nodes.
    pub(super) fn ask_kernels(&mut self, now: Time) {
        self.ask_the_living(now);
        let timing = self.config.timing;
        #[cfg(feature = "sim")]
        let trusts_silence = self.is(super::Mutation::TrustsSilence);
        #[cfg(not(feature = "sim"))]
        let trusts_silence = false;
        let silence_means_something = self.silence_means_something(now);
        let mut gone_since = None;
        let mut watched = BucketSet::EMPTY;
        for (node, peer) in self.peers.iter_mut() {
            if now < peer.arrived + timing.probe_after {
                continue;
            }
            if peer.newest.is_some() && now < peer.arrived + timing.watch {
                watched = watched.or(&peer.known_sessions);
            }
            if now < peer.kernel.next_probe {
                continue;
            }
            let kernel = &mut peer.kernel;
            let rests = kernel.gone || kernel.unanswered >= PROBES;
            kernel.next_probe = now + if rests { timing.probe_gone } else { timing.probe_every };
            let is_found_gone = silence_means_something && kernel.is_found_gone() || trusts_silence && rests;
            if !kernel.gone && is_found_gone {
                kernel.gone = true;
                gone_since = gone_since.max(Some(peer.arrived + timing.probe_after));
                self.outputs.push_back(Output::Event(Event::KernelGone(node)));
            } else if rests && kernel.askable.is_none() {
                kernel.askable = Some(false);
                self.outputs.push_back(Output::Event(Event::Askable(node, false)));
            }
            self.outputs.push_back(Output::Probe(node));
        }
        // What somebody claims again is noted by that node; noted by all, it would only crowd out what matters to them.
        if !watched.is_empty() {
            let others = self.peers.iter().filter(|(_, peer)| now < peer.arrived + timing.probe_after);
            watched = others.fold(watched, |left, (_, peer)| left.minus(&peer.claims()));
        }
        if watched != self.orphans.watched {
            self.orphans.watched = watched;
            self.outputs.push_back(Output::Watch(watched));
        }
        if let Some(since) = gone_since {
            self.dirty.mark(Dirty::ELSEWHERE);
            // Who is heard while that node is not cannot have its sessions there and be beyond the same cut.
            self.distrust_orphans_before(since);
            self.tell_elsewhere(now);
        }
    }

    /// What was seen of orphans before `since` says nothing.
    pub(super) fn distrust_orphans_before(&mut self, since: Time) {
        if since > self.orphans.settled {
            self.orphans.settled = since;
            self.outputs.push_back(Output::Settled(since));
        }
    }

    /// When the next question is due.
    pub(super) fn next_probe(&self) -> Time {
        let after = self.config.timing.probe_after;
        let due = self.peers.iter().map(|(_, peer)| peer.kernel.next_probe.max(peer.arrived + after));
        due.min().unwrap_or(Time::NEVER)
    }

    /// Tells the kernel, if it changed, which buckets may have sessions elsewhere.
    pub(super) fn tell_elsewhere(&mut self, now: Time) {
        if !self.dirty.clear(Dirty::ELSEWHERE) && self.peers.hidden().is_empty() {
            return;
        }
        let elsewhere = self.elsewhere_now(now);
        #[cfg(feature = "sim")]
        let elsewhere = match self.mutation {
            super::Mutation::ElsewhereAfterMine => elsewhere.and(&self.claims.held()),
            _ => elsewhere,
        };
        if elsewhere != self.orphans.elsewhere {
            self.orphans.elsewhere = elsewhere;
            self.outputs.push_back(Output::Elsewhere(elsewhere));
        }
    }

    fn elsewhere_now(&self, now: Time) -> BucketSet {
        let mut elsewhere = BucketSet::EMPTY;
        // Of nodes that others hear and we do not, we know nothing: they may gain any bucket meanwhile.
        let mut hidden = self.peers.hidden().iter();
        let unknown = hidden.any(|node| self.peers.get(node).is_none_or(|p| !p.kernel.gone));
        if unknown {
            return BucketSet::FULL;
        }
        for (_, peer) in self.peers.iter().filter(|(_, peer)| !peer.kernel.gone) {
            elsewhere = elsewhere.or(&peer.known_sessions);
            let speaks = now < peer.arrived + self.config.timing.death;
            if !peer.heard && speaks {
                return BucketSet::FULL;
            }
        }
        elsewhere
    }

    /// Somebody knows that `node` is gone for good, though its kernel cannot be found gone: its orphans are reset until it
    /// is heard again, or its kernel answers. False: it lives, as far as this node can tell, or was known to be gone.
    pub fn forget(&mut self, now: Time, node: NodeId) -> bool {
        self.wake(now);
        let (alive, after) = (self.alive(), self.config.timing.probe_after);
        let silent = |peer: &&mut super::Peer| now >= peer.arrived + after && !alive.contains(node);
        let forgotten = match self.peers.get_mut(node).filter(silent) {
            Some(peer) if !peer.kernel.gone => {
                peer.kernel.gone = true;
                self.dirty.mark(Dirty::ELSEWHERE);
                self.distrust_orphans_before(now);
                self.outputs.push_back(Output::Event(Event::Forgotten(node)));
                true
            }
            _ => false,
        };
        self.settle(now);
        forgotten
    }

    /// Whether `node`'s kernel was found to be gone.
    pub fn kernel_gone(&self, node: NodeId) -> bool {
        self.peers.get(node).is_some_and(|peer| peer.kernel.gone)
    }
}
