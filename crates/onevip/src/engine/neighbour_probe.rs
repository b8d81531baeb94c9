//! The neighbour probe: asks whether the kernel of a silent node still lives, and whether anybody is there at all.
//!
//! A node whose daemon is gone or frozen may still have a kernel full of live sessions, which nobody must reset. Its
//! kernel answers ARP and neighbour discovery for the node's *own* addresses as long as it lives. One thread asks, by
//! each family that both ends have, and listens: one answer is enough. A question counts once it has left; one that
//! could not be sent, or that waited here for long, is no question. That a kernel *answers* is said only by two answers in
//! a row to questions of this thread: what it sends of its own accord, or because this host's kernel asked it in unicast, shows
//! that it lives, but a filter may keep our questions from it.
//!
//! A node to which nobody speaks any more cannot tell whether the others are gone or its own cable is out. On a LAN with
//! much traffic it hears that soon; on a quiet one it asks the hosts it has spoken to lately. Their answers need not be
//! understood: that anything arrives is seen by the [`onevip_host::link_activity`].

use crate::base::beat_loop::BeatLoopHandle;
use crate::base::clock::now;
use crate::base::command::ProbeRequest;
use crate::base::command::{Command, Notice};
use crate::base::mailbox::Inbox;
use crate::base::plan::Plan;
use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use onevip_config::Config;
use onevip_core::NodeId;
use onevip_host::neighbours::Neighbours;
use onevip_host::netlink::{Link, Netlink};
use onevip_host::realtime;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::time::Duration;

/// So many hosts are asked at once, by interface and family, whether they are there.
const HOSTS_MAX: usize = 8;

/// The state of the neighbour probe.
pub struct NeighbourProbe {
    sockets: Vec<Asker>,
    /// The other nodes, once for each of their addresses.
    nodes: Vec<(NodeId, IpAddr)>,
    /// How the addresses answer, by the index of the interface.
    manners: BTreeMap<(u32, IpAddr), Manners>,
    /// A question that waited for longer than this is not asked: its answer would come too late to count.
    stale: Duration,
    /// Whom to ask; closed when the daemon ends.
    questions: Inbox<ProbeRequest>,
    beat_loop: BeatLoopHandle,
    notices: mpsc::Sender<Notice>,
}

/// So many answers in a row, and an address answers. One may be a coincidence.
const HITS: u32 = 2;
/// So many questions in a row without an answer, and it does not.
const MISSES: u32 = onevip_core::membership::timing::ASKS;

/// How an address answers.
#[derive(Clone, Copy, Debug, Default)]
struct Manners {
    /// A question is open.
    open: bool,
    hits: u32,
    misses: u32,
    answers: bool,
}

impl Manners {
    fn asked(&mut self) {
        if std::mem::replace(&mut self.open, true) {
            (self.hits, self.misses) = (0, self.misses.saturating_add(1));
            self.answers &= self.misses < MISSES;
        }
    }

    /// True: that it answers was not known.
    fn answered(&mut self) -> bool {
        if !std::mem::replace(&mut self.open, false) {
            return false;
        }
        (self.hits, self.misses) = (self.hits.saturating_add(1), 0);
        let is_new = !self.answers && self.hits >= HITS;
        self.answers |= is_new;
        is_new
    }
}

/// Asks on one interface by one family.
struct Asker {
    socket: Neighbours,
    link: u32,
    interface: String,
    /// In whose name.
    own: IpAddr,
}

impl Asker {
    fn open(link: &Link, own: IpAddr) -> io::Result<Self> {
        let socket = Neighbours::open(link, own)?;
        Ok(Self { socket, link: link.index, interface: link.name.clone(), own })
    }
}

/// The other nodes, once for each of their addresses.
pub fn others(config: &Config, me: NodeId) -> Vec<(NodeId, IpAddr)> {
    let others = config.nodes.iter().filter(|node| node.id != me);
    others.flat_map(|node| node.addresses.iter().map(|address| (node.id, *address))).collect()
}

impl NeighbourProbe {
    /// A probe on every interface that bears a VIP.
    ///
    /// # Errors
    /// A packet socket cannot be opened.
    pub fn new(
        config: &Config,
        plan: &Plan,
        questions: Inbox<ProbeRequest>,
        beat_loop: BeatLoopHandle,
        notices: mpsc::Sender<Notice>,
    ) -> anyhow::Result<Self> {
        let mut sockets = Vec::new();
        for (index, vip) in plan.vips.iter().enumerate() {
            if plan.vips[..index].iter().any(|earlier| earlier.link.index == vip.link.index) {
                continue;
            }
            for &own in &vip.own {
                let asker = Asker::open(&vip.link, own)
                    .with_context(|| format!("cannot open a packet socket on {}", vip.link.name))?;
                sockets.push(asker);
            }
        }
        let (nodes, stale) = (others(config, plan.node.id), config.beat / 2);
        Ok(Self { sockets, nodes, manners: BTreeMap::new(), stale, questions, beat_loop, notices })
    }

