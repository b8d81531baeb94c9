//! `[desk]`: what those who help users need: names for `doctor`, and whether another node may drain this one.
//!
//! Nothing of this decides about packets, so it does not enter the digest that nodes compare.

use super::diagnostic::Diagnostics;
use super::reader::Section;
use super::values;

/// `[desk]`, with defaults for what the file does not say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SupportSettings {
    /// The names by which users know the VIPs, besides those that their addresses resolve to.
    pub names: Vec<String>,
    /// Whether root on another node may drain and undrain this one.
    pub remote_drain: RemoteDrain,
}

/// Whether root on another node may drain and undrain this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RemoteDrain {
    /// It may.
    #[default]
    Allow,
    /// It may not.
    Refuse,
}

impl RemoteDrain {
    const ALL: &'static [(&'static str, Self)] = &[("allow", Self::Allow), ("refuse", Self::Refuse)];
}

/// Reads the section, if there is one.
pub(super) fn support(top: &mut Section<'_>, out: &mut Diagnostics) -> SupportSettings {
    let Some(mut section) = top.table("desk", "[desk]", out) else { return SupportSettings::default() };
    let names = section.strings("names", out).map(|names| names.value).unwrap_or_default();
    let names = names.into_iter().filter_map(|name| values::hostname(name, out)).map(|name| name.value);
    let settings = SupportSettings {
        names: names.collect(),
        remote_drain: section
            .choice("remote_drain", RemoteDrain::ALL, out)
            .map_or_else(RemoteDrain::default, |word| word.value),
    };
    section.finish(out);
    settings
}
