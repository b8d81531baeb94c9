//! One VIP in the beat loop: its engine, or its fixed claims, and the words it writes.

use super::lease_slack::LeaseSlack;
use crate::base::command::LocalSessions;
use crate::base::command::ProbeRequest;
use crate::base::command::{Notice, VipReport};
use crate::base::mailbox::Mailbox;
use onevip_bpf::Words;
use onevip_core::beat::{Facts, Health, Receiver, Sealer};
use onevip_core::membership::{Engine, EngineConfig, Output, PeerCheckView};
use onevip_core::{Bucket, BucketSet, Flags, NodeId, Time, Weight};
use onevip_host::frames::{Arrived, FrameSender, Route};
use onevip_host::link_activity::LinkActivity;
use std::io;
use std::sync::mpsc;
use std::time::Duration;

/// The lease of a node with fixed claims, in beat times.
const STATIC_LEASE_BEATS: u32 = 4;

/// The engine is told of unreadable beats no more often than this, so that a flood of them costs it nothing.
const BETWEEN_COMPLAINTS: Duration = Duration::from_millis(50);

/// What decides about the claims.
pub enum Decider {
    /// The configuration, once and for all.
    Static {
        /// Time between two renewals of the lease.
        beat: Duration,
        /// When the next one is due.
        next: Time,
        /// The daemon ends.
        left: bool,
    },
    /// The nodes, by their beats.
    Living(Box<Living>),
}

impl Decider {
    /// Claims that do not change, under a lease that is renewed once per beat time.
    pub const fn fixed(beat: Duration) -> Self {
        Self::Static { beat, next: Time::ZERO, left: false }
    }
}

/// What living membership takes.
pub struct Living {
    /// The protocol.
    pub engine: Engine,
    /// Its configuration as the file has it; the engine's own has less weight while the node sheds load.
    pub config: EngineConfig,
    /// How much of its weight the node announces, in percent.
    pub percent: u8,
    /// Seals, opens, tells replays.
    pub receiver: Receiver,
    /// Where beats go, one for each address of the VIP.
    pub routes: Vec<Route>,
    /// Whether anything arrives here.
    pub activity: LinkActivity,
    /// Whether the last beat could be sent.
    pub could_send: bool,
    /// Beats sent.
    pub sent: u64,
    /// This node.
    pub me: NodeId,
    /// A beat of another node was opened: our key is the cluster's.
    pub key_is_right: bool,
    /// When the engine may be told again of beats that cannot be opened.
    pub complain_after: Time,
    /// Everything is handed over.
    pub left: bool,
}

/// What a VIP's loop acts upon.
pub struct Outside<'a> {
    /// Flags and lease.
    pub words: &'a Words,
    /// The socket for beats.
    pub sender: &'a FrameSender,
    /// The way to people.
    pub notices: &'a mpsc::Sender<Notice>,
    /// The way to the neighbour probe.
    pub probe: &'a Mailbox<ProbeRequest>,
    /// How much of the lease was left at each renewal.
    pub slack: &'a LeaseSlack,
}

/// The state of one VIP.
pub struct VipLoop {
    index: usize,
    claims: BucketSet,
    sessions: BucketSet,
    elsewhere: BucketSet,
    watched: BucketSet,
    sampled: BucketSet,
    lease: Time,
    decider: Decider,
}

impl VipLoop {
    /// The VIP with this index in the kernel part. Writes all its flags once: what an earlier daemon claimed is void,
    /// but no bucket loses its sessions on the way.
    pub fn new(
        index: usize,
        words: &Words,
        claims: BucketSet,
        sessions: BucketSet,
        elsewhere: BucketSet,
        decider: Decider,
    ) -> Self {
        let (watched, sampled) = (BucketSet::EMPTY, BucketSet::EMPTY);
        let vip = Self { index, claims, sessions, elsewhere, watched, sampled, lease: Time::ZERO, decider };
        vip.write(words, &BucketSet::FULL);
        vip
    }

    /// When [`VipLoop::timeout`] is due.
    pub fn poll_timeout(&self) -> Time {
        match &self.decider {
            Decider::Static { next, .. } => *next,
            Decider::Living(living) => living.engine.poll_timeout(),
        }
    }

    /// Whether nothing is left to do here.
    pub fn has_left(&self) -> bool {
        match &self.decider {
            Decider::Static { left, .. } => *left,
            Decider::Living(living) => living.left,
        }
    }

    /// How things stand.
    pub fn report(&self, now: Time) -> VipReport {
        match &self.decider {
            Decider::Static { .. } => {
                VipReport { membership: None, rejected: Vec::new(), received: 0, sent: 0 }
            }
            Decider::Living(living) => VipReport {
                membership: Some(living.engine.status(now)),
                rejected: living.receiver.counters().by_reason().collect(),
                received: living.receiver.counters().accepted().iter().sum(),
                sent: living.sent,
            },
        }
    }

