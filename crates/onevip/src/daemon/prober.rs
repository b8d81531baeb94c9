//! The prober: asks whether the kernel of a silent node still lives.
//!
//! A node whose daemon is gone or frozen may still have a kernel full of live sessions, which nobody must reset. Its
//! kernel answers ARP for the node's *own* address as long as it lives. One thread asks and listens.

use super::beat_loop::Command;
use super::mailbox::{Inbox, Mailbox};
use super::plan::Plan;
use super::realtime;
use crate::config::Config;
use crate::host::arp::ArpSocket;
use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use onevip_core::NodeId;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

/// The state of the prober.
pub struct Prober {
    sockets: Vec<ArpSocket>,
    own: Ipv4Addr,
    nodes: Vec<(NodeId, Ipv4Addr)>,
    /// Whom to ask; closed when the daemon ends.
    questions: Inbox<Question>,
    beat_loop: Mailbox<Command>,
}

/// What the prober is asked to do.
pub enum Question {
    /// Ask for this node.
    Ask(NodeId),
    /// End.
    Stop,
}

impl Prober {
    /// A prober on every interface that bears a VIP.
    ///
    /// # Errors
    /// A packet socket cannot be opened, or this node has no IPv4 address of its own to ask from.
    pub fn new(
        config: &Config,
        plan: &Plan,
        questions: Inbox<Question>,
        beat_loop: Mailbox<Command>,
    ) -> anyhow::Result<Self> {
        let mut links: Vec<_> = plan.vips.iter().map(|vip| vip.link.clone()).collect();
        links.dedup_by_key(|link| link.index);
        let open = |link| {
            ArpSocket::open(&link).with_context(|| format!("cannot open a packet socket on {}", link.name))
        };
        Ok(Self {
            sockets: links.into_iter().map(open).collect::<anyhow::Result<_>>()?,
            own: plan.node.v4().with_context(|| format!("node {} has no IPv4 address", plan.node.name))?,
            nodes: config.nodes.iter().filter_map(|node| Some((node.id, node.v4()?))).collect(),
            questions,
            beat_loop,
        })
    }

    /// Asks and listens until told to stop.
    pub fn run(self) {
        // Questions that wait for a busy processor look unanswered to the beat loop, which does not wait for it, and
        // then a living kernel's sessions are reset. Without the rights, that is the risk.
        let _ = realtime::make_current_thread_realtime();
        loop {
            {
                let mut fds: Vec<_> =
                    self.sockets.iter().map(|s| PollFd::new(s.as_fd(), PollFlags::POLLIN)).collect();
                fds.push(PollFd::new(self.questions.as_fd(), PollFlags::POLLIN));
                // An interrupted wait is a short one.
                let _ = poll(&mut fds, PollTimeout::NONE);
            }
            // Answers first: the next question counts the one before as unanswered.
            self.sockets.iter().for_each(|socket| self.listen(socket));
            self.questions.quiet();
            while let Some(question) = self.questions.next() {
                match question {
                    Question::Ask(node) => self.ask(node),
                    Question::Stop => return,
                }
            }
        }
    }

    fn ask(&self, node: NodeId) {
        let Some((_, address)) = self.nodes.iter().find(|(id, _)| *id == node) else { return };
        for socket in &self.sockets {
            if let Err(error) = socket.ask(self.own, *address) {
                tracing::debug!("cannot ask for {address}: {error}");
            }
        }
    }

    fn listen(&self, socket: &ArpSocket) {
        loop {
            match socket.next() {
                Ok(Some(found)) => {
                    if let Some((node, _)) = self.nodes.iter().find(|(_, address)| *address == found.ip) {
                        self.beat_loop.send(Command::KernelAnswered(*node));
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!("cannot listen for ARP: {error}");
                    return;
                }
            }
        }
    }
}
