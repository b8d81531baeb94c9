//! The file in which a node keeps its keys, as text; who may read that file is the daemon's business.
//!
//! ```text
//! # Secret. The same on all nodes.
//! send 0123…     one line: seals what this node sends, and opens
//! accept 4567…   up to three: open only
//! ```
//!
//! The lines stand in the order of age, the newest key last. A key is replaced in three steps, each made on all nodes
//! before the next one begins; in between, nodes that have made it and nodes that have not understand each other:
//!
//! 1. [`KeyFile::add`]: the new key opens. Copy the file to every node.
//! 2. [`KeyFile::promote`]: the new key seals, the old one still opens. Copy it again.
//! 3. [`KeyFile::retire`]: the old key goes.

use super::key::{KEYS_MAX, Key, Keyring};

/// The keys of a file, oldest first, and which of them sends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyFile {
    keys: Vec<Key>,
    sends: usize,
}

/// What is wrong with a key file, or with what was to be done to it. Never contains any of its text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyFileError {
    /// A line that is neither a key nor a comment.
    #[error("line {line}: begins with neither `send`, `accept` nor `#`; write the word, a space and the key")]
    Word {
        /// Counted from 1.
        line: usize,
    },
    /// Not 64 hexadecimal digits.
    #[error("line {line}: the key is not 64 hexadecimal digits; make one with `onevip keygen`")]
    Digits {
        /// Counted from 1.
        line: usize,
    },
    /// A key of zeros only.
    #[error("line {line}: the key is all zeros, which anybody can guess; make one with `onevip keygen`")]
    Zero {
        /// Counted from 1.
        line: usize,
    },
    /// The same key twice.
    #[error("line {line}: the same key as in line {first}; remove one of the lines")]
    Twice {
        /// Counted from 1.
        line: usize,
        /// Where it stands first, counted from 1.
        first: usize,
    },
    /// Two keys to send with.
    #[error("line {line}: a second `send`, after line {first}; one key sends, write `accept` for the others")]
    SecondSend {
        /// Counted from 1.
        line: usize,
        /// Where the first one stands, counted from 1.
        first: usize,
    },
    /// More keys than there may be.
    #[error("line {line}: more than 3 `accept` keys; remove those that no node sends with any more")]
    TooMany {
        /// Counted from 1.
        line: usize,
    },
    /// No key to send with.
    #[error(
        "no `send` key; write `send` before the key that all nodes have, or make one with `onevip keygen`"
    )]
    NoSend,
    /// No room for another key.
    #[error("there are {KEYS_MAX} keys already; retire the old ones first")]
    Full,
    /// A key that is not new.
    #[error("this key is all zeros or already in the file; draw another")]
    NotNew,
    /// Nothing to promote.
    #[error("the newest key sends already; add one first")]
    NothingToPromote,
    /// Nothing to retire.
    #[error("no key is older than the one that sends; promote a newer one first")]
    NothingToRetire,
}

impl KeyFile {
    /// A file with one key, which sends: `random`, 32 bytes from the system's generator.
    pub fn generate(random: [u8; 32]) -> Self {
        Self { keys: vec![Key::from_bytes(random)], sends: 0 }
    }

    /// Reads a key file.
    ///
    /// # Errors
    ///
    /// Names the first line that is wrong and what to do about it, but never what stands there: it may be a key.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        let mut lines: Vec<(usize, bool, Key)> = Vec::new();
        for (number, text) in text.lines().enumerate() {
            let Some((sends, key)) = parse_line(number + 1, text)? else { continue };
            add_line(&mut lines, number + 1, sends, key)?;
        }
        let sends = lines.iter().position(|(_, sends, _)| *sends).ok_or(KeyFileError::NoSend)?;
        Ok(Self { keys: lines.into_iter().map(|(_, _, key)| key).collect(), sends })
    }

    /// The text of the file: secret.
    pub fn render(&self) -> String {
        let mut text = String::from(
            "# Keys of a onevip cluster. Secret: whoever has one can take over the address. The same on all nodes.\n",
        );
        for (i, key) in self.keys.iter().enumerate() {
            let word = if i == self.sends { "send" } else { "accept" };
            text.push_str(&format!("# {}\n{word} {}\n", key.id(), key.to_hex()));
        }
        text
    }

    /// The keys, to be used.
    pub fn keyring(&self) -> Keyring {
        let others =
            self.keys.iter().enumerate().filter(|(i, _)| *i != self.sends).map(|(_, key)| key.clone());
        Keyring::new(self.keys[self.sends].clone(), others)
    }

    /// First step of a replacement: `random`, 32 bytes from the system's generator, is a new key that opens.
    ///
    /// # Errors
    ///
    /// [`KeyFileError::Full`] or [`KeyFileError::NotNew`].
    pub fn add(&mut self, random: [u8; 32]) -> Result<(), KeyFileError> {
        let key = Key::from_bytes(random);
        if self.keys.len() >= KEYS_MAX {
            return Err(KeyFileError::Full);
        }
        if key.is_zero() || self.keys.contains(&key) {
            return Err(KeyFileError::NotNew);
        }
        self.keys.push(key);
        Ok(())
    }

    /// Second step: the newest key sends. Only when every node has it.
    ///
    /// # Errors
    ///
    /// [`KeyFileError::NothingToPromote`].
    pub fn promote(&mut self) -> Result<(), KeyFileError> {
        if self.sends + 1 == self.keys.len() {
            return Err(KeyFileError::NothingToPromote);
        }
        self.sends = self.keys.len() - 1;
        Ok(())
    }

    /// Third step: keys older than the one that sends go. Only when no node sends with them any more.
    ///
    /// # Errors
    ///
    /// [`KeyFileError::NothingToRetire`].
    pub fn retire(&mut self) -> Result<(), KeyFileError> {
        if self.sends == 0 {
            return Err(KeyFileError::NothingToRetire);
        }
        self.keys.drain(..self.sends);
        self.sends = 0;
        Ok(())
    }
}

/// Whether the key in this line sends, and the key; `None` for a comment or nothing.
fn parse_line(line: usize, text: &str) -> Result<Option<(bool, Key)>, KeyFileError> {
    let text = text.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let (word, hex) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let sends = match word {
        "send" => true,
        "accept" => false,
        _ => return Err(KeyFileError::Word { line }),
    };
    let key = Key::from_hex(hex.trim_start()).ok_or(KeyFileError::Digits { line })?;
    if key.is_zero() { Err(KeyFileError::Zero { line }) } else { Ok(Some((sends, key))) }
}

fn add_line(
    lines: &mut Vec<(usize, bool, Key)>,
    line: usize,
    sends: bool,
    key: Key,
) -> Result<(), KeyFileError> {
    if let Some((first, ..)) = lines.iter().find(|(_, _, other)| *other == key) {
        return Err(KeyFileError::Twice { line, first: *first });
    }
    if let Some((first, ..)) = lines.iter().find(|(_, other, _)| sends && *other) {
        return Err(KeyFileError::SecondSend { line, first: *first });
    }
    if !sends && lines.iter().filter(|(_, other, _)| !other).count() + 1 >= KEYS_MAX {
        return Err(KeyFileError::TooMany { line });
    }
    lines.push((line, sends, key));
    Ok(())
}
