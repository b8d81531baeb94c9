//! What the engine wants done.

use super::Event;
use crate::beat::Beat;
use crate::ids::{BucketSet, NodeId};
use crate::time::Time;

/// One thing to carry out. The order in which they come matters: a bucket is released before the lease is renewed,
/// `ELSEWHERE` is written before `MINE`, and a beat never says what the kernel does not do yet.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Output {
    /// Clear `MINE` of these buckets.
    Release(BucketSet),
    /// Write this deadline to the lease; [`Time::ZERO`] means: no claim is valid.
    Lease(Time),
    /// Set `ELSEWHERE` of exactly these buckets, and clear it of all others.
    Elsewhere(BucketSet),
    /// What was seen of orphans before this time says nothing: a kernel came into reach then, or fell silent that is
    /// out of reach now. Comes before the [`Output::Elsewhere`] that it concerns.
    Settled(Time),
    /// Set `WATCHED` of exactly these buckets, and clear it of all others: their claimer has just fallen silent.
    Watch(BucketSet),
    /// Set `MINE` of these buckets.
    Gain(BucketSet),
    /// Send this beat, one copy per VIP family.
    Send(Box<Beat>),
    /// Ask by ARP or ND whether this node's kernel still answers for its own address.
    Probe(NodeId),
    /// Tell people.
    Event(Event),
    /// Everything is handed over, and said: the daemon may end.
    Left,
}
