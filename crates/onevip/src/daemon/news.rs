//! News from the beat loop, for people: a line in the log, and a line for everybody who watches.
//!
//! Runs on a thread of its own, because a log may block. Questions to the prober pass through here as well: the beat
//! loop has one way out.

use super::beat_loop::Notice;
use super::records::Records;
use onevip_config::{Config, EventKind};
use onevip_core::membership::{Event, WhyLost, WhyOut};
use onevip_core::{NodeId, NodeSet};
use onevip_health::board::Change;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// How many lines a watcher may be behind before it is dropped.
const BEHIND_MAX: usize = 1024;
/// How many may watch at once.
const WATCHERS_MAX: usize = 16;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Seconds since 1970.
    pub time: f64,
    /// The VIP; empty for what concerns the whole node.
    pub vip: String,
    /// What kind of thing: `node-heard`, `node-out`, `claims` and so on.
    pub event: String,
    /// The node it is about, where it is about another one.
    pub node: Option<String>,
    /// The check it is about, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// In words.
    pub text: String,
}

/// Those who watch.
#[derive(Clone, Default)]
pub struct Watchers(Arc<Mutex<Vec<SyncSender<Line>>>>, Arc<Mutex<BTreeMap<(String, String), u64>>>);

impl Watchers {
    /// One more; `None` when there are too many.
    pub fn join(&self) -> Option<Receiver<Line>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= WATCHERS_MAX {
            return None;
        }
        let (sender, receiver) = sync_channel(BEHIND_MAX);
        all.push(sender);
        Some(receiver)
    }

    /// How often each kind of event has happened to each VIP, by name of the VIP and of the event.
    pub fn counts(&self) -> BTreeMap<(String, String), u64> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells everybody who watches, and counts.
    pub fn tell(&self, line: &Line) {
        let counted = (line.vip.clone(), line.event.clone());
        *self.1.lock().unwrap_or_else(PoisonError::into_inner).entry(counted).or_default() += 1;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|watcher| match watcher.try_send(line.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        });
    }
}

/// Passes news on until the beat loop has ended.
pub fn run(
    config: &Config,
    vips: &[String],
    news: &Receiver<Notice>,
    watchers: &Watchers,
    mut records: Records,
) {
    for notice in news {
        match notice {
            Notice::Left => return,
            Notice::CannotSend { vip, error } => {
                tracing::warn!("{}: cannot send beats: {error}", name(vips, vip));
            }
            Notice::Answers { interface, address } => records.answers(interface, address),
            Notice::Health(Change { check, text, good }) => {
                if good {
                    tracing::info!("{text}");
                } else {
                    tracing::warn!("{text}");
                }
                watchers.tell(&health_line(check, text));
            }
            Notice::Witness { vip, node, text, good } => {
                let line = witness_line(config, &name(vips, vip), node, text, good);
                if good {
                    tracing::info!("{}: {}", line.vip, line.text);
                } else {
                    tracing::warn!("{}: {}", line.vip, line.text);
                }
                watchers.tell(&line);
            }
            Notice::Event { vip, event } => {
                let line = line(config, &name(vips, vip), &event);
                log(&event, &line);
                watchers.tell(&line);
                match event {
                    Event::Askable(node, false) => records.ignores(addresses(config, node)),
                    Event::Outlived(known) => records.outlived(known),
                    _ => {}
                }
            }
        }
    }
}

fn name(vips: &[String], vip: usize) -> String {
    vips.get(vip).cloned().unwrap_or_default()
}

/// Health is the node's, not one VIP's.
fn health_line(check: String, text: String) -> Line {
    Line {
        time: unix_time(),
        vip: String::new(),
        event: EventKind::Health.name().to_owned(),
        node: None,
        check: Some(check),
        text,
    }
}

/// What this node found out about another one itself; what all make of it is an event of the engine.
fn witness_line(config: &Config, vip: &str, node: NodeId, text: String, good: bool) -> Line {
    let event = if good { EventKind::Trust } else { EventKind::Suspect }.name().to_owned();
    Line {
        time: unix_time(),
        vip: vip.to_owned(),
        event,
        node: Some(called(config, node)),
        check: None,
        text,
    }
}

/// The name of a node.
fn called(config: &Config, id: NodeId) -> String {
    config.node(id).map_or_else(|| format!("node {id}"), |node| node.name.clone())
}

fn addresses(config: &Config, id: NodeId) -> &[std::net::IpAddr] {
    config.node(id).map_or(&[], |node| &node.addresses)
}

/// The names of nodes.
pub fn names(config: &Config, nodes: NodeSet) -> Vec<String> {
    nodes.iter().map(|node| called(config, node)).collect()
}

