//! Bans as nodes tell them, as the state directory has them, and as people list them.

use crate::rpc::message::Question;
use onevip_core::Prefix;
use onevip_core::bans::{Entry, Stamp};
use onevip_core::{NodeId, Time};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Longer than any ban that ends.
const LONG: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// An entry of the book. How long a ban lasts is the time that is left: clocks of two hosts, or of two boots of one,
/// have no common beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanRecord {
    /// Whom it is about.
    pub prefix: String,
    /// Of its stamp.
    pub time_ms: u64,
    /// Of its stamp.
    pub node: u8,
    /// What is left, in milliseconds; 0: it is over; `None`: it does not end.
    pub left_ms: Option<u64>,
    /// Whether sessions go on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spares_sessions: bool,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl BanRecord {
    /// What the book says, as it is told now.
    pub fn of(prefix: &Prefix, entry: &Entry, now: Time) -> Self {
        let left_ms = (entry.until != Time::NEVER).then(|| entry.until.since(now).as_millis() as u64);
        Self {
            prefix: prefix.to_string(),
            time_ms: entry.stamp.time_ms,
            node: entry.stamp.node.get(),
            left_ms,
            spares_sessions: entry.spares_sessions,
            reason: entry.reason.clone(),
        }
    }

    /// What was told so long ago; `None` when it makes no sense.
    pub fn read(self, now: Time, ago: Duration) -> Option<(Prefix, Entry)> {
        let until = match self.left_ms.map(|left| Duration::from_millis(left).min(LONG).saturating_sub(ago)) {
            None => Time::NEVER,
            Some(Duration::ZERO) => Time::ZERO,
            Some(left) => now + left,
        };
        let stamp = Stamp { time_ms: self.time_ms, node: NodeId::new(self.node)? };
        let (spares_sessions, reason) = (self.spares_sessions, self.reason);
        Some((self.prefix.parse().ok()?, Entry { stamp, until, spares_sessions, reason }))
    }
}

/// What a command asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanRequest {
    /// Whom to ban.
    pub prefix: String,
    /// For so many seconds; `None`: until it is lifted.
    pub seconds: Option<u64>,
    /// Sessions that exist go on.
    #[serde(default)]
    pub keep_sessions: bool,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// Also if it is very many.
    #[serde(default)]
    pub force: bool,
}

/// A ban in force, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedBan {
    /// Whom it keeps out.
    pub prefix: String,
    /// Seconds that are left; `None`: it does not end.
    pub left_seconds: Option<u64>,
    /// When it was made, in seconds since 1970, by the clock of the node that made it.
    pub since: u64,
    /// The node on which it was made.
    pub by: String,
    /// Whether sessions that exist go on.
    pub keep_sessions: bool,
    /// Why, as whoever made it said.
    pub reason: String,
    /// Why it is not carried out on this node, if it is not.
    pub ignored: Option<String>,
}

/// What the thread is woken for.
pub enum Wake {
    /// The list has changed here.
    Changed,
    /// Something is new on another node.
    Hint {
        /// Which.
        node: NodeId,
        /// In which life of its daemon.
        epoch: u64,
        /// The number of its newest change.
        number: u64,
    },
    /// End.
    Stop,
}

/// What is new in your list of bans?
#[derive(Serialize, Deserialize)]
pub struct AskBans {
    /// Of the life of your daemon in which the number was said.
    pub epoch: u64,
    /// Since the change of this number.
    pub after: u64,
}

/// What is new in a list of bans.
#[derive(Serialize, Deserialize)]
pub struct NewBans {
    /// Of which life of the daemon the numbers are.
    pub epoch: u64,
    /// Up to which number this tells everything.
    pub upto: u64,
    /// The number of the newest change.
    pub number: u64,
    /// What changed, oldest first.
    pub bans: Vec<BanRecord>,
}

impl Question for AskBans {
    const ASK: &'static str = "bans";
    type Answer = NewBans;
    const ANSWER: &'static str = "bans";
}

/// Would you ask me for my bans? There is something new.
#[derive(Serialize, Deserialize)]
pub struct BansChanged {
    /// Who says so.
    pub node: u8,
    /// In which life of its daemon.
    pub epoch: u64,
    /// The number of its newest change.
    pub number: u64,
}

impl Question for BansChanged {
    const ASK: &'static str = "bans-changed";
    type Answer = ();
    const ANSWER: &'static str = "noted";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_and_read_on_another_clock() {
        let (here, there) = (Time::from_nanos(5_000_000_000), Time::from_nanos(900_000_000_000));
        let stamp = Stamp { time_ms: 7, node: NodeId::new(3).unwrap() };
        let entry = |until| Entry { stamp, until, spares_sessions: true, reason: "why".into() };
        let prefix: Prefix = "192.0.2.0/24".parse().unwrap();
        let pass = |until, ago| {
            let text = serde_json::to_string(&BanRecord::of(&prefix, &entry(until), here)).unwrap();
            serde_json::from_str::<BanRecord>(&text).unwrap().read(there, ago).unwrap().1.until
        };
        let minute = Duration::from_secs(60);
        assert_eq!(pass(here + minute, Duration::ZERO), there + minute);
        assert_eq!(pass(here + minute, minute / 2), there + minute / 2);
        assert_eq!(pass(here + minute, minute * 2), Time::ZERO, "it ran out meanwhile");
        assert_eq!(pass(here, Duration::ZERO), Time::ZERO);
        assert_eq!(pass(Time::NEVER, minute), Time::NEVER);
        let nonsense = BanRecord { node: 65, ..BanRecord::of(&prefix, &entry(here), here) };
        assert_eq!(nonsense.read(there, Duration::ZERO), None);
    }
}
