//! One thing that happened.

use crate::base::clock::unix_time;
use onevip_config::EventKind;
use serde::{Deserialize, Serialize};

/// One thing that happened, as `onevip watch` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Seconds since 1970.
    pub time: f64,
    /// The VIP; empty for what concerns the whole node.
    pub vip: String,
    /// What kind of thing: the name of an [`EventKind`].
    pub event: String,
    /// The node it is about, where it is about another one.
    pub node: Option<String>,
    /// The check it is about, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// In words.
    pub text: String,
}

impl Record {
    /// Of a VIP, now; of the whole node where `vip` is empty.
    pub fn new(vip: &str, kind: EventKind, node: Option<String>, text: String) -> Self {
        let (vip, event) = (vip.to_owned(), kind.name().to_owned());
        Self { time: unix_time().as_secs_f64(), vip, event, node, check: None, text }
    }

    /// Of a check of this node's health.
    pub fn of_check(check: String, text: String) -> Self {
        Self { check: Some(check), ..Self::new("", EventKind::Health, None, text) }
    }

    /// Whether it is of this kind.
    pub fn is(&self, kind: EventKind) -> bool {
        self.event == kind.name()
    }
}
