//! Who is kept out: the list of bans, and how the lists of several nodes become one.
//!
//! Each node has a [`BanList`]. A change gets a [`Stamp`], and of two changes about the same [`Prefix`] the later stamp
//! counts, on every node and in whatever order they arrive. Stamps are Lamport's: a node's clock for them is never
//! behind a stamp that it has seen, so whoever lifts a ban that it knows of wins over it, however wrong anybody's
//! clock is. How long a ban lasts travels as the time that is left, never as a time of day; where two nodes disagree
//! about the end of the same ban, the earlier end counts.
//!
//! A ban that was lifted or has run out stays in the list for [`REMEMBERED_FOR`], so that a node which was away cannot
//! bring it back. A node that asks another one "what is new since number N?" gets no more than it needs: entries are
//! numbered anew, by each node for itself, whenever they change.

use crate::ids::NodeId;
use crate::prefix::Prefix;
use crate::time::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// How many bans may be in force before no more are taken. An entry costs the kernel some 100 bytes.
pub const BANS_MAX: usize = 16_384;
/// How many entries of a family a list has at most, bans of other nodes and memories of what is over included.
const ENTRIES_MAX: usize = 2 * BANS_MAX;
/// How long what is over is remembered.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// The longest reason, in bytes.
pub const REASON_MAX: usize = 80;
/// Nobody's clock shows this many milliseconds: a stamp beyond is nonsense.
const TIME_MAX: u64 = 1 << 60;
/// Ends of the same ban that differ by less are equal: messages take their time.
const SLACK: Duration = Duration::from_secs(1);

/// When, and by whom, a change was made. Later ones win.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Stamp {
    /// Milliseconds since 1970, or more if the clock was behind what its node had seen.
    pub time_ms: u64,
    /// The node.
    pub node: NodeId,
}

/// What the list says of a prefix.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Of the change that made it.
    pub stamp: Stamp,
    /// Until when the ban lasts, on this node's clock: [`Time::NEVER`] for ever, [`Time::ZERO`] if it was lifted.
    pub until: Time,
    /// Whether sessions that exist go on.
    pub spares_sessions: bool,
    /// Why, in the words of whoever banned.
    pub reason: String,
}

impl Entry {
    /// Whether it keeps anybody out.
    pub fn is_in_force(&self, now: Time) -> bool {
        self.until > now
    }
}

/// Until when a source is kept out.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stop {
    /// With everything.
    pub everything_until: Time,
    /// With all but its sessions; never earlier.
    pub openings_until: Time,
}

/// Why a ban is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there are {BANS_MAX} bans already; lift some, or ban networks instead of single addresses")]
pub struct Full;

#[derive(Clone, Debug)]
struct Numbered {
    entry: Entry,
    number: u64,
    /// When it was seen to be over.
    over_since: Option<Time>,
}

/// A node's list of bans.
#[derive(Clone, Debug)]
pub struct BanList {
    me: NodeId,
    /// The latest time in any stamp that was seen.
    latest_ms: u64,
    entries: BTreeMap<Prefix, Numbered>,
    /// How many entries have each length of prefix, by family.
    lengths: [[u32; 129]; 2],
    /// The number of the newest change.
    number: u64,
}

impl BanList {
    /// An empty list of the node `me`.
    pub fn new(me: NodeId) -> Self {
        Self { me, latest_ms: 0, entries: BTreeMap::new(), lengths: [[0; 129]; 2], number: 0 }
    }

    /// Bans for so long, or for ever, in place of what was said of this very prefix before. `clock_ms` is the time of
    /// day in milliseconds since 1970, as far as it is known.
    ///
    /// # Errors
    /// The list is full.
    pub fn ban(
        &mut self,
        prefix: Prefix,
        how_long: Option<Duration>,
        spares_sessions: bool,
        reason: &str,
        (now, clock_ms): (Time, u64),
    ) -> Result<(), Full> {
        let renews = self.entries.get(&prefix).is_some_and(|known| known.entry.is_in_force(now));
        if !renews && self.in_force(now).count() >= BANS_MAX {
            return Err(Full);
        }
        let until = how_long.map_or(Time::NEVER, |span| now + span);
        let entry = Entry { stamp: self.stamp(clock_ms), until, spares_sessions, reason: shortened(reason) };
        self.put(prefix, entry, now);
        Ok(())
    }

    /// Lifts the ban of this very prefix; false when there was none.
    pub fn lift(&mut self, prefix: Prefix, (now, clock_ms): (Time, u64)) -> bool {
        let Some(known) = self.entries.get(&prefix).filter(|known| known.entry.is_in_force(now)) else {
            return false;
        };
        let mut entry = known.entry.clone();
        entry.stamp = self.stamp(clock_ms);
        entry.until = Time::ZERO;
        self.put(prefix, entry, now);
        true
    }

