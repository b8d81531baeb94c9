//! Carries questions to other nodes and answers theirs, in messages beside the beats.
//!
//! A thread of its own. The beat loop hands over what is addressed to this node, through a queue of bounded length that
//! never makes it wait, and knows nothing else of messages. One page is asked for at a time and asked for again when it
//! does not come, so a lost message costs a moment and a long answer never floods the LAN.

use super::message::{ANSWER_MAX, NoAnswer, Question, decode, encode};
use crate::base::current::Configured;
use crate::base::identity::Identity;
use crate::base::interfaces::Interfaces;
use anyhow::Context;
use onevip_core::NodeId;
use onevip_core::beat::{Incarnation, Keyring};
use onevip_core::rpc::{Endpoint, Message, MessageKind, TEXT_MAX};
use onevip_host::frames::FrameSender;
use std::collections::{HashMap, VecDeque};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

/// How many commands and messages may wait.
const QUEUE_MAX: usize = 256;
/// How many questions may be open at once.
const OPEN_MAX: usize = 256;
/// After this, a page that has not come is asked for again. The first page waits for the answer to be made, too.
const ASK_AGAIN: Duration = Duration::from_millis(150);
/// A question without any progress for this long is given up.
const GIVE_UP: Duration = Duration::from_millis(1500);
/// How many answers are kept for the sake of their other pages, and for how long.
const KEPT_MAX: usize = 16;
const KEPT_FOR: Duration = Duration::from_secs(10);
/// Answers made for, and pages sent to, one node: at most so many in a second.
const ANSWERS_PER_SECOND: f64 = 10.0;
const PAGES_PER_SECOND: f64 = 500.0;

/// What came of a question: the answer as it was sent, or why there is none.
pub type Raw = Result<Vec<u8>, String>;

/// What the transport is told.
pub enum RpcCommand {
    /// A message for this node arrived at the VIP with this index.
    Arrived {
        /// Index of the VIP.
        vip: usize,
        /// The UDP payload.
        payload: Vec<u8>,
    },
    /// Ask a node.
    Ask {
        /// Whom.
        node: NodeId,
        /// What, as it is sent.
        question: Vec<u8>,
        /// Where the answer goes, with the node's number.
        to: mpsc::Sender<(NodeId, Raw)>,
    },
    /// Other keys.
    Rekey(Keyring),
    /// This node began another life.
    BeginAnew(Incarnation),
    /// End.
    Stop,
}

/// The way to the transport; clone it for every thread.
#[derive(Clone)]
pub struct RpcHandle {
    me: NodeId,
    queue: SyncSender<RpcCommand>,
}

impl RpcHandle {
    /// Whether this payload is a message; one for this node is put through, unless too many wait. Never waits.
    pub fn takes(&self, vip: usize, payload: &[u8]) -> bool {
        if onevip_core::rpc::may_be_for(self.me, payload) {
            // Whoever wrote it asks again.
            let _ = self.queue.try_send(RpcCommand::Arrived { vip, payload: payload.to_vec() });
        }
        onevip_core::rpc::is_message(payload)
    }

    /// Tells it something, and waits until there is room; false when it has ended.
    pub fn send(&self, command: RpcCommand) -> bool {
        self.queue.send(command).is_ok()
    }

    /// Tells it something; false when too much waits, or when it has ended.
    pub fn try_send(&self, command: RpcCommand) -> bool {
        self.queue.try_send(command).is_ok()
    }

    /// Asks a node something that is written already; false when that cannot even be tried. The answer goes to `to`.
    pub fn ask_raw(&self, node: NodeId, question: Vec<u8>, to: &mpsc::Sender<(NodeId, Raw)>) -> bool {
        self.try_send(RpcCommand::Ask { node, question, to: to.clone() })
    }

    /// Asks several nodes, as many as can be tried.
    pub fn ask_all<Q: Question>(&self, nodes: impl Iterator<Item = NodeId>, question: &Q) -> Pending<Q> {
        let (to, answers) = mpsc::channel();
        // A question that cannot be written is one that nobody is asked.
        let text = encode(question).unwrap_or_default();
        let asked = nodes.filter(|node| !text.is_empty() && self.ask_raw(*node, text.clone(), &to)).count();
        Pending { answers, asked, kind: PhantomData }
    }

