//! What the help desk of one node asks that of another, and what that answers. JSON, because people may want to look.

use super::sessions::Session;
use crate::bans::wire::Told;
use crate::limits::tally;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A question. But for [`Question::Order`] it never changes anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Question {
    /// Whose sessions do you hold?
    Who {
        /// Only those of this user or address.
        whom: Option<String>,
    },
    /// Would you answer this client now, and does it have sessions with you?
    Where {
        /// The VIP.
        vip: String,
        /// The client.
        address: IpAddr,
        /// Its bucket.
        bucket: u16,
    },
    /// What must be alike everywhere?
    Facts,
    /// May I give you an order? Whoever may gets a permit for one.
    Permit,
    /// Do this. The permit was drawn by who is to obey, moments ago and for this asker: so an order that somebody
    /// recorded is worth nothing, not even to a daemon that has just been started and remembers nobody's letters.
    Order {
        /// The permit.
        permit: u64,
        /// What to do.
        order: Order,
    },
    /// What is new in your list of bans?
    Bans {
        /// Of the life of your daemon in which the number was said.
        epoch: u64,
        /// Since the change of this number.
        after: u64,
    },
    /// What have you counted of sources whose buckets you do not claim?
    Counts,
    /// Would you ask me for my bans? There is something new.
    BansChanged {
        /// Who says so.
        node: u8,
        /// In which life of its daemon.
        epoch: u64,
        /// The number of its newest change.
        number: u64,
    },
}

/// What one node may tell another to do: to take no new users, and to take them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// As `onevip drain` there.
    Drain {
        /// Even if nobody else would serve the clients.
        force: bool,
    },
    /// As `onevip undrain` there.
    Undrain,
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Drain { force: false } => "drain",
            Self::Drain { force: true } => "drain --force",
            Self::Undrain => "undrain",
        })
    }
}

impl Question {
    /// Whether it only asks.
    pub const fn is_harmless(&self) -> bool {
        match self {
            Self::Who { .. }
            | Self::Where { .. }
            | Self::Facts
            | Self::Bans { .. }
            | Self::Counts
            | Self::BansChanged { .. } => true,
            Self::Permit | Self::Order { .. } => false,
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Question::Who`].
    Sessions(Vec<Session>),
    /// To [`Question::Where`].
    Place(Place),
    /// To [`Question::Facts`].
    Facts(NodeFacts),
    /// To [`Question::Permit`].
    Permit(u64),
    /// To [`Question::Order`]: done; in words.
    Done(String),
    /// To [`Question::Bans`].
    Bans {
        /// Of which life of the daemon the numbers are.
        epoch: u64,
        /// Up to which number this tells everything.
        upto: u64,
        /// The number of the newest change.
        number: u64,
        /// What changed, oldest first.
        bans: Vec<Told>,
    },
    /// To [`Question::Counts`].
    Counts(Vec<tally::Told>),
    /// To [`Question::BansChanged`].
    Noted,
    /// Why not.
    Refused(String),
}

/// How a node stands to a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Whether it answers new connections of the client now: it claims the bucket, and its lease is live.
    pub answers: bool,
    /// What it is doing: `serving`, `draining` and so on.
    pub state: String,
    /// Why it takes no share; `None` if it does.
    pub why_out: Option<String>,
    /// Sessions of the client's address that it holds.
    pub sessions: usize,
    /// At which limits the client is here.
    #[serde(default)]
    pub at_limits: Vec<String>,
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

/// What came of a question to one node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reply {
    /// Its name.
    pub node: String,
    /// The answer, or why there is none.
    pub answer: Result<Answer, String>,
}
