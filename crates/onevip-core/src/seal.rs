//! The sealed envelope in which beats and messages travel: a header in the clear, a body that is encrypted, a tag.
//!
//! All numbers are little-endian:
//!
//! | bytes | meaning |
//! | ---: | --- |
//! | 4 | what it is: [`Format::magic`] |
//! | 8 | cluster tag: hash of the names of cluster and VIP |
//! | 1 | [`Format::version`] |
//! | 1 | sender, 1 to 64 |
//! | 0 or 1 | addressee: [`Format::addressed`] |
//! | 4 | key id |
//! | 4 | host |
//! | 4 | incarnation |
//! | 4 | number |
//! | 8 | salt |
//! | | the body, encrypted |
//! | 16 | tag |
//!
//! The cipher is XChaCha20-Poly1305; everything before the body is its associated data, and its nonce is sender, host,
//! incarnation, number and salt, filled up with zeros. The salt is a keyed hash of header and body, so that two different
//! envelopes do not share a nonce even where the rest is the same: two hosts with one node number and a copied machine
//! id, or a virtual machine set back to a snapshot. Nothing random is needed. Each format has keys of its own.
//!
//! What a header means, and in which order it is checked, is the business of [`crate::beat::seal`] and [`crate::rpc`].

use crate::beat::key::{cluster_tag, hmac};
use crate::beat::{Incarnation, Key, KeyId, Keyring, Seq};
use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce};

/// Bytes after the body.
pub(crate) const TAG: usize = 16;

const TAG_AT: usize = 4;
const VERSION_AT: usize = 12;
const SENDER_AT: usize = 13;
/// Where the addressee stands, in formats that have one.
const ADDRESSEE_AT: usize = 14;
const SALT: usize = 8;

/// One kind of envelope.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    /// Its first bytes.
    pub magic: [u8; 4],
    /// The version of the layout of header and body.
    pub version: u8,
    /// Whether it names the node that it is for.
    pub addressed: bool,
    /// From what the key that seals it is derived.
    pub seal_label: &'static [u8],
    /// From what the key of the salt is derived.
    pub salt_label: &'static [u8],
}

impl Format {
    /// Bytes before the body.
    pub const fn header_len(&self) -> usize {
        self.key_id_at() + 16 + SALT
    }

    /// Whether a datagram begins as this kind does.
    pub fn is_begun_by(&self, datagram: &[u8]) -> bool {
        datagram.starts_with(&self.magic)
    }

    /// The addressee in a datagram of this kind, if it is long enough for one.
    pub fn addressee(&self, datagram: &[u8]) -> Option<u8> {
        datagram.get(ADDRESSEE_AT).copied().filter(|_| self.addressed)
    }

    /// The version in a datagram with a whole header.
    #[inline]
    pub fn version(&self, datagram: &[u8]) -> u8 {
        datagram[VERSION_AT]
    }

    /// What names a datagram with a whole header.
    #[inline]
    pub fn header(&self, datagram: &[u8]) -> Header {
        let numbers = &datagram[self.key_id_at() + 4..self.header_len()];
        let number =
            |at: usize| u32::from_le_bytes([numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]]);
        Header {
            sender: datagram[SENDER_AT],
            host: number(0),
            incarnation: Incarnation(number(4)),
            seq: Seq(number(8)),
        }
    }

    /// The key with which a datagram with a whole header is sealed.
    #[inline]
    pub fn key_id(&self, datagram: &[u8]) -> KeyId {
        let at = self.key_id_at();
        KeyId([datagram[at], datagram[at + 1], datagram[at + 2], datagram[at + 3]])
    }

    const fn key_id_at(&self) -> usize {
        SENDER_AT + 1 + self.addressed as usize
    }

    /// Sender, host, incarnation, number and salt, as they stand in the header.
    fn nonce(&self, header: &[u8]) -> XNonce {
        let mut nonce = [0; 24];
        nonce[0] = header[SENDER_AT];
        nonce[1..21].copy_from_slice(&header[self.key_id_at() + 4..self.header_len()]);
        nonce.into()
    }
}

