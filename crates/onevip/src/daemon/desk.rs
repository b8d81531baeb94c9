//! The desk: carries questions to other nodes and answers theirs, in letters beside the beats.
//!
//! A thread of its own. The beat loop hands over what is addressed to this node, through a queue of bounded length that
//! never makes it wait, and knows nothing else of letters. One page is asked for at a time and asked for again when it
//! does not come, so a lost letter costs a moment and a long answer never floods the LAN.

use super::interfaces::Interfaces;
use super::living;
use super::plan::Plan;
use super::wire::Sender;
use crate::config::Config;
use crate::desk::question::{Answer, Question};
use anyhow::Context;
use onevip_core::NodeId;
use onevip_core::beat::{Incarnation, Keyring};
use onevip_core::rpc::{Endpoint, Message, MessageKind, TEXT_MAX};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::{Duration, Instant};

/// How much mail may wait.
const QUEUE_MAX: usize = 256;
/// How many questions may be open at once.
const OPEN_MAX: usize = 256;
/// After this, a page that has not come is asked for again. The first page waits for the answer to be made, too.
const ASK_AGAIN: Duration = Duration::from_millis(150);
/// A question without any progress for this long is given up.
const GIVE_UP: Duration = Duration::from_millis(1500);
/// The longest answer, in bytes: some 4,000 sessions.
const ANSWER_MAX: usize = 1 << 20;
/// How many answers are kept for the sake of their other pages, and for how long.
const KEPT_MAX: usize = 16;
const KEPT_FOR: Duration = Duration::from_secs(10);
/// Answers made for, and pages sent to, one node: at most so many in a second.
const ANSWERS_PER_SECOND: f64 = 10.0;
const PAGES_PER_SECOND: f64 = 500.0;

/// What the desk is told.
pub enum Mail {
    /// A letter for this node arrived at the VIP with this index.
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
        /// What.
        question: Question,
        /// Where the answer goes, with the node's number.
        to: mpsc::Sender<(NodeId, Result<Answer, String>)>,
    },
    /// Other keys.
    Rekey(Keyring),
    /// This node began another life.
    BeginAnew(Incarnation),
    /// End.
    Stop,
}

/// The slot in the desk's door.
#[derive(Clone)]
pub struct Slot {
    me: NodeId,
    queue: SyncSender<Mail>,
}

impl Slot {
    /// Whether this payload is a letter; one for this node is put through, unless too much mail waits. Never waits.
    pub fn takes(&self, vip: usize, payload: &[u8]) -> bool {
        if onevip_core::rpc::may_be_for(self.me, payload) {
            // Whoever wrote it asks again.
            let _ = self.queue.try_send(Mail::Arrived { vip, payload: payload.to_vec() });
        }
        onevip_core::rpc::is_message(payload)
    }

    /// Puts something through, and waits until there is room; false when the desk is closed.
    pub fn deliver(&self, mail: Mail) -> bool {
        self.queue.send(mail).is_ok()
    }

