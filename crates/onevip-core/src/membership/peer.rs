//! What we know of one other node, and when we believe that it hears us.

use super::dirty::Dirty;
use super::peer_kernel::PeerKernel;
use super::quality::Quality;
use super::{Engine, Event, Family, Output, WhyLost};
use crate::beat::{Beat, NodeState, Seq};
use crate::ids::{BucketSet, NodeId, NodeSet};
use crate::time::Time;

/// More missing beats in a row than this, and we were away. A node sends at most eight per beat time.
const ABSENT_BEATS: u32 = 8;

/// One other node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Peer {
    /// Its newest beat.
    pub newest: Option<Box<Beat>>,
    /// When that came.
    pub arrived: Time,
    /// When a beat last came by each VIP family.
    pub arrived_by: [Time; 2],
    /// Whether its copies by each VIP family stay away.
    pub misses: [bool; 2],
    /// How many of its beats come.
    pub quality: Quality,
    /// It misses too many of ours.
    pub finds_us_lossy: bool,
    /// Whom it hears.
    pub hears: NodeSet,
    /// We hear it, and it hears us.
    pub heard: bool,
    /// Since when `heard` is what it is.
    pub since: Time,
    /// Why it is not heard.
    pub why_lost: Option<WhyLost>,
    /// When a beat last came that did not know this incarnation of us.
    pub unproven: Time,
    /// Since when its beats do not acknowledge what they should.
    pub stale_since: Option<Time>,
    /// When we last said that another host has its number.
    pub duplicate_told: Time,
    /// The newest beat of ours that it acknowledged.
    pub acked: Seq,
    /// Buckets in which its kernel may hold sessions, as of its newest beat.
    pub known_sessions: BucketSet,
    /// What we know of its kernel while its daemon is silent.
    pub kernel: PeerKernel,
}

impl Peer {
    /// A node of which we only know that it may exist.
    pub fn unheard(now: Time) -> Self {
        Self {
            newest: None,
            arrived: Time::ZERO,
            arrived_by: [Time::ZERO; 2],
            misses: [false; 2],
            quality: Quality::NEW,
            finds_us_lossy: false,
            hears: NodeSet::EMPTY,
            heard: false,
            since: now,
            why_lost: None,
            unproven: Time::ZERO,
            stale_since: None,
            duplicate_told: Time::ZERO,
            acked: Seq(0),
            known_sessions: BucketSet::FULL,
            kernel: PeerKernel::unknown(now),
        }
    }

    /// What it claims, as far as we know.
    pub fn claims(&self) -> BucketSet {
        self.newest.as_ref().map_or(BucketSet::EMPTY, |beat| beat.claims)
    }

    /// What it intends, as far as we know.
    pub fn intents(&self) -> BucketSet {
        self.newest.as_ref().map_or(BucketSet::EMPTY, |beat| beat.intents)
    }
}

impl Engine {
    /// Takes in a peer's beat.
    pub(super) fn hear(&mut self, now: Time, family: Family, beat: &Beat) {
        if !self.config.nodes.contains(beat.from) && self.peers.get(beat.from).is_none() {
            self.outputs.push_back(Output::Event(Event::NotInFile(beat.from)));
        }
        let listen = self.config.timing.listen;
        let peer = self.peers.get_or_insert(beat.from, now);
        if let Some(newest) = &peer.newest {
            let same_host = newest.host == beat.host;
            if !same_host && peer.heard {
                if now >= peer.duplicate_told + listen {
                    peer.duplicate_told = now;
                    let event = Event::Duplicate { node: beat.from, host: beat.host };
                    self.outputs.push_back(Output::Event(event));
                }
                return;
            }
            if same_host && beat.incarnation == newest.incarnation {
                peer.quality.note(family, beat.seq);
            }
            let (this, last) = ((beat.incarnation, beat.seq), (newest.incarnation, newest.seq));
            if same_host && this == last {
                peer.arrived_by[family.index()] = now;
            }
            if same_host && this <= last {
                return;
            }
            if beat.incarnation > newest.incarnation && peer.heard {
                self.set_heard(now, beat.from, false, Some(WhyLost::Restarted));
            }
        }
        if let Some(peer) = self.peers.get_mut(beat.from) {
            peer.arrived_by[family.index()] = now;
            if peer.newest.as_ref().is_none_or(|newest| newest.incarnation != beat.incarnation) {
                peer.quality = Quality::NEW;
            }
        }
        self.take_in(now, beat);
    }