    /// Asks one node and waits for its answer.
    ///
    /// # Errors
    /// No answer.
    pub fn ask<Q: Question>(
        &self,
        node: NodeId,
        question: &Q,
        patience: Duration,
    ) -> Result<Q::Answer, NoAnswer> {
        let pending = self.ask_all(std::iter::once(node), question);
        if pending.asked == 0 {
            return Err(NoAnswer::Silent("too many questions are open; ask again".to_owned()));
        }
        match pending.next(patience) {
            Ok((_, answer)) => answer,
            Err(RecvTimeoutError::Timeout) => Err(NoAnswer::Silent("it does not answer".to_owned())),
            Err(RecvTimeoutError::Disconnected) => Err(NoAnswer::Silent("the daemon is ending".to_owned())),
        }
    }
}

/// Answers to one question, of which some are still to come.
pub struct Pending<Q> {
    answers: Receiver<(NodeId, Raw)>,
    /// How many nodes were asked.
    pub asked: usize,
    kind: PhantomData<fn() -> Q>,
}

impl<Q: Question> Pending<Q> {
    /// The next answer, and which node gave it.
    ///
    /// # Errors
    /// None comes in time, or none will come any more.
    pub fn next(
        &self,
        patience: Duration,
    ) -> Result<(NodeId, Result<Q::Answer, NoAnswer>), RecvTimeoutError> {
        let (node, raw) = self.answers.recv_timeout(patience)?;
        Ok((node, raw.map_err(NoAnswer::Silent).and_then(|text| decode::<Q>(&text))))
    }
}

/// The way to the transport of the node `me`, and what comes by it.
pub fn handle(me: NodeId) -> (RpcHandle, Receiver<RpcCommand>) {
    let (queue, commands) = mpsc::sync_channel(QUEUE_MAX);
    (RpcHandle { me, queue }, commands)
}

/// The transport of this node.
pub struct RpcTransport {
    commands: Receiver<RpcCommand>,
    sender: FrameSender,
    interfaces: Arc<Interfaces>,
    channels: Vec<Channel>,
    names: (String, Vec<String>),
    open: HashMap<u64, Open>,
    kept: VecDeque<Kept>,
    pages: Allowance,
    answers: Allowance,
    told_too_long: bool,
}

/// What belongs to one VIP.
struct Channel {
    endpoint: Endpoint,
    nodes: onevip_core::NodeSet,
}

/// A question that was asked.
struct Open {
    node: NodeId,
    vip: usize,
    text: Vec<u8>,
    pages: Vec<Vec<u8>>,
    total: Option<u16>,
    ask_again: Instant,
    give_up: Instant,
    to: mpsc::Sender<(NodeId, Raw)>,
}

/// An answer that was given.
struct Kept {
    asker: NodeId,
    id: u64,
    text: Vec<u8>,
    until: Instant,
}

impl RpcTransport {
    /// `identity` has keys and incarnation, `interfaces` the ways that messages take.
    ///
    /// # Errors
    /// No packet socket.
    pub fn new(
        configured: &Configured,
        identity: &Identity,
        interfaces: Arc<Interfaces>,
        commands: Receiver<RpcCommand>,
    ) -> anyhow::Result<Self> {
        let (config, plan) = (&configured.config, &configured.plan);
        let channels = plan.vips.iter().map(|vip| {
            let endpoint = identity.endpoint(config, plan, vip);
            Channel { endpoint, nodes: vip.vip.nodes }
        });
        Ok(Self {
            commands,
            sender: FrameSender::open().context("cannot open a packet socket")?,
            interfaces,
            channels: channels.collect(),
            names: (config.cluster.clone(), plan.vips.iter().map(|vip| vip.vip.name.clone()).collect()),
            open: HashMap::new(),
            kept: VecDeque::new(),
            pages: Allowance::new(PAGES_PER_SECOND),
            answers: Allowance::new(ANSWERS_PER_SECOND),
            told_too_long: false,
        })
    }

