//! Telling two nodes that do not hear each other who goes first.
//!
//! A node that hears both sees that they claim or intend the same bucket; they do not. It names the one to go first:
//! a claimer before those who intend, then the lower number. Since everybody waits for the acknowledgement of all that
//! it hears, and the acknowledgement carries the ruling, the two exclude each other as if they heard each other.

use super::Engine;
use crate::beat::Rulings;
use crate::ids::{BUCKETS, Bucket, BucketSet, NodeId, NodeSet};
use crate::time::Time;

/// What of it our beats say.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Ruling {
    /// The first bucket that the next beat looks at, where one beat has no room for all.
    from: u16,
    /// Our newest beat had rulings in it, so others wait for us to pass on what changes.
    needed: bool,
}

impl Ruling {
    /// Nothing is contested.
    pub const NONE: Self = Self { from: 0, needed: false };

    /// Whether others wait for us to pass on what changes.
    pub fn is_needed(&self) -> bool {
        self.needed
    }
}

impl Engine {
    /// What we have to tell, at most `room` buckets at a time.
    pub(super) fn rule(&mut self, now: Time, room: usize) -> Rulings {
        #[cfg(feature = "sim")]
        if self.is(super::Mutation::NoRulings) {
            return Rulings::NONE;
        }
        let known: NodeSet =
            self.peers.iter().filter(|(_, peer)| self.vouches_for(now, peer)).map(|(node, _)| node).collect();
        let contested = self.contested_by_strangers(known);
        self.ruling.needed = !contested.is_empty();
        if contested.is_empty() {
            self.ruling.from = 0;
            return Rulings::NONE;
        }
        let from = if contested.len() <= room { 0 } else { self.ruling.from };
        let mut ruled: Vec<(Bucket, NodeId)> = Vec::with_capacity(room.min(contested.len()));
        let mut to = BUCKETS as u16;
        for bucket in contested.iter().filter(|bucket| bucket.get() >= from) {
            if ruled.len() == room {
                to = bucket.get();
                break;
            }
            if let Some(first) = self.goes_first(known, bucket) {
                ruled.push((bucket, first));
            }
        }
        self.ruling.from = if to == BUCKETS as u16 { 0 } else { to };
        Rulings { from, to, first: ruled }
    }

    /// Buckets that two nodes we hear, and that do not hear each other, both claim or intend.
    fn contested_by_strangers(&self, known: NodeSet) -> BucketSet {
        let mut contested = BucketSet::EMPTY;
        for x in known.iter() {
            let hears = self.peers.get(x).map_or(NodeSet::EMPTY, |peer| peer.hears);
            let strangers = known.minus(hears).without(x);
            let Some(x_beat) = self.peers.newest(x).filter(|_| !strangers.is_empty()) else { continue };
            let occupied = x_beat.claims.or(&x_beat.intents);
            for y_beat in strangers.iter().filter_map(|y| self.peers.newest(y)) {
                contested = contested.or(&occupied.and(&y_beat.claims.or(&y_beat.intents)));
            }
        }
        contested
    }

    /// Who of those we hear goes first: claimers before the others, then the lower number.
    fn goes_first(&self, known: NodeSet, bucket: Bucket) -> Option<NodeId> {
        let beats = || known.iter().filter_map(|node| self.peers.newest(node));
        let claimer = beats().find(|beat| beat.claims.contains(bucket));
        claimer.or_else(|| beats().find(|beat| beat.intents.contains(bucket))).map(|beat| beat.from)
    }

    /// Rulings of everybody we hear.
    fn rulings(&self) -> impl Iterator<Item = &Rulings> {
        self.peers.heard_beats().map(|beat| &beat.rulings)
    }

    /// Buckets that somebody we do not hear claims or intends as well.
    pub(super) fn contested(&self) -> BucketSet {
        self.rulings().flat_map(|rulings| rulings.first.iter().map(|(bucket, _)| *bucket)).collect()
    }

    /// Of our claims, those for which somebody we do not hear goes first.
    pub(super) fn ruled_away(&self) -> BucketSet {
        if self.peers.hidden().is_empty() {
            return BucketSet::EMPTY;
        }
        let mut away = BucketSet::EMPTY;
        let held = self.claims.held();
        for beat in self.peers.heard_beats() {
            for (bucket, first) in beat.rulings.first.iter().filter(|(bucket, _)| held.contains(*bucket)) {
                // Whoever names a node that we know to have left or begun anew has not heard that yet.
                let is_current = |first| beat.report(first).is_some_and(|report| self.is_hidden(report));
                if self.peers.hidden().contains(*first) && is_current(*first) {
                    away.insert(*bucket);
                }
            }
        }
        away
    }

    /// Buckets that we may not gain because somebody else goes first, or because we were not told.
    pub(super) fn ruled_out(&self) -> BucketSet {
        let mut out = BucketSet::EMPTY;
        for rulings in self.rulings() {
            for (bucket, first) in &rulings.first {
                if *first != self.config.me {
                    out.insert(*bucket);
                }
            }
            let unseen = (0..rulings.from).chain(rulings.to..BUCKETS as u16);
            for bucket in unseen.filter_map(Bucket::new) {
                out.insert(bucket);
            }
        }
        out
    }
}
