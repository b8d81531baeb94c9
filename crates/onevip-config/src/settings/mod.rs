//! Every setting of the file, in one table: name, kind, range, default, meaning, whether `reload` takes it, and whether all
//! nodes must agree on it.
//!
//! The parser takes names, ranges and defaults from here ([`Section`](crate::reader)), `check` its suggestions, and
//! `reference.rs` the page `docs/configuration.md`. Tests hold the rest to it: each setting is read, enters
//! the digest or stays out of it, is taken by `reload` or not as it says here, and stands in `packaging/onevip.toml`.
//!
//! To add one: a row here, a field in `model.rs`, a line in `parse/`, a sample in `tests/settings.rs`. What is forgotten
//! then, the compiler or a test names.

mod health;
mod top;
mod vip;

pub use health::{CHECK, HEALTH, THRESHOLDS};
pub use top::{BANS, HOOK, METRICS, NODE, SUPPORT, TOP};
pub use vip::{LIMIT, LIMIT_PREFIX, SERVICE, SOURCE, VIP, VIP_PREFIX};

use crate::health::Worse;
use crate::words::WordList;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The largest weight of a node.
const WEIGHT_MAX: u32 = 10_000;

/// A table of the file, and what can be set in it.
#[derive(Debug)]
pub struct SettingTable {
    /// Its name as a header of TOML would have it, without brackets: `vip.service.limit`; empty for the top level.
    pub path: &'static str,
    /// Its name in messages.
    pub title: &'static str,
    /// What it is about, in plain words.
    pub about: &'static str,
    /// A short piece of a file.
    pub example: &'static str,
    /// What can be set, in the order in which messages and the page have it.
    pub settings: &'static [Setting],
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its key.
    pub name: &'static str,
    /// What it takes.
    pub kind: ValueKind,
    /// What holds where the file does not say.
    pub default: DefaultValue,
    /// A value as the file has it, for the remedies of messages; empty: none.
    pub example: &'static str,
    /// Whether all nodes must say the same.
    pub agreement: Agreement,
    /// Whether a running daemon takes a change of it.
    pub reload: OnReload,
    /// What it means, in plain words.
    pub about: &'static str,
}

/// What a setting takes.
#[derive(Debug)]
pub enum ValueKind {
    /// One of these words.
    Word(fn() -> Vec<&'static str>),
    /// A whole number in this range.
    Number(RangeInclusive<u32>),
    /// A time in this range, like `"50ms"`.
    Time(RangeInclusive<Duration>),
    /// Text, described.
    Text(&'static str),
    /// One text or an array of them, described.
    List(&'static str),
    /// A port, or a range of ports.
    Ports,
    /// Names of nodes, each with a number in this range.
    ByNode(RangeInclusive<u32>),
    /// From where on a figure has an effect, in percent.
    Thresholds(Worse),
    /// A table of its own.
    Table(&'static SettingTable),
    /// Any number of tables.
    Tables(&'static SettingTable),
}

/// What holds where the file does not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DefaultValue {
    /// Nothing: the table makes no sense without it.
    Required,
    /// This value, as the file would have it.
    Value(&'static str),
    /// No value of its own, but what these words say.
    Otherwise(&'static str),
}

/// Whether all nodes must say the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Agreement {
    /// They must: it enters the digest that nodes compare.
    Cluster,
    /// Each host decides for itself, for this reason.
    Host(&'static str),
}

/// Whether a running daemon takes a change of it, by `onevip reload` or SIGHUP. Sessions stay either way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnReload {
    /// It does.
    Taken,
    /// It does with living membership.
    Living,
    /// It does with living membership, but for what stands in this node's own `[[node]]`.
    LivingOthers,
    /// It takes a restart of the daemon.
    Restart,
}

/// Every table of the file, each once. The page has them in this order.
pub static TABLES: [&SettingTable; 15] = [
    &TOP,
    &METRICS,
    &HOOK,
    &SUPPORT,
    &HEALTH,
    &THRESHOLDS,
    &CHECK,
    &BANS,
    &VIP,
    &VIP_PREFIX,
    &SERVICE,
    &LIMIT,
    &LIMIT_PREFIX,
    &SOURCE,
    &NODE,
];

impl SettingTable {
    /// The setting of this key.
    pub fn setting(&self, name: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.name == name)
    }
}

/// The words of a list without what they mean.
fn only_words<T>(words: WordList<T>) -> Vec<&'static str> {
    words.iter().map(|(word, _)| *word).collect()
}

/// A row of a table.
macro_rules! setting {
    ($name:literal: $kind:expr, $default:expr, $example:literal, $agreement:expr, $reload:expr, $about:literal) => {
        $crate::settings::Setting {
            name: $name,
            kind: $kind,
            default: $default,
            example: $example,
            agreement: $agreement,
            reload: $reload,
            about: $about,
        }
    };
}
use setting;
