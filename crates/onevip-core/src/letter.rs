//! Letters: what one node's help desk asks another's, and the pages of the answer.
//!
//! They travel beside the beats, to the same port of the VIP, sealed under keys derived from the same secret for this
//! purpose alone; so no node opens another port, and a letter can never pass for a beat nor a beat for a letter. No
//! claim depends on a letter. A sealed letter, as the UDP payload; all numbers are little-endian:
//!
//! | offset | bytes | meaning |
//! | ---: | ---: | --- |
//! | 0 | 4 | `1ltr` |
//! | 4 | 8 | cluster tag, as in beats |
//! | 12 | 1 | [`VERSION`] |
//! | 13 | 1 | sender, 1 to 64 |
//! | 14 | 1 | addressee, 1 to 64 |
//! | 15 | 4 | key id |
//! | 19 | 4 | host |
//! | 23 | 4 | incarnation |
//! | 27 | 4 | number of the letter |
//! | 31 | 8 | salt |
//! | 39 | 1 | encrypted from here: 0 question, 1 page of an answer |
//! | 40 | 8 | number of the question: drawn by the asker, and the same in the answer |
//! | 48 | 2 | page: the one that is asked for, or the one that this is |
//! | 50 | 2 | pages of the answer; 0 in a question |
//! | 52 | | text |
//! | end − 16 | 16 | tag |
//!
//! Cipher, nonce and salt are those of beats ([`crate::beat::seal`]). The sender's incarnation and number tell copies
//! ([`crate::beat::replay`]), and a page counts only as the answer to a question that is open: so a recorded letter
//! tells nobody anything, and at worst makes a daemon that was just restarted answer once more.

use crate::beat::codec::{DATAGRAM_MAX, Origin};
use crate::beat::key::{cluster_tag, hmac};
use crate::beat::replay::ReplayGuard;
use crate::beat::{Incarnation, Key, KeyId, Keyring, Seq};
use crate::ids::NodeId;
use crate::membership::Family;
use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce};

/// The version of the layout.
pub const VERSION: u8 = 1;

const MAGIC: [u8; 4] = *b"1ltr";
const HEADER: usize = 39;
const HEAD_OF_BODY: usize = 13;
const TAG: usize = 16;

/// The longest text of one letter, in bytes: a letter is never longer than a beat may be.
pub const TEXT_MAX: usize = DATAGRAM_MAX - HEADER - HEAD_OF_BODY - TAG;

/// What a letter is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A question, whose text is in it.
    Question {
        /// Which page of the answer is wanted.
        page: u16,
    },
    /// A part of an answer.
    Page {
        /// Which, from 0.
        page: u16,
        /// How many there are.
        pages: u16,
    },
}

/// A letter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Letter {
    /// Who wrote it.
    pub from: NodeId,
    /// To whom.
    pub to: NodeId,
    /// The number of the question.
    pub id: u64,
    /// What it is.
    pub kind: Kind,
    /// At most [`TEXT_MAX`] bytes.
    pub text: Vec<u8>,
}

/// Why a datagram is no letter for us.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Returned {
    /// Not a letter, one of another cluster, or in another version.
    #[error("not a letter that this build reads")]
    Strange,
    /// For another node.
    #[error("for another node")]
    NotForUs,
    /// A copy of one that has been here, or from an earlier life of its sender.
    #[error("a copy")]
    Copy,
    /// Sealed with a key that is not here, or not sealed by anybody who has the key.
    #[error("no key opens it")]
    Sealed,
}

/// Whether a datagram may be a letter for `me`. Nobody vouches for it yet: this only sorts the mail, cheaply.
pub fn may_be_for(me: NodeId, datagram: &[u8]) -> bool {
    is_letter(datagram) && datagram.get(14) == Some(&me.get())
}

/// Whether a datagram means to be a letter, to whomever.
pub fn is_letter(datagram: &[u8]) -> bool {
    datagram.starts_with(&MAGIC)
}

/// Writes and opens the letters of one node at one VIP.
pub struct Post {
    me: NodeId,
    host: u32,
    incarnation: Incarnation,
    written: u32,
    tag: [u8; 8],
    salt_key: Key,
    /// Ciphers of all keys that open; the first seals.
    ciphers: Vec<(KeyId, XChaCha20Poly1305)>,
    guard: ReplayGuard,
}

impl Post {
    /// For the node `me` at the VIP called `vip` of the cluster called `cluster`. `host` and `incarnation` are those
    /// of its beats.
    pub fn new(
        keyring: &Keyring,
        (cluster, vip): (&str, &str),
        me: NodeId,
        host: u32,
        incarnation: Incarnation,
    ) -> Self {
        let mut post = Self {
            me,
            host,
            incarnation,
            written: 0,
            tag: cluster_tag(cluster, vip),
            salt_key: Key::from_bytes([0; 32]),
            ciphers: Vec::new(),
            guard: ReplayGuard::new(),
        };
        post.rekey(keyring, (cluster, vip));
        post
    }

