//! Keys, and what is made of them.
//!
//! One secret of 32 random bytes is shared by all nodes of a cluster. It is never used itself: every VIP has keys of
//! its own, derived from it with HMAC-SHA-256 under the names of cluster and VIP, so that the beats of one VIP mean
//! nothing to another and their nonces cannot meet. The file that keeps keys is [`super::key_file`].

use sha2::{Digest, Sha256};
use std::fmt;
use zeroize::Zeroize;

/// How many keys may be valid at once: the one that sends and three others.
pub const KEYS_MAX: usize = 4;

/// A secret. Wiped from memory when dropped; never shown.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// The key that these bytes are.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key written as 64 hexadecimal digits of either case; `None` if `hex` is anything else.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let digits: &[u8; 64] = hex.as_bytes().try_into().ok()?;
        let mut key = Self([0; 32]);
        for (byte, pair) in key.0.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (hex_digit(pair[0])? << 4) | hex_digit(pair[1])?;
        }
        Some(key)
    }

    /// 64 hexadecimal digits: the secret itself, for the key file and nothing else.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A short name for the key that gives nothing away: beats carry it, people compare it.
    pub fn id(&self) -> KeyId {
        let [a, b, c, d, ..] = hmac(&self.0, &[b"onevip key id"]);
        KeyId([a, b, c, d])
    }

    /// A key for one purpose in the world of one VIP.
    pub(crate) fn derive(&self, purpose: &[u8], cluster: &str, vip: &str) -> Key {
        let (cluster_len, vip_len) = lengths(cluster, vip);
        let parts = [purpose, &cluster_len, cluster.as_bytes(), &vip_len, vip.as_bytes()];
        Key(hmac(&self.0, &parts))
    }

    /// The bytes, for a cipher.
    pub(crate) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether it is the key that nobody drew.
    pub(super) fn is_zero(&self) -> bool {
        *self == Self([0; 32])
    }
}

impl PartialEq for Key {
    /// In constant time.
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

impl Eq for Key {}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id())
    }
}

/// What a key is called: eight hexadecimal digits that follow from it, but do not reveal it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub [u8; 4]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The keys of a node: one with which it seals, and all that open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keyring {
    send: Key,
    accept: Vec<Key>,
}

impl Keyring {
    /// Seals with `send`, opens with it and with `others`. Keys given twice count once, and of `others` at most
    /// [`KEYS_MAX`] − 1 are kept: each costs an attempt when a forged beat arrives.
    pub fn new(send: Key, others: impl IntoIterator<Item = Key>) -> Self {
        let mut accept = vec![send.clone()];
        for key in others {
            if accept.len() < KEYS_MAX && !accept.contains(&key) {
                accept.push(key);
            }
        }
        Self { send, accept }
    }

    /// The key that seals.
    pub const fn send(&self) -> &Key {
        &self.send
    }

    /// The keys that open, the one that seals first.
    pub fn accept(&self) -> &[Key] {
        &self.accept
    }
}

/// What tells the beats of one VIP from those of all others on the same wire. No secret.
pub(crate) fn cluster_tag(cluster: &str, vip: &str) -> [u8; 8] {
    let (cluster_len, vip_len) = lengths(cluster, vip);
    let parts =
        [b"onevip cluster tag".as_slice(), &cluster_len, cluster.as_bytes(), &vip_len, vip.as_bytes()];
    let [a, b, c, d, e, f, g, h, ..] = sha256(&parts);
    [a, b, c, d, e, f, g, h]
}

/// Lengths before the names, so that `ab` + `c` is not `a` + `bc`.
fn lengths(cluster: &str, vip: &str) -> ([u8; 8], [u8; 8]) {
    ((cluster.len() as u64).to_le_bytes(), (vip.len() as u64).to_le_bytes())
}

/// HMAC-SHA-256 (RFC 2104) of `parts` in a row, with a key of 32 bytes.
pub(crate) fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    let mut inner = Sha256::new_with_prefix(block.map(|byte| byte ^ 0x36));
    parts.iter().for_each(|part| inner.update(part));
    let outer = sha256(&[&block.map(|byte| byte ^ 0x5c), &inner.finalize()]);
    block.zeroize();
    outer
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

const fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_is_the_one_of_rfc_4231() {
        // Test case 1: 20 bytes of 0x0b are, padded with zeros to a block, the same key as these 32.
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let expected = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7";
        assert_eq!(Key(hmac(&key, &[b"Hi ", b"There"])).to_hex(), expected);
    }

    #[test]
    fn keys_for_different_purposes_clusters_and_vips_differ() {
        let key = Key::from_bytes([7; 32]);
        let keys = [
            key.derive(b"seal", "a", "bc"),
            key.derive(b"seal", "ab", "c"),
            key.derive(b"seal", "a", "b"),
            key.derive(b"salt", "a", "bc"),
            Key::from_bytes([8; 32]).derive(b"seal", "a", "bc"),
        ];
        for (i, one) in keys.iter().enumerate() {
            assert!(keys[i + 1..].iter().all(|other| other != one));
        }
        assert_ne!(cluster_tag("a", "bc"), cluster_tag("ab", "c"));
    }

    #[test]
    fn a_key_shows_its_id_and_nothing_else() {
        let key = Key::from_hex(&"aB".repeat(32)).unwrap();
        assert_eq!(key.bytes(), &[0xab; 32]);
        let shown = format!("{key:?}");
        assert_eq!(shown, format!("Key({})", key.id()));
        assert!(!shown.contains("abab"));
        for wrong in ["", "ab", &"ab".repeat(33), &"ag".repeat(32), &"é".repeat(32)] {
            assert!(Key::from_hex(wrong).is_none());
        }
    }
}
