//! Where a client lands: what this node says of it, for `onevip where --now`.

use super::collect::Collector;
use super::status::Placement;
use crate::base::beat_loop::BeatLoopHandle;
use crate::base::current::Current;
use crate::limits::counters;
use crate::rpc::message::{Question, QuestionHandler};
use crate::sessions::list;
use anyhow::Context;
use onevip_bpf::Sources;
use onevip_core::Bucket;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;

/// Would you answer this client now, and does it have sessions with you?
#[derive(Serialize, Deserialize)]
pub struct AskWhere {
    /// The VIP.
    pub vip: String,
    /// The client.
    pub address: IpAddr,
    /// Its bucket.
    pub bucket: u16,
}

impl Question for AskWhere {
    const ASK: &'static str = "where";
    type Answer = Placement;
    const ANSWER: &'static str = "place";
}

/// Answers other nodes.
pub fn answerer(
    current: &Current,
    collector: &Arc<Collector>,
    sources: Sources,
    beat_loop: &BeatLoopHandle,
) -> QuestionHandler {
    let (current, collector, beat_loop) = (current.clone(), Arc::clone(collector), beat_loop.clone());
    QuestionHandler::new(move |_, AskWhere { vip, address, bucket }| {
        let plan = &current.get().plan;
        let index = plan.vips.iter().position(|known| known.vip.name == vip);
        let index = index.with_context(|| format!("it does not serve {vip}"))?;
        let bucket = Bucket::new(bucket).context("there is no such bucket")?;
        let reports = beat_loop.report()?;
        let held = list::count(plan, &vip, address)?;
        let mut placement = collector.placement(index, bucket, held, reports.get(index));
        if placement.answers {
            placement.at_limits = counters::of_client(plan, &sources, index, address)?;
        }
        Ok(placement)
    })
}
