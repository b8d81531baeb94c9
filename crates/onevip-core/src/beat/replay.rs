//! The door: which datagrams become beats, which are turned away, and why.
//!
//! The cheapest questions come first: magic, version, cluster, own number, key, sequence number; only then is the seal
//! tried, and of tries that fail there is a budget, so that a flood of forgeries costs little. Real beats pass even then:
//! they carry the known incarnation and a number just above the newest, and those are always tried.
//!
//! A recording is turned away by its number while we live, and changes nothing after a restart, because it does not
//! acknowledge this incarnation of ours (see `membership`).

use super::codec::{Header, Malformed};
use super::seal::{Keyring, Unopened};
use super::{Beat, Incarnation, Seq};
use crate::ids::NodeId;
use crate::membership::Family;
use crate::time::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// Why a datagram was turned away.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Rejection {
    /// Not a beat: wrong magic number, length or field.
    NotABeat,
    /// A version that we do not speak.
    Version,
    /// Of another cluster on the same segment.
    ForeignCluster,
    /// Our own, come back to us.
    OwnEcho,
    /// Sealed with a key that we do not accept.
    UnknownKey,
    /// Names a key of ours, but was not sealed with it.
    Forged,
    /// Not even tried, because too many forgeries came lately.
    Flood,
    /// Its number was seen before, or is too old.
    Replayed,
}

impl Rejection {
    /// All reasons, in the order of the checks.
    pub const ALL: [Self; 8] = [
        Self::NotABeat,
        Self::Version,
        Self::ForeignCluster,
        Self::OwnEcho,
        Self::UnknownKey,
        Self::Replayed,
        Self::Flood,
        Self::Forged,
    ];

    /// Whether the sender seems to be of our cluster, but speaks with another key.
    pub const fn is_unreadable(self) -> bool {
        matches!(self, Self::UnknownKey | Self::Forged)
    }
}

/// What came through the door.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Admitted {
    /// A beat: hand it to [`crate::membership::Engine::beat_received`].
    Beat(Box<Beat>),
    /// Another copy of a beat, by another VIP family: [`crate::membership::Engine::copy_received`].
    Copy(NodeId),
}

/// How far a beat may be behind the newest of its sender, and still not be called a replay.
const WINDOW: u32 = 64;
/// A number at most this far above the newest known is always tried.
const PLAUSIBLE: u32 = 4096;
/// Failed tries in a second before implausible datagrams are not tried any more.
const FORGERIES_PER_SECOND: u32 = 500;

/// What was seen of one host with one node number: a second host with the same number must not shadow the first.
#[derive(Clone, Debug, Default)]
struct Seen {
    incarnation: Incarnation,
    newest: Seq,
    /// Per family: bit `i` is set if number `newest - i` came by it.
    windows: [u64; 2],
    /// The newest datagram that was admitted, to know its copies without opening them.
    datagram: Vec<u8>,
}

/// Looks at every datagram that claims to be a beat.
#[derive(Clone, Debug)]
pub struct Door {
    keyring: Keyring,
    me: NodeId,
    host: u32,
    seen: BTreeMap<(NodeId, u32), Seen>,
    rejected: BTreeMap<Rejection, u64>,
    admitted: u64,
    forged_since: Time,
    forged: u32,
}

impl Door {
    /// For node `me` on the host with this number.
    pub fn new(keyring: Keyring, me: NodeId, host: u32) -> Self {
        Self {
            keyring,
            me,
            host,
            seen: BTreeMap::new(),
            rejected: BTreeMap::new(),
            admitted: 0,
            forged_since: Time::ZERO,
            forged: 0,
        }
    }

    /// Other keys from now on.
    pub fn set_keyring(&mut self, keyring: Keyring) {
        self.keyring = keyring;
    }

    /// How many datagrams were turned away for this reason.
    pub fn rejected(&self, why: Rejection) -> u64 {
        self.rejected.get(&why).copied().unwrap_or(0)
    }

    /// How many datagrams were admitted, copies included.
    pub fn admitted(&self) -> u64 {
        self.admitted
    }

    /// Judges one datagram that came by `family`.
    pub fn admit(&mut self, now: Time, family: Family, datagram: &[u8]) -> Result<Admitted, Rejection> {
        let judged = self.judge(now, family, datagram);
        match &judged {
            Ok(_) => self.admitted += 1,
            Err(why) => *self.rejected.entry(*why).or_default() += 1,
        }
        judged
    }

