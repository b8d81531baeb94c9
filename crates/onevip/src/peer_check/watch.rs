//! The thread that watches: what clients show, whom to ask, and what to tell the beat loop.

use super::check::{PeerCheck, Step};
use super::probe::{self, Touch};
use super::{JURY, PeerCheckTools, Suspicion};
use crate::base::beat_loop::BeatLoopHandle;
use crate::base::clock::now as boot_now;
use crate::base::command::{Command, Notice};
use crate::base::plan::{Plan, VipPlan, is_link_local};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use onevip_config::Config;
use onevip_core::membership::PeerCheckView;
use onevip_core::peer_check::{Claimers, ClientCounters, Sampler, count_clients};
use onevip_core::{BucketSet, NodeId, NodeSet};
use onevip_health::monitor;
use onevip_health::sshd::check::CheckPace;
use onevip_health::sshd::probe::BannerProbe;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How often calls are looked after.
const TURN: Duration = Duration::from_millis(100);
/// How often everything else is.
const LOOK: Duration = Duration::from_millis(250);
/// A turn that comes this much later than it should means that we were stopped.
const STALL: Duration = Duration::from_millis(500);
/// How long a part of all buckets is looked at before another one is: longer than a connection takes to be judged.
const MOVE_ON: Duration = Duration::from_secs(15);
/// How long the beat loop may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// One VIP, as the check sees it.
pub struct VipWatch {
    vip: usize,
    me: NodeId,
    port: u16,
    pace: CheckPace,
    /// The others that can be asked.
    others: Vec<Peer>,
    owners: Claimers,
    sampler: Sampler,
    sampled: BucketSet,
    /// What the beat loop was told: about whom we have a say, and against whom.
    said: (NodeSet, NodeSet),
}

/// Another node.
struct Peer {
    node: NodeId,
    name: String,
    /// Where it is asked, and in whose name.
    ways: (IpAddr, SocketAddr),
    check: Option<PeerCheck>,
    touch: Option<Touch>,
    call: Option<BannerProbe>,
    doubt: Option<String>,
    /// Why we last suspected it.
    words: String,
    suspected: bool,
}

impl VipWatch {
    /// For one VIP of the plan, whose `sshd` listens on `port`.
    pub fn new(vip: usize, port: u16, config: &Config, plan: &Plan, of: &VipPlan) -> Self {
        let others = config.nodes_of(&of.vip).filter(|node| node.id != plan.node.id);
        let way = |node: &onevip_config::Node| {
            let ways = node.addresses.iter().filter_map(|to| Some((of.own_for(*to)?, *to)));
            // An address of the link alone would need to be told which link.
            let mut ways = ways.filter(|(from, to)| !is_link_local(from) && !is_link_local(to));
            let (from, to) = ways.next()?;
            Some(Peer {
                node: node.id,
                name: node.name.clone(),
                ways: (from, SocketAddr::new(to, port)),
                check: None,
                touch: None,
                call: None,
                doubt: None,
                words: String::new(),
                suspected: false,
            })
        };
        Self {
            vip,
            me: plan.node.id,
            port,
            pace: monitor::pace(&config.health),
            others: others.filter_map(way).collect(),
            owners: Claimers::default(),
            sampler: Sampler::default(),
            sampled: BucketSet::EMPTY,
            said: (NodeSet::EMPTY, NodeSet::EMPTY),
        }
    }

    /// Looks at what clients show.
    fn look(&mut self, view: &PeerCheckView, tools: &PeerCheckTools, beat_loop: &BeatLoopHandle) {
        let now = boot_now();
        self.owners.update(now, &view.claims);
        let sampled = self.sampler.choose(&self.owners.foreign());
        if sampled != self.sampled {
            self.sampled = sampled;
            beat_loop.send(Command::Sample { vip: self.vip, buckets: Box::new(sampled) });
        }
        let seen = tools.flows.look(now).filter(|(vip, _)| *vip == self.vip).map(|(_, seen)| seen);
        let counted = count_clients(now, seen, &self.owners, self.port, self.pace.timeout);
        for other in &mut self.others {
            other.doubt = doubt(counted.get(&other.node), view.suspected.contains(other.node));
            let judges = sits(self.me, other.node, view) && view.serving.contains(other.node);
            if !judges {
                (other.check, other.call, other.touch) = (None, None, None);
            } else if other.check.is_none() {
                other.check = Some(PeerCheck::new(self.pace, Instant::now()));
            }
        }
    }

