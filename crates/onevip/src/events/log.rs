//! The log: every notice becomes a line for people, and a record for everybody who watches.
//!
//! Runs on a thread of its own, because a log may block. Whoever keeps something over restarts is told as well.

use super::bus::Bus;
use super::record::Record;
use super::words::{addresses, called, names, state_word, unaskable, why_lost};
use crate::base::command::Notice;
use onevip_config::{Config, EventKind};
use onevip_core::membership::{Event, WhyLost};
use onevip_core::{NodeId, NodeSet};
use onevip_health::results::HealthChange;
use std::sync::mpsc::Receiver;

/// Passes notices on until the beat loop has ended. `keep` sees each of them before it is gone.
pub fn run(
    config: &Config,
    vips: &[String],
    notices: &Receiver<Notice>,
    bus: &Bus,
    mut keep: impl FnMut(&Notice),
) {
    let name = |vip: usize| vips.get(vip).map_or("", String::as_str);
    for notice in notices {
        match &notice {
            Notice::Left => return,
            Notice::CannotSend { vip, error } => tracing::warn!("{}: cannot send beats: {error}", name(*vip)),
            Notice::Answers { .. } => {}
            Notice::Health(HealthChange { check, text, good }) => {
                if *good {
                    tracing::info!("{text}");
                } else {
                    tracing::warn!("{text}");
                }
                bus.publish(&Record::of_check(check.clone(), text.clone()));
            }
            Notice::PeerCheck { vip, node, text, good } => {
                let record = peer_check_record(config, name(*vip), *node, text.clone(), *good);
                if *good {
                    tracing::info!("{}: {}", record.vip, record.text);
                } else {
                    tracing::warn!("{}: {}", record.vip, record.text);
                }
                bus.publish(&record);
            }
            Notice::Event { vip, event } => {
                let record = record(config, name(*vip), event);
                log(event, &record);
                bus.publish(&record);
            }
        }
        keep(&notice);
    }
}

/// What this node found out about another one itself; what all make of it is an event of the engine.
fn peer_check_record(config: &Config, vip: &str, node: NodeId, text: String, good: bool) -> Record {
    let kind = if good { EventKind::Trust } else { EventKind::Suspect };
    Record::new(vip, kind, Some(called(config, node)), text)
}

