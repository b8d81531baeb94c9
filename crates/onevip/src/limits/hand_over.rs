//! Counts move with their buckets: whoever claims other buckets than before asks the others what they have counted in them.

use super::counters::{self, MovedCount, SourceCount};
use crate::base::beat_loop::BeatLoopHandle;
use crate::base::current::Current;
use crate::base::plan::Plan;
use crate::base::supervisor::StopSignal;
use crate::control::protocol::Request;
use crate::control::server::Handler;
use crate::events::record::Record;
use crate::rpc::message::{Question, QuestionHandler};
use crate::rpc::transport::RpcHandle;
use anyhow::bail;
use onevip_bpf::{Sources, Words};
use onevip_config::EventKind;
use onevip_core::selector::Ports;
use onevip_core::{Flags, Prefix};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// How long an answer may take: a little longer than the transport waits.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the end may have to be waited for.
const LOOK_UP: Duration = Duration::from_millis(200);

/// Who opens connections, and is at a limit.
#[derive(Serialize, Deserialize)]
pub struct Limits {}

impl Request for Limits {
    const COMMAND: &'static str = "limits";
    type Reply = Vec<SourceCount>;
    const REPLY: &'static str = "limits";
}

/// What have you counted of sources whose buckets you do not claim?
#[derive(Serialize, Deserialize)]
struct AskCounts {}

impl Question for AskCounts {
    const ASK: &'static str = "counts";
    type Answer = Vec<MovedCount>;
    const ANSWER: &'static str = "counts";
}

/// The counts of this node, as they are asked for and taken over.
pub struct Counts {
    current: Current,
    sources: Sources,
    words: Words,
}

impl Counts {
    /// Those of the kernel part, with the flags that say which buckets are claimed.
    pub const fn new(current: Current, sources: Sources, words: Words) -> Self {
        Self { current, sources, words }
    }

    /// Every source that tried within its window.
    fn list(&self) -> anyhow::Result<Vec<SourceCount>> {
        let current = self.current.get();
        if counters::limits(&current.plan).is_empty() {
            bail!("no service has a limit; [vip.service.limit] in the configuration sets one");
        }
        counters::lines(&current.plan, &self.sources)
    }

    /// What other nodes should know.
    fn for_others(&self) -> anyhow::Result<Vec<MovedCount>> {
        let plan = &self.current.get().plan;
        counters::for_others(plan, &self.sources, |vip, source, port| self.claims(plan, vip, source, port))
    }

    /// Takes over what another node has counted.
    fn take_over(&self, told: &[MovedCount]) {
        let plan = &self.current.get().plan;
        let mine = |vip, source: &Prefix, port| self.claims(plan, vip, source, port);
        if let Err(error) = counters::take_over(plan, &self.sources, told, mine) {
            tracing::warn!("counts of another node were not taken over: {error:#}");
        }
    }

    /// Whether this node claims the bucket of a source, which is a single address.
    fn claims(&self, plan: &Plan, vip: usize, source: &Prefix, port: u16) -> bool {
        let ports = Ports { transport: counters::TRANSPORT, source: 0, dest: port };
        let bucket = plan.vips[vip].vip.selector().bucket(source.address(), Some(ports));
        self.words.flags(vip, bucket).has(Flags::MINE)
    }
}

/// Carries out `limits`.
pub fn handler(counts: &Arc<Counts>) -> Handler {
    let counts = Arc::clone(counts);
    Handler::new(move |Limits {}, _| counts.list())
}

/// Answers other nodes.
pub fn answerer(counts: &Arc<Counts>) -> QuestionHandler {
    let counts = Arc::clone(counts);
    QuestionHandler::new(move |_, AskCounts {}| counts.for_others())
}

/// Asks the nodes that are heard whenever the claims of this node change, until told to stop.
pub fn run(
    records: &Receiver<Record>,
    counts: &Counts,
    rpc: &RpcHandle,
    beat_loop: &BeatLoopHandle,
    stop: &StopSignal,
) {
    while !stop.is_set() {
        match records.recv_timeout(LOOK_UP) {
            Ok(record) if record.is(EventKind::Claims) => {}
            Ok(_) | Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if counters::limits(&counts.current.get().plan).is_empty() {
            continue;
        }
        let answers = rpc.ask_all(beat_loop.heard().iter(), &AskCounts {});
        for _ in 0..answers.asked {
            match answers.next(PATIENCE) {
                Ok((_, Ok(told))) => counts.take_over(&told),
                Ok((_, Err(_))) => {}
                Err(_) => break,
            }
        }
    }
}