    /// Uses other keys from now on, and forgets nothing.
    pub fn rekey(&mut self, keyring: &Keyring, (cluster, vip): (&str, &str)) {
        let cipher = |key: &Key| {
            let derived = key.derive(b"onevip letter seal", cluster, vip);
            (key.id(), XChaCha20Poly1305::new(derived.bytes().into()))
        };
        self.salt_key = keyring.send().derive(b"onevip letter salt", cluster, vip);
        self.ciphers = keyring.accept().iter().map(cipher).collect();
    }

    /// Writes as a later life of this node from now on: see [`crate::membership::Engine::begin_anew`].
    pub fn begin_anew(&mut self, incarnation: Incarnation) {
        (self.incarnation, self.written) = (incarnation, 0);
    }

    /// The UDP payload that carries a letter of this node. A text that is too long is cut.
    pub fn seal(&mut self, to: NodeId, id: u64, kind: Kind, text: &[u8]) -> Vec<u8> {
        self.written += 1;
        let (key_id, cipher) = &self.ciphers[0];
        let mut sealed = Vec::with_capacity(DATAGRAM_MAX);
        sealed.extend(MAGIC);
        sealed.extend(self.tag);
        sealed.extend([VERSION, self.me.get(), to.get()]);
        sealed.extend(key_id.0);
        sealed.extend(self.host.to_le_bytes());
        sealed.extend(self.incarnation.0.to_le_bytes());
        sealed.extend(self.written.to_le_bytes());
        sealed.extend([0; 8]);
        let (number, page, pages) = match kind {
            Kind::Question { page } => (0, page, 0),
            Kind::Page { page, pages } => (1, page, pages),
        };
        sealed.push(number);
        sealed.extend(id.to_le_bytes());
        sealed.extend(page.to_le_bytes());
        sealed.extend(pages.to_le_bytes());
        sealed.extend(&text[..text.len().min(TEXT_MAX)]);
        let hash = hmac(self.salt_key.bytes(), &[&sealed]);
        sealed[HEADER - 8..HEADER].copy_from_slice(&hash[..8]);
        let (header, body) = sealed.split_at_mut(HEADER);
        let tag = cipher
            .encrypt_in_place_detached(&nonce(header), header, body)
            .expect("the cipher refuses only messages of more than 256 GB");
        sealed.extend(tag);
        sealed
    }

    /// The letter in a datagram, once.
    ///
    /// # Errors
    /// Says why it is returned unread.
    pub fn open(&mut self, datagram: &[u8]) -> Result<Letter, Returned> {
        let length = HEADER + HEAD_OF_BODY + TAG..=DATAGRAM_MAX;
        if !length.contains(&datagram.len()) || !is_letter(datagram) {
            return Err(Returned::Strange);
        }
        let (header, rest) = datagram.split_at(HEADER);
        if header[4..12] != self.tag || header[12] != VERSION {
            return Err(Returned::Strange);
        }
        if header[14] != self.me.get() {
            return Err(Returned::NotForUs);
        }
        let u32_at =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let from = NodeId::new(header[13]).ok_or(Returned::Strange)?;
        let origin =
            Origin { from, host: u32_at(19), incarnation: Incarnation(u32_at(23)), seq: Seq(u32_at(27)) };
        // Letters have one window per sender, whichever family of the VIP they came by.
        self.guard.check(&origin, Family::V4).map_err(|_| Returned::Copy)?;
        let (body, tag) = rest.split_at(rest.len() - TAG);
        let key_id = KeyId([header[15], header[16], header[17], header[18]]);
        let plain = self.unseal(key_id, header, body, tag).ok_or(Returned::Sealed)?;
        self.guard.accept(&origin, Family::V4);
        decode(from, self.me, &plain).ok_or(Returned::Strange)
    }

    fn unseal(&self, key_id: KeyId, header: &[u8], body: &[u8], tag: &[u8]) -> Option<Vec<u8>> {
        self.ciphers.iter().filter(|(id, _)| *id == key_id).find_map(|(_, cipher)| {
            let mut plain = body.to_vec();
            let opened =
                cipher.decrypt_in_place_detached(&nonce(header), header, &mut plain, Tag::from_slice(tag));
            opened.ok().map(|()| plain)
        })
    }
}

fn decode(from: NodeId, to: NodeId, plain: &[u8]) -> Option<Letter> {
    let (head, text) = plain.split_at_checked(HEAD_OF_BODY)?;
    let id = u64::from_le_bytes(head[1..9].try_into().ok()?);
    let page = u16::from_le_bytes([head[9], head[10]]);
    let pages = u16::from_le_bytes([head[11], head[12]]);
    let kind = match (head[0], pages) {
        (0, 0) => Kind::Question { page },
        (1, 1..) if page < pages => Kind::Page { page, pages },
        _ => return None,
    };
    Some(Letter { from, to, id, kind, text: text.to_vec() })
}

