//! How a beat is protected: encrypted and authenticated as a whole, under a key that only this cluster's VIP has.
//!
//! Its layout is in [`super::envelope`], that of the body in [`codec`].
//!
//! The same sealed beat goes out once per VIP family; the family is not part of it.
//!
//! Checks are made in order of their cost, and all but the last two on the header alone: see [`Rejected`]. Whether a
//! beat is new is [`super::replay`]'s business.

use super::Beat;
use super::Seq;
use super::codec::{self, DecodeError, Origin};
use super::envelope::{DATAGRAM_MAX, FORMAT, HEADER, OVERHEAD, VERSION};
use super::key::{KeyId, Keyring};
use crate::ids::NodeId;
use crate::seal::{Envelopes, Header};

/// Why a datagram did not count as a beat. In the order of the checks: the earlier, the cheaper.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Rejected {
    /// Too short or too long for a beat.
    #[error("too short or too long for a beat")]
    Length,
    /// It does not begin as beats do: some other program's datagram.
    #[error("not a beat: another program sends to the beat port")]
    NotABeat,
    /// A beat of another cluster, or of another VIP.
    #[error(
        "a beat of another cluster or VIP: clusters on one network need names and addresses of their own"
    )]
    ForeignCluster,
    /// A beat of this cluster in a layout that this build cannot read.
    #[error(
        "a beat in version {0} of the layout, but this build reads only version {VERSION}: upgrade the older node"
    )]
    Version(u8),
    /// A beat of this cluster, sealed with a key that this node does not have.
    #[error("sealed with key {0}, which this node does not have: compare the key files of the nodes")]
    UnknownKey(KeyId),
    /// A copy of a beat that has been here, or one so old that nobody can tell.
    #[error("replayed: this beat has already been received")]
    Replayed,
    /// From an earlier life of the sender than the newest that was heard.
    #[error(
        "from an earlier incarnation of its sender: a replay, or the sender's clock and state file went back"
    )]
    OldIncarnation,
    /// The seal does not match: somebody who does not have the key made or changed it.
    #[error("forged or damaged: the seal does not match")]
    Forged,
    /// The seal is good, but the content is not a beat.
    #[error("malformed though its seal is good ({0}): run the same release on all nodes")]
    Malformed(DecodeError),
}

impl Rejected {
    /// Each reason once, in order; the details in them are examples.
    pub const ALL: [Self; 9] = [
        Self::Length,
        Self::NotABeat,
        Self::ForeignCluster,
        Self::Version(0),
        Self::UnknownKey(KeyId([0; 4])),
        Self::Replayed,
        Self::OldIncarnation,
        Self::Forged,
        Self::Malformed(DecodeError::Length),
    ];

    /// Its position in [`Rejected::ALL`].
    pub const fn index(self) -> usize {
        match self {
            Self::Length => 0,
            Self::NotABeat => 1,
            Self::ForeignCluster => 2,
            Self::Version(_) => 3,
            Self::UnknownKey(_) => 4,
            Self::Replayed => 5,
            Self::OldIncarnation => 6,
            Self::Forged => 7,
            Self::Malformed(_) => 8,
        }
    }

    /// A word for counters and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::NotABeat => "not-a-beat",
            Self::ForeignCluster => "foreign-cluster",
            Self::Version(_) => "version",
            Self::UnknownKey(_) => "unknown-key",
            Self::Replayed => "replayed",
            Self::OldIncarnation => "old-incarnation",
            Self::Forged => "forged",
            Self::Malformed(_) => "malformed",
        }
    }

    /// Whether this looks like a node of our own cluster that we cannot read: what
    /// [`Engine::unreadable_beat`](crate::membership::Engine::unreadable_beat) is to be told about.
    ///
    /// Not [`Rejected::Forged`]: honest nodes never cause that. And nobody has vouched for the header of such a
    /// datagram, so it may have been made up, with this effect: a node that is joining goes on listening. Therefore tell
    /// the engine at most once per beat time (a call costs far more than the datagram did), and not at all once any
    /// beat of another node was accepted: our key is right then, and whoever cannot be read is somebody else's to
    /// sort out. What remains is that somebody on the wire can keep a lone node from starting; somebody on the wire
    /// could as well answer ARP for the VIP, and here the log says what to look for.
    pub const fn is_unreadable(self) -> bool {
        matches!(self, Self::Version(_) | Self::UnknownKey(_))
    }
}

/// Seals and opens the beats of one VIP.
#[derive(Clone)]
pub struct Sealer(Envelopes);

impl Sealer {
    /// For the VIP called `vip` of the cluster called `cluster`: names are as in the configuration, alike on all nodes.
    pub fn new(keyring: &Keyring, cluster: &str, vip: &str) -> Self {
        Self(Envelopes::new(FORMAT, keyring, cluster, vip))
    }

    /// The UDP payload that carries `beat`: at most [`DATAGRAM_MAX`] bytes.
    pub fn seal(&self, beat: &Beat) -> Vec<u8> {
        let Beat { from, host, incarnation, seq, .. } = *beat;
        let header = Header { sender: from.get(), host, incarnation, seq };
        self.0.seal(&header, None, DATAGRAM_MAX, |sealed| codec::encode_into(beat, sealed))
    }

    /// The beat in `datagram`, the UDP payload. Does not know whether it is new: [`super::receive`] does both.
    ///
    /// # Errors
    ///
    /// Every reason of [`Rejected`] but the two that need a memory.
    pub fn open(&self, datagram: &[u8]) -> Result<Beat, Rejected> {
        self.open_from(self.look(datagram)?, datagram)
    }

    /// Which beat it claims to be, if it may be one of ours: cheap, and nobody vouches for it yet.
    #[inline]
    pub(super) fn look(&self, datagram: &[u8]) -> Result<Origin, Rejected> {
        // The bound holds for this version only: a longer beat of another one must be told by its version.
        if datagram.len() < HEADER {
            return Err(Rejected::Length);
        }
        if !FORMAT.is_begun_by(datagram) {
            return Err(Rejected::NotABeat);
        }
        if !self.0.is_ours(datagram) {
            return Err(Rejected::ForeignCluster);
        }
        let version = FORMAT.version(datagram);
        if version != VERSION {
            return Err(Rejected::Version(version));
        }
        if !(OVERHEAD + codec::BODY_MIN..=DATAGRAM_MAX).contains(&datagram.len()) {
            return Err(Rejected::Length);
        }
        let key_id = FORMAT.key_id(datagram);
        if self.0.key_ids().all(|id| id != key_id) {
            return Err(Rejected::UnknownKey(key_id));
        }
        let Header { sender, host, incarnation, seq } = FORMAT.header(datagram);
        // No node has such a number and no beat is numbered 0, so no key can have sealed that.
        let from = NodeId::new(sender).filter(|_| seq != Seq(0)).ok_or(Rejected::Forged)?;
        Ok(Origin { from, host, incarnation, seq })
    }

    /// Opens a datagram whose header was looked at.
    pub(super) fn open_from(&self, origin: Origin, datagram: &[u8]) -> Result<Beat, Rejected> {
        let mut room = [0; DATAGRAM_MAX - OVERHEAD];
        let body = self.0.open(datagram, &mut room).ok_or(Rejected::Forged)?;
        codec::decode(origin, body).map_err(Rejected::Malformed)
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<KeyId> = self.0.key_ids().collect();
        f.debug_struct("Sealer").field("keys", &keys).finish_non_exhaustive()
    }
}