    /// Takes in a beat that is newer than what we had.
    fn take_in(&mut self, now: Time, beat: &Beat) {
        let gone = beat.standing.state == NodeState::Leaving && beat.claims.is_empty();
        let report = beat.report(self.config.me);
        if let Some(report) = report {
            self.look_for_later_life(now, report);
        }
        let acked = report
            .filter(|report| report.incarnation == self.own.incarnation() && report.seq <= self.sending.seq())
            .map(|report| report.seq);
        let fresh = acked.is_some_and(|seq| self.is_fresh(now, seq));
        #[cfg(feature = "sim")]
        let fresh = fresh || self.is(super::Mutation::NoFreshness);
        if acked.is_none() && !fresh {
            return self.note_unproven(now, beat);
        }
        self.contact.is_spoken_to(now);
        let beat_time = self.config.timing.beat;
        if self.was_absent(beat) {
            self.assume_sessions_anywhere(now);
        }
        if self.kernel_gone(beat.from) {
            self.distrust_orphans_before(now);
        }
        let death = self.config.timing.death;
        let Some(peer) = self.peers.get_mut(beat.from) else { return };
        if now >= peer.arrived + death {
            // It is back: the sooner it knows of us, the shorter both claim.
            self.dirty.mark(Dirty::BEAT);
        }
        let moves = |old: &Beat| old.claims != beat.claims || old.intents != beat.intents;
        let moved = peer.newest.as_deref().is_none_or(moves);
        let ruled = peer.newest.as_deref().is_none_or(|old| old.rulings != beat.rulings);
        self.dirty.mark_if(moved || ruled, Dirty::INTENTS);
        self.dirty.mark_if(moved && self.ruling.is_needed(), Dirty::BEAT);
        let may_conflict = !beat.claims.and(&self.claims.held()).is_empty();
        self.dirty.mark_if(may_conflict || !beat.rulings.first.is_empty(), Dirty::CLAIMS);
        let hears = beat.hears();
        let says_else = |old: &Beat| old.standing != beat.standing || old.testimony != beat.testimony;
        let says_else = peer.newest.as_deref().is_none_or(says_else);
        self.dirty.mark_if(says_else || hears != peer.hears, Dirty::TABLE);
        peer.hears = hears;
        peer.finds_us_lossy = beat.report(self.config.me).is_some_and(|report| report.lossy);
        peer.arrived = now;
        peer.acked = acked.unwrap_or(Seq(0));
        let known_sessions = beat.sessions.or(&beat.claims);
        let differs = known_sessions != peer.known_sessions || peer.kernel.gone;
        self.dirty.mark_if(differs, Dirty::ELSEWHERE);
        peer.known_sessions = known_sessions;
        peer.kernel.alive(now);
        peer.newest = Some(Box::new(beat.clone()));
        let why = if gone { WhyLost::Left } else { WhyLost::DoesNotHearUs };
        // One stale beat proves nothing: its sender may have been stopped, and spoken before it read what we sent.
        peer.stale_since = if fresh { None } else { peer.stale_since.or(Some(now)) };
        let stays = peer.heard && peer.stale_since.is_some_and(|t| now.since(t) < beat_time);
        self.set_heard(now, beat.from, (fresh || stays) && !gone, Some(why));
        if self.peers.heard().contains(beat.from) && self.lease.acknowledged(acked) {
            self.renew_lease(now);
        }
        self.dirty.mark_if(beat.answer, Dirty::BEAT);
        if fresh && beat.rebalance > self.claims.rebalance() {
            self.claims.rebalance_asked(beat.rebalance, now + self.config.timing.rebalance);
        }
    }