    /// Goes on with the checks; tells the beat loop what is new.
    fn turn(&mut self, now: Instant, tools: &PeerCheckTools, beat_loop: &BeatLoopHandle) {
        let mut said = (NodeSet::EMPTY, NodeSet::EMPTY);
        for other in &mut self.others {
            other.proceed(now);
            let check = other.check.as_ref();
            if check.is_some_and(|check| check.able(now)) {
                said.0.insert(other.node);
            }
            let suspects = check.is_some_and(|check| check.suspects(now));
            if suspects {
                said.1.insert(other.node);
            }
            if suspects != other.suspected {
                other.suspected = suspects;
                let text = other.tell(self.pace, suspects);
                let notice = Notice::PeerCheck { vip: self.vip, node: other.node, text, good: !suspects };
                // The log ends last; without it nobody misses this.
                let _ = tools.notices.send(notice);
            }
            let words = if suspects { other.words.clone() } else { String::new() };
            let suspicion = Suspicion { able: said.0.contains(other.node), suspects, words };
            tools.suspicions.note(self.vip, other.node, suspicion);
        }
        if said != self.said {
            self.said = said;
            beat_loop.send(Command::Testify { vip: self.vip, able: said.0, suspects: said.1 });
        }
    }

    fn forgive(&mut self, now: Instant) {
        for other in &mut self.others {
            other.check.iter_mut().for_each(|check| check.forgive(now));
        }
    }

    /// Takes back everything.
    fn leave(&self, beat_loop: &BeatLoopHandle) {
        let (able, suspects) = (NodeSet::EMPTY, NodeSet::EMPTY);
        beat_loop.send(Command::Testify { vip: self.vip, able, suspects });
        beat_loop.send(Command::Sample { vip: self.vip, buckets: Box::new(BucketSet::EMPTY) });
    }
}

impl Peer {
    /// Carries out what its check wants, and tells it what came of it.
    fn proceed(&mut self, now: Instant) {
        let Some(check) = &mut self.check else { return };
        if let Some(taken) = self.touch.as_ref().and_then(|touch| touch.outcome(now)) {
            self.touch = None;
            check.touched(now, taken);
        }
        if let Some(answer) = self.call.as_mut().and_then(BannerProbe::proceed) {
            self.call = None;
            tracing::debug!("{} was asked whether it serves: {answer:?}", self.name);
            check.answered(now, &answer);
        }
        if let Some(doubt) = &self.doubt
            && !self.suspected
        {
            self.words.clone_from(doubt);
        }
        let (from, to) = self.ways;
        match check.next(now, self.doubt.is_some()) {
            Step::Wait => {}
            Step::Touch => {
                self.touch = Touch::begin(from, to, now);
                if self.touch.is_none() {
                    check.touched(now, false);
                }
            }
            Step::Call => match probe::call(from, to) {
                Ok(call) => self.call = Some(call),
                Err(answer) => check.answered(now, &answer),
            },
            Step::HangUp => self.call.take().into_iter().for_each(BannerProbe::give_up),
        }
    }

    /// What is to be told when it is suspected, or no longer. The words stay for `status`.
    fn tell(&mut self, pace: CheckPace, suspects: bool) -> String {
        if suspects {
            let waited = humantime::format_duration(pace.timeout * pace.fall);
            self.words = format!("{}; its banner did not come to us within {waited}", self.words);
            return format!("{}: {}", self.name, self.words);
        }
        match self.check {
            Some(_) => format!("{} answers us again", self.name),
            None => format!("{} is no longer ours to judge", self.name),
        }
    }
}

/// Why a node should be asked, if it should.
fn doubt(counts: Option<&ClientCounters>, suspected: bool) -> Option<String> {
    match counts {
        Some(counts) if counts.suspicious => {
            Some(format!("{} of {} clients got no answer", counts.unserved, counts.clients))
        }
        _ if suspected => Some("others found that it does not answer".to_owned()),
        _ => None,
    }
}

/// Whether `me` is among those who judge `node`: the first of the living after it, in the order of their numbers, round.
fn sits(me: NodeId, node: NodeId, view: &PeerCheckView) -> bool {
    let others = view.alive.without(node);
    let after = others.iter().filter(|other| *other > node);
    let before = others.iter().filter(|other| *other < node);
    view.heard.contains(node) && after.chain(before).take(JURY).any(|juror| juror == me)
}