fn unix_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Bad news and good news.
fn log(event: &Event, line: &Line) {
    let text = format!("{}: {}", line.vip, line.text);
    match event {
        Event::Lost { why: WhyLost::Left | WhyLost::Restarted, .. }
        | Event::Heard { .. }
        | Event::Lossy(false)
        | Event::Votes { by: None, .. }
        | Event::FamilyLost { lost: false, .. }
        | Event::State(_)
        | Event::Claims(_)
        | Event::KernelGone(_)
        | Event::Askable(_, true)
        | Event::Forgotten(_)
        | Event::KernelAnswers(_) => tracing::info!("{text}"),
        Event::Lost { why: WhyLost::Silent | WhyLost::DoesNotHearUs, .. }
        | Event::Lossy(true)
        | Event::Votes { by: Some(_), .. }
        | Event::FamilyLost { lost: true, .. }
        | Event::HeldBack(_)
        | Event::Lapsed
        | Event::Stalled(_)
        | Event::NotInFile(_)
        | Event::Askable(_, false)
        | Event::Outlived(_)
        | Event::Unreadable => tracing::warn!("{text}"),
        Event::Twin { .. } | Event::Duplicate { .. } => tracing::error!("{text}"),
    }
}

fn line(config: &Config, vip: &str, event: &Event) -> Line {
    let called = |id: NodeId| called(config, id);
    let (kind, node, text) = match event {
        Event::Heard { node, .. } => {
            (EventKind::NodeHeard, Some(*node), format!("{} is heard", called(*node)))
        }
        Event::Lost { node, why } => {
            (EventKind::NodeOut, Some(*node), format!("{} is out: {}", called(*node), why_lost(*why)))
        }
        Event::KernelGone(node) => {
            let text = format!("the kernel of {} no longer answers: its sessions are reset", called(*node));
            (EventKind::KernelGone, Some(*node), text)
        }
        Event::KernelAnswers(node) => {
            let text = format!("the kernel of {} answers: its sessions live", called(*node));
            (EventKind::KernelAnswers, Some(*node), text)
        }
        Event::Askable(node, true) => (
            EventKind::Askable,
            Some(*node),
            format!("the kernel of {} answers questions now", called(*node)),
        ),
        Event::Askable(node, false) => {
            (EventKind::Unaskable, Some(*node), unaskable(&called(*node), addresses(config, *node)))
        }
        Event::Forgotten(node) => {
            let text = format!("{} is gone by order: its sessions are reset until it is back", called(*node));
            (EventKind::Forgotten, Some(*node), text)
        }
        Event::Outlived(known) => (
            EventKind::Outlived,
            None,
            format!(
                "other nodes know a later life of this node (incarnation {}) and reject its beats as old: its state \
                 directory or its clock went back, or a second daemon ran as this node",
                known.0
            ),
        ),
        Event::State(state) => (EventKind::State, None, format!("this node is {}", state_word(*state))),
        Event::Claims(count) => (EventKind::Claims, None, format!("this node claims {count} buckets")),
        Event::Lapsed => (
            EventKind::Lapsed,
            None,
            "the lease ran out: nobody acknowledged this node, or it was stopped".to_owned(),
        ),
        Event::Lossy(true) => {
            (EventKind::Lossy, None, "every link of this node loses frames: others take its share".to_owned())
        }
        Event::FamilyLost { node, family, lost: true } => (
            EventKind::FamilyOut,
            Some(*node),
            format!(
                "beats of {} come, but not by {family}: something on the way withholds {family} frames to the cluster MAC",
                called(*node)
            ),
        ),
        Event::FamilyLost { node, family, lost: false } => (
            EventKind::FamilyHeard,
            Some(*node),
            format!("beats of {} come by {family} again", called(*node)),
        ),
        Event::Votes { node, by: Some(by) } => (
            EventKind::VotedOut,
            Some(*node),
            format!(
                "{} is voted out by {}: it does not answer its clients",
                called(*node),
                names(config, *by).join(", ")
            ),
        ),
        Event::Votes { node, by: None } => {
            (EventKind::VotedIn, Some(*node), format!("{} is no longer voted out", called(*node)))
        }
        Event::Lossy(false) => (EventKind::Steady, None, "this node's link is good again".to_owned()),
        Event::HeldBack(span) => (
            EventKind::HeldBack,
            None,
            format!("this node fell out too often: it takes no share for {} s", span.as_secs_f64()),
        ),
        Event::Stalled(span) => {
            (EventKind::Stalled, None, format!("the beat loop was stopped for {} ms", span.as_millis()))
        }
        Event::Twin { host } => (
            EventKind::Twin,
            None,
            format!(
                "another host (number {host:08x}) beats with this node's number: one of them has a wrong `id`"
            ),
        ),
        Event::Duplicate { node, host } => (
            EventKind::Duplicate,
            Some(*node),
            format!(
                "two hosts beat as {} (the newcomer's number is {host:08x}, ignored): check `id`",
                called(*node)
            ),
        ),
        Event::NotInFile(node) => (
            EventKind::NotInFile,
            Some(*node),
            format!("node {node} beats, but is not in this node's configuration"),
        ),
        Event::Unreadable => (
            EventKind::Unreadable,
            None,
            "beats of this cluster arrive that no key here opens: compare key files".to_owned(),
        ),
    };
    let (vip, event) = (vip.to_owned(), kind.name().to_owned());
    Line { time: unix_time(), vip, event, node: node.map(called), check: None, text }
}