    /// Puts something through; false when too much mail waits, or the desk is closed.
    pub fn post(&self, mail: Mail) -> bool {
        match self.queue.try_send(mail) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

/// The slot for the node `me`, and what comes through it.
pub fn slot(me: NodeId) -> (Slot, Receiver<Mail>) {
    let (queue, mail) = mpsc::sync_channel(QUEUE_MAX);
    (Slot { me, queue }, mail)
}

/// The desk of this node.
pub struct Desk {
    mail: Receiver<Mail>,
    sender: Sender,
    interfaces: Arc<Interfaces>,
    counters: Vec<Counter>,
    names: (String, Vec<String>),
    open: HashMap<u64, Open>,
    kept: VecDeque<Kept>,
    pages: Allowance,
    answers: Allowance,
}

/// What belongs to one VIP.
struct Counter {
    post: Endpoint,
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
    to: mpsc::Sender<(NodeId, Result<Answer, String>)>,
}

/// An answer that was given.
struct Kept {
    asker: NodeId,
    id: u64,
    text: Vec<u8>,
    until: Instant,
}

impl Desk {
    /// Opens the desk. `founding` has keys and incarnation, `interfaces` the ways that letters take.
    ///
    /// # Errors
    /// No packet socket.
    pub fn new(
        config: &Config,
        plan: &Plan,
        founding: &living::Founding,
        interfaces: Arc<Interfaces>,
        mail: Receiver<Mail>,
    ) -> anyhow::Result<Self> {
        let counters = plan.vips.iter().map(|vip| {
            let post = founding.post(config, plan, vip);
            Counter { post, nodes: vip.vip.nodes }
        });
        Ok(Self {
            mail,
            sender: Sender::open().context("cannot open a packet socket")?,
            interfaces,
            counters: counters.collect(),
            names: (config.cluster.clone(), plan.vips.iter().map(|vip| vip.vip.name.clone()).collect()),
            open: HashMap::new(),
            kept: VecDeque::new(),
            pages: Allowance::new(PAGES_PER_SECOND),
            answers: Allowance::new(ANSWERS_PER_SECOND),
        })
    }

    /// Serves until told to stop. `answer` answers the questions of other nodes.
    pub fn run(mut self, answer: impl Fn(NodeId, &Question) -> Answer) {
        loop {
            let next = self.open.values().map(|open| open.ask_again.min(open.give_up)).min();
            let wait =
                next.map_or(Duration::from_secs(60), |at| at.saturating_duration_since(Instant::now()));
            match self.mail.recv_timeout(wait) {
                Ok(Mail::Arrived { vip, payload }) => self.arrived(vip, &payload, &answer),
                Ok(Mail::Ask { node, question, to }) => self.ask(node, &question, to),
                Ok(Mail::Rekey(keyring)) => self.rekey(&keyring),
                Ok(Mail::BeginAnew(incarnation)) => {
                    self.counters.iter_mut().for_each(|counter| counter.post.reincarnate(incarnation));
                }
                Ok(Mail::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.remind(Instant::now());
        }
    }

    fn rekey(&mut self, keyring: &Keyring) {
        for (counter, vip) in self.counters.iter_mut().zip(&self.names.1) {
            counter.post.rekey(keyring, (&self.names.0, vip));
        }
    }

    fn ask(&mut self, node: NodeId, question: &Question, to: mpsc::Sender<(NodeId, Result<Answer, String>)>) {
        let vip = self.counters.iter().position(|counter| counter.nodes.contains(node));
        let refusal = match (vip, serde_json::to_vec(question), random()) {
            (Some(vip), Ok(text), Some(id)) if text.len() <= TEXT_MAX && self.open.len() < OPEN_MAX => {
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
        let Some(counter) = self.counters.get_mut(vip) else { return };
        let sealed = counter.post.seal(node, id, kind, text);
        for route in &self.interfaces.routes(vip) {
            // By each family, since a switch may withhold one of them; a second copy is returned unread, and what none
            // takes now is asked for again.
            let _ = self.sender.send(route, &sealed);
        }
    }

    fn arrived(&mut self, vip: usize, payload: &[u8], answer: &impl Fn(NodeId, &Question) -> Answer) {
        let Some(counter) = self.counters.get_mut(vip) else { return };
        match counter.post.open(payload) {
            Ok(letter) => match letter.kind {
                MessageKind::Request { page } => self.answer(vip, &letter, page, answer),
                MessageKind::Response { page, pages } => self.page(&letter, page, pages),
            },
            Err(why) => tracing::debug!("a letter was returned: {why}"),
        }
    }

    /// Sends the page of the answer that is wanted; makes the answer first, if it is the first time.
    fn answer(
        &mut self,
        vip: usize,
        letter: &Message,
        page: u16,
        answer: &impl Fn(NodeId, &Question) -> Answer,
    ) {
        let now = Instant::now();
        self.kept.retain(|kept| kept.until > now);
        if !self.pages.grant(letter.from, now) {
            return;
        }
        let known = self.kept.iter().position(|kept| kept.asker == letter.from && kept.id == letter.id);
        if known.is_none() {
            if page > 0 || !self.answers.grant(letter.from, now) {
                return;
            }
            let text = made(&letter.text, &|question| answer(letter.from, question));
            self.kept.truncate(KEPT_MAX - 1);
            self.kept.push_front(Kept { asker: letter.from, id: letter.id, text, until: now + KEPT_FOR });
        }
        let text = &self.kept[known.unwrap_or(0)].text;
        // An answer has at most ANSWER_MAX bytes, so its pages can be counted.
        let pages = text.len().div_ceil(TEXT_MAX).max(1) as u16;
        let Some(part) = text.chunks(TEXT_MAX).nth(usize::from(page)).map(<[u8]>::to_vec) else { return };
        self.write(vip, letter.from, letter.id, MessageKind::Response { page, pages }, &part);
    }

    /// A page that was waited for; asks for the next one.
    fn page(&mut self, letter: &Message, page: u16, pages: u16) {
        let now = Instant::now();
        let Some(open) = self.open.get_mut(&letter.id).filter(|open| open.node == letter.from) else {
            return;
        };
        let fits = usize::from(page) == open.pages.len() && *open.total.get_or_insert(pages) == pages;
        if !fits || usize::from(pages) * TEXT_MAX > ANSWER_MAX + TEXT_MAX {
            return;
        }
        open.pages.push(letter.text.clone());
        (open.ask_again, open.give_up) = (now + ASK_AGAIN, now + GIVE_UP);
        if open.pages.len() < usize::from(pages) {
            let (vip, node, text) = (open.vip, open.node, open.text.clone());
            return self.write(vip, node, letter.id, MessageKind::Request { page: page + 1 }, &text);
        }
        if let Some(open) = self.open.remove(&letter.id) {
            let answer = serde_json::from_slice(&open.pages.concat());
            let answer =
                answer.map_err(|_| "its answer cannot be understood; is it of another version?".to_owned());
            let _ = open.to.send((open.node, answer));
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

/// The answer, as it is sent; never longer than [`ANSWER_MAX`].
fn made(question: &[u8], answer: &impl Fn(&Question) -> Answer) -> Vec<u8> {
    let said = match serde_json::from_slice(question) {
        Ok(question) => answer(&question),
        Err(_) => {
            Answer::Refused("the question is not understood here; run the same release everywhere".to_owned())
        }
    };
    let text = |answer: &Answer| serde_json::to_vec(answer).unwrap_or_default();
    let whole = text(&said);
    if whole.len() <= ANSWER_MAX {
        return whole;
    }
    text(&Answer::Refused(format!("the answer is too long ({} bytes); ask for less", whole.len())))
}

pub(super) fn random() -> Option<u64> {
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
    fn a_question_that_is_nonsense_or_asks_for_too_much_is_refused() {
        let refused = |question: &[u8], answer: &dyn Fn(&Question) -> Answer| {
            let text = made(question, &answer);
            assert!(text.len() <= ANSWER_MAX);
            matches!(serde_json::from_slice(&text), Ok(Answer::Refused(_)))
        };
        assert!(refused(b"{", &|_| panic!("nothing was asked")));
        assert!(refused(br#"{"ask":"facts"}"#, &|_| Answer::Refused("x".repeat(2 * ANSWER_MAX))));
    }

    #[test]
    fn the_slot_takes_letters_and_keeps_those_for_this_node_until_too_many_wait() {
        let (slot, mail) = slot(node(2));
        let letter = |to: u8| [b"1ltr".as_slice(), &[0; 10], &[to], &[0; 60]].concat();
        assert!(!slot.takes(0, b"1vip, a beat"));
        assert!(slot.takes(0, &letter(3)) && mail.try_recv().is_err(), "for somebody else");
        for _ in 0..2 * QUEUE_MAX {
            assert!(slot.takes(0, &letter(2)));
        }
        assert_eq!(mail.try_iter().count(), QUEUE_MAX);
    }
}
