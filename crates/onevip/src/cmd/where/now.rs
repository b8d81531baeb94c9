//! Where a client lands at this moment: asked of the nodes, not of the configuration.

use crate::cmd::context::Context;
use crate::report::placement::AskWhere;
use crate::report::status::Placement;
use crate::rpc::nodes::{self, Reply};
use onevip_host::run_dir::RunDir;
use serde::Serialize;
use std::net::IpAddr;

/// What the nodes said.
#[derive(Serialize, Debug)]
pub(super) struct Now {
    /// The node that answers the client's next connection; `None` when none said so.
    pub node: Option<String>,
    /// How each node stands to the client.
    pub nodes: Vec<NodeNow>,
}

/// How one node stands to the client.
#[derive(Serialize, Debug)]
pub(super) struct NodeNow {
    /// Its name.
    pub node: String,
    /// Whether it answers new connections.
    pub answers: bool,
    /// What it is doing; `None` when it did not say.
    pub state: Option<String>,
    /// Why it does not answer, where there is a reason besides the table.
    pub why_not: Option<String>,
    /// Sessions of this address that it holds; `None` when it did not say.
    pub sessions: Option<usize>,
    /// At which limits the client is there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub at_limits: Vec<String>,
}

/// Asks. `None` where nobody can be asked: no daemon runs here, or not for this user.
pub(super) fn ask(ctx: &Context, vip: &str, address: IpAddr, bucket: u16) -> Option<Now> {
    let control = RunDir::new(&ctx.run_dir).control();
    let replies = nodes::ask(&control, &AskWhere { vip: vip.to_owned(), address, bucket }, None);
    replies.ok().flatten().map(Now::of)
}

impl Now {
    fn of(replies: Vec<Reply<Placement>>) -> Self {
        let nodes: Vec<NodeNow> = replies.into_iter().map(NodeNow::of).collect();
        let node = nodes.iter().find(|at| at.answers).map(|at| at.node.clone());
        Self { node, nodes }
    }

    /// What is worth saying, as pairs of a node and a text: those that are in the way, and those that hold sessions.
    pub fn lines(&self) -> impl Iterator<Item = (&str, String)> {
        self.nodes.iter().filter_map(|at| Some((at.node.as_str(), at.words()?)))
    }
}

impl NodeNow {
    fn of(reply: Reply<Placement>) -> Self {
        let silent = |why| Self {
            node: reply.node.clone(),
            answers: false,
            state: None,
            why_not: Some(why),
            sessions: None,
            at_limits: Vec::new(),
        };
        match reply.answer {
            Ok(place) => Self {
                node: reply.node,
                answers: place.answers,
                why_not: place.why_out,
                state: Some(place.state),
                sessions: Some(place.sessions),
                at_limits: place.at_limits,
            },
            Err(why) => silent(why.to_string()),
        }
    }

    fn words(&self) -> Option<String> {
        let mut words = Vec::new();
        if self.answers {
            words.push("answers its new connections now".to_owned());
        }
        match (&self.state, &self.why_not) {
            (Some(state), Some(why)) if !self.answers => words.push(format!("takes none: {state}, {why}")),
            (None, Some(why)) => words.push(why.clone()),
            _ => {}
        }
        words.extend(self.at_limits.iter().map(|limit| format!("but the client is {limit}")));
        match self.sessions {
            None | Some(0) => {}
            Some(1) => words.push("holds a session of it".to_owned()),
            Some(count) => words.push(format!("holds {count} sessions of it")),
        }
        (!words.is_empty()).then(|| words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::message::NoAnswer;

    fn reply(node: &str, answers: bool, why_out: Option<&str>, sessions: usize) -> Reply<Placement> {
        let state = if why_out.is_some() { "draining" } else { "serving" }.to_owned();
        let place = Placement {
            answers,
            state,
            why_out: why_out.map(str::to_owned),
            sessions,
            at_limits: Vec::new(),
        };
        Reply { node: node.to_owned(), answer: Ok(place) }
    }

    #[test]
    fn it_is_said_who_answers_who_does_not_and_why() {
        let dead = Reply {
            node: "unix4".into(),
            answer: Err(NoAnswer::Silent("it is out: nothing arrives".into())),
        };
        let now = Now::of(vec![
            reply("unix1", true, None, 0),
            reply("unix2", false, Some("it was drained"), 2),
            reply("unix3", false, None, 0),
            dead,
        ]);
        assert_eq!(now.node.as_deref(), Some("unix1"));
        let lines: Vec<(&str, String)> = now.lines().collect();
        assert_eq!(
            lines,
            [
                ("unix1", "answers its new connections now".to_owned()),
                ("unix2", "takes none: draining, it was drained, holds 2 sessions of it".to_owned()),
                ("unix4", "it is out: nothing arrives".to_owned()),
            ]
        );
        assert_eq!(Now::of(vec![reply("unix3", false, None, 0)]).node, None);
    }
}