/// Sender, host, incarnation, number and salt, as they stand in the header.
fn nonce(header: &[u8]) -> XNonce {
    let mut nonce = [0; 24];
    nonce[0] = header[13];
    nonce[1..21].copy_from_slice(&header[19..HEADER]);
    nonce.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u8) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn post(me: u8, key: u8, incarnation: u32) -> Post {
        let keyring = Keyring::new(Key::from_bytes([key; 32]), []);
        Post::new(&keyring, ("c", "login"), node(me), u32::from(me), Incarnation(incarnation))
    }

    const QUESTION: Kind = Kind::Question { page: 0 };

    #[test]
    fn a_letter_is_read_as_it_was_written_and_only_once() {
        let (mut one, mut two) = (post(1, 7, 5), post(2, 7, 9));
        let sealed = one.seal(node(2), 42, Kind::Page { page: 3, pages: 4 }, b"good morning");
        assert!(may_be_for(node(2), &sealed) && !may_be_for(node(3), &sealed));
        let letter = two.open(&sealed).unwrap();
        assert_eq!((letter.from, letter.to, letter.id), (node(1), node(2), 42));
        assert_eq!(
            (letter.kind, letter.text.as_slice()),
            (Kind::Page { page: 3, pages: 4 }, &b"good morning"[..])
        );
        assert_eq!(two.open(&sealed), Err(Returned::Copy));
        assert_eq!(post(3, 7, 1).open(&sealed), Err(Returned::NotForUs));
    }

    #[test]
    fn nobody_reads_or_writes_without_the_key() {
        let sealed = post(1, 7, 5).seal(node(2), 42, QUESTION, b"who?");
        assert!(!sealed.windows(4).any(|bytes| bytes == b"who?"));
        let other_key = Keyring::new(Key::from_bytes([8; 32]), []);
        let mut stranger = Post::new(&other_key, ("c", "login"), node(2), 2, Incarnation(1));
        assert_eq!(stranger.open(&sealed), Err(Returned::Sealed));
        let keyring = Keyring::new(Key::from_bytes([7; 32]), []);
        let mut other_vip = Post::new(&keyring, ("c", "other"), node(2), 2, Incarnation(1));
        assert_eq!(other_vip.open(&sealed), Err(Returned::Strange));
    }

    #[test]
    fn a_letter_that_was_changed_anywhere_is_returned() {
        let sealed = post(1, 7, 5).seal(node(2), 42, QUESTION, b"who?");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(post(2, 7, 9).open(&changed).is_err(), "byte {at}");
        }
        for length in 0..sealed.len() {
            assert!(post(2, 7, 9).open(&sealed[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn an_invention_shuts_nobody_out() {
        let (mut one, mut two) = (post(1, 7, 5), post(2, 7, 9));
        let mut forged = one.seal(node(2), 1, QUESTION, b"");
        let honest = one.seal(node(2), 2, QUESTION, b"");
        forged[27..31].copy_from_slice(&[0xff; 4]);
        assert_eq!(two.open(&forged), Err(Returned::Sealed));
        assert!(two.open(&honest).is_ok());
    }

    #[test]
    fn what_an_earlier_life_wrote_is_returned() {
        let (mut two, early) = (post(2, 7, 9), post(1, 7, 5).seal(node(2), 1, QUESTION, b""));
        assert!(two.open(&post(1, 7, 6).seal(node(2), 2, QUESTION, b"")).is_ok());
        assert_eq!(two.open(&early), Err(Returned::Copy));
        let mut one = post(1, 7, 5);
        one.begin_anew(Incarnation(7));
        assert!(two.open(&one.seal(node(2), 3, QUESTION, b"")).is_ok(), "it is believed at once");
    }

    #[test]
    fn the_longest_letter_fits_and_a_beat_is_none() {
        let sealed = post(1, 7, 5).seal(node(2), 1, QUESTION, &[b'x'; 5000]);
        assert_eq!(sealed.len(), DATAGRAM_MAX);
        assert_eq!(post(2, 7, 9).open(&sealed).unwrap().text.len(), TEXT_MAX);
        assert!(!is_letter(b"1vip and so on"));
    }

    #[test]
    fn changed_keys_open_both_old_and_new_while_both_are_accepted() {
        let (old, new) = (Key::from_bytes([7; 32]), Key::from_bytes([8; 32]));
        let mut two = post(2, 7, 9);
        two.rekey(&Keyring::new(new, [old]), ("c", "login"));
        assert!(two.open(&post(1, 7, 5).seal(node(2), 1, QUESTION, b"")).is_ok());
        assert!(two.open(&post(3, 8, 5).seal(node(2), 1, QUESTION, b"")).is_ok());
    }
}
