//! The words by which people name the variants of a setting, in the configuration and wherever it is shown.

/// Some other word than those that a setting has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("write one of: {known}")]
pub struct UnknownWord {
    /// The words that there are, in the order of the setting's `WORDS`.
    pub known: &'static str,
}

/// Gives an enum its words: `WORDS` to read them, `as_str` and `Display` to show them, `FromStr`.
macro_rules! words {
    ($type:ident { $first:ident = $first_word:literal $(, $variant:ident = $word:literal)* $(,)? }) => {
        impl $type {
            /// Every word that the configuration may have here, and what it means.
            pub const WORDS: &'static [(&'static str, Self)] =
                &[($first_word, Self::$first) $(, ($word, Self::$variant))*];

            /// The word of the configuration.
            pub const fn as_str(self) -> &'static str {
                match self {
                    Self::$first => $first_word,
                    $(Self::$variant => $word),*
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::words::UnknownWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                let known = Self::WORDS.iter().find(|(known, _)| *known == word);
                let all = concat!($first_word $(, ", ", $word)*);
                known.map(|(_, value)| *value).ok_or($crate::words::UnknownWord { known: all })
            }
        }
    };
}

pub(crate) use words;

#[cfg(test)]
mod tests {
    use crate::membership::Failback;
    use crate::{AddressOrder, Mapping, Other, Transport, limit::Refusal};
    use std::fmt::{Debug, Display};
    use std::str::FromStr;

    fn reads_what_it_shows<T>(words: &[(&str, T)], expected: &[&str])
    where
        T: Copy + PartialEq + Debug + Display + FromStr<Err = super::UnknownWord>,
    {
        assert_eq!(words.iter().map(|(word, _)| *word).collect::<Vec<_>>(), expected);
        for (word, value) in words {
            assert_eq!((value.to_string().as_str(), word.parse()), (*word, Ok(*value)));
        }
        let unknown = "Idle".parse::<T>().expect_err("words are in lower case");
        assert_eq!(unknown.to_string(), format!("write one of: {}", expected.join(", ")));
    }

    #[test]
    fn every_setting_reads_its_words_and_shows_them() {
        reads_what_it_shows(Failback::WORDS, &["idle", "now", "manual"]);
        reads_what_it_shows(Mapping::WORDS, &["balanced", "clusterip"]);
        reads_what_it_shows(AddressOrder::WORDS, &["memory", "host"]);
        reads_what_it_shows(Transport::WORDS, &["tcp", "udp"]);
        reads_what_it_shows(Other::WORDS, &["owner", "drop"]);
        reads_what_it_shows(Refusal::WORDS, &["icmp-port-unreachable", "tcp-reset", "drop"]);
    }
}
