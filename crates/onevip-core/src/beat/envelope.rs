//! What lies around the body of a beat, and how long the whole may be.
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
//! | 38 | | the body ([`super::codec`]), encrypted |
//! | end − 16 | 16 | tag |
//!
//! The first 13 bytes stay the same in all versions, so that a node can tell "one of us that I cannot read" from a
//! stranger. Cipher, nonce and salt are those of every envelope: `seal.rs` of this crate.

use crate::seal::Format;

/// The version of the layout of header and body.
pub const VERSION: u8 = 3;

/// Bytes before the body.
pub const HEADER: usize = FORMAT.header_len();

/// Bytes after the body.
pub const TAG: usize = crate::seal::TAG;

/// What sealing adds to a body, in bytes.
pub const OVERHEAD: usize = HEADER + TAG;

/// The longest datagram that is read, in bytes, header and tag included; and the longest beat of more than 50 nodes.
///
/// With IPv6 and UDP headers that is 1448 bytes: it passes every link that carries at least 1450, as overlays on
/// Ethernet (VXLAN) do, in one piece.
pub const DATAGRAM_MAX: usize = 1400;

/// The longest message, and the longest beat of up to 50 nodes, in bytes, header and tag included.
///
/// With IPv6 and UDP headers that is 1280 bytes, which every link that bears IPv6 carries in one piece (RFC 8200,
/// section 5): tunnels, overlays on overlays, and paths that lose longer frames without a word.
pub const DATAGRAM_SENT_MAX: usize = 1232;

/// What makes an envelope one of beats.
pub(super) const FORMAT: Format = Format {
    magic: *b"1vip",
    version: VERSION,
    addressed: false,
    seal_label: b"onevip beat seal",
    salt_label: b"onevip beat salt",
};
