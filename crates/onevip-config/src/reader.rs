//! Tables of the file, read key by key: wrong types, missing keys and unknown keys are noticed here.
//!
//! A [`Section`] hands out its values typed and with their places, and at the end reports the keys that are not in the table
//! of settings. Ranges, examples and defaults come from there as well; a default is read as if the file said it. What
//! the values mean is not known here.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::health::Worse;
use crate::settings::{DefaultValue, Setting, SettingTable, TABLES, THRESHOLDS, TOP, ValueKind};
use crate::span::{SourceFile, Span, Spanned};
use crate::suggest::nearest;
use crate::words::WordList;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use toml::de::{DeTable, DeValue};

/// One parsed file.
pub(super) struct Document<'a> {
    /// The file.
    pub source: &'a Arc<SourceFile>,
    /// Its top table; what could be recovered when it has syntax errors.
    pub root: DeTable<'a>,
}

/// A key with its value.
#[derive(Clone)]
struct Entry<'a> {
    key: &'a str,
    key_place: Span,
    value: &'a DeValue<'a>,
    value_place: Span,
}

/// A table that is being read.
pub(super) struct Section<'a> {
    table: &'static SettingTable,
    place: Span,
    entries: Vec<Entry<'a>>,
    asked: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// The top level of all files together. A key that more than one file sets is a mistake, except where the values
    /// are arrays of tables, which are read one after the other.
    pub fn top(documents: &'a [Document<'a>], out: &mut Diagnostics) -> Option<Self> {
        let place = Span::new(documents.first()?.source, 0..0);
        let mut entries: Vec<Entry<'a>> = Vec::new();
        let mut first: HashMap<&str, Entry<'a>> = HashMap::new();
        for entry in documents.iter().flat_map(|document| entries_of(&document.root, document.source)) {
            match first.get(entry.key).filter(|first| !(is_tables(first.value) && is_tables(entry.value))) {
                Some(first) => {
                    let reason = format!("`{}` is set in two files", entry.key);
                    let remedy =
                        "keep one of the two; files in conf.d add to the main file, they do not override it";
                    let mistake = Diagnostic::mistake(&entry.key_place, reason, remedy);
                    out.push(mistake.also(&first.key_place, "set here first"));
                }
                None => {
                    first.entry(entry.key).or_insert_with(|| entry.clone());
                    entries.push(entry);
                }
            }
        }
        Some(Self { table: &TOP, place, entries, asked: Vec::new() })
    }

    /// What the file says in `of`, a table that begins at `place`.
    fn of(table: &'static SettingTable, of: &'a DeTable<'a>, place: Span) -> Self {
        Self { table, entries: entries_of(of, place.source()), place, asked: Vec::new() }
    }

    /// An empty table.
    pub fn empty(table: &'static SettingTable) -> Self {
        static NO_FILE: OnceLock<Arc<SourceFile>> = OnceLock::new();
        let place = Span::whole(NO_FILE.get_or_init(|| SourceFile::new("(defaults)", "")));
        Self { table, place, entries: Vec::new(), asked: Vec::new() }
    }

    /// Where the section begins.
    pub fn place(&self) -> &Span {
        &self.place
    }

    /// What is known of a setting of this table.
    fn setting(&self, key: &str) -> &'static Setting {
        match self.table.setting(key) {
            Some(setting) => setting,
            None => unreachable!("`{key}` is read in {}, and not in the table of settings", self.table.title),
        }
    }

    /// The value of `key`, remembered as asked for.
    fn take(&mut self, key: &'static str) -> Option<(&'static Setting, Entry<'a>)> {
        self.asked.push(key);
        let setting = self.setting(key);
        self.entries.iter().find(|entry| entry.key == key).cloned().map(|entry| (setting, entry))
    }

    /// What `read` makes of this section, or of the defaults where the file does not say, or says what was reported.
    pub fn or_default<T>(
        &mut self,
        out: &mut Diagnostics,
        read: impl Fn(&mut Section<'_>, &mut Diagnostics) -> Option<T>,
    ) -> T {
        read(self, out)
            .or_else(|| read(&mut Section::of_defaults(self.table), &mut Diagnostics::new()))
            .expect("a default is a value of its setting: tests read each")
    }

    /// The defaults that a table has, as a file would say them.
    fn of_defaults(table: &'static SettingTable) -> Section<'static> {
        let mut section = Section::empty(table);
        let place = section.place.clone();
        section.entries = defaults()
            .iter()
            .filter(|(path, ..)| *path == table.path)
            .map(|(_, key, value)| Entry { key, key_place: place.clone(), value, value_place: place.clone() })
            .collect();
        section
    }

    /// Whether the file sets `key`.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// Reports that a key without which the section makes no sense is missing; not where it is there, but misspelt:
    /// then [`Section::finish`] says so.
    pub fn require(&self, key: &'static str, out: &mut Diagnostics) {
        if !self.entries.iter().any(|entry| nearest(entry.key, [key]).is_some()) {
            let reason = format!("{} has no `{key}`", self.table.title);
            let remedy = format!("add {}", example(key, self.setting(key).example));
            out.push(Diagnostic::mistake(&self.place, reason, remedy).absent());
        }
    }

    /// A string.
    pub fn string(&mut self, key: &'static str, out: &mut Diagnostics) -> Option<Spanned<String>> {
        let (setting, entry) = self.take(key)?;
        match entry.value {
            DeValue::String(text) => Some(Spanned::new(text.to_string(), entry.value_place)),
            other => wrong_type(setting, "a string", other, &entry.value_place, out),
        }
    }

    /// A string, or an array of strings.
    pub fn strings(
        &mut self,
        key: &'static str,
        out: &mut Diagnostics,
    ) -> Option<Spanned<Vec<Spanned<String>>>> {
        let (setting, entry) = self.take(key)?;
        let strings = match entry.value {
            DeValue::String(text) => vec![Spanned::new(text.to_string(), entry.value_place.clone())],
            DeValue::Array(items) => items
                .iter()
                .filter_map(|item| {
                    let place = Span::new(entry.value_place.source(), item.span());
                    match item.get_ref() {
                        DeValue::String(text) => Some(Spanned::new(text.to_string(), place)),
                        other => wrong_type(setting, "strings", other, &place, out),
                    }
                })
                .collect(),
            other => return wrong_type(setting, "an array of strings", other, &entry.value_place, out),
        };
        Some(Spanned::new(strings, entry.value_place))
    }

    /// A whole number within the range of the setting.
    pub fn number(&mut self, key: &'static str, out: &mut Diagnostics) -> Option<Spanned<u32>> {
        let (setting, entry) = self.take(key)?;
        let ValueKind::Number(range) = &setting.kind else { unreachable!("`{key}` is no number") };
        whole_number(&entry, range, setting.example, out)
    }

    /// The same, or the default.
    pub fn number_or_default(&mut self, key: &'static str, out: &mut Diagnostics) -> u32 {
        self.or_default(out, |section, out| section.number(key, out).map(|number| number.value))
    }

    /// The times that a setting takes.
    pub fn times(&self, key: &str) -> &'static RangeInclusive<Duration> {
        match &self.setting(key).kind {
            ValueKind::Time(range) => range,
            _ => unreachable!("`{key}` is no time"),
        }
    }

    /// A port or a range of ports, as a number or as a string, not yet understood.
    pub fn number_or_string(&mut self, key: &'static str, out: &mut Diagnostics) -> Option<Spanned<String>> {
        let (setting, entry) = self.take(key)?;
        match entry.value {
            DeValue::Integer(number) => Some(Spanned::new(number.to_string(), entry.value_place)),
            DeValue::String(text) => Some(Spanned::new(text.to_string(), entry.value_place)),
            other => wrong_type(setting, "a number or a string", other, &entry.value_place, out),
        }
    }

    /// One of a few words, or the default.
    pub fn word_or_default<T: Copy + 'static>(
        &mut self,
        key: &'static str,
        words: WordList<T>,
        out: &mut Diagnostics,
    ) -> T {
        self.or_default(out, |section, out| section.word(key, words, out).map(|word| word.value))
    }

    /// One of a few words.
    pub fn word<T: Copy>(
        &mut self,
        key: &'static str,
        words: WordList<T>,
        out: &mut Diagnostics,
    ) -> Option<Spanned<T>> {
        let given = self.string(key, out)?;
        if let Some((_, value)) = words.iter().find(|(known, _)| *known == given.value) {
            return Some(Spanned::new(*value, given.place));
        }
        let all = words.iter().map(|(known, _)| format!("\"{known}\"")).collect::<Vec<_>>().join(", ");
        let remedy = match nearest(&given.value, words.iter().map(|(known, _)| *known)) {
            Some(meant) => format!("did you mean \"{meant}\"? (one of {all})"),
            None => format!("write one of {all}"),
        };
        out.mistake(&given.place, format!("`{key}` cannot be \"{}\"", given.value), remedy);
        None
    }

    /// A table of its own, like `prefix = { … }`.
    pub fn table(&mut self, key: &'static str, out: &mut Diagnostics) -> Option<Section<'a>> {
        let (setting, entry) = self.take(key)?;
        let inner = match &setting.kind {
            ValueKind::Table(inner) => inner,
            ValueKind::Thresholds(_) => &THRESHOLDS,
            _ => unreachable!("`{key}` is no table"),
        };
        match entry.value {
            DeValue::Table(table) => Some(Section::of(inner, table, entry.value_place)),
            other => wrong_type(setting, "a table", other, &entry.value_place, out),
        }
    }

    /// An array of tables, like `[[vip]]`; none when the file has none.
    pub fn tables(&mut self, key: &'static str, out: &mut Diagnostics) -> Vec<Section<'a>> {
        self.asked.push(key);
        let ValueKind::Tables(inner) = &self.setting(key).kind else { unreachable!("`{key}` is no array") };
        let title = inner.title;
        let mut sections = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.key == key) {
            let source = entry.value_place.source();
            let DeValue::Array(items) = entry.value else {
                let reason = format!("`{key}` is {}, but there can be several of them", kind(entry.value));
                let remedy = format!("write {title} with double brackets");
                if let DeValue::Table(table) = entry.value {
                    out.mistake(&entry.value_place, reason, remedy);
                    // It is clear what is meant, so go on with it.
                    sections.push(Section::of(inner, table, entry.value_place.clone()));
                } else {
                    out.mistake(&entry.key_place, reason, remedy);
                }
                continue;
            };
            for item in items.iter() {
                let place = Span::new(source, item.span());
                match item.get_ref() {
                    DeValue::Table(table) => sections.push(Section::of(inner, table, place)),
                    other => {
                        let reason = format!("`{key}` holds {}, not a table", kind(other));
                        out.mistake(&place, reason, format!("write {title} and its keys below"));
                    }
                }
            }
        }
        sections
    }

    /// A table whose keys are names, each with its number; none when it is absent.
    pub fn by_node(
        &mut self,
        key: &'static str,
        out: &mut Diagnostics,
    ) -> Option<Vec<(Spanned<String>, Spanned<u32>)>> {
        let (setting, entry) = self.take(key)?;
        let ValueKind::ByNode(range) = &setting.kind else { unreachable!("`{key}` is not by node") };
        let DeValue::Table(table) = entry.value else {
            return wrong_type(setting, "a table", entry.value, &entry.value_place, out);
        };
        let number = |entry: Entry<'_>| {
            let name = Spanned::new(entry.key.to_owned(), entry.key_place.clone());
            Some((name, whole_number(&entry, range, "", out)?))
        };
        Some(entries_of(table, entry.value_place.source()).into_iter().filter_map(number).collect())
    }

    /// What makes a figure of a setting worse.
    pub fn worse(&self, key: &str) -> Worse {
        match self.setting(key).kind {
            ValueKind::Thresholds(worse) => worse,
            _ => unreachable!("`{key}` has no thresholds"),
        }
    }

    /// Reports the keys that are not in the table of settings.
    pub fn finish(self, out: &mut Diagnostics) {
        let title = self.table.title;
        let names = || self.table.settings.iter().map(|setting| setting.name);
        debug_assert!(
            names().all(|name| self.asked.contains(&name)),
            "{title}: only {:?} are read",
            self.asked
        );
        // Of two keys equally near, the one that is not there yet is meant.
        let mut known: Vec<&str> = names().collect();
        known.sort_by_key(|key| self.has(key));
        for entry in self.entries.iter().filter(|entry| self.table.setting(entry.key).is_none()) {
            let remedy = match nearest(entry.key, known.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("{title} takes: {}", names().collect::<Vec<_>>().join(", ")),
            };
            out.mistake(&entry.key_place, format!("unknown key `{}` in {title}", entry.key), remedy);
        }
    }
}