/// Why nobody will find a node gone.
pub fn unaskable(node: &str, addresses: &[std::net::IpAddr]) -> String {
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    format!(
        "{node}'s kernel does not answer for {}: if it falls silent, its sessions are kept until it is back",
        addresses.join(", ")
    )
}

/// The word for a state.
pub fn state_word(state: onevip_core::beat::NodeState) -> &'static str {
    use onevip_core::beat::NodeState;
    match state {
        NodeState::Joining => "joining",
        NodeState::Serving => "serving",
        NodeState::Draining => "draining",
        NodeState::Leaving => "leaving",
    }
}

/// Why a node is no longer heard.
pub fn why_lost(why: WhyLost) -> &'static str {
    match why {
        WhyLost::Silent => "nothing arrives from it any more",
        WhyLost::DoesNotHearUs => "it speaks, but does not hear us",
        WhyLost::Left => "it said goodbye",
        WhyLost::Restarted => "its daemon started anew",
    }
}

/// Why this node takes no share.
pub fn why_out(why: WhyOut) -> &'static str {
    use onevip_core::membership::Family;
    match why {
        WhyOut::Deaf(Family::V4) => "no beat reaches it by IPv4",
        WhyOut::Deaf(Family::V6) => "no beat reaches it by IPv6",
        WhyOut::Listening => "it listens before it begins",
        WhyOut::Held => "another host has its number, or its key does not open the others' beats",
        WhyOut::Drained => "it was drained",
        WhyOut::Leaving => "it leaves",
        WhyOut::Lossy => "its link loses frames",
        WhyOut::HeldBack => "it fell out too often lately",
        WhyOut::VotedOut => "other nodes found that it does not answer its clients",
        WhyOut::Unhealthy => "others feel better",
        WhyOut::NoWeight => "its weight is 0",
        WhyOut::Mute => "its beats cannot be sent",
        WhyOut::Ignored => "other nodes beat, but do not take its beats",
        WhyOut::NoLease => "nobody acknowledges its beats",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onevip_core::beat::{Incarnation, NodeState};
    use onevip_core::membership::Family;
    use std::time::Duration;

    const FILE: &str = "cluster = \"login\"\nmembership = \"static\"\n\
        [[vip]]\nname = \"login\"\naddresses = [\"198.51.100.10\"]\n\
        [[node]]\nname = \"unix1\"\nid = 1\naddress = [\"198.51.100.11\"]\n";

    /// Every kind of event, some of them in two moods.
    fn events() -> Vec<Event> {
        let node = NodeId::new(1).unwrap();
        let family = Family::V6;
        vec![
            Event::Heard { node, incarnation: Incarnation(1) },
            Event::Lost { node, why: WhyLost::Silent },
            Event::KernelGone(node),
            Event::KernelAnswers(node),
            Event::Askable(node, true),
            Event::Askable(node, false),
            Event::Forgotten(node),
            Event::Outlived(Incarnation(7)),
            Event::State(NodeState::Serving),
            Event::Claims(1),
            Event::Lapsed,
            Event::Lossy(true),
            Event::Lossy(false),
            Event::HeldBack(Duration::from_secs(1)),
            Event::Stalled(Duration::from_secs(1)),
            Event::Twin { host: 1 },
            Event::Duplicate { node, host: 1 },
            Event::NotInFile(node),
            Event::FamilyLost { node, family, lost: true },
            Event::FamilyLost { node, family, lost: false },
            Event::Unreadable,
            Event::Votes { node, by: Some(NodeSet::EMPTY.with(node)) },
            Event::Votes { node, by: None },
        ]
    }

    #[test]
    fn every_kind_of_news_can_be_named_by_a_hook_and_every_name_is_news() {
        let config = Config::inspect_text("onevip.toml", FILE).0.unwrap();
        let node = NodeId::new(1).unwrap();
        let found = [true, false].map(|good| witness_line(&config, "login", node, String::new(), good).event);
        let of_engines = events().into_iter().map(|event| line(&config, "login", &event).event);
        let of_checks = health_line("sshd".into(), "nothing listens".into()).event;
        let of_bans = [EventKind::Banned, EventKind::Unbanned].map(|kind| kind.name().to_owned());
        let told: std::collections::BTreeSet<String> =
            of_engines.chain([of_checks]).chain(of_bans).chain(found).collect();
        assert_eq!(told, EventKind::ALL.iter().map(|kind| kind.name().to_owned()).collect());
    }
}
