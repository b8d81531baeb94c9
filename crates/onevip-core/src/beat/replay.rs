//! Which beats have been here before.
//!
//! A window per sender and VIP family: each beat comes once by each family, and the engine wants to know of both. A
//! sender is a node *and* a host, so that of two hosts with the same node number neither can silence the other; the
//! engine tells them apart and says so. What is remembered is bounded, and lost at a restart. That is safe: an old
//! beat that passes here acknowledges nothing that is fresh, and so changes nothing (`membership`, mutual freshness).

use super::Incarnation;
use super::codec::Origin;
use super::seal::Rejected;
use crate::ids::NODES_MAX;
use crate::membership::Family;

/// How far a beat may fall behind the newest of its sender and still be told from a copy: 128 numbers.
pub const WINDOW: u32 = u128::BITS;

/// How many hosts with the same node number are remembered; the one that spoke longest ago is forgotten first.
pub const HOSTS_MAX: usize = 4;

/// Remembers which beats have been accepted.
#[derive(Clone, Debug)]
pub struct ReplayGuard {
    /// By node; the host that spoke last comes first.
    senders: Vec<Vec<Sender>>,
}

/// One host that sent as some node.
#[derive(Clone, Debug)]
struct Sender {
    host: u32,
    incarnation: Incarnation,
    by_family: [Window; 2],
}

/// The newest number and, as bits, which of those before it were seen: bit 0 is the newest itself.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    newest: u32,
    seen: u128,
}

impl ReplayGuard {
    /// Remembers nothing.
    pub fn new() -> Self {
        Self { senders: vec![Vec::new(); NODES_MAX] }
    }

    /// Whether the beat named `origin` is new by `family`. Changes nothing, so the name need not be genuine yet.
    ///
    /// # Errors
    ///
    /// [`Rejected::OldIncarnation`] or [`Rejected::Replayed`]; the latter also for one that is too old to tell.
    pub fn check(&self, origin: &Origin, family: Family) -> Result<(), Rejected> {
        let Some(sender) = self.senders[origin.from.index()].iter().find(|s| s.host == origin.host) else {
            return Ok(());
        };
        if origin.incarnation < sender.incarnation {
            return Err(Rejected::OldIncarnation);
        }
        if origin.incarnation > sender.incarnation || sender.by_family[family.index()].is_new(origin.seq.0) {
            Ok(())
        } else {
            Err(Rejected::Replayed)
        }
    }

    /// Remembers a beat that passed [`ReplayGuard::check`] and whose seal was found good.
    pub fn accept(&mut self, origin: &Origin, family: Family) {
        let senders = &mut self.senders[origin.from.index()];
        let mut sender = match senders.iter().position(|sender| sender.host == origin.host) {
            Some(known) => senders.remove(known),
            None => Sender::new(origin),
        };
        if sender.incarnation < origin.incarnation {
            sender = Sender::new(origin);
        }
        sender.by_family[family.index()].record(origin.seq.0);
        senders.truncate(HOSTS_MAX - 1);
        senders.insert(0, sender);
    }
}

impl Default for ReplayGuard {
    fn default() -> Self {
        Self::new()
    }
}

impl Sender {
    fn new(origin: &Origin) -> Self {
        Self { host: origin.host, incarnation: origin.incarnation, by_family: [Window::default(); 2] }
    }
}

impl Window {
    fn is_new(&self, seq: u32) -> bool {
        match self.newest.checked_sub(seq) {
            None => true,
            Some(behind) => behind < WINDOW && self.seen >> behind & 1 == 0,
        }
    }

    fn record(&mut self, seq: u32) {
        match self.newest.checked_sub(seq) {
            None => {
                self.seen = self.seen.checked_shl(seq - self.newest).unwrap_or(0) | 1;
                self.newest = seq;
            }
            Some(behind) if behind < WINDOW => self.seen |= 1 << behind,
            Some(_) => {}
        }
    }
}
