//! What a beat says, apart from how it is written ([`codec`], [`envelope`]), protected ([`key`], [`seal`]) and let in ([`replay`],
//! [`receive`]).
//!
//! Made by `membership`, carried by the daemon, read by the `membership` of every other node.

pub mod codec;
pub mod envelope;
pub mod key;
pub mod key_file;
pub mod receive;
pub mod replay;
pub mod seal;

use crate::ids::{BUCKETS, Bucket, BucketSet, NodeId, NodeSet};
use crate::table::Weight;

pub use key::{Key, KeyId, Keyring};
pub use key_file::{KeyFile, KeyFileError};
pub use receive::{ReceiveCounters, Receiver};
pub use seal::{Rejected, Sealer};

/// Which life of a node's daemon: larger at each start, also across reboots (e.g. seconds since 1970, but at least
/// one more than the last one that was stored).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Incarnation(pub u32);

/// The number of a beat within an incarnation, from 1. Enough for three years of the fastest beats.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Seq(pub u32);

/// What a node says it is doing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(u8)]
pub enum NodeState {
    /// Listening; claims and wants nothing yet.
    #[default]
    Joining = 0,
    /// Takes its share.
    Serving = 1,
    /// Wants nothing any more, but holds the sessions it has.
    Draining = 2,
    /// Hands its buckets over and stops its daemon.
    Leaving = 3,
}

impl NodeState {
    /// The state with this number on the wire.
    pub const fn from_wire(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Joining),
            1 => Some(Self::Serving),
            2 => Some(Self::Draining),
            3 => Some(Self::Leaving),
            _ => None,
        }
    }
}

/// How well a node feels: 0 is healthy, 3 is worst. Only the least ill of the alive nodes get buckets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Health(u8);

impl Health {
    /// Nothing is wrong.
    pub const GOOD: Self = Self(0);
    /// New sessions would fail here.
    pub const WORST: Self = Self(3);

    /// The level with this number; anything above 3 is 3.
    pub const fn new(level: u8) -> Self {
        if level > 3 { Self::WORST } else { Self(level) }
    }

    /// The level, 0 to 3.
    pub const fn level(self) -> u8 {
        self.0
    }
}

/// What decides a node's share of the table: announced by the node itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Standing {
    /// What it is doing.
    pub state: NodeState,
    /// How well it feels.
    pub health: Health,
    /// Its share relative to others.
    pub weight: Weight,
}

/// Facts about a node for people and for comparison; no decision depends on them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Facts {
    /// Digest of the configuration that must be alike on all nodes.
    pub config_digest: u64,
    /// Digest of the public SSH host keys.
    pub host_keys_digest: u64,
    /// Sessions the node holds.
    pub sessions: u32,
    /// Load in percent of the node's CPUs.
    pub load_percent: u16,
}

/// What the sender knows of one other node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PeerReport {
    /// Of whom.
    pub node: NodeId,
    /// Incarnation of the newest beat heard.
    pub incarnation: Incarnation,
    /// Number of the newest beat heard: its acknowledgement.
    pub seq: Seq,
    /// Whether the sender hears that node, and that node the sender.
    pub heard: bool,
    /// Whether too many of that node's beats do not come.
    pub lossy: bool,
    /// What the node said of itself in that beat.
    pub standing: Standing,
}

/// Who goes first where two nodes that do not hear each other claim or intend the same bucket.
///
/// A node that hears both tells them. Normally empty. Only buckets within `from..to` were looked at, because a beat
/// has little room; what is looked at moves on with each beat.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Rulings {
    /// First bucket looked at.
    pub from: u16,
    /// First bucket after those looked at, at most 1024.
    pub to: u16,
    /// The contested buckets, ascending, and who goes first.
    pub first: Vec<(Bucket, NodeId)>,
}

impl Rulings {
    /// Everything was looked at and nothing is contested.
    pub const NONE: Self = Self { from: 0, to: BUCKETS as u16, first: Vec::new() };
}

/// What a node found out about the others as a client would, and what it makes of what all found; see
/// [`crate::peer_check`] and `membership::votes`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Testimony {
    /// Nodes about which the sender has a say: it could tell if they stopped serving. Never itself.
    pub able: NodeSet,
    /// Of those, the nodes that do not serve: the sender's votes.
    pub suspects: NodeSet,
    /// Nodes against which the sender counts a majority of those who have a say.
    pub convicted: NodeSet,
}

/// One beat: what a node tells all others, 20 times a second.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Beat {
    /// The sender.
    pub from: NodeId,
    /// The sender's incarnation.
    pub incarnation: Incarnation,
    /// The number of this beat.
    pub seq: Seq,
    /// A number that tells hosts apart (digest of the machine id): two hosts with one node number differ in it.
    pub host: u32,
    /// State, health and weight of the sender.
    pub standing: Standing,
    /// The sender waits for acknowledgements: answer at once.
    pub answer: bool,
    /// Digest of what the sender's table is made of. Equal digests mean equal tables.
    pub view: u32,
    /// How often somebody asked for a rebalance; the highest number counts.
    pub rebalance: u32,
    /// For people.
    pub facts: Facts,
    /// Buckets for which the sender answers new connections.
    pub claims: BucketSet,
    /// Buckets it will claim when everybody lets it.
    pub intents: BucketSet,
    /// Buckets in which its kernel may hold sessions.
    pub sessions: BucketSet,
    /// Who does not serve, in its opinion.
    pub testimony: Testimony,
    /// What it knows of the others, ascending by node.
    pub peers: Vec<PeerReport>,
    /// Who goes first among nodes that do not hear each other.
    pub rulings: Rulings,
}

impl Beat {
    /// What the sender says of `node`.
    pub fn report(&self, node: NodeId) -> Option<&PeerReport> {
        self.peers.binary_search_by_key(&node, |report| report.node).ok().map(|i| &self.peers[i])
    }

    /// The nodes that the sender hears.
    pub fn hears(&self) -> NodeSet {
        self.peers.iter().filter(|report| report.heard).map(|report| report.node).collect()
    }
}
