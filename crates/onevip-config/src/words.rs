//! The words of the file: which value each of them means.
//!
//! Enums that live here get their words by [`words!`]; those of the core have theirs.

use onevip_core::{Answerer, Slice};

/// Words, each with what it means.
pub type WordList<T> = &'static [(&'static str, T)];

/// Gives an enum of the file its words: `WORDS` for reading, `as_str` for showing.
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            /// Every word that the file may have here, and what it means.
            pub const WORDS: $crate::words::WordList<Self> = &[$(($word, Self::$variant)),+];

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

/// `owner`, the one who answers. Which slice a node has is told later, by its number.
pub const ANSWERERS: WordList<Answerer> =
    &[("bucket", Answerer::Bucket), ("socket", Answerer::Socket(Slice::WHOLE))];
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
