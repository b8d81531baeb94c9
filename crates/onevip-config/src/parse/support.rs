//! `[desk]`: what those who help users need: names for `doctor`, and whether another node may drain this one.

use super::values;
use crate::diagnostic::Diagnostics;
use crate::model::{RemoteDrain, SupportSettings};
use crate::reader::Section;
use crate::settings::SUPPORT;

/// Reads the section, if there is one.
pub(super) fn support(top: &mut Section<'_>, out: &mut Diagnostics) -> SupportSettings {
    let mut section = top.table("desk", out).unwrap_or_else(|| Section::empty(&SUPPORT));
    let names = section.strings("names", out).map(|names| names.value).unwrap_or_default();
    let names = names.into_iter().filter_map(|name| values::hostname(name, out)).map(|name| name.value);
    let settings = SupportSettings {
        names: names.collect(),
        remote_drain: section.word_or_default("remote_drain", RemoteDrain::WORDS, out),
    };
    section.finish(out);
    settings
}
