//! Asks all nodes the same question, for a command of this host.

use super::message::{NoAnswer, Question, QuestionHandlers, decode, encode};
use super::transport::{Raw, RpcHandle};
use crate::base::beat_loop::BeatLoopHandle;
use crate::base::current::Current;
use crate::control::client;
use crate::control::protocol::Request;
use crate::control::server::{Handler, Work};
use crate::events::words::why_lost;
use anyhow::bail;
use onevip_config::{Membership, Node};
use onevip_core::NodeId;
use onevip_core::membership::PeerStatus;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

/// Ask all nodes, this one included, or a single one.
#[derive(Serialize, Deserialize)]
pub struct AskNodes {
    /// What, as it is sent to a node.
    question: Box<RawValue>,
    /// Whom; `None`: all.
    #[serde(default)]
    node: Option<String>,
}

/// What came of a question to one node.
#[derive(Serialize, Deserialize)]
pub struct RawReply {
    node: String,
    /// The answer as it was sent, or why there is none.
    answer: Result<Box<RawValue>, String>,
}

impl Request for AskNodes {
    const COMMAND: &'static str = "ask";
    type Reply = Vec<RawReply>;
    const REPLY: &'static str = "replies";
}

/// What a node answered.
#[derive(Clone, Debug)]
pub struct Reply<A> {
    /// Its name.
    pub node: String,
    /// The answer, or why there is none.
    pub answer: Result<A, NoAnswer>,
}

/// Asks all nodes through the daemon behind `path`, or the one of this name; `None` when no daemon runs. By the names of
/// the nodes.
///
/// # Errors
/// The daemon cannot be asked, or refuses.
pub fn ask<Q: Question>(
    path: &Path,
    question: &Q,
    node: Option<String>,
) -> anyhow::Result<Option<Vec<Reply<Q::Answer>>>> {
    let question = RawValue::from_string(String::from_utf8(encode(question)?)?)?;
    let Some(replies) = client::call(path, &AskNodes { question, node })? else { return Ok(None) };
    let understood = |reply: RawReply| Reply {
        node: reply.node,
        answer: reply.answer.map_err(NoAnswer::Silent).and_then(|raw| decode::<Q>(raw.get().as_bytes())),
    };
    Ok(Some(replies.into_iter().map(understood).collect()))
}

/// Who asks the nodes.
pub struct Nodes {
    /// Which there are.
    pub current: Current,
    /// Which of them can be heard.
    pub beat_loop: BeatLoopHandle,
    /// How they are reached.
    pub rpc: RpcHandle,
    /// What this node answers itself.
    pub answerers: Arc<QuestionHandlers>,
}

impl Nodes {
    /// Carries out `ask`.
    pub fn handler(self) -> Handler {
        Handler::slow::<AskNodes>(move |request, _| self.ask(&request))
    }

    /// Asks all other nodes that can be heard, and this one; or a single one.
    fn ask(&self, request: &AskNodes) -> anyhow::Result<Work<Vec<RawReply>>> {
        let question = self.answerers.read(request.question.get().as_bytes())?;
        let whom = request.node.as_deref();
        let wanted = |node: &Node| whom.is_none_or(|whom| node.name.eq_ignore_ascii_case(whom));
        let reports = self.beat_loop.report()?;
        let current = self.current.get();
        let (config, plan) = (&current.config, &current.plan);
        if config.membership == Membership::Static {
            bail!("with membership = \"static\" the nodes do not speak to each other; ask on each of them");
        }
        let (to, answers) = channel();
        let (mut asked, mut have) = (Vec::new(), Vec::new());
        for other in config.nodes.iter().filter(|other| other.id != plan.node.id && wanted(other)) {
            let engines = reports.iter().filter_map(|report| report.membership.as_ref());
            let known: Vec<&PeerStatus> =
                engines.flat_map(|engine| &engine.peers).filter(|peer| peer.node == other.id).collect();
            if known.iter().any(|peer| peer.heard) {
                if !self.rpc.ask_raw(other.id, question.clone(), &to) {
                    bail!("too many questions are open; ask again");
                }
                asked.push((other.id, other.name.clone()));
            } else if !known.is_empty() {
                let why = known.iter().find_map(|peer| peer.why_lost).map_or("never heard", why_lost);
                have.push(RawReply { node: other.name.clone(), answer: Err(format!("it is out: {why}")) });
            }
        }
        if wanted(&plan.node) {
            let answer = raw(self.answerers.answer(None, &question));
            have.push(RawReply { node: plan.node.name.clone(), answer });
        }
        Ok(Box::new(move || Ok(collect(have, &asked, &answers))))
    }
}

/// Waits for the answers: as many as were asked, or until the transport has ended. By the names of their nodes.
fn collect(
    mut have: Vec<RawReply>,
    asked: &[(NodeId, String)],
    answers: &Receiver<(NodeId, Raw)>,
) -> Vec<RawReply> {
    for (id, answer) in answers.iter().take(asked.len()) {
        if let Some((_, node)) = asked.iter().find(|(known, _)| *known == id) {
            have.push(RawReply { node: node.clone(), answer: answer.and_then(raw) });
        }
    }
    have.sort_by(|a, b| a.node.cmp(&b.node));
    have
}

/// An answer that can be passed on as it is.
fn raw(answer: Vec<u8>) -> Result<Box<RawValue>, String> {
    let text = String::from_utf8(answer).ok().and_then(|text| RawValue::from_string(text).ok());
    text.ok_or_else(|| NoAnswer::NotUnderstood.to_string())
}
