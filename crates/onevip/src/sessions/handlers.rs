//! `onevip who`, on this node and for others.

use super::list::{self, Session};
use super::whom::Whom;
use crate::base::current::Current;
use crate::control::protocol::Request;
use crate::control::server::Handler;
use crate::rpc::message::{Question, QuestionHandler};
use serde::{Deserialize, Serialize};

/// Every session that this node holds.
#[derive(Serialize, Deserialize)]
pub struct Who {}

impl Request for Who {
    const COMMAND: &'static str = "who";
    type Reply = Vec<Session>;
    const REPLY: &'static str = "sessions";
}

/// Whose sessions do you hold?
#[derive(Serialize, Deserialize)]
pub struct AskWho {
    /// Only those of this user or address.
    pub whom: Option<String>,
}

impl Question for AskWho {
    const ASK: &'static str = "who";
    type Answer = Vec<Session>;
    const ANSWER: &'static str = "sessions";
}

/// Carries out `who`.
pub fn handler(current: &Current) -> Handler {
    let current = current.clone();
    Handler::new(move |Who {}, _| list::look(&current.get().plan))
}

/// Answers other nodes.
pub fn answerer(current: &Current) -> QuestionHandler {
    let current = current.clone();
    QuestionHandler::new(move |_, AskWho { whom }| {
        let mut sessions = list::look(&current.get().plan)?;
        if let Some(whom) = whom {
            let whom: Whom = whom.parse()?;
            sessions.retain(|session| whom.has(session));
        }
        Ok(sessions)
    })
}
