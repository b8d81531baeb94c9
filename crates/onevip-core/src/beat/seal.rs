//! How a beat is protected: encrypted and authenticated as a whole, under a key that only this cluster's VIP has.
//!
//! A sealed beat, as the UDP payload; all numbers are little-endian:
//!
//! | offset | bytes | meaning |
//! | ---: | ---: | --- |
//! | 0 | 4 | `1vip` |
//! | 4 | 8 | cluster tag: hash of the names of cluster and VIP |
//! | 12 | 1 | [`VERSION`] of the layout |
//! | 13 | 1 | node, 1 to 64 |
//! | 14 | 4 | key id |
//! | 18 | 4 | host |
//! | 22 | 4 | incarnation |
//! | 26 | 4 | number of the beat |
//! | 30 | 8 | salt |
//! | 38 | | the body ([`codec`]), encrypted |
//! | end − 16 | 16 | tag |
//!
//! The first 13 bytes stay the same in all versions, so that a node can tell "one of us that I cannot read" from a
//! stranger. The cipher is XChaCha20-Poly1305; everything before the body is its associated data, and its nonce is
//! node, host, incarnation, number and salt, filled up with zeros. The salt is a keyed hash of header and body, so
//! that two different beats do not share a nonce even where the rest is the same: two hosts with one node number and
//! a copied machine id, or a virtual machine set back to a snapshot. Nothing random is needed.
//!
//! The same sealed beat goes out once per VIP family; the family is not part of it.
//!
//! Checks are made in order of their cost, and all but the last two on the header alone: see [`Rejected`]. Whether a
//! beat is new is [`super::replay`]'s business.

use super::Beat;
use super::codec::{self, DATAGRAM_MAX, DecodeError, Origin};
use super::key::{Key, KeyId, Keyring, cluster_tag, hmac};
use super::{Incarnation, Seq};
use crate::ids::NodeId;
use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce};

/// The version of the layout of header and body.
pub const VERSION: u8 = 3;

/// Bytes before the body.
pub const HEADER: usize = 38;

/// Bytes after the body.
pub const TAG: usize = 16;

/// What sealing adds to a body, in bytes.
pub const OVERHEAD: usize = HEADER + TAG;

const MAGIC: [u8; 4] = *b"1vip";

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
pub struct Sealer {
    tag: [u8; 8],
    salt_key: Key,
    /// Ciphers of all keys that open; the first seals.
    ciphers: Vec<(KeyId, XChaCha20Poly1305)>,
}

impl Sealer {
    /// For the VIP called `vip` of the cluster called `cluster`: names are as in the configuration, alike on all nodes.
    pub fn new(keyring: &Keyring, cluster: &str, vip: &str) -> Self {
        let cipher = |key: &Key| {
            let derived = key.derive(b"onevip beat seal", cluster, vip);
            (key.id(), XChaCha20Poly1305::new(derived.bytes().into()))
        };
        Self {
            tag: cluster_tag(cluster, vip),
            salt_key: keyring.send().derive(b"onevip beat salt", cluster, vip),
            ciphers: keyring.accept().iter().map(cipher).collect(),
        }
    }

    /// The UDP payload that carries `beat`: at most [`DATAGRAM_MAX`] bytes.
    pub fn seal(&self, beat: &Beat) -> Vec<u8> {
        let (key_id, cipher) = &self.ciphers[0];
        let mut sealed = Vec::with_capacity(DATAGRAM_MAX);
        sealed.extend(MAGIC);
        sealed.extend(self.tag);
        sealed.extend([VERSION, beat.from.get()]);
        sealed.extend(key_id.0);
        sealed.extend(beat.host.to_le_bytes());
        sealed.extend(beat.incarnation.0.to_le_bytes());
        sealed.extend(beat.seq.0.to_le_bytes());
        sealed.extend([0; 8]);
        codec::encode_into(beat, &mut sealed);
        let hash = hmac(self.salt_key.bytes(), &[&sealed]);
        sealed[HEADER - 8..HEADER].copy_from_slice(&hash[..8]);
        let (header, body) = sealed.split_at_mut(HEADER);
        let tag = cipher
            .encrypt_in_place_detached(&nonce(header), header, body)
            .expect("the cipher refuses only messages of more than 256 GB");
        sealed.extend(tag);
        sealed
    }

