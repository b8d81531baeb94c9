//! Who is told of what happens: hooks, `onevip watch`, and rooms that follow the claims.

use super::record::Record;
use crate::control::protocol::Request;
use crate::control::server::Handler;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// How many records a watcher may be behind before it is dropped.
const BEHIND_MAX: usize = 1024;
/// How many may watch at once.
const WATCHERS_MAX: usize = 16;

/// EventCounts of events, by VIP and kind.
pub type EventCounts = BTreeMap<(String, String), u64>;

/// Tells everybody who watches; clone it for every thread.
#[derive(Clone, Default)]
pub struct Bus {
    watchers: Arc<Mutex<Vec<SyncSender<Record>>>>,
    counts: Arc<Mutex<EventCounts>>,
}

impl Bus {
    /// One more who watches; `None` when there are too many.
    pub fn subscribe(&self) -> Option<Receiver<Record>> {
        let mut all = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= WATCHERS_MAX {
            return None;
        }
        let (sender, receiver) = sync_channel(BEHIND_MAX);
        all.push(sender);
        Some(receiver)
    }

    /// How often each kind of event has happened to each VIP, by name of the VIP and of the event.
    pub fn counts(&self) -> EventCounts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells everybody who watches, and counts.
    pub fn publish(&self, record: &Record) {
        let counted = (record.vip.clone(), record.event.clone());
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(counted).or_default() += 1;
        let mut all = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|watcher| match watcher.try_send(record.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        });
    }
}

/// Tell what happens as it happens.
#[derive(Serialize, Deserialize)]
pub struct WatchEvents {}

impl Request for WatchEvents {
    const COMMAND: &'static str = "watch";
    type Reply = ();
    const REPLY: &'static str = "watching";
}

/// Carries out `watch`.
pub fn handler(bus: &Bus) -> Handler {
    let bus = bus.clone();
    Handler::stream(move |WatchEvents {}, _| bus.subscribe().context("too many are watching already"))
}