/// The default values of all settings that have one, with their table and their key.
fn defaults() -> &'static [(&'static str, &'static str, DeValue<'static>)] {
    static DEFAULTS: OnceLock<Vec<(&'static str, &'static str, DeValue<'static>)>> = OnceLock::new();
    DEFAULTS.get_or_init(|| {
        let all = TABLES.iter().flat_map(|table| table.settings.iter().map(|setting| (table.path, setting)));
        let values = all.filter_map(|(path, setting)| match setting.default {
            DefaultValue::Value(text) => {
                let value = DeValue::parse(text).expect("a default is TOML: a test parses each");
                Some((path, setting.name, value.into_inner()))
            }
            DefaultValue::Required | DefaultValue::Otherwise(_) => None,
        });
        values.collect()
    })
}

/// `key = example`
fn example(key: &str, value: &str) -> String {
    format!("{key} = {}", if value.is_empty() { "…" } else { value })
}

/// A whole number within `range`.
fn whole_number(
    entry: &Entry<'_>,
    range: &RangeInclusive<u32>,
    like: &str,
    out: &mut Diagnostics,
) -> Option<Spanned<u32>> {
    let (key, place) = (entry.key, &entry.value_place);
    let DeValue::Integer(number) = entry.value else {
        wrong(key, like, "a number", entry.value, place, out);
        return None;
    };
    let value = i128::from_str_radix(number.as_str(), number.radix()).ok();
    match value.and_then(|value| u32::try_from(value).ok()).filter(|value| range.contains(value)) {
        Some(value) => Some(Spanned::new(value, place.clone())),
        None => {
            let (low, high) = (range.start(), range.end());
            let reason = format!("`{key}` is {number}, outside {low} to {high}");
            out.mistake(place, reason, format!("write a number from {low} to {high}"));
            None
        }
    }
}

/// The entries of a table, in the order of the file.
fn entries_of<'a>(table: &'a DeTable<'a>, source: &Arc<SourceFile>) -> Vec<Entry<'a>> {
    let mut entries: Vec<Entry<'a>> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref(),
            key_place: Span::new(source, key.span()),
            value: value.get_ref(),
            value_place: Span::new(source, value.span()),
        })
        .collect();
    entries.sort_by_key(|entry| entry.key_place.bytes().map(|span| span.start));
    entries
}

/// Whether a value is an array that holds tables only, as `[[vip]]` makes it.
fn is_tables(value: &DeValue<'_>) -> bool {
    let DeValue::Array(items) = value else { return false };
    items.iter().all(|item| matches!(item.get_ref(), DeValue::Table(_)))
}

/// What a value is, for people.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fractional number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// Reports a value of the wrong type, and stands for its absence.
fn wrong_type<T>(
    setting: &Setting,
    wanted: &str,
    found: &DeValue<'_>,
    place: &Span,
    out: &mut Diagnostics,
) -> Option<T> {
    wrong(setting.name, setting.example, wanted, found, place, out);
    None
}

/// Reports a value of the wrong type; `like` is a right one.
fn wrong(key: &str, like: &str, wanted: &str, found: &DeValue<'_>, place: &Span, out: &mut Diagnostics) {
    let reason = format!("`{key}` takes {wanted}, not {}", kind(found));
    out.mistake(place, reason, format!("write it like {}", example(key, like)));
}
