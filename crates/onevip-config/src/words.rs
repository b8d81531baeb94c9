//! The words of the file: which value each of them means.
//!
//! Enums that live here get their words by [`words!`]; those of the core, which every crate shares, have lists.

use onevip_core::limit::Refusal;
use onevip_core::membership::Failback;
use onevip_core::{AddressOrder, Answerer, Mapping, Other, Slice, Transport};
use std::mem::discriminant;

/// Words, each with what it means.
pub type WordList<T> = &'static [(&'static str, T)];

/// Gives an enum of the file its words: `ALL` for reading, `as_str` for showing.
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            /// Every word that the file may have here, and what it means.
            pub const ALL: $crate::words::WordList<Self> = &[$(($word, Self::$variant)),+];

            /// The word of the file.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;

/// `failback`
pub const FAILBACKS: WordList<Failback> =
    &[("idle", Failback::Idle), ("now", Failback::Now), ("manual", Failback::Manual)];
/// `mapping`. How many nodes there are is told later, by all of the file.
pub const MAPPINGS: WordList<Mapping> =
    &[("balanced", Mapping::Balanced), ("clusterip", Mapping::ClusterIp { total: 0 })];
/// `protocol`
pub const TRANSPORTS: WordList<Transport> = &[("tcp", Transport::Tcp), ("udp", Transport::Udp)];
/// `address_order`
pub const ADDRESS_ORDERS: WordList<AddressOrder> =
    &[("memory", AddressOrder::Memory), ("host", AddressOrder::Host)];
/// `owner`, the one who answers. Which slice a node has is told later, by its number.
pub const ANSWERERS: WordList<Answerer> =
    &[("bucket", Answerer::Bucket), ("socket", Answerer::Socket(Slice::WHOLE))];
/// `other`, what becomes of the rest.
pub const OTHERS: WordList<Other> = &[("owner", Other::Owner), ("drop", Other::Drop)];
/// `action`, what a limit does.
pub const REFUSALS: WordList<Refusal> = &[
    ("icmp-port-unreachable", Refusal::Unreachable),
    ("tcp-reset", Refusal::Reset),
    ("drop", Refusal::Drop),
];
/// `refused`: whether a refused attempt counts.
pub const REFUSED: WordList<bool> = &[("count", true), ("ignore", false)];
/// What is on or off.
pub const SWITCH: WordList<bool> = &[("on", true), ("off", false)];

/// The word for a hash mode; the prefixes of `source-net` come separately.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HashWord {
    /// The address.
    Ip,
    /// Address and port.
    IpPort,
    /// Address, port and port of the service.
    IpPortDestPort,
    /// The network.
    Net,
}

words!(HashWord {
    Ip = "source-ip",
    IpPort = "source-ip-port",
    IpPortDestPort = "source-ip-port-dest-port",
    Net = "source-net",
});

/// The word for a value, whatever else it holds. Every variant stands in its list.
pub fn word_of<T>(words: WordList<T>, value: &T) -> &'static str {
    let same = |known: &&(&str, T)| discriminant(&known.1) == discriminant(value);
    words.iter().find(same).map_or("", |(word, _)| word)
}