    /// The beat in `datagram`, the UDP payload. Does not know whether it is new: [`super::receive`] does both.
    ///
    /// # Errors
    ///
    /// Every reason of [`Rejected`] but the two that need a memory.
    pub fn open(&self, datagram: &[u8]) -> Result<Beat, Rejected> {
        let envelope = self.look(datagram)?;
        self.open_envelope(&envelope, datagram)
    }

    /// What the header says, if it may be a beat of ours: cheap, and nobody vouches for it yet.
    pub(super) fn look(&self, datagram: &[u8]) -> Result<Envelope, Rejected> {
        // The bound holds for this version only: a longer beat of another one must be told by its version.
        let header: &[u8; HEADER] = datagram.first_chunk().ok_or(Rejected::Length)?;
        if header[..4] != MAGIC {
            return Err(Rejected::NotABeat);
        }
        if header[4..12] != self.tag {
            return Err(Rejected::ForeignCluster);
        }
        if header[12] != VERSION {
            return Err(Rejected::Version(header[12]));
        }
        if !(OVERHEAD + codec::BODY_MIN..=DATAGRAM_MAX).contains(&datagram.len()) {
            return Err(Rejected::Length);
        }
        let u32_at =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let key_id = KeyId([header[14], header[15], header[16], header[17]]);
        if self.ciphers.iter().all(|(id, _)| *id != key_id) {
            return Err(Rejected::UnknownKey(key_id));
        }
        // No node has such a number and no beat is numbered 0, so no key can have sealed that.
        let from = NodeId::new(header[13]).ok_or(Rejected::Forged)?;
        let seq = Some(Seq(u32_at(26))).filter(|seq| *seq != Seq(0)).ok_or(Rejected::Forged)?;
        let origin = Origin { from, host: u32_at(18), incarnation: Incarnation(u32_at(22)), seq };
        Ok(Envelope { key_id, origin })
    }

    /// Opens a datagram whose header was looked at.
    pub(super) fn open_envelope(&self, envelope: &Envelope, datagram: &[u8]) -> Result<Beat, Rejected> {
        let (header, rest) = datagram.split_at(HEADER);
        let (body, tag) = rest.split_at(rest.len() - TAG);
        let mut plain = [0; DATAGRAM_MAX - OVERHEAD];
        // Two keys may, once in four thousand million, have the same id.
        for (_, cipher) in self.ciphers.iter().filter(|(id, _)| *id == envelope.key_id) {
            let plain = &mut plain[..body.len()];
            plain.copy_from_slice(body);
            let opened =
                cipher.decrypt_in_place_detached(&nonce(header), header, plain, Tag::from_slice(tag));
            if opened.is_ok() {
                return codec::decode(envelope.origin, plain).map_err(Rejected::Malformed);
            }
        }
        Err(Rejected::Forged)
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<KeyId> = self.ciphers.iter().map(|(id, _)| *id).collect();
        f.debug_struct("Sealer").field("keys", &keys).finish_non_exhaustive()
    }
}

/// What stands outside on a sealed beat.
#[derive(Clone, Copy, Debug)]
pub(super) struct Envelope {
    key_id: KeyId,
    /// Who claims to have sent it, and which beat it claims to be.
    pub origin: Origin,
}

/// Node, host, incarnation, number and salt, as they stand in the header.
fn nonce(header: &[u8]) -> XNonce {
    let mut nonce = [0; 24];
    nonce[0] = header[13];
    nonce[1..21].copy_from_slice(&header[18..HEADER]);
    nonce.into()
}
