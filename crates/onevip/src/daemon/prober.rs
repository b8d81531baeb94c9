//! The prober: asks whether the kernel of a silent node still lives, and whether anybody is there at all.
//!
//! A node whose daemon is gone or frozen may still have a kernel full of live sessions, which nobody must reset. Its
//! kernel answers ARP and neighbour discovery for the node's *own* addresses as long as it lives. One thread asks, by
//! each family that both ends have, and listens: one answer is enough.
//!
//! A node to which nobody speaks any more cannot tell whether the others are gone or its own cable is out. On a LAN with
//! much traffic it hears that soon; on a quiet one it asks the hosts it has spoken to lately. Their answers need not be
//! understood: that anything arrives is seen by the [`super::ears`].

use super::beat_loop::Command;
use super::mailbox::{Inbox, Mailbox};
use super::plan::Plan;
use super::realtime;
use crate::config::Config;
use crate::host::neighbours::Neighbours;
use crate::host::netlink::{Link, Netlink};
use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use onevip_core::NodeId;
use std::net::IpAddr;
use std::os::fd::AsFd;

/// So many hosts are asked at once, by interface and family, whether they are there.
const WITNESSES_MAX: usize = 8;

/// The state of the prober.
pub struct Prober {
    /// By interface and family, each with the index of the interface and the address in whose name it asks.
    sockets: Vec<(Neighbours, u32, IpAddr)>,
    /// The other nodes, once for each of their addresses.
    nodes: Vec<(NodeId, IpAddr)>,
    /// Whom to ask; closed when the daemon ends.
    questions: Inbox<Question>,
    beat_loop: Mailbox<Command>,
}

/// What the prober is asked to do.
pub enum Question {
    /// Ask for this node.
    Ask(NodeId),
    /// Ask hosts that are not nodes, so that something arrives if anything can.
    Witnesses,
    /// From now on ask on these interfaces, in the names of these addresses.
    Interfaces(Vec<(Link, Vec<IpAddr>)>),
    /// End.
    Stop,
}

impl Prober {
    /// A prober on every interface that bears a VIP.
    ///
    /// # Errors
    /// A packet socket cannot be opened.
    pub fn new(
        config: &Config,
        plan: &Plan,
        questions: Inbox<Question>,
        beat_loop: Mailbox<Command>,
    ) -> anyhow::Result<Self> {
        let mut sockets = Vec::new();
        for (index, vip) in plan.vips.iter().enumerate() {
            if plan.vips[..index].iter().any(|earlier| earlier.link.index == vip.link.index) {
                continue;
            }
            for &own in &vip.own {
                let socket = Neighbours::open(&vip.link, own)
                    .with_context(|| format!("cannot open a packet socket on {}", vip.link.name))?;
                sockets.push((socket, vip.link.index, own));
            }
        }
        let nodes = config.nodes.iter().filter(|node| node.id != plan.node.id);
        let nodes = nodes.flat_map(|node| node.addresses.iter().map(|address| (node.id, *address)));
        Ok(Self { sockets, nodes: nodes.collect(), questions, beat_loop })
    }

    /// Asks and listens until told to stop.
    pub fn run(mut self) {
        // Questions that wait for a busy processor look unanswered to the beat loop, which does not wait for it, and
        // then a living kernel's sessions are reset. Without the rights, that is the risk.
        let _ = realtime::make_current_thread_realtime();
        loop {
            {
                let mut fds: Vec<_> =
                    self.sockets.iter().map(|(s, ..)| PollFd::new(s.as_fd(), PollFlags::POLLIN)).collect();
                fds.push(PollFd::new(self.questions.as_fd(), PollFlags::POLLIN));
                // An interrupted wait is a short one.
                let _ = poll(&mut fds, PollTimeout::NONE);
            }
            // Answers first: the next question counts the one before as unanswered.
            self.sockets.iter().for_each(|(socket, ..)| self.listen(socket));
            self.questions.quiet();
            while let Some(question) = self.questions.next() {
                match question {
                    Question::Ask(node) => self.ask(node),
                    Question::Witnesses => self.ask_witnesses(),
                    Question::Interfaces(interfaces) => self.sockets = open_what_can_be(&interfaces),
                    Question::Stop => return,
                }
            }
        }
    }

    fn ask(&self, node: NodeId) {
        for (_, address) in self.nodes.iter().filter(|(id, _)| *id == node) {
            for (socket, _, own) in &self.sockets {
                if let Err(error) = socket.ask(Some(*own), *address) {
                    tracing::debug!("cannot ask for {address}: {error}");
                }
            }
        }
    }

    fn ask_witnesses(&self) {
        let known = match Netlink::open().and_then(|mut netlink| netlink.neighbours()) {
            Ok(known) => known,
            Err(error) => return tracing::debug!("cannot list neighbours: {error}"),
        };
        let of_node = |address: &IpAddr| self.nodes.iter().any(|(_, node)| node == address);
        for (socket, link, own) in &self.sockets {
            let here = known.iter().filter(|(on, address)| on == link && address.is_ipv4() == own.is_ipv4());
            for (_, address) in here.filter(|(_, address)| !of_node(address)).take(WITNESSES_MAX) {
                if let Err(error) = socket.ask(Some(*own), *address) {
                    tracing::debug!("cannot ask for {address}: {error}");
                }
            }
        }
    }

    fn listen(&self, socket: &Neighbours) {
        loop {
            match socket.next() {
                Ok(Some(found)) => {
                    if let Some((node, _)) = self.nodes.iter().find(|(_, address)| *address == found.ip) {
                        self.beat_loop.send(Command::KernelAnswered(*node));
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!("cannot listen for neighbours: {error}");
                    return;
                }
            }
        }
    }
}

/// Sockets for all of these interfaces. One that went away again meanwhile has none; when it is back, we are told.
fn open_what_can_be(interfaces: &[(Link, Vec<IpAddr>)]) -> Vec<(Neighbours, u32, IpAddr)> {
    let each = interfaces.iter().flat_map(|(link, own)| own.iter().map(move |own| (link, *own)));
    let open = |(link, own): (&Link, IpAddr)| match Neighbours::open(link, own) {
        Ok(socket) => Some((socket, link.index, own)),
        Err(error) => {
            tracing::warn!("cannot open a packet socket on {}: {error}", link.name);
            None
        }
    };
    each.filter_map(open).collect()
}
