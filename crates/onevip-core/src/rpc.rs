//! Messages of the remote procedure calls between nodes: a request, and the pages of its response.
//!
//! They travel beside the beats, to the same port of the VIP, sealed under keys derived from the same secret for this
//! purpose alone; so no node opens another port, and a message can never pass for a beat nor a beat for a message. No
//! claim depends on a message. A sealed message, as the UDP payload; all numbers are little-endian:
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
//! | 27 | 4 | number of the message |
//! | 31 | 8 | salt |
//! | 39 | 1 | encrypted from here: 0 request, 1 page of a response |
//! | 40 | 8 | number of the call: drawn by the caller, and the same in the response |
//! | 48 | 2 | page: the one that is asked for, or the one that this is |
//! | 50 | 2 | pages of the response; 0 in a request |
//! | 52 | | text |
//! | end − 16 | 16 | tag |
//!
//! Cipher, nonce and salt are those of every envelope (`seal.rs`). The sender's incarnation and number tell copies
//! ([`crate::beat::replay`]), and a page counts only as the response to a call that is open: so a recorded message
//! tells nobody anything, and at worst makes a daemon that was just restarted answer once more.

use crate::beat::codec::Origin;
use crate::beat::envelope::{DATAGRAM_MAX, DATAGRAM_SENT_MAX};
use crate::beat::replay::ReplayGuard;
use crate::beat::{Incarnation, Keyring, Seq};
use crate::ids::NodeId;
use crate::membership::Family;
use crate::seal::{Envelopes, Format, Header, TAG};

/// The version of the layout.
pub const VERSION: u8 = 1;

/// The names are part of the protocol; they date from when a message was called a `letter`.
const FORMAT: Format = Format {
    magic: *b"1ltr",
    version: VERSION,
    addressed: true,
    seal_label: b"onevip letter seal",
    salt_label: b"onevip letter salt",
};

const HEADER: usize = FORMAT.header_len();
const HEAD_OF_BODY: usize = 13;

/// The longest text of one message that is sent, in bytes.
pub const TEXT_MAX: usize = DATAGRAM_SENT_MAX - HEADER - HEAD_OF_BODY - TAG;

/// The longest text of one message that is read, in bytes: what earlier versions sent.
pub const TEXT_READ_MAX: usize = DATAGRAM_MAX - HEADER - HEAD_OF_BODY - TAG;

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageKind {
    /// A request, whose text is in it.
    Request {
        /// Which page of the response is wanted.
        page: u16,
    },
    /// A part of a response.
    Response {
        /// Which, from 0.
        page: u16,
        /// How many there are.
        pages: u16,
    },
}

/// A message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Who sent it.
    pub from: NodeId,
    /// To whom.
    pub to: NodeId,
    /// The number of the call.
    pub id: u64,
    /// What it is.
    pub kind: MessageKind,
    /// At most [`TEXT_READ_MAX`] bytes.
    pub text: Vec<u8>,
}

/// Why a datagram is no message for us.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MessageError {
    /// Not a message, one of another cluster, or in another version.
    #[error("not a message that this build reads")]
    Unknown,
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

/// Whether a datagram may be a message for `me`. Nobody vouches for it yet: this is a cheap look at the header.
pub fn may_be_for(me: NodeId, datagram: &[u8]) -> bool {
    is_message(datagram) && FORMAT.addressee(datagram) == Some(me.get())
}

/// Whether a datagram means to be a message, to whomever.
pub fn is_message(datagram: &[u8]) -> bool {
    FORMAT.is_begun_by(datagram)
}

/// Seals and opens the messages of one node at one VIP.
pub struct Endpoint {
    me: NodeId,
    host: u32,
    incarnation: Incarnation,
    sent: u32,
    envelopes: Envelopes,
    guard: ReplayGuard,
}

impl Endpoint {
    /// For the node `me` at the VIP called `vip` of the cluster called `cluster`. `host` and `incarnation` are those
    /// of its beats.
    pub fn new(
        keyring: &Keyring,
        (cluster, vip): (&str, &str),
        me: NodeId,
        host: u32,
        incarnation: Incarnation,
    ) -> Self {
        let envelopes = Envelopes::new(FORMAT, keyring, cluster, vip);
        Self { me, host, incarnation, sent: 0, envelopes, guard: ReplayGuard::new() }
    }

