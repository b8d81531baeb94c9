//! A SYN probe from every client address fifty times a second, and each single frame of the answers.
//!
//! The prober speaks TCP by hand on a raw socket: SYN; on the SYN-ACK an ACK; on the greeting a reset, so that
//! nothing stays behind on the node. A probe is answered when the greeting is there: by then a kernel *and* a process
//! have answered. Nothing is ever retransmitted, so a second SYN-ACK with another sequence number can only mean that
//! two kernels answered one SYN.
//!
//! It works in steps of two milliseconds instead of waking for every frame: that is also how exact its times are.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::segment::{Segment, flag};
use crate::lab::Lab;
use crate::net::INTERFACE;
use crate::netns::Entrance;
use crate::plan::{Host, LabPlan, vip4};
use crate::process::{feed, go_first};
use crate::service::echo;
use crate::wire::{Tap, parse_mac};

/// Between two probes from the same address.
pub const INTERVAL: Duration = Duration::from_millis(20);
/// A probe that is not answered by then has failed.
pub const LIMIT: Duration = Duration::from_millis(100);
/// How often the prober looks.
const STEP: Duration = Duration::from_millis(2);
/// The ports it probes from: the client's kernel uses none of these by itself, and is kept from answering there.
const PORTS: std::ops::Range<u16> = 20_000..30_000;
/// Probes remembered per address, for second answers: more than a second's worth.
const REMEMBERED: usize = 64;

/// What became of a probe, or what else was noticed about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// The greeting came from this node.
    Answered(u8),
    /// Nothing (or no greeting) within [`LIMIT`].
    Missed,
    /// This node sent a reset: nobody listens there.
    Refused(u8),
    /// A second SYN-ACK, with another sequence number, to a SYN that had been answered: by these two nodes.
    Twice(u8, u8),
}

/// A probe and its outcome. One that was answered twice is reported twice.
#[derive(Clone, Copy, Debug)]
pub struct SynProbe {
    /// Whence.
    pub client: Ipv4Addr,
    /// When the SYN was sent.
    pub sent: Instant,
    /// When the outcome was known.
    pub at: Instant,
    /// The outcome.
    pub outcome: ProbeOutcome,
}

/// A thread that probes until it is dropped.
pub struct SynProber {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// What it found, as it finds it.
    pub probes: Receiver<SynProbe>,
}

impl SynProber {
    /// Probes the VIP from addresses of one client host.
    ///
    /// # Errors
    /// When the host is not there, or its kernel cannot be kept from answering (package nftables).
    pub fn start(lab: &Lab, host: Host, clients: &[Ipv4Addr]) -> Result<Self> {
        silence_kernel(lab, host)?;
        let tap = lab.tap(&host.to_string(), INTERFACE)?;
        let (sender, probes) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let own_mac = parse_mac(&LabPlan::mac(host));
        let mut round = Round {
            tap,
            own_mac,
            cluster_mac: parse_mac(lab.cluster_mac()),
            sources: clients.iter().map(|&client| ProbeSource::new(client)).collect(),
            sender,
            turn: 0,
        };
        let thread = thread::Builder::new().name(format!("prober-{host}")).spawn({
            let stop = Arc::clone(&stop);
            move || round.run(&stop)
        })?;
        Ok(Self { stop, thread: Some(thread), probes })
    }
}

impl Drop for SynProber {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The client's kernel knows nothing of the prober's connections and would reset them.
fn silence_kernel(lab: &Lab, host: Host) -> Result<()> {
    let rules = format!(
        "table ip onevip_lab\n\
         delete table ip onevip_lab\n\
         table ip onevip_lab {{\n\
         chain probes {{ type filter hook prerouting priority -300; policy accept;\n\
         tcp sport {} tcp dport {}-{} drop\n}}\n}}\n",
        echo::PORT,
        PORTS.start,
        PORTS.end - 1
    );
    let mut nft = std::process::Command::new("nft");
    Entrance::open(lab.name(), host)?.apply(nft.args(["-f", "-"]));
    feed(&mut nft, &rules).with_context(|| format!("cannot keep the kernel of {host} out of the probes"))
}

/// What is known of one probe.
#[derive(Clone, Copy)]
struct PendingProbe {
    port: u16,
    isn: u32,
    sent: Instant,
    /// Sequence number of the first SYN-ACK, and the node it came from.
    greeted: Option<(u32, u8)>,
    twice: bool,
    done: bool,
}

/// One client address.
struct ProbeSource {
    client: Ipv4Addr,
    count: u32,
    pending: Vec<PendingProbe>,
}

impl ProbeSource {
    fn new(client: Ipv4Addr) -> Self {
        Self { client, count: 0, pending: Vec::with_capacity(REMEMBERED) }
    }

    /// A new probe, in the place of the oldest one.
    fn probe(&mut self, now: Instant) -> PendingProbe {
        let port = PORTS.start + (self.count % u32::from(PORTS.end - PORTS.start)) as u16;
        let isn = self.count.wrapping_mul(0x9e37_79b9);
        let pending = PendingProbe { port, isn, sent: now, greeted: None, twice: false, done: false };
        let place = self.count as usize % REMEMBERED;
        match self.pending.get_mut(place) {
            Some(old) => *old = pending,
            None => self.pending.push(pending),
        }
        self.count += 1;
        pending
    }