    /// Whether so many beats of one sender are missing that we must have been away, though our clock says nothing of it.
    fn was_absent(&self, beat: &Beat) -> bool {
        let newest = self.peers.newest(beat.from);
        newest.is_some_and(|old| old.incarnation == beat.incarnation && beat.seq.0 > old.seq.0 + ABSENT_BEATS)
    }

    /// While we were away, anybody may have taken in sessions anywhere; those that live will say so in a moment.
    pub(super) fn assume_sessions_anywhere(&mut self, now: Time) {
        self.dirty.mark(Dirty::ELSEWHERE);
        self.distrust_orphans_before(now);
        for (_, peer) in self.peers.iter_mut() {
            peer.known_sessions = BucketSet::FULL;
        }
    }

    /// A beat whose sender does not know this incarnation of us. It may be a recording from before our start, so it
    /// changes nothing but what we acknowledge; if its sender lives, its next beat knows us.
    ///
    /// If it does not, and goes on, somebody is there who does not take our beats for whatever reason: then we are not
    /// alone. Whoever plays a recording of several beats back has us for as long as it lasts; it goes only forward, once.
    fn note_unproven(&mut self, now: Time, beat: &Beat) {
        self.set_heard(now, beat.from, false, Some(WhyLost::DoesNotHearUs));
        if let Some(peer) = self.peers.get_mut(beat.from) {
            peer.acked = Seq(0);
            peer.newest = Some(Box::new(beat.clone()));
            let goes_on = peer.unproven != Time::ZERO && now < peer.unproven + self.config.timing.death;
            peer.unproven = now;
            if goes_on {
                self.contact.is_ignored(now);
            }
        }
    }

    /// Whether a beat that acknowledges `seq` shows that its sender hears us: nothing we sent after `seq` has been
    /// unacknowledged for too long. Beats sent before our own stall cannot have been answered during it.
    fn is_fresh(&self, now: Time, seq: Seq) -> bool {
        let unacknowledged = self.sending.first_sent_after(seq);
        unacknowledged.is_none_or(|time| now.since(time.max(self.contact.woke())) < self.config.timing.deaf)
    }

    /// Whether we tell others that we hear `peer`: not if only our own stall excuses its silence, and not because of
    /// beats that may have lain in the queue for as long as the stall.
    pub(super) fn vouches_for(&self, now: Time, peer: &Peer) -> bool {
        let timing = &self.config.timing;
        peer.heard && now < peer.arrived + timing.death && peer.arrived >= self.contact.woke() + timing.quick
    }

    /// Peers that were silent for too long are not there. Silence during our own stall does not count.
    pub(super) fn drop_silent_peers(&mut self, now: Time) {
        let death = self.config.timing.death;
        let silent: Vec<NodeId> = self
            .peers
            .heard_peers()
            .filter(|(_, peer)| now >= peer.arrived.max(self.contact.woke()) + death)
            .map(|(node, _)| node)
            .collect();
        for node in silent {
            self.set_heard(now, node, false, Some(WhyLost::Silent));
        }
    }

    fn set_heard(&mut self, now: Time, node: NodeId, heard: bool, why: Option<WhyLost>) {
        if !self.peers.set_heard(now, node, heard) {
            return;
        }
        self.dirty.mark(Dirty::TABLE.and(Dirty::CLAIMS).and(Dirty::ELSEWHERE).and(Dirty::BEAT));
        let Some(peer) = self.peers.get_mut(node) else { return };
        if heard {
            peer.kernel.ask_soon(now);
            let incarnation = peer.newest.as_ref().map(|beat| beat.incarnation).unwrap_or_default();
            self.outputs.push_back(Output::Event(Event::Heard { node, incarnation }));
            return;
        }
        peer.why_lost = why;
        // It may have gained what it intended, and taken in sessions, before we hear of it.
        peer.known_sessions = peer.known_sessions.or(&peer.intents());
        let why = why.unwrap_or(WhyLost::Silent);
        if matches!(why, WhyLost::Silent | WhyLost::DoesNotHearUs) {
            // It may live and claim. Whoever hears both of us must know that we lost it before we may rely on its
            // silence about that node.
            self.announce_intents_again();
        }
        self.outputs.push_back(Output::Event(Event::Lost { node, why }));
    }
}