    /// The time that was asked for may have come.
    pub fn timeout(&mut self, now: Time, outside: &Outside<'_>) {
        match &mut self.decider {
            Decider::Static { beat, next, .. } => {
                if now >= *next {
                    let lease = now + *beat * STATIC_LEASE_BEATS;
                    *next = now + *beat;
                    self.set_lease(lease, outside);
                }
            }
            Decider::Living(living) => {
                living.listen(now, outside.probe);
                if now >= living.engine.poll_timeout() {
                    living.engine.timeout(now);
                }
                self.carry_out(outside);
            }
        }
    }

    /// A datagram to the beat port of this VIP.
    pub fn beat_arrived(&mut self, now: Time, arrived: &Arrived<'_>, outside: &Outside<'_>) {
        let Decider::Living(living) = &mut self.decider else { return };
        match living.receiver.receive(arrived.family, arrived.payload) {
            Ok(beat) => {
                living.key_is_right |= beat.from != living.me;
                living.engine.beat_received(now, arrived.family, &beat);
            }
            // Forged frames may hold up a lone node, but none that others have been heard with its key.
            Err(rejected)
                if rejected.is_unreadable() && !living.key_is_right && now >= living.complain_after =>
            {
                living.complain_after = now + BETWEEN_COMPLAINTS;
                living.engine.unreadable_beat(now);
            }
            Err(_) => return,
        }
        self.carry_out(outside);
    }

    /// A scan of the sockets is done.
    pub fn sessions_scanned(
        &mut self,
        now: Time,
        found: &LocalSessions,
        as_of: Time,
        facts: Facts,
        outside: &Outside<'_>,
    ) {
        let sockets = found.sockets;
        let changed = self.sessions.minus(&sockets).or(&sockets.minus(&self.sessions));
        self.sessions = sockets;
        self.write(outside.words, &changed);
        if let Decider::Living(living) = &mut self.decider {
            living.engine.facts_changed(facts);
            living.engine.sessions_scanned(now, found.living, as_of);
            self.carry_out(outside);
        }
    }

    /// Other settings, other keys.
    pub fn reconfigure(&mut self, now: Time, config: EngineConfig, sealer: Sealer, outside: &Outside<'_>) {
        if let Decider::Living(living) = &mut self.decider {
            living.receiver.rekey(sealer);
            // The host's number stays for the life of a daemon, though the MAC that it was made from may have changed.
            let config = EngineConfig { host: living.config.host, ..config };
            living.engine.reconfigure(now, shedding(&config, living.percent));
            living.config = config;
            self.carry_out(outside);
        }
    }

    /// The beats go another way from now on, and others may be heard there.
    pub fn reroute(&mut self, routes: Vec<Route>, activity: LinkActivity) {
        if let Decider::Living(living) = &mut self.decider {
            (living.routes, living.activity) = (routes, activity);
        }
    }

    /// The node feels better or worse. With fixed claims nobody would take over, so nothing changes.
    pub fn feel(&mut self, now: Time, health: Health, percent: u8, outside: &Outside<'_>) {
        if let Decider::Living(living) = &mut self.decider {
            if living.percent != percent {
                living.percent = percent;
                living.engine.reconfigure(now, shedding(&living.config, percent));
            }
            living.engine.health_changed(now, health);
            self.carry_out(outside);
        }
    }

    /// Connections in exactly these buckets are noted by the programs.
    pub fn sample(&mut self, buckets: BucketSet, outside: &Outside<'_>) {
        self.change(outside.words, |vip| &mut vip.sampled, |_| buckets);
    }

    /// What the peer check has to know; none where membership is static.
    pub fn view(&self) -> Option<PeerCheckView> {
        match &self.decider {
            Decider::Static { .. } => None,
            Decider::Living(living) => Some(living.engine.peer_check_view()),
        }
    }

    /// Something for the engine, where there is one.
    pub fn with_engine(&mut self, act: impl FnOnce(&mut Engine), outside: &Outside<'_>) {
        if let Decider::Living(living) = &mut self.decider {
            act(&mut living.engine);
            self.carry_out(outside);
        }
    }

    /// Hand over and stop. Fixed claims cannot be handed over: their lease is left to run out, so that a daemon that is
    /// back within it is not missed.
    pub fn leave(&mut self, now: Time, outside: &Outside<'_>) {
        match &mut self.decider {
            Decider::Static { left, .. } => *left = true,
            Decider::Living(living) => {
                living.engine.leave(now);
                self.carry_out(outside);
            }
        }
    }