    fn find(&mut self, port: u16) -> Option<&mut PendingProbe> {
        self.pending.iter_mut().find(|pending| pending.port == port)
    }
}

struct Round {
    tap: Tap,
    own_mac: [u8; 6],
    cluster_mac: [u8; 6],
    sources: Vec<ProbeSource>,
    sender: Sender<SynProbe>,
    turn: usize,
}

impl Round {
    fn run(&mut self, stop: &AtomicBool) {
        go_first();
        let apart = INTERVAL / u32::try_from(self.sources.len()).unwrap_or(1).max(1);
        let mut due = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            // After a stall there is no catching up: a burst would measure itself.
            if now.duration_since(due) > INTERVAL {
                due = now;
            }
            while due <= now {
                self.probe(now);
                due += apart;
            }
            self.hear();
            self.expire();
            thread::sleep(STEP);
        }
    }

    fn probe(&mut self, now: Instant) {
        let turn = self.turn;
        self.turn = (turn + 1) % self.sources.len();
        let pending = self.sources[turn].probe(now);
        self.send(self.sources[turn].client, pending.port, pending.isn, 0, flag::SYN);
    }

    fn send(&self, client: Ipv4Addr, port: u16, seq: u32, ack: u32, flags: u8) {
        let segment = Segment {
            from_mac: self.own_mac,
            to_mac: self.cluster_mac,
            from: (client, port),
            to: (vip4(), echo::PORT),
            seq,
            ack,
            flags,
            data: 0,
        };
        // What cannot be sent is a probe that is missed.
        let _ = self.tap.send(&segment.frame());
    }

    fn hear(&mut self) {
        while let Ok(Some(segment)) = self.tap.read_now(Segment::parse) {
            if segment.from == (vip4(), echo::PORT) && PORTS.contains(&segment.to.1) {
                self.heard(&segment);
            }
        }
    }

    fn heard(&mut self, segment: &Segment) {
        let (client, port) = segment.to;
        let node = segment.from_mac[5];
        let Some(source) = self.sources.iter_mut().find(|source| source.client == client) else { return };
        let Some(pending) = source.find(port) else { return };
        let now = Instant::now();
        let mut found = None;
        let mut reply = None;
        let next = pending.isn.wrapping_add(1);
        if segment.has(flag::SYN | flag::ACK) {
            match pending.greeted {
                None => {
                    pending.greeted = Some((segment.seq, node));
                    // Too late is too late, but the node shall not be left with half a connection.
                    let flags = if pending.done { flag::RST | flag::ACK } else { flag::ACK };
                    reply = Some((next, segment.seq.wrapping_add(1), flags));
                }
                Some((seq, first)) if seq != segment.seq && !pending.twice => {
                    pending.twice = true;
                    found = Some(ProbeOutcome::Twice(first, node));
                    reply = Some((next, segment.seq.wrapping_add(1), flag::RST | flag::ACK));
                }
                // A SYN-ACK that was repeated because our ACK was late or lost.
                Some((seq, _)) if seq == segment.seq && !pending.done => {
                    reply = Some((next, segment.seq.wrapping_add(1), flag::ACK));
                }
                Some((seq, _)) => reply = Some((next, seq.wrapping_add(1), flag::RST | flag::ACK)),
            }
        } else if segment.has(flag::RST) {
            if !pending.done && segment.ack == next {
                pending.done = true;
                found = Some(ProbeOutcome::Refused(node));
            }
        } else if segment.data > 0 {
            let ack = segment.seq.wrapping_add(u32::from(segment.data));
            reply = Some((next, ack, flag::RST | flag::ACK));
            if !pending.done {
                pending.done = true;
                found = Some(ProbeOutcome::Answered(node));
            }
        }
        let sent = pending.sent;
        if let Some((seq, ack, flags)) = reply {
            self.send(client, port, seq, ack, flags);
        }
        if let Some(outcome) = found {
            self.tell(SynProbe { client, sent, at: now, outcome });
        }
    }

    /// Gives up probes that took too long.
    fn expire(&mut self) {
        let now = Instant::now();
        let mut given_up = Vec::new();
        for source in &mut self.sources {
            let client = source.client;
            for pending in source.pending.iter_mut().filter(|p| !p.done && now - p.sent >= LIMIT) {
                pending.done = true;
                given_up.push((client, *pending));
            }
        }
        for (client, pending) in given_up {
            if let Some((seq, _)) = pending.greeted {
                let next = pending.isn.wrapping_add(1);
                self.send(client, pending.port, next, seq.wrapping_add(1), flag::RST | flag::ACK);
            }
            self.tell(SynProbe { client, sent: pending.sent, at: now, outcome: ProbeOutcome::Missed });
        }
    }

    fn tell(&self, probe: SynProbe) {
        // The receiver goes away a moment before the thread is told to stop.
        let _ = self.sender.send(probe);
    }
}