    /// Serves until told to stop. `answer` answers the questions of other nodes, and is never longer than [`ANSWER_MAX`].
    pub fn run(mut self, answer: impl Fn(NodeId, &[u8]) -> Vec<u8>) {
        loop {
            let next = self.open.values().map(|open| open.ask_again.min(open.give_up)).min();
            let wait =
                next.map_or(Duration::from_secs(60), |at| at.saturating_duration_since(Instant::now()));
            match self.commands.recv_timeout(wait) {
                Ok(RpcCommand::Arrived { vip, payload }) => self.arrived(vip, &payload, &answer),
                Ok(RpcCommand::Ask { node, question, to }) => self.ask(node, question, to),
                Ok(RpcCommand::Rekey(keyring)) => self.rekey(&keyring),
                Ok(RpcCommand::BeginAnew(incarnation)) => {
                    self.channels.iter_mut().for_each(|channel| channel.endpoint.reincarnate(incarnation));
                }
                Ok(RpcCommand::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.remind(Instant::now());
        }
    }

    fn rekey(&mut self, keyring: &Keyring) {
        for (channel, vip) in self.channels.iter_mut().zip(&self.names.1) {
            channel.endpoint.rekey(keyring, (&self.names.0, vip));
        }
    }

    fn ask(&mut self, node: NodeId, text: Vec<u8>, to: mpsc::Sender<(NodeId, Raw)>) {
        let vip = self.channels.iter().position(|channel| channel.nodes.contains(node));
        let refusal = match (vip, random()) {
            (Some(vip), Some(id)) if text.len() <= TEXT_MAX && self.open.len() < OPEN_MAX => {
                let now = Instant::now();
                self.write(vip, node, id, MessageKind::Request { page: 0 }, &text);
                let (ask_again, give_up) = (now + ASK_AGAIN, now + GIVE_UP);
                let open = Open { node, vip, text, pages: Vec::new(), total: None, ask_again, give_up, to };
                self.open.insert(id, open);
                return;
            }
            (None, ..) => "it serves no VIP of this node",
            _ => "too many questions are open",
        };
        // Whoever asked may have gone.
        let _ = to.send((node, Err(refusal.to_owned())));
    }

    fn write(&mut self, vip: usize, node: NodeId, id: u64, kind: MessageKind, text: &[u8]) {
        let Some(channel) = self.channels.get_mut(vip) else { return };
        let sealed = channel.endpoint.seal(node, id, kind, text);
        for route in &self.interfaces.routes(vip) {
            // By each family, since a switch may withhold one of them; a second copy is returned unread, and what none
            // takes now is asked for again. But one that is too long never gets through.
            let too_long = self
                .sender
                .send(route, &sealed)
                .err()
                .filter(|error| error.raw_os_error() == Some(libc::EMSGSIZE));
            if let Some(error) = too_long.filter(|_| !std::mem::replace(&mut self.told_too_long, true)) {
                let name = &self.names.1[vip];
                tracing::warn!(
                    "{name}: cannot send a message of {} bytes to other nodes: {error}; `onevip doctor` says more",
                    sealed.len()
                );
            }
        }
    }

    fn arrived(&mut self, vip: usize, payload: &[u8], answer: &impl Fn(NodeId, &[u8]) -> Vec<u8>) {
        let Some(channel) = self.channels.get_mut(vip) else { return };
        match channel.endpoint.open(payload) {
            Ok(message) => match message.kind {
                MessageKind::Request { page } => self.answer(vip, &message, page, answer),
                MessageKind::Response { page, pages } => self.page(&message, page, pages),
            },
            Err(why) => tracing::debug!("a message was returned: {why}"),
        }
    }

    /// Sends the page of the answer that is wanted; makes the answer first, if it is the first time.
    fn answer(
        &mut self,
        vip: usize,
        message: &Message,
        page: u16,
        answer: &impl Fn(NodeId, &[u8]) -> Vec<u8>,
    ) {
        let now = Instant::now();
        self.kept.retain(|kept| kept.until > now);
        if !self.pages.grant(message.from, now) {
            return;
        }
        let known = self.kept.iter().position(|kept| kept.asker == message.from && kept.id == message.id);
        if known.is_none() {
            if page > 0 || !self.answers.grant(message.from, now) {
                return;
            }
            let text = answer(message.from, &message.text);
            self.kept.truncate(KEPT_MAX - 1);
            self.kept.push_front(Kept { asker: message.from, id: message.id, text, until: now + KEPT_FOR });
        }
        let text = &self.kept[known.unwrap_or(0)].text;
        // An answer has at most ANSWER_MAX bytes, so its pages can be counted.
        let pages = text.len().div_ceil(TEXT_MAX).max(1) as u16;
        let Some(part) = text.chunks(TEXT_MAX).nth(usize::from(page)).map(<[u8]>::to_vec) else { return };
        self.write(vip, message.from, message.id, MessageKind::Response { page, pages }, &part);
    }

    /// A page that was waited for; asks for the next one.
    fn page(&mut self, message: &Message, page: u16, pages: u16) {
        let now = Instant::now();
        let Some(open) = self.open.get_mut(&message.id).filter(|open| open.node == message.from) else {
            return;
        };
        let fits = usize::from(page) == open.pages.len() && *open.total.get_or_insert(pages) == pages;
        if !fits || usize::from(pages) * TEXT_MAX > ANSWER_MAX + TEXT_MAX {
            return;
        }
        open.pages.push(message.text.clone());
        (open.ask_again, open.give_up) = (now + ASK_AGAIN, now + GIVE_UP);
        if open.pages.len() < usize::from(pages) {
            let (vip, node, text) = (open.vip, open.node, open.text.clone());
            return self.write(vip, node, message.id, MessageKind::Request { page: page + 1 }, &text);
        }
        if let Some(open) = self.open.remove(&message.id) {
            let _ = open.to.send((open.node, Ok(open.pages.concat())));
        }
    }

    /// Asks again for what does not come, and gives up what will not come any more.
    fn remind(&mut self, now: Instant) {
        let over: Vec<u64> = self.open.iter().filter(|(_, o)| o.give_up <= now).map(|(id, _)| *id).collect();
        for open in over.iter().filter_map(|id| self.open.remove(id)) {
            let _ = open.to.send((open.node, Err("it does not answer".to_owned())));
        }
        let due: Vec<u64> = self.open.iter().filter(|(_, o)| o.ask_again <= now).map(|(id, _)| *id).collect();
        for id in due {
            let Some(open) = self.open.get_mut(&id) else { continue };
            open.ask_again = now + ASK_AGAIN;
            let (vip, node, text) = (open.vip, open.node, open.text.clone());
            // A question has fewer pages than fit in the number: `page` sees to that.
            let page = open.pages.len() as u16;
            self.write(vip, node, id, MessageKind::Request { page }, &text);
        }
    }
}

/// A number that nobody can guess; `None` while the kernel has no randomness.
pub fn random() -> Option<u64> {
    let mut bytes = [0; 8];
    // SAFETY: the buffer is as long as it is said to be.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    (count == 8).then(|| u64::from_ne_bytes(bytes))
}

/// How much each node may ask for: a second's worth at once, then as much as comes back.
struct Allowance {
    per_second: f64,
    left: HashMap<NodeId, (f64, Instant)>,
}

impl Allowance {
    fn new(per_second: f64) -> Self {
        Self { per_second, left: HashMap::new() }
    }

    fn grant(&mut self, node: NodeId, now: Instant) -> bool {
        let (left, at) = self.left.entry(node).or_insert((self.per_second, now));
        *left =
            (*left + now.saturating_duration_since(*at).as_secs_f64() * self.per_second).min(self.per_second);
        *at = now;
        let granted = *left >= 1.0;
        if granted {
            *left -= 1.0;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u8) -> NodeId {
        NodeId::new(id).unwrap()
    }

    #[test]
    fn each_node_has_an_allowance_of_its_own_that_comes_back() {
        let (mut allowance, now) = (Allowance::new(10.0), Instant::now());
        assert_eq!((0..20).filter(|_| allowance.grant(node(1), now)).count(), 10);
        assert!(allowance.grant(node(2), now));
        assert!(allowance.grant(node(1), now + Duration::from_millis(100)));
        assert!(!allowance.grant(node(1), now + Duration::from_millis(100)));
    }

    #[test]
    fn messages_are_taken_and_those_for_this_node_kept_until_too_many_wait() {
        let (handle, commands) = handle(node(2));
        let message = |to: u8| [b"1ltr".as_slice(), &[0; 10], &[to], &[0; 60]].concat();
        assert!(!handle.takes(0, b"1vip, a beat"));
        assert!(handle.takes(0, &message(3)) && commands.try_recv().is_err(), "for somebody else");
        for _ in 0..2 * QUEUE_MAX {
            assert!(handle.takes(0, &message(2)));
        }
        assert_eq!(commands.try_iter().count(), QUEUE_MAX);
    }
}