    fn judge(&mut self, now: Time, family: Family, datagram: &[u8]) -> Result<Admitted, Rejection> {
        let header = self.look_at_header(datagram)?;
        self.look_at_number(&header, family)?;
        let seen = self.seen.get(&(header.from, header.host));
        if seen.is_some_and(|seen| !seen.datagram.is_empty() && seen.datagram == datagram) {
            self.note(&header, family);
            return Ok(Admitted::Copy(header.from));
        }
        if !self.is_plausible(&header) && !self.may_try(now) {
            return Err(Rejection::Flood);
        }
        let beat = match self.keyring.open(&header, datagram) {
            Ok(beat) => beat,
            Err(Unopened::Forged) => {
                self.forged += 1;
                return Err(Rejection::Forged);
            }
            Err(Unopened::UnknownKey(_)) => return Err(Rejection::UnknownKey),
            Err(Unopened::Malformed(_)) => return Err(Rejection::NotABeat),
        };
        let is_new = self.is_new(&header);
        self.note(&header, family);
        if !is_new {
            return Ok(Admitted::Copy(header.from));
        }
        if let Some(seen) = self.seen.get_mut(&(header.from, header.host)) {
            seen.datagram.clear();
            seen.datagram.extend_from_slice(datagram);
        }
        Ok(Admitted::Beat(Box::new(beat)))
    }

    fn look_at_header(&self, datagram: &[u8]) -> Result<Header, Rejection> {
        let header = Header::read(datagram).map_err(|why| match why {
            Malformed::Version(_) => Rejection::Version,
            Malformed::NotABeat | Malformed::Field(_) | Malformed::Truncated => Rejection::NotABeat,
        })?;
        if header.cluster != self.keyring.cluster() {
            return Err(Rejection::ForeignCluster);
        }
        if header.from == self.me && header.host == self.host {
            return Err(Rejection::OwnEcho);
        }
        if !self.keyring.accepts(header.key) {
            return Err(Rejection::UnknownKey);
        }
        Ok(header)
    }

    fn look_at_number(&self, header: &Header, family: Family) -> Result<(), Rejection> {
        let Some(seen) = self.seen.get(&(header.from, header.host)) else { return Ok(()) };
        if header.incarnation > seen.incarnation || self.is_new(header) {
            return Ok(());
        }
        let behind = seen.newest.0 - header.seq.0.min(seen.newest.0);
        let known = header.incarnation < seen.incarnation
            || behind >= WINDOW
            || seen.windows[family.index()] >> behind & 1 == 1;
        if known { Err(Rejection::Replayed) } else { Ok(()) }
    }

    /// Whether it is newer than all that its sender sent before.
    fn is_new(&self, header: &Header) -> bool {
        let news = (header.incarnation, header.seq);
        self.seen.get(&(header.from, header.host)).is_none_or(|seen| news > (seen.incarnation, seen.newest))
    }

    /// Whether the header is what we expect next of its sender.
    fn is_plausible(&self, header: &Header) -> bool {
        self.seen.get(&(header.from, header.host)).is_some_and(|seen| {
            header.incarnation == seen.incarnation && header.seq.0 <= seen.newest.0.saturating_add(PLAUSIBLE)
        })
    }

    fn may_try(&mut self, now: Time) -> bool {
        if now >= self.forged_since + Duration::from_secs(1) {
            self.forged_since = now;
            self.forged = 0;
        }
        self.forged < FORGERIES_PER_SECOND
    }

    /// Remembers an authentic number.
    fn note(&mut self, header: &Header, family: Family) {
        let seen = self.seen.entry((header.from, header.host)).or_default();
        if header.incarnation > seen.incarnation {
            *seen = Seen { incarnation: header.incarnation, newest: header.seq, ..Seen::default() };
        } else if header.seq > seen.newest {
            let ahead = header.seq.0 - seen.newest.0;
            for window in &mut seen.windows {
                *window = window.checked_shl(ahead).unwrap_or(0);
            }
            seen.newest = header.seq;
        }
        let behind = seen.newest.0 - header.seq.0;
        seen.windows[family.index()] |= 1 << behind.min(WINDOW - 1);
    }
}