    /// Does what the engine wants done, in its order.
    pub fn carry_out(&mut self, outside: &Outside<'_>) {
        while let Decider::Living(living) = &mut self.decider {
            let Some(output) = living.engine.poll_output() else { return };
            match output {
                Output::Release(buckets) => {
                    self.change(outside.words, |vip| &mut vip.claims, |s| s.minus(&buckets))
                }
                Output::Gain(buckets) => {
                    self.change(outside.words, |vip| &mut vip.claims, |s| s.or(&buckets))
                }
                Output::Elsewhere(buckets) => {
                    self.change(outside.words, |vip| &mut vip.elsewhere, |_| buckets)
                }
                Output::Watch(buckets) => self.change(outside.words, |vip| &mut vip.watched, |_| buckets),
                Output::Settled(since) => outside.words.set_settled_ns(self.index, since.nanos()),
                Output::Lease(until) => self.set_lease(until, outside),
                Output::Send(beat) => living.send(self.index, &beat, outside),
                Output::Probe(node) => {
                    let since = crate::base::clock::now();
                    outside.probe.send(ProbeRequest::Ask { vip: self.index, node, since });
                }
                // The receiver of notices ends after this loop.
                Output::Event(event) => drop(outside.notices.send(Notice::Event { vip: self.index, event })),
                Output::Left => living.left = true,
            }
        }
    }

    fn set_lease(&mut self, until: Time, outside: &Outside<'_>) {
        if self.lease != Time::ZERO && until > self.lease && !self.claims.is_empty() {
            outside.slack.note(self.lease.since(crate::base::clock::now()));
        }
        self.lease = until;
        outside.words.set_lease_deadline_ns(self.index, until.nanos());
    }

    /// Changes one of the sets and writes the words that are different now, and only those.
    fn change(
        &mut self,
        words: &Words,
        set: impl Fn(&mut Self) -> &mut BucketSet,
        new: impl Fn(&BucketSet) -> BucketSet,
    ) {
        let before = *set(self);
        let after = new(&before);
        *set(self) = after;
        self.write(words, &before.minus(&after).or(&after.minus(&before)));
    }

    fn write(&self, words: &Words, buckets: &BucketSet) {
        for bucket in buckets.iter() {
            words.set_flags(self.index, bucket, self.flags(bucket));
        }
    }

    fn flags(&self, bucket: Bucket) -> Flags {
        let bit = |set: &BucketSet, flag| if set.contains(bucket) { flag } else { Flags::NONE };
        bit(&self.claims, Flags::MINE)
            .with(bit(&self.sessions, Flags::GUESTS))
            .with(bit(&self.elsewhere, Flags::ELSEWHERE))
            .with(bit(&self.watched, Flags::WATCHED))
            .with(bit(&self.sampled.minus(&self.claims), Flags::SAMPLED))
    }
}

/// The configuration with part of its weight; never with none, for then nobody would be left where all shed.
fn shedding(config: &EngineConfig, percent: u8) -> EngineConfig {
    let full = config.weight.get();
    let part = (u32::from(full) * u32::from(percent) / 100) as u16;
    let weight = if full == 0 { config.weight } else { Weight::new(part.max(1)).unwrap_or(config.weight) };
    EngineConfig { weight, ..config.clone() }
}

impl Living {
    /// Finds out whether anything arrives, while the engine wants to know: of itself, or because somebody was asked.
    fn listen(&mut self, now: Time, probe: &Mailbox<ProbeRequest>) {
        if !self.engine.doubts_reception(now) {
            self.activity.rest();
        } else if self.activity.anything_arrives() {
            self.engine.frames_arrive(now);
        } else if self.activity.want_probe(now, self.config.timing.beat) {
            probe.send(ProbeRequest::Hosts);
        }
    }

    /// Sends a copy of the beat to each address of the VIP.
    fn send(&mut self, vip: usize, beat: &onevip_core::beat::Beat, outside: &Outside<'_>) {
        let sealed = self.receiver.sealer().seal(beat);
        let mut outcome: io::Result<()> = Ok(());
        let mut left = false;
        for route in &self.routes {
            let sent = outside.sender.send(route, &sealed);
            left |= sent.is_ok();
            outcome = outcome.and(sent);
        }
        self.engine.speaks(crate::base::clock::now(), left);
        self.sent += 1;
        match outcome {
            Ok(()) => self.could_send = true,
            Err(error) => {
                if std::mem::replace(&mut self.could_send, false) {
                    let _ = outside.notices.send(Notice::CannotSend { vip, error });
                }
            }
        }
    }
}
