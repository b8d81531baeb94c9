//! Sealing beats with a shared key, and opening them: ChaCha20-Poly1305 (RFC 8439).
//!
//! The header travels in the clear and is authenticated with the rest. The nonce is made of node number, host number,
//! incarnation and sequence number; it never comes twice under one key as long as incarnations only grow.
//!
//! A key is replaced without an interruption in three steps, each on all nodes before the next: accept the new key as
//! well; send with it; drop the old one.

use super::Beat;
use super::codec::{self, HEADER_LEN, Header, Malformed};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use std::fmt;

/// How many keys a node may accept at once.
pub const KEYS_MAX: usize = 4;

/// One shared key. Its number is derived from it, so that no one has to configure that.
#[derive(Clone)]
pub struct Key {
    id: u16,
    cipher: ChaCha20Poly1305,
}

impl Key {
    /// The key with these 32 bytes, which must be random.
    pub fn new(bytes: &[u8; 32]) -> Self {
        let cipher = ChaCha20Poly1305::new(bytes.into());
        // Node number 255 does not exist, so no beat ever uses this nonce.
        let mark = cipher.encrypt(&Nonce::from([0xff; 12]), &[0u8; 2][..]);
        let mark = mark.expect("encrypting two bytes cannot fail");
        Self { id: u16::from_le_bytes([mark[0], mark[1]]), cipher }
    }

    /// The number by which beats name the key. It tells nothing of the key itself.
    pub const fn id(&self) -> u16 {
        self.id
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:04x})", self.id)
    }
}

/// Why a beat cannot be opened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Unopened {
    /// It is no beat, or says what cannot be.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It was sealed with a key that we do not accept.
    #[error("sealed with key {0:04x}, which this node does not accept: compare the key files")]
    UnknownKey(u16),
    /// It names a key of ours but was not sealed with it, or was changed on the way.
    #[error("forged or damaged")]
    Forged,
}

/// The key we send with and those we accept.
#[derive(Clone, Debug)]
pub struct Keyring {
    cluster: u32,
    send: Key,
    accept: Vec<Key>,
}

impl Keyring {
    /// Sends with `send`, accepts that and up to [`KEYS_MAX`]` - 1` others. `cluster` tells clusters on one segment apart
    /// (digest of its name).
    pub fn new(cluster: u32, send: Key, others: Vec<Key>) -> Self {
        let mut accept = vec![send.clone()];
        accept.extend(others);
        accept.truncate(KEYS_MAX);
        Self { cluster, send, accept }
    }

    /// Which cluster this is.
    pub const fn cluster(&self) -> u32 {
        self.cluster
    }

    /// Whether a beat may be sealed with this key.
    pub fn accepts(&self, key: u16) -> bool {
        self.accept.iter().any(|k| k.id == key)
    }

    /// The beat as it travels, at most [`codec::BEAT_MAX`] bytes.
    pub fn seal(&self, beat: &Beat) -> Vec<u8> {
        let header = Header {
            from: beat.from,
            key: self.send.id,
            cluster: self.cluster,
            host: beat.host,
            incarnation: beat.incarnation,
            seq: beat.seq,
        };
        let clear = header.write();
        let body = codec::write_body(beat);
        let sealed = self.send.cipher.encrypt(&nonce(&header), Payload { msg: &body, aad: &clear });
        let mut bytes = clear.to_vec();
        bytes.extend(sealed.expect("a body of 1.4 KB is not too long to be sealed"));
        bytes
    }

    /// Opens what carries `header` at its front.
    pub fn open(&self, header: &Header, bytes: &[u8]) -> Result<Beat, Unopened> {
        let (clear, sealed) = bytes.split_at_checked(HEADER_LEN).ok_or(Malformed::Truncated)?;
        if !self.accepts(header.key) {
            return Err(Unopened::UnknownKey(header.key));
        }
        let nonce = nonce(header);
        let opened = self
            .accept
            .iter()
            .filter(|key| key.id == header.key)
            .find_map(|key| key.cipher.decrypt(&nonce, Payload { msg: sealed, aad: clear }).ok());
        Ok(codec::read_body(header, &opened.ok_or(Unopened::Forged)?)?)
    }
}

/// Never the same twice under one key. The host number is in it because two hosts may have been given one node number.
fn nonce(header: &Header) -> Nonce {
    let mut nonce = [0; 12];
    nonce[0] = header.from.get();
    nonce[1..4].copy_from_slice(&header.host.to_le_bytes()[..3]);
    nonce[4..8].copy_from_slice(&header.incarnation.0.to_le_bytes());
    nonce[8..12].copy_from_slice(&header.seq.0.to_le_bytes());
    nonce.into()
}
