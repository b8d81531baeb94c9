//! From a datagram to a beat that may be believed: all checks in one place, and how often each of them failed.
//!
//! The daemon has one [`Receiver`] per VIP and hands every accepted beat, each copy of it, to the engine of that VIP.

use super::Beat;
use super::replay::ReplayGuard;
use super::seal::{Rejected, Sealer};
use crate::ids::NODES_MAX;
use crate::membership::Family;

/// Opens what arrives for one VIP, once.
#[derive(Clone, Debug)]
pub struct Receiver {
    sealer: Sealer,
    guard: ReplayGuard,
    /// By node, its last datagram that was opened, and what was in it. What is the same byte for byte is as
    /// genuine: the copy that comes by the other family costs no cryptography.
    opened: Vec<Option<(Vec<u8>, Beat)>>,
    counters: ReceiveCounters,
}

/// What became of the datagrams that arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReceiveCounters {
    accepted: [u64; 2],
    rejected: [u64; Rejected::ALL.len()],
}

impl ReceiveCounters {
    /// How many were accepted by each VIP family, every copy counted; see [`Family::index`].
    pub const fn accepted(&self) -> [u64; 2] {
        self.accepted
    }

    /// How many were rejected for the reason that `why` is an example of.
    pub const fn rejected(&self, why: Rejected) -> u64 {
        self.rejected[why.index()]
    }

    /// Every reason, in the order of the checks, and how many were rejected for it.
    pub fn by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Rejected::ALL.iter().map(|why| why.label()).zip(self.rejected)
    }
}

impl Receiver {
    /// Has heard nothing yet.
    pub fn new(sealer: Sealer) -> Self {
        Self {
            sealer,
            guard: ReplayGuard::new(),
            opened: vec![None; NODES_MAX],
            counters: ReceiveCounters::default(),
        }
    }

    /// The sealer, to seal with.
    pub const fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Uses other keys from now on, and forgets nothing.
    pub fn rekey(&mut self, sealer: Sealer) {
        self.sealer = sealer;
        self.opened.fill(None);
    }

    /// The beat in `datagram`, a UDP payload that came to the VIP's address of `family`.
    ///
    /// A beat passes once per family. One with this node's own number passes, too: whether it is our own echo or a
    /// host that has taken our number is for the engine to see. The header is checked against what was already
    /// received before the seal is, so that a flood of copies costs next to nothing; what was received is recorded
    /// only when the seal is good, so that a flood of inventions shuts nobody out.
    ///
    /// # Errors
    ///
    /// Says why not, and counts it.
    pub fn receive(&mut self, family: Family, datagram: &[u8]) -> Result<Beat, Rejected> {
        let beat = self.open_once(family, datagram);
        match &beat {
            Ok(_) => self.counters.accepted[family.index()] += 1,
            Err(why) => self.counters.rejected[why.index()] += 1,
        }
        beat
    }

    /// What became of everything that arrived so far.
    pub const fn counters(&self) -> &ReceiveCounters {
        &self.counters
    }

    fn open_once(&mut self, family: Family, datagram: &[u8]) -> Result<Beat, Rejected> {
        let origin = self.sealer.look(datagram)?;
        self.guard.check(&origin, family)?;
        let opened = &mut self.opened[origin.from.index()];
        let beat = match opened {
            Some((same, beat)) if same == datagram => beat.clone(),
            _ => {
                let beat = self.sealer.open_from(origin, datagram)?;
                *opened = Some((datagram.to_vec(), beat.clone()));
                beat
            }
        };
        self.guard.accept(&origin, family);
        Ok(beat)
    }
}
