//! Whose kernel may still hold sessions of which bucket.
//!
//! A node whose daemon is silent still has a kernel full of live sessions. So `ELSEWHERE` is about kernels: it is set
//! for what a node said it holds until that node says otherwise, or until its kernel no longer answers for its own
//! address.

use super::{Engine, Event, Output};
use crate::ids::{BucketSet, NodeId};
use crate::time::Time;

use super::timing::PROBES;

/// What we know of a silent node's kernel.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Kernel {
    /// It left this many questions in a row unanswered.
    unanswered: u32,
    /// When it is to be asked next, if its daemon is silent.
    next_probe: Time,
    /// It is not there.
    pub gone: bool,
}

impl Kernel {
    /// Nothing is known yet.
    pub fn unknown(now: Time) -> Self {
        Self { unanswered: 0, next_probe: now, gone: false }
    }

    /// Its daemon speaks, so it lives.
    pub fn alive(&mut self, now: Time) {
        *self = Self::unknown(now);
    }
}

impl Engine {
    /// The buckets in which another living kernel may hold sessions.
    pub fn elsewhere(&self) -> BucketSet {
        self.elsewhere
    }

    /// The kernel of `node` answered a question.
    pub(super) fn kernel_lives(&mut self, now: Time, node: NodeId) {
        let again = self.config.timing.probe_again;
        if self.kernel_gone(node) {
            self.settle_anew(now);
        }
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if peer.kernel.gone {
            self.outputs.push_back(Output::Event(Event::KernelAnswers(node)));
        }
        self.guests_news = true;
        if peer.kernel.gone || peer.kernel.unanswered > 1 {
            // It was out of reach for a while, and may have claimed anything meanwhile.
            peer.known_guests = BucketSet::FULL;
        }
        peer.kernel = Kernel { unanswered: 0, next_probe: now + again, gone: false };
    }

    /// Asks the kernels of silent nodes.
    pub(super) fn ask_kernels(&mut self, now: Time) {
        let timing = self.config.timing;
        let mut gone_since = None;
        let mut watched = BucketSet::EMPTY;
        for (node, peer) in &mut self.peers {
            if now < peer.arrived + timing.probe_after {
                continue;
            }
            if peer.newest.is_some() && now < peer.arrived + timing.watch {
                watched = watched.or(&peer.known_guests);
            }
            if now < peer.kernel.next_probe {
                continue;
            }
            if peer.kernel.gone {
                peer.kernel.next_probe = now + timing.probe_gone;
            } else if peer.kernel.unanswered >= PROBES {
                peer.kernel.gone = true;
                peer.kernel.next_probe = now + timing.probe_gone;
                gone_since = gone_since.max(Some(peer.arrived + timing.probe_after));
                self.outputs.push_back(Output::Event(Event::KernelGone(*node)));
            } else {
                peer.kernel.unanswered += 1;
                peer.kernel.next_probe = now + timing.probe_every;
            }
            self.outputs.push_back(Output::Probe(*node));
        }
        // What somebody claims again is noted by that node; noted by all, it would only crowd out what matters to them.
        if !watched.is_empty() {
            let others = self.peers.values().filter(|peer| now < peer.arrived + timing.probe_after);
            watched = others.fold(watched, |left, peer| left.minus(&peer.claims()));
        }
        if watched != self.watched {
            self.watched = watched;
            self.outputs.push_back(Output::Watch(watched));
        }
        if let Some(since) = gone_since {
            self.guests_news = true;
            // Who is heard while that node is not cannot have its sessions there and be beyond the same cut.
            self.settle_anew(since);
            self.tell_elsewhere(now);
        }
    }

    /// What was seen of orphans before `since` says nothing.
    pub(super) fn settle_anew(&mut self, since: Time) {
        if since > self.settled {
            self.settled = since;
            self.outputs.push_back(Output::Settled(since));
        }
    }

    /// When the next question is due.
    pub(super) fn next_probe(&self) -> Time {
        let after = self.config.timing.probe_after;
        let due = self.peers.values().map(|peer| peer.kernel.next_probe.max(peer.arrived + after));
        due.min().unwrap_or(Time::NEVER)
    }

    /// Tells the kernel, if it changed, which buckets may have sessions elsewhere.
    pub(super) fn tell_elsewhere(&mut self, now: Time) {
        if !self.guests_news && self.hidden.is_empty() {
            return;
        }
        self.guests_news = false;
        let elsewhere = self.elsewhere_now(now);
        #[cfg(feature = "sim")]
        let elsewhere = match self.mutation {
            super::Mutation::ElsewhereAfterMine => elsewhere.and(&self.claims),
            _ => elsewhere,
        };
        if elsewhere != self.elsewhere {
            self.elsewhere = elsewhere;
            self.outputs.push_back(Output::Elsewhere(elsewhere));
        }
    }

    fn elsewhere_now(&self, now: Time) -> BucketSet {
        let mut elsewhere = BucketSet::EMPTY;
        // Of nodes that others hear and we do not, we know nothing: they may gain any bucket meanwhile.
        let unknown = self.hidden.iter().any(|node| self.peers.get(&node).is_none_or(|p| !p.kernel.gone));
        if unknown {
            return BucketSet::FULL;
        }
        for peer in self.peers.values().filter(|peer| !peer.kernel.gone) {
            elsewhere = elsewhere.or(&peer.known_guests);
            let speaks = now < peer.arrived + self.config.timing.death;
            if !peer.heard && speaks {
                return BucketSet::FULL;
            }
        }
        elsewhere
    }

    /// The buckets in which our own kernel may hold sessions: what the last scan found, and what was released since.
    pub(super) fn own_guests(&self) -> BucketSet {
        #[cfg(feature = "sim")]
        if self.is(super::Mutation::ForgetsGuests) {
            return self.guests;
        }
        self.released.iter().fold(self.guests, |guests, (_, buckets)| guests.or(buckets))
    }

    /// Whether `node`'s kernel was found to be gone.
    pub fn kernel_gone(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.kernel.gone)
    }
}
