//! `onevip ban`, `unban` and `bans`, and what other nodes ask about bans.

use super::list::NodeBans;
use super::wire::{AskBans, BanRequest, BansChanged, ListedBan};
use crate::base::beat_loop::BeatLoopHandle;
use crate::base::current::Current;
use crate::control::protocol::{DONE, Request};
use crate::control::server::Handler;
use crate::rpc::message::QuestionHandler;
use anyhow::Context;
use onevip_config::Membership;
use onevip_core::NodeId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

impl Request for BanRequest {
    const COMMAND: &'static str = "ban";
    type Reply = String;
    const REPLY: &'static str = DONE;
}

/// Let somebody in again.
#[derive(Serialize, Deserialize)]
pub struct Unban {
    /// Whom.
    pub prefix: String,
}

impl Request for Unban {
    const COMMAND: &'static str = "unban";
    type Reply = String;
    const REPLY: &'static str = DONE;
}

/// Who is kept out.
#[derive(Serialize, Deserialize)]
pub struct ListBans {}

impl Request for ListBans {
    const COMMAND: &'static str = "bans";
    type Reply = Vec<ListedBan>;
    const REPLY: &'static str = "bans";
}

/// Carry out the commands of this room.
pub fn handlers(list: &Arc<NodeBans>, current: &Current, beat_loop: &BeatLoopHandle) -> Vec<Handler> {
    let [ban, unban, listed] = std::array::from_fn(|_| Arc::clone(list));
    let reach = Reach { current: current.clone(), beat_loop: beat_loop.clone() };
    let of_unban = reach.clone();
    vec![
        Handler::new(move |request: BanRequest, _| ban.ban(&request).map(|words| reach.of(words))),
        Handler::new(move |Unban { prefix }, _| {
            let (lifted, words) = unban.unban(&prefix)?;
            Ok(if lifted { of_unban.of(words) } else { words })
        }),
        Handler::new(move |ListBans {}, _| Ok(listed.list())),
    ]
}

/// Answer other nodes.
pub fn answerers(list: &Arc<NodeBans>) -> Vec<QuestionHandler> {
    let (asked, hints) = (Arc::clone(list), Arc::clone(list));
    vec![
        QuestionHandler::new(move |_, AskBans { epoch, after }| Ok(asked.changes(epoch, after))),
        QuestionHandler::new(move |_, BansChanged { node, epoch, number }| {
            hints.hint(NodeId::new(node).context("there is no such node")?, epoch, number);
            Ok(())
        }),
    ]
}

/// How far a ban goes.
#[derive(Clone)]
struct Reach {
    current: Current,
    beat_loop: BeatLoopHandle,
}

impl Reach {
    /// What was done, and how far it goes.
    fn of(&self, words: String) -> String {
        let is_static = self.current.get().config.membership == Membership::Static;
        match (is_static, self.beat_loop.heard().len()) {
            (true, _) => {
                format!("{words} · on this node only: with membership = \"static\" tell each of them")
            }
            (false, 0) => format!("{words} · no other node is heard; they learn it when they are"),
            (false, 1) => format!("{words} · the other node is told"),
            (false, count) => format!("{words} · {count} other nodes are told"),
        }
    }
}
