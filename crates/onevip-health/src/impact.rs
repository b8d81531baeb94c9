//! What a finding costs the node: nothing, part of its weight, or its share.

use onevip_core::beat::Health;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// The cost of a finding, from none to the worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Impact {
    /// None: all is well.
    #[default]
    None,
    /// Part of the weight: some of the new users go elsewhere.
    Shed,
    /// All new users go elsewhere, while there is a node that feels better.
    Out(Health),
}

/// Ill health because of the host or of an administrator's check: new users would be served, but badly.
pub const POORLY: Health = Health::new(1);
/// `nologin`: new users would be refused, or cut off when the host goes down.
pub const CLOSING: Health = Health::new(2);
/// `sshd` does not answer: new users would certainly fail.
pub const DEAD: Health = Health::WORST;

impl Impact {
    /// What status and metrics say of it.
    pub const fn state(self) -> CheckState {
        match self {
            Self::None => CheckState::Well,
            Self::Shed => CheckState::Shed,
            Self::Out(_) => CheckState::Out,
        }
    }

    /// The level that is announced.
    pub const fn health(self) -> Health {
        match self {
            Self::None | Self::Shed => Health::GOOD,
            Self::Out(health) => health,
        }
    }

    /// What it means for users, for the log.
    pub const fn effect(self) -> &'static str {
        match self {
            Self::None => "new users are welcome",
            Self::Shed => "fewer new users come here",
            Self::Out(_) => "new users go elsewhere",
        }
    }
}

impl fmt::Display for Impact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.state().word())
    }
}

/// How a check stands: an impact, whatever its level.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// Nothing is wrong.
    Well,
    /// Some of the new users go elsewhere.
    Shed,
    /// All new users do.
    Out,
}

impl CheckState {
    /// Its word in status and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Shed => "shed",
            Self::Out => "out",
        }
    }
}

/// What a check found, and what that costs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The cost.
    pub impact: Impact,
    /// In words.
    pub words: String,
    /// How long the last answer took.
    pub took: Option<Duration>,
}

impl Finding {
    /// Nothing to complain about.
    pub fn well(words: impl Into<String>) -> Self {
        Self { impact: Impact::None, words: words.into(), took: None }
    }

    /// Something to complain about.
    pub fn ill(impact: Impact, words: impl Into<String>) -> Self {
        Self { impact, words: words.into(), took: None }
    }

    /// The same, with how long the answer took.
    pub fn after(self, took: impl Into<Option<Duration>>) -> Self {
        Self { took: took.into(), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impacts_are_ordered_from_well_to_dead() {
        let all = [Impact::None, Impact::Shed, Impact::Out(POORLY), Impact::Out(CLOSING), Impact::Out(DEAD)];
        assert!(all.is_sorted());
        assert_eq!(all.map(|impact| impact.health().level()), [0, 0, 1, 2, 3]);
    }
}
