//! Who was counted, as people read it and as another node takes it over.

use crate::base::plan::Plan;
use onevip_bpf::{Counted, Sources, boot_time_ns};
use onevip_core::Prefix;
use onevip_core::limit::Limit;
use onevip_core::selector::Transport;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// How many sources are told to another node at once, those that came last first.
const MOVED_MAX: usize = 2000;

/// One source at one limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceCount {
    /// The VIP.
    pub vip: String,
    /// The service: `tcp 22`.
    pub service: String,
    /// The source: an address, or a network.
    pub source: String,
    /// Attempts within the window that count.
    pub attempts: usize,
    /// How many may.
    pub burst: u8,
    /// The window, in ms.
    pub window_ms: u64,
    /// For how long it stays refused if it does not try, in ms; `None`: it is not at its limit.
    pub refused_for_ms: Option<u64>,
    /// How many of its attempts were refused, since it is remembered.
    pub refused: u64,
}

/// What one node has counted of a source, for another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedCount {
    /// The VIP.
    pub vip: String,
    /// The first port of the service.
    pub port: u16,
    /// The source.
    pub source: String,
    /// How long ago it tried, in ms.
    pub ago_ms: Vec<u64>,
    /// How many attempts were refused.
    pub refused: u64,
}

/// A limit in force: its number is its place in the list, counted from 1.
pub struct LimitInForce<'a> {
    vip: usize,
    name: &'a str,
    service: String,
    port: u16,
    limit: &'a Limit,
}

/// All limits of a plan, by their numbers in the kernel part.
pub fn limits(plan: &Plan) -> Vec<LimitInForce<'_>> {
    let mut all = Vec::new();
    for (vip, place) in plan.vips.iter().enumerate() {
        for service in &place.vip.services {
            if let Some(limit) = &service.limit {
                let (name, port) = (place.vip.name.as_str(), *service.ports.start());
                all.push(LimitInForce { vip, name, service: service.to_string(), port, limit });
            }
        }
    }
    all
}

/// What the kernel part has counted and still matters, with the limit of each.
fn counted<'a>(
    sources: &Sources,
    limits: &'a [LimitInForce<'a>],
) -> anyhow::Result<Vec<(Counted, &'a LimitInForce<'a>)>> {
    if limits.is_empty() {
        return Ok(Vec::new());
    }
    let plain: Vec<&Limit> = limits.iter().map(|known| known.limit).collect();
    let all = sources.list(&plain)?.into_iter();
    Ok(all.filter_map(|one| limits.get(usize::from(one.limit) - 1).map(|limit| (one, limit))).collect())
}

fn line(one: &Counted, known: &LimitInForce<'_>, now_ms: u64) -> SourceCount {
    let (window_ms, burst) = (known.limit.window.as_millis() as u64, usize::from(known.limit.burst));
    let recent: Vec<u64> =
        one.stamps_ms.iter().copied().filter(|stamp| now_ms.saturating_sub(*stamp) <= window_ms).collect();
    let frees = recent.len().checked_sub(burst).map(|at| recent[at]);
    SourceCount {
        vip: known.name.to_owned(),
        service: known.service.clone(),
        source: one.source.to_string(),
        attempts: recent.len().min(burst),
        burst: known.limit.burst,
        window_ms,
        refused_for_ms: frees.map(|stamp| (stamp + window_ms + 1).saturating_sub(now_ms)),
        refused: one.refused,
    }
}

/// Every source that tried within its window.
///
/// # Errors
/// The kernel part cannot be read.
pub fn lines(plan: &Plan, sources: &Sources) -> anyhow::Result<Vec<SourceCount>> {
    let (limits, now_ms) = (limits(plan), boot_time_ns() / 1_000_000);
    let mut lines: Vec<SourceCount> =
        counted(sources, &limits)?.iter().map(|(one, known)| line(one, known, now_ms)).collect();
    lines.retain(|line| line.attempts > 0);
    lines.sort_by(|a, b| {
        let key =
            |line: &SourceCount| (line.refused_for_ms.is_none(), line.vip.clone(), line.service.clone());
        key(a).cmp(&key(b)).then(b.refused.cmp(&a.refused)).then(a.source.cmp(&b.source))
    });
    Ok(lines)
}

/// At which limits of a VIP a client is now, in words.
///
/// # Errors
/// The kernel part cannot be read.
pub fn of_client(plan: &Plan, sources: &Sources, vip: usize, client: IpAddr) -> anyhow::Result<Vec<String>> {
    let (limits, now_ms) = (limits(plan), boot_time_ns() / 1_000_000);
    let all = counted(sources, &limits)?;
    let its = all.iter().filter(|(one, known)| {
        known.vip == vip && known.limit.source(client) == one.source && !known.limit.allows(client)
    });
    let lines = its.map(|(one, known)| line(one, known, now_ms));
    Ok(lines.filter_map(|line| at_limit(&line)).collect())
}

/// `at its limit of tcp 22 for another 3s`, if it is.
fn at_limit(line: &SourceCount) -> Option<String> {
    let seconds = line.refused_for_ms?.div_ceil(1000);
    Some(format!("at its limit for {} for another {}", line.service, crate::sessions::show::span(seconds)))
}

/// What another node should know: whatever lies in buckets that are not `mine`. A network may lie in many buckets, so all nodes
/// tell each other of those.
///
/// # Errors
/// The kernel part cannot be read.
pub fn for_others(
    plan: &Plan,
    sources: &Sources,
    mine: impl Fn(usize, &Prefix, u16) -> bool,
) -> anyhow::Result<Vec<MovedCount>> {
    let (limits, now_ms) = (limits(plan), boot_time_ns() / 1_000_000);
    let mut all = counted(sources, &limits)?;
    all.retain(|(one, known)| {
        let window_ms = known.limit.window.as_millis() as u64;
        let recent = one.stamps_ms.last().is_some_and(|last| now_ms.saturating_sub(*last) <= window_ms);
        recent && (!one.source.is_host() || !mine(known.vip, &one.source, known.port))
    });
    all.sort_by_key(|(one, _)| std::cmp::Reverse(one.stamps_ms.last().copied()));
    let told = all.iter().take(MOVED_MAX).map(|(one, known)| MovedCount {
        vip: known.name.to_owned(),
        port: known.port,
        source: one.source.to_string(),
        ago_ms: one.stamps_ms.iter().map(|stamp| now_ms.saturating_sub(*stamp)).collect(),
        refused: one.refused,
    });
    Ok(told.collect())
}

/// Takes over what another node has counted, of sources that are `mine` now.
///
/// # Errors
/// The kernel part cannot be written.
pub fn take_over(
    plan: &Plan,
    sources: &Sources,
    told: &[MovedCount],
    mine: impl Fn(usize, &Prefix, u16) -> bool,
) -> anyhow::Result<()> {
    let (limits, now_ms) = (limits(plan), boot_time_ns() / 1_000_000);
    for told in told {
        let number = limits.iter().position(|known| known.name == told.vip && known.port == told.port);
        let (Some(number), Ok(source)) = (number, told.source.parse::<Prefix>()) else { continue };
        if source.is_host() && !mine(limits[number].vip, &source, told.port) {
            continue;
        }
        let stamps: Vec<u64> = told.ago_ms.iter().map(|ago| now_ms.saturating_sub(*ago)).collect();
        // Refusals stay with the node that refused; only attempts move.
        sources.merge(number as u8 + 1, &source, &stamps, 0)?;
    }
    Ok(())
}

/// The transport of every limit.
pub const TRANSPORT: Transport = Transport::Tcp;