/// What names an envelope and says who can open it. Nobody vouches for it before it is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    /// The number of the sender, which may be none that a node has.
    pub sender: u8,
    /// Tells hosts with the same node number apart.
    pub host: u32,
    /// The sender's incarnation.
    pub incarnation: Incarnation,
    /// The number of the envelope.
    pub seq: Seq,
}

/// Seals and opens the envelopes of one format at one VIP.
#[derive(Clone)]
pub(crate) struct Envelopes {
    format: Format,
    tag: [u8; 8],
    salt_key: Key,
    /// Ciphers of all keys that open; the first seals.
    ciphers: Vec<(KeyId, XChaCha20Poly1305)>,
}

impl Envelopes {
    /// For the VIP called `vip` of the cluster called `cluster`: names are as in the configuration, alike on all nodes.
    pub fn new(format: Format, keyring: &Keyring, cluster: &str, vip: &str) -> Self {
        let cipher = |key: &Key| {
            let derived = key.derive(format.seal_label, cluster, vip);
            (key.id(), XChaCha20Poly1305::new(derived.bytes().into()))
        };
        Self {
            format,
            tag: cluster_tag(cluster, vip),
            salt_key: keyring.send().derive(format.salt_label, cluster, vip),
            ciphers: keyring.accept().iter().map(cipher).collect(),
        }
    }

    /// The ids of the keys that open, the one that seals first.
    pub fn key_ids(&self) -> impl Iterator<Item = KeyId> {
        self.ciphers.iter().map(|(id, _)| *id)
    }

    /// An envelope of at most `length_max` bytes with the body that `write` appends.
    pub fn seal(
        &self,
        header: &Header,
        addressee: Option<u8>,
        length_max: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Vec<u8> {
        debug_assert_eq!(addressee.is_some(), self.format.addressed);
        let (key_id, cipher) = &self.ciphers[0];
        let length = self.format.header_len();
        let mut sealed = Vec::with_capacity(length_max);
        sealed.extend(self.format.magic);
        sealed.extend(self.tag);
        sealed.extend([self.format.version, header.sender]);
        sealed.extend(addressee);
        sealed.extend(key_id.0);
        sealed.extend(header.host.to_le_bytes());
        sealed.extend(header.incarnation.0.to_le_bytes());
        sealed.extend(header.seq.0.to_le_bytes());
        sealed.extend([0; SALT]);
        write(&mut sealed);
        let hash = hmac(self.salt_key.bytes(), &[&sealed]);
        sealed[length - SALT..length].copy_from_slice(&hash[..SALT]);
        let (header, body) = sealed.split_at_mut(length);
        let tag = cipher
            .encrypt_in_place_detached(&self.format.nonce(header), header, body)
            .expect("the cipher refuses only messages of more than 256 GB");
        sealed.extend(tag);
        sealed
    }

    /// Whether a datagram with a whole header is of this cluster and VIP.
    #[inline]
    pub fn is_ours(&self, datagram: &[u8]) -> bool {
        datagram[TAG_AT..VERSION_AT] == self.tag
    }

    /// The body of a datagram with a whole header and a tag, written into `room`, which has to be large enough. `None`:
    /// nobody who has one of the keys sealed it.
    pub fn open<'a>(&self, datagram: &[u8], room: &'a mut [u8]) -> Option<&'a [u8]> {
        let (header, rest) = datagram.split_at(self.format.header_len());
        let (body, tag) = rest.split_at(rest.len() - TAG);
        let (key_id, nonce) = (self.format.key_id(datagram), self.format.nonce(header));
        let plain = &mut room[..body.len()];
        // Two keys may, once in four thousand million, have the same id.
        for (_, cipher) in self.ciphers.iter().filter(|(id, _)| *id == key_id) {
            plain.copy_from_slice(body);
            if cipher.decrypt_in_place_detached(&nonce, header, plain, Tag::from_slice(tag)).is_ok() {
                return Some(plain);
            }
        }
        None
    }
}