    /// Uses other keys from now on, and forgets nothing.
    pub fn rekey(&mut self, keyring: &Keyring, (cluster, vip): (&str, &str)) {
        self.envelopes = Envelopes::new(FORMAT, keyring, cluster, vip);
    }

    /// Sends as a later life of this node from now on: see [`crate::membership::Engine::reincarnate`].
    pub fn reincarnate(&mut self, incarnation: Incarnation) {
        (self.incarnation, self.sent) = (incarnation, 0);
    }

    /// The UDP payload that carries a message of this node. A text that is too long is cut.
    pub fn seal(&mut self, to: NodeId, id: u64, kind: MessageKind, text: &[u8]) -> Vec<u8> {
        self.sent += 1;
        let header = Header {
            sender: self.me.get(),
            host: self.host,
            incarnation: self.incarnation,
            seq: Seq(self.sent),
        };
        let (number, page, pages) = match kind {
            MessageKind::Request { page } => (0, page, 0),
            MessageKind::Response { page, pages } => (1, page, pages),
        };
        self.envelopes.seal(&header, Some(to.get()), DATAGRAM_SENT_MAX, |body| {
            body.push(number);
            body.extend(id.to_le_bytes());
            body.extend(page.to_le_bytes());
            body.extend(pages.to_le_bytes());
            body.extend(&text[..text.len().min(TEXT_MAX)]);
        })
    }

    /// The message in a datagram, once.
    ///
    /// # Errors
    /// Says why it is not read.
    pub fn open(&mut self, datagram: &[u8]) -> Result<Message, MessageError> {
        let length = HEADER + HEAD_OF_BODY + TAG..=DATAGRAM_MAX;
        if !length.contains(&datagram.len()) || !is_message(datagram) {
            return Err(MessageError::Unknown);
        }
        if !self.envelopes.is_ours(datagram) || FORMAT.version(datagram) != VERSION {
            return Err(MessageError::Unknown);
        }
        if FORMAT.addressee(datagram) != Some(self.me.get()) {
            return Err(MessageError::NotForUs);
        }
        let Header { sender, host, incarnation, seq } = FORMAT.header(datagram);
        let from = NodeId::new(sender).ok_or(MessageError::Unknown)?;
        let origin = Origin { from, host, incarnation, seq };
        // Messages have one window per sender, whichever family of the VIP they came by.
        self.guard.check(&origin, Family::V4).map_err(|_| MessageError::Copy)?;
        let mut room = [0; DATAGRAM_MAX - HEADER - TAG];
        let plain = self.envelopes.open(datagram, &mut room).ok_or(MessageError::Sealed)?;
        self.guard.accept(&origin, Family::V4);
        decode(from, self.me, plain).ok_or(MessageError::Unknown)
    }
}

