//! The configuration: one TOML file, the same on every node, and `conf.d/*.toml` beside it.
//!
//! Reading goes in three steps, and each reports all mistakes it finds: files to tables (`reader.rs`, here), tables to a
//! draft of understood values (`parse`), the draft to a [`Config`] in which everything agrees (`validate`). The daemon and every command begin with [`Config::load`]; `onevip check` shows what
//! [`Config::inspect`] finds. Nothing here asks the host: a file can be checked on any machine.

pub mod diagnostic;
mod digest;
mod draft;
mod event_kind;
mod files;
pub mod health;
mod identity;
pub mod import;
mod model;
pub mod nodelist;
mod parse;
mod reader;
mod reference;
mod reload;
pub mod render;
pub mod settings;
mod span;
mod suggest;
mod validate;
mod words;

#[cfg(test)]
mod tests;

pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use event_kind::EventKind;
pub use health::{HealthSettings, UserCheck};
pub use identity::UnknownNode;
pub use model::{
    Acceleration, Config, Delivery, Hook, Listen, Membership, Node, RemoteDrain, ServiceCheck, SourceRule,
    Steering, SupportSettings, Vip, VipService,
};
pub use reference::reference;
pub use reload::RestartNeeded;
pub use span::{SourceFile, Span};
pub use suggest::nearest;

use reader::{Document, Section};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::de::DeTable;

impl Config {
    /// Reads a file and the `conf.d/*.toml` beside it.
    ///
    /// # Errors
    ///
    /// All mistakes that the files have, ready to be shown. Advice does not stand in the way.
    pub fn load(path: &Path) -> Result<Self, Diagnostics> {
        let (config, found) = Self::inspect(path);
        config.ok_or(found)
    }

    /// Like [`Config::load`], but also gives the advice about a file that has no mistakes. Without a configuration
    /// there is at least one mistake.
    pub fn inspect(path: &Path) -> (Option<Self>, Diagnostics) {
        let mut found = Diagnostics::new();
        let sources = files::read_all(path, &mut found);
        examine(&sources, found)
    }

    /// Examines text that is in no file yet; `name` stands for the file in messages. There is no `conf.d`.
    pub fn inspect_text(name: impl Into<PathBuf>, text: impl Into<String>) -> (Option<Self>, Diagnostics) {
        examine(&[SourceFile::new(name, text)], Diagnostics::new())
    }
}

/// Examines all files together. `found` holds what went wrong in reading them.
fn examine(sources: &[Arc<SourceFile>], found: Diagnostics) -> (Option<Config>, Diagnostics) {
    let mut syntax = found;
    let documents: Vec<Document<'_>> = sources.iter().map(|source| document(source, &mut syntax)).collect();
    let mut meaning = Diagnostics::new();
    let config = Section::top(&documents, &mut meaning)
        .map(|top| parse::draft(top, &mut meaning))
        .and_then(|draft| validate::validate(draft, &mut meaning));
    if syntax.has_mistakes() {
        // What cannot be read is missing further on: do not report the echo as well.
        let causes: HashSet<_> = syntax.iter().flat_map(|cause| shadow(&cause.place)).collect();
        meaning.retain(|one| !one.absence && !line_of(&one.place).is_some_and(|line| causes.contains(&line)));
    }
    let config = config.filter(|_| !syntax.has_mistakes());
    syntax.append(meaning);
    syntax.sort(sources);
    (config, syntax)
}

/// The tables of a file, as far as they can be read. Of several errors on a line the first is reported.
fn document<'a>(source: &'a Arc<SourceFile>, out: &mut Diagnostics) -> Document<'a> {
    let (root, errors) = DeTable::parse_recoverable(source.text());
    let mut lines = HashSet::new();
    for error in errors {
        let place = error.span().map_or_else(|| Span::whole(source), |span| Span::new(source, span));
        let reason = files::syntax_reason(error.message());
        if lines.insert(line_of(&place)) {
            out.mistake(&place, format!("not TOML: {reason}"), files::syntax_remedy(reason));
        }
    }
    Document { source, root: root.into_inner() }
}

/// The lines that cannot be trusted because of a syntax error: its own, and after a broken header all to the next
/// header, since their keys count for the section before.
fn shadow(cause: &Span) -> Vec<(*const SourceFile, usize)> {
    let Some((source, first)) = line_of(cause) else { return Vec::new() };
    let is_header = |line: &str| line.trim_start().starts_with('[');
    let lines = cause.source().text().lines().skip(first - 1);
    let mut length = 1;
    if cause.line().is_some_and(|(line, _)| is_header(line)) {
        length += lines.skip(1).take_while(|line| !is_header(line)).count();
    }
    (first..first + length).map(|line| (source, line)).collect()
}

/// The line on which a place begins, in which file.
fn line_of(place: &Span) -> Option<(*const SourceFile, usize)> {
    place.line_number().map(|line| (Arc::as_ptr(place.source()), line))
}