/// Watches until told to stop.
pub fn run(
    mut watches: Vec<VipWatch>,
    tools: &PeerCheckTools,
    beat_loop: &BeatLoopHandle,
    stop: &AtomicBool,
) {
    let (mut last, mut next_look, mut next_move) = (Instant::now(), Instant::now(), Instant::now() + MOVE_ON);
    let mut rate = Rate::default();
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now.saturating_duration_since(last) > TURN + STALL {
            watches.iter_mut().for_each(|watch| watch.forgive(now));
        }
        last = now;
        if now >= next_look {
            next_look = now + LOOK;
            if let Some(segments) = rate.measure(now, tools) {
                watches.iter_mut().for_each(|watch| watch.sampler.adapt(segments));
            }
            if now >= next_move {
                next_move = now + MOVE_ON;
                watches.iter_mut().for_each(|watch| watch.sampler.move_on());
            }
            for (vip, view) in views(beat_loop) {
                let mut those = watches.iter_mut().filter(|watch| watch.vip == vip);
                those.by_ref().for_each(|watch| watch.look(&view, tools, beat_loop));
            }
        }
        watches.iter_mut().for_each(|watch| watch.turn(now, tools, beat_loop));
        wait(&watches);
    }
    tools.suspicions.clear();
    watches.iter().for_each(|watch| watch.leave(beat_loop));
}

/// What the beat loop knows; nothing while it does not answer.
fn views(beat_loop: &BeatLoopHandle) -> Vec<(usize, PeerCheckView)> {
    let (to, answer) = mpsc::channel();
    beat_loop.send(Command::View(to));
    answer.recv_timeout(PATIENCE).unwrap_or_default()
}

/// Waits for the answer to a call, or the next turn.
fn wait(watches: &[VipWatch]) {
    let others = watches.iter().flat_map(|watch| &watch.others);
    let calls = others.clone().filter_map(|other| other.call.as_ref());
    let touches = others.filter_map(|other| other.touch.as_ref());
    let mut fds: Vec<PollFd<'_>> = calls.map(|call| PollFd::new(call.as_fd(), PollFlags::POLLIN)).collect();
    // A touch should end before its handshake does.
    fds.extend(touches.map(|touch| PollFd::new(touch.as_fd(), PollFlags::POLLOUT)));
    let _ = poll(&mut fds, PollTimeout::from(TURN.as_millis() as u16));
}

/// How many segments a second the programs look at more closely.
#[derive(Default)]
struct Rate {
    last: Option<(Instant, u64)>,
}

impl Rate {
    /// The rate, once a second.
    fn measure(&mut self, now: Instant, tools: &PeerCheckTools) -> Option<u64> {
        let due = self.last.is_none_or(|(then, _)| now >= then + Duration::from_secs(1));
        let count = due.then(|| tools.flows.sampled_segments().ok()).flatten()?;
        let (then, before) = self.last.replace((now, count))?;
        let span = now.duration_since(then).as_millis().max(1) as u64;
        Some(count.saturating_sub(before) * 1000 / span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::new(number).unwrap()
    }

    #[test]
    fn the_next_five_of_the_living_judge_a_node() {
        let nodes: NodeSet = [1, 3, 4, 5, 7, 8, 9].into_iter().map(node).collect();
        let view = PeerCheckView { alive: nodes, heard: nodes, serving: nodes, ..PeerCheckView::default() };
        let judges = |of: u8| -> Vec<u8> {
            nodes.iter().filter(|me| *me != node(of) && sits(*me, node(of), &view)).map(NodeId::get).collect()
        };
        assert_eq!(judges(1), [3, 4, 5, 7, 8]);
        assert_eq!(judges(7), [1, 3, 4, 8, 9]);
        let silent = PeerCheckView { heard: nodes.without(node(7)), ..view };
        assert!(!sits(node(8), node(7), &silent), "who does not hear it has no say");
    }

    #[test]
    fn doubts_are_told_in_numbers() {
        let counts = ClientCounters { clients: 9, unserved: 7, suspicious: true };
        assert_eq!(doubt(Some(&counts), false).as_deref(), Some("7 of 9 clients got no answer"));
        assert_eq!(doubt(Some(&ClientCounters { suspicious: false, ..counts }), false), None);
        assert!(doubt(None, true).is_some());
    }
}