    /// Asks and listens until told to stop.
    pub fn run(mut self) {
        // Questions that wait for a busy processor are not asked, and a node that is dead is found out late.
        let _ = realtime::make_current_thread_realtime();
        loop {
            {
                let mut fds: Vec<_> =
                    self.sockets.iter().map(|by| PollFd::new(by.socket.as_fd(), PollFlags::POLLIN)).collect();
                fds.push(PollFd::new(self.questions.as_fd(), PollFlags::POLLIN));
                // An interrupted wait is a short one.
                let _ = poll(&mut fds, PollTimeout::NONE);
            }
            // Answers first: the next question counts the one before as unanswered.
            (0..self.sockets.len()).for_each(|by| self.listen(by));
            self.questions.quiet();
            while let Some(question) = self.questions.next() {
                match question {
                    ProbeRequest::Ask { vip, node, since } if now().since(since) < self.stale => {
                        if self.ask(node) {
                            self.beat_loop.send(Command::KernelAsked { vip, node });
                        }
                    }
                    ProbeRequest::Ask { .. } => {}
                    ProbeRequest::Hosts => self.ask_hosts(),
                    ProbeRequest::Nodes(nodes) => self.nodes = nodes,
                    ProbeRequest::Interfaces(interfaces) => self.turn_to(&interfaces),
                    ProbeRequest::Stop => return,
                }
            }
        }
    }

    /// Asks on these interfaces from now on. One that went away again meanwhile has no socket; when it is back, we are told.
    /// Whether somebody answers there is to be found out anew.
    fn turn_to(&mut self, interfaces: &[(Link, Vec<IpAddr>)]) {
        let each = interfaces.iter().flat_map(|(link, own)| own.iter().map(move |own| (link, *own)));
        let open = |(link, own): (&Link, IpAddr)| match Asker::open(link, own) {
            Ok(asker) => Some(asker),
            Err(error) => {
                tracing::warn!("cannot open a packet socket on {}: {error}", link.name);
                None
            }
        };
        self.sockets = each.filter_map(open).collect();
        self.manners.retain(|(link, _), _| self.sockets.iter().any(|by| by.link == *link));
    }

    /// Asks for a node by all its addresses. True if a question left that may be answered: where some of them have
    /// answered before, for one of those.
    fn ask(&mut self, node: NodeId) -> bool {
        let (mut to_known, mut to_others) = (None, false);
        for (_, address) in self.nodes.iter().filter(|(id, _)| *id == node) {
            for by in self.sockets.iter().filter(|by| by.own.is_ipv4() == address.is_ipv4()) {
                let sent = by.socket.ask(Some(by.own), *address);
                if let Err(error) = &sent {
                    tracing::debug!("cannot ask for {address}: {error}");
                }
                let manners = self.manners.entry((by.link, *address)).or_default();
                if sent.is_ok() {
                    manners.asked();
                }
                if manners.answers {
                    to_known = Some(to_known.unwrap_or(false) || sent.is_ok());
                } else {
                    to_others |= sent.is_ok();
                }
            }
        }
        to_known.unwrap_or(to_others)
    }

    fn ask_hosts(&self) {
        let known = match Netlink::open().and_then(|mut netlink| netlink.neighbours()) {
            Ok(known) => known,
            Err(error) => return tracing::debug!("cannot list neighbours: {error}"),
        };
        let of_node = |address: &IpAddr| self.nodes.iter().any(|(_, node)| node == address);
        for by in &self.sockets {
            let is_here = |on: u32, address: &IpAddr| on == by.link && address.is_ipv4() == by.own.is_ipv4();
            let here = known.iter().filter(|(on, address)| is_here(*on, address));
            for (_, address) in here.filter(|(_, address)| !of_node(address)).take(HOSTS_MAX) {
                if let Err(error) = by.socket.ask(Some(by.own), *address) {
                    tracing::debug!("cannot ask for {address}: {error}");
                }
            }
        }
    }

    fn listen(&mut self, by: usize) {
        loop {
            let by = &self.sockets[by];
            let found = match by.socket.next() {
                Ok(Some(found)) => found,
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!("cannot listen for neighbours: {error}");
                    return;
                }
            };
            let Some((node, _)) = self.nodes.iter().find(|(_, address)| *address == found.ip) else {
                continue;
            };
            let manners = self.manners.entry((by.link, found.ip)).or_default();
            let is_new = found.asked && manners.answered();
            self.beat_loop.send(match found.asked && manners.answers {
                true => Command::KernelAnswered(*node),
                false => Command::KernelSpoke(*node),
            });
            if is_new {
                // The receiver of notices ends after this thread's work does.
                let _ =
                    self.notices.send(Notice::Answers { interface: by.interface.clone(), address: found.ip });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_answers_in_a_row_are_an_answer_and_eight_silences_are_none() {
        let mut manners = Manners::default();
        assert!(!manners.answered(), "nobody asked");
        manners.asked();
        assert!(!manners.answered() && !manners.answers, "it may be a coincidence");
        manners.asked();
        manners.asked();
        assert!(!manners.answered() && !manners.answers);
        manners.asked();
        assert!(manners.answered() && manners.answers);
        (0..MISSES).for_each(|_| manners.asked());
        assert!(manners.answers);
        manners.asked();
        assert!(!manners.answers);
    }
}