fn decode(from: NodeId, to: NodeId, plain: &[u8]) -> Option<Message> {
    let (head, text) = plain.split_at_checked(HEAD_OF_BODY)?;
    let id = u64::from_le_bytes(head[1..9].try_into().ok()?);
    let page = u16::from_le_bytes([head[9], head[10]]);
    let pages = u16::from_le_bytes([head[11], head[12]]);
    let kind = match (head[0], pages) {
        (0, 0) => MessageKind::Request { page },
        (1, 1..) if page < pages => MessageKind::Response { page, pages },
        _ => return None,
    };
    Some(Message { from, to, id, kind, text: text.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::beat::Key;

    fn node(id: u8) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn endpoint(me: u8, key: u8, incarnation: u32) -> Endpoint {
        let keyring = Keyring::new(Key::from_bytes([key; 32]), []);
        Endpoint::new(&keyring, ("c", "login"), node(me), u32::from(me), Incarnation(incarnation))
    }

    const REQUEST: MessageKind = MessageKind::Request { page: 0 };

    #[test]
    fn a_message_is_read_as_it_was_sent_and_only_once() {
        let (mut one, mut two) = (endpoint(1, 7, 5), endpoint(2, 7, 9));
        let sealed = one.seal(node(2), 42, MessageKind::Response { page: 3, pages: 4 }, b"good morning");
        assert!(may_be_for(node(2), &sealed) && !may_be_for(node(3), &sealed));
        let message = two.open(&sealed).unwrap();
        assert_eq!((message.from, message.to, message.id), (node(1), node(2), 42));
        assert_eq!(
            (message.kind, message.text.as_slice()),
            (MessageKind::Response { page: 3, pages: 4 }, &b"good morning"[..])
        );
        assert_eq!(two.open(&sealed), Err(MessageError::Copy));
        assert_eq!(endpoint(3, 7, 1).open(&sealed), Err(MessageError::NotForUs));
    }

    #[test]
    fn nobody_opens_or_seals_without_the_key() {
        let sealed = endpoint(1, 7, 5).seal(node(2), 42, REQUEST, b"who?");
        assert!(!sealed.windows(4).any(|bytes| bytes == b"who?"));
        let other_key = Keyring::new(Key::from_bytes([8; 32]), []);
        let mut stranger = Endpoint::new(&other_key, ("c", "login"), node(2), 2, Incarnation(1));
        assert_eq!(stranger.open(&sealed), Err(MessageError::Sealed));
        let keyring = Keyring::new(Key::from_bytes([7; 32]), []);
        let mut other_vip = Endpoint::new(&keyring, ("c", "other"), node(2), 2, Incarnation(1));
        assert_eq!(other_vip.open(&sealed), Err(MessageError::Unknown));
    }

    #[test]
    fn a_message_that_was_changed_anywhere_is_rejected() {
        let sealed = endpoint(1, 7, 5).seal(node(2), 42, REQUEST, b"who?");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(endpoint(2, 7, 9).open(&changed).is_err(), "byte {at}");
        }
        for length in 0..sealed.len() {
            assert!(endpoint(2, 7, 9).open(&sealed[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_forgery_shuts_nobody_out() {
        let (mut one, mut two) = (endpoint(1, 7, 5), endpoint(2, 7, 9));
        let mut forged = one.seal(node(2), 1, REQUEST, b"");
        let honest = one.seal(node(2), 2, REQUEST, b"");
        forged[27..31].copy_from_slice(&[0xff; 4]);
        assert_eq!(two.open(&forged), Err(MessageError::Sealed));
        assert!(two.open(&honest).is_ok());
    }

    #[test]
    fn what_an_earlier_life_sent_is_rejected() {
        let (mut two, early) = (endpoint(2, 7, 9), endpoint(1, 7, 5).seal(node(2), 1, REQUEST, b""));
        assert!(two.open(&endpoint(1, 7, 6).seal(node(2), 2, REQUEST, b"")).is_ok());
        assert_eq!(two.open(&early), Err(MessageError::Copy));
        let mut one = endpoint(1, 7, 5);
        one.reincarnate(Incarnation(7));
        assert!(two.open(&one.seal(node(2), 3, REQUEST, b"")).is_ok(), "it is believed at once");
    }

    #[test]
    fn the_longest_message_fits_and_a_beat_is_none() {
        let sealed = endpoint(1, 7, 5).seal(node(2), 1, REQUEST, &[b'x'; 5000]);
        assert_eq!(sealed.len(), 1280 - 40 - 8, "in one piece on every link that bears IPv6");
        assert_eq!(endpoint(2, 7, 9).open(&sealed).unwrap().text.len(), TEXT_MAX);
        assert!(!is_message(b"1vip and so on"));
    }

    #[test]
    fn changed_keys_open_both_old_and_new_while_both_are_accepted() {
        let (old, new) = (Key::from_bytes([7; 32]), Key::from_bytes([8; 32]));
        let mut two = endpoint(2, 7, 9);
        two.rekey(&Keyring::new(new, [old]), ("c", "login"));
        assert!(two.open(&endpoint(1, 7, 5).seal(node(2), 1, REQUEST, b"")).is_ok());
        assert!(two.open(&endpoint(3, 8, 5).seal(node(2), 1, REQUEST, b"")).is_ok());
    }
}