    /// Takes in what another node says, or what was stored; true when that changed anything.
    pub fn merge(&mut self, prefix: Prefix, mut entry: Entry, now: Time) -> bool {
        if entry.stamp.time_ms > TIME_MAX {
            return false;
        }
        self.latest_ms = self.latest_ms.max(entry.stamp.time_ms);
        entry.reason = shortened(&entry.reason);
        let known = self.entries.get(&prefix).map(|known| &known.entry);
        let is_news = match known {
            None => self.entries.len() < 2 * ENTRIES_MAX && self.count(prefix.is_v6()) < ENTRIES_MAX,
            Some(known) if known.stamp == entry.stamp => {
                known.until > entry.until && known.until.since(entry.until) > SLACK && known.until > now
            }
            Some(known) => known.stamp < entry.stamp,
        };
        if is_news {
            self.put(prefix, entry, now);
        }
        is_news
    }

    /// Notes what has run out, and forgets what was over long ago. The prefixes whose bans are over since the last
    /// time.
    pub fn expire(&mut self, now: Time) -> Vec<Prefix> {
        let mut over = Vec::new();
        let mut forgotten = Vec::new();
        for (prefix, known) in &mut self.entries {
            match known.over_since {
                Some(since) if now.since(since) > REMEMBERED_FOR => forgotten.push(*prefix),
                None if !known.entry.is_in_force(now) => {
                    known.over_since = Some(now);
                    over.push(*prefix);
                }
                Some(_) | None => {}
            }
        }
        for prefix in forgotten {
            self.entries.remove(&prefix);
            self.lengths[usize::from(prefix.is_v6())][usize::from(prefix.length())] -= 1;
        }
        over
    }

    /// The bans in force, in the order of their addresses.
    pub fn in_force(&self, now: Time) -> impl Iterator<Item = (&Prefix, &Entry)> {
        self.entries
            .iter()
            .map(|(prefix, known)| (prefix, &known.entry))
            .filter(move |(_, entry)| entry.is_in_force(now))
    }

    /// What the list says of this very prefix, in force or not.
    pub fn get(&self, prefix: &Prefix) -> Option<&Entry> {
        self.entries.get(prefix).map(|known| &known.entry)
    }

    /// The narrowest ban in force in which all of `prefix` lies.
    pub fn covering(&self, prefix: &Prefix, now: Time) -> Option<(Prefix, &Entry)> {
        self.around(prefix).filter(|(_, entry)| entry.is_in_force(now)).last()
    }

    /// Every prefix in the list that lies in this one, itself included.
    pub fn within(&self, prefix: &Prefix) -> impl Iterator<Item = Prefix> + '_ {
        self.entries.range(*prefix..=prefix.last()).map(|(prefix, _)| *prefix)
    }

    /// Until when the sources of a prefix that is banned itself are kept out, wider bans included: the kernel finds
    /// only the narrowest. `None` when it is not banned itself. Bans for which `counts` is false are left out.
    pub fn stop(&self, prefix: &Prefix, now: Time, counts: impl Fn(&Prefix) -> bool) -> Option<Stop> {
        self.get(prefix).filter(|entry| entry.is_in_force(now) && counts(prefix))?;
        let mut stop = Stop::default();
        for (_, entry) in self.around(prefix).filter(|(wider, entry)| entry.is_in_force(now) && counts(wider))
        {
            stop.openings_until = stop.openings_until.max(entry.until);
            if !entry.spares_sessions {
                stop.everything_until = stop.everything_until.max(entry.until);
            }
        }
        Some(stop)
    }

    /// The number of the newest change.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// What changed after the change of this number, oldest first: at most so many entries, and the number up to which
    /// they tell everything.
    pub fn changes(&self, after: u64, max: usize) -> (Vec<(Prefix, Entry)>, u64) {
        let mut all: Vec<_> = self.entries.iter().filter(|(_, known)| known.number > after).collect();
        all.sort_by_key(|(_, known)| known.number);
        let upto = if all.len() > max { all[max - 1].1.number } else { self.number };
        (all.into_iter().take(max).map(|(prefix, known)| (*prefix, known.entry.clone())).collect(), upto)
    }

    /// All entries of prefixes in which this one lies, widest first.
    fn around(&self, prefix: &Prefix) -> impl Iterator<Item = (Prefix, &Entry)> {
        let prefix = *prefix;
        let lengths = &self.lengths[usize::from(prefix.is_v6())];
        let present = (0..=prefix.length()).filter(|length| lengths[usize::from(*length)] > 0);
        present.filter_map(move |length| {
            let wider = prefix.widened(length);
            Some((wider, self.get(&wider)?))
        })
    }

    fn count(&self, is_v6: bool) -> usize {
        self.lengths[usize::from(is_v6)].iter().sum::<u32>() as usize
    }

    fn stamp(&mut self, clock_ms: u64) -> Stamp {
        self.latest_ms = clock_ms.min(TIME_MAX).max(self.latest_ms + 1);
        Stamp { time_ms: self.latest_ms, node: self.me }
    }

    fn put(&mut self, prefix: Prefix, entry: Entry, now: Time) {
        self.number += 1;
        let over_since = (!entry.is_in_force(now)).then_some(now);
        let numbered = Numbered { entry, number: self.number, over_since };
        if self.entries.insert(prefix, numbered).is_none() {
            self.lengths[usize::from(prefix.is_v6())][usize::from(prefix.length())] += 1;
        }
    }
}

/// A reason without control characters, cut to [`REASON_MAX`] bytes.
fn shortened(reason: &str) -> String {
    let mut text = String::new();
    for c in reason.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if text.len() + c.len_utf8() > REASON_MAX {
            break;
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests;
