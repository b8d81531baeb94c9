//! What must be alike on all nodes, or nearly so: what each says of itself when another one's doctor asks.

use super::{health, host_keys};
use crate::base::clock::unix_time;
use crate::base::current::Current;
use crate::rpc::message::{Question, QuestionHandler};
use onevip_health::results::Results;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What must be alike everywhere?
#[derive(Serialize, Deserialize)]
pub struct AskFacts {}

impl Question for AskFacts {
    const ASK: &'static str = "facts";
    type Answer = NodeFacts;
    const ANSWER: &'static str = "facts";
}

/// What must be alike on all nodes, or nearly so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// Version of its daemon.
    pub version: String,
    /// Digest of its configuration.
    pub config_digest: String,
    /// Its public SSH host keys: by type, their SHA-256 fingerprints as `ssh-keygen -l` shows them.
    pub host_keys: BTreeMap<String, String>,
    /// Its clock, in milliseconds since 1970.
    pub clock_ms: u64,
    /// What it found ill in itself, in words.
    #[serde(default)]
    pub ill: Vec<String>,
}

/// Answers other nodes.
pub fn answerer(current: &Current, results: &Arc<Results>) -> QuestionHandler {
    let (current, results) = (current.clone(), Arc::clone(results));
    QuestionHandler::new(move |_, AskFacts {}| {
        let current = current.get();
        Ok(NodeFacts {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config_digest: current.config.digest_hex(),
            host_keys: host_keys::look(&current.config, &current.plan),
            clock_ms: unix_time().as_millis() as u64,
            ill: health::words(&results.status().checks),
        })
    })
}