/// What is bad, and what is good.
fn log(event: &Event, record: &Record) {
    let text = format!("{}: {}", record.vip, record.text);
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

fn record(config: &Config, vip: &str, event: &Event) -> Record {
    if let Some((kind, node, text)) = about_another(config, event) {
        return Record::new(vip, kind, Some(called(config, node)), text);
    }
    // What is about no other node is about this one.
    let (kind, text) = about_this(event).unwrap_or((EventKind::State, String::new()));
    Record::new(vip, kind, None, text)
}

/// The words for what concerns another node; `None` for the rest.
fn about_another(config: &Config, event: &Event) -> Option<(EventKind, NodeId, String)> {
    let called = |id: NodeId| called(config, id);
    Some(match event {
        Event::Heard { node, .. } => (EventKind::NodeHeard, *node, format!("{} is heard", called(*node))),
        Event::Lost { node, why } => {
            (EventKind::NodeOut, *node, format!("{} is out: {}", called(*node), why_lost(*why)))
        }
        Event::KernelGone(node) => {
            let text = format!("the kernel of {} no longer answers: its sessions are reset", called(*node));
            (EventKind::KernelGone, *node, text)
        }
        Event::KernelAnswers(node) => {
            let text = format!("the kernel of {} answers: its sessions live", called(*node));
            (EventKind::KernelAnswers, *node, text)
        }
        Event::Askable(node, true) => {
            (EventKind::Askable, *node, format!("the kernel of {} answers questions now", called(*node)))
        }
        Event::Askable(node, false) => {
            (EventKind::Unaskable, *node, unaskable(&called(*node), addresses(config, *node)))
        }
        Event::Forgotten(node) => {
            let text = format!("{} is gone by order: its sessions are reset until it is back", called(*node));
            (EventKind::Forgotten, *node, text)
        }
        Event::FamilyLost { node, family, lost: true } => (
            EventKind::FamilyOut,
            *node,
            format!(
                "beats of {} come, but not by {family}: something on the way withholds {family} frames to the cluster MAC",
                called(*node)
            ),
        ),
        Event::FamilyLost { node, family, lost: false } => {
            (EventKind::FamilyHeard, *node, format!("beats of {} come by {family} again", called(*node)))
        }
        Event::Votes { node, by: Some(by) } => (EventKind::VotedOut, *node, voted_out(config, *node, *by)),
        Event::Votes { node, by: None } => {
            (EventKind::VotedIn, *node, format!("{} is no longer voted out", called(*node)))
        }
        Event::Duplicate { node, host } => (
            EventKind::Duplicate,
            *node,
            format!(
                "two hosts beat as {} (the newcomer's number is {host:08x}, ignored): check `id`",
                called(*node)
            ),
        ),
        Event::NotInFile(node) => (
            EventKind::NotInFile,
            *node,
            format!("node {node} beats, but is not in this node's configuration"),
        ),
        Event::Claims(..)
        | Event::HeldBack(..)
        | Event::Lapsed
        | Event::Lossy(..)
        | Event::Outlived(..)
        | Event::Stalled(..)
        | Event::State(..)
        | Event::Twin { .. }
        | Event::Unreadable => return None,
    })
}

fn voted_out(config: &Config, node: NodeId, by: NodeSet) -> String {
    let by = names(config, by).join(", ");
    format!("{} is voted out by {by}: it does not answer its clients", called(config, node))
}

/// The words for what concerns this node; `None` for the rest.
fn about_this(event: &Event) -> Option<(EventKind, String)> {
    Some(match event {
        Event::Outlived(known) => (
            EventKind::Outlived,
            format!(
                "other nodes know a later life of this node (incarnation {}) and reject its beats as old: its state \
                 directory or its clock went back, or a second daemon ran as this node",
                known.0
            ),
        ),
        Event::State(state) => (EventKind::State, format!("this node is {}", state_word(*state))),
        Event::Claims(count) => (EventKind::Claims, format!("this node claims {count} buckets")),
        Event::Lapsed => (
            EventKind::Lapsed,
            "the lease ran out: nobody acknowledged this node, or it was stopped".to_owned(),
        ),
        Event::Lossy(true) => {
            (EventKind::Lossy, "every link of this node loses frames: others take its share".to_owned())
        }
        Event::Lossy(false) => (EventKind::Steady, "this node's link is good again".to_owned()),
        Event::HeldBack(span) => (
            EventKind::HeldBack,
            format!("this node fell out too often: it takes no share for {} s", span.as_secs_f64()),
        ),
        Event::Stalled(span) => {
            (EventKind::Stalled, format!("the beat loop was stopped for {} ms", span.as_millis()))
        }
        Event::Twin { host } => (
            EventKind::Twin,
            format!(
                "another host (number {host:08x}) beats with this node's number: one of them has a wrong `id`"
            ),
        ),
        Event::Unreadable => (
            EventKind::Unreadable,
            "beats of this cluster arrive that no key here opens: compare key files".to_owned(),
        ),
        Event::Askable(..)
        | Event::Duplicate { .. }
        | Event::FamilyLost { .. }
        | Event::Forgotten(..)
        | Event::Heard { .. }
        | Event::KernelAnswers(..)
        | Event::KernelGone(..)
        | Event::Lost { .. }
        | Event::NotInFile(..)
        | Event::Votes { .. } => return None,
    })
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
    fn every_kind_of_event_can_be_named_by_a_hook_and_every_name_is_an_event() {
        let config = Config::inspect_text("onevip.toml", FILE).0.unwrap();
        let node = NodeId::new(1).unwrap();
        let found =
            [true, false].map(|good| peer_check_record(&config, "login", node, String::new(), good).event);
        let of_engines = events().into_iter().map(|event| record(&config, "login", &event).event);
        let of_checks = Record::of_check("sshd".into(), "nothing listens".into()).event;
        let of_bans = [EventKind::Banned, EventKind::Unbanned].map(|kind| kind.name().to_owned());
        let told: std::collections::BTreeSet<String> =
            of_engines.chain([of_checks]).chain(of_bans).chain(found).collect();
        assert_eq!(told, EventKind::ALL.iter().map(|kind| kind.name().to_owned()).collect());
    }
}
