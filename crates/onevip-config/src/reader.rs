//! Tables of the file, read key by key: wrong types, missing keys and unknown keys are noticed here.
//!
//! A [`Section`] hands out its values typed and with their places, remembers which keys were asked for, and at the end
//! reports those that nobody asked for. What the values mean is not known here.

use super::diagnostic::{Diagnostic, Diagnostics};
use super::span::{SourceFile, Span, Spanned};
use super::suggest::nearest;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
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
    title: &'static str,
    place: Span,
    entries: Vec<Entry<'a>>,
    asked: Vec<&'static str>,
}

/// How each key is written, for the remedies.
const EXAMPLES: &[(&str, &str)] = &[
    ("cluster", r#""lab""#),
    ("membership", r#""static""#),
    ("beat", r#""50ms""#),
    ("failback", r#""idle""#),
    ("key_file", r#""/etc/onevip/key""#),
    ("control_group", r#""adm""#),
    ("metrics", r#"{ listen = "127.0.0.1:9108" }"#),
    ("desk", r#"{ names = ["login.example.org"] }"#),
    ("names", r#"["login.example.org"]"#),
    ("remote_drain", r#""allow""#),
    ("listen", r#""127.0.0.1:9108""#),
    ("on", r#""node-out""#),
    ("command", r#""/usr/local/bin/page-me""#),
    ("timeout", r#""10s""#),
    ("name", r#""unix1""#),
    ("addresses", r#"["198.51.100.10"]"#),
    ("address", r#""198.51.100.11""#),
    ("interface", r#""eth0""#),
    ("nodes", r#"["unix[1-4]"]"#),
    ("hash", r#""source-ip""#),
    ("prefix", "{ ipv4 = 24, ipv6 = 64 }"),
    ("mapping", r#""balanced""#),
    ("address_order", r#""memory""#),
    ("delivery", r#""multicast""#),
    ("mac", r#""01:00:5e:33:64:0a""#),
    ("accelerate", r#""off""#),
    ("beat_port", "7077"),
    ("seed", "0"),
    ("protocol", r#""tcp""#),
    ("port", "22"),
    ("slices", "16"),
    ("id", "1"),
    ("weight", "100"),
    ("weights", "{ unix3 = 50 }"),
    ("pin", r#""unix3""#),
    ("check", r#""sshd""#),
    ("ipv4", "24"),
    ("ipv6", "64"),
    ("sshd", r#""banner""#),
    ("interval", r#""1s""#),
    ("timeout", r#""1s""#),
    ("fall", "2"),
    ("rise", "2"),
    ("banner_every", r#""5m""#),
    ("nologin", r#""drain""#),
    ("scope", r#""host""#),
    ("memory_pressure", "{ shed = 20, out = 60 }"),
    ("memory_left", "{ shed = 5, out = 2 }"),
    ("cpu_pressure", "{ shed = 90 }"),
    ("io_pressure", "{ shed = 80 }"),
    ("processes_left", "{ shed = 10, out = 3 }"),
    ("files_left", "{ shed = 10, out = 3 }"),
    ("disk_left", "{ shed = 3, out = 1 }"),
    ("filesystems", r#"["/"]"#),
    ("shed", "20"),
    ("out", "60"),
    ("command", r#""test -d /home/admin""#),
    ("effect", r#""out""#),
    ("health", r#"{ sshd = "banner" }"#),
    ("bans", r#"{ never = ["192.0.2.0/24"] }"#),
    ("never", r#"["192.0.2.0/24"]"#),
    ("limit", r#"{ burst = 2, window = "7s" }"#),
    ("burst", "2"),
    ("window", r#""7s""#),
    ("action", r#""icmp-port-unreachable""#),
    ("refused", r#""count""#),
    ("allow", r#"["192.0.2.0/24"]"#),
];

/// `key = example`
fn example(key: &str) -> String {
    let value = EXAMPLES.iter().find(|(known, _)| *known == key).map_or("…", |(_, value)| value);
    format!("{key} = {value}")
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
        Some(Self { title: "the top level", place, entries, asked: Vec::new() })
    }

    /// The table that begins at `place`, by the name it has in messages.
    fn of(table: &'a DeTable<'a>, title: &'static str, place: Span) -> Self {
        Self { title, entries: entries_of(table, place.source()), place, asked: Vec::new() }
    }

    /// Where the section begins.
    pub fn place(&self) -> &Span {
        &self.place
    }

    /// The value of `key`, remembered as asked for.
    fn take(&mut self, key: &'static str) -> Option<Entry<'a>> {
        self.asked.push(key);
        self.entries.iter().find(|entry| entry.key == key).cloned()
    }

    /// Whether the file sets `key`.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// Reports that a key without which the section makes no sense is missing; not where it is there, but misspelt:
    /// then [`Section::finish`] says so.
    pub fn require(&self, key: &'static str, out: &mut Diagnostics) {
        if !self.entries.iter().any(|entry| nearest(entry.key, [key]).is_some()) {
            let reason = format!("{} has no `{key}`", self.title);
            out.push(Diagnostic::mistake(&self.place, reason, format!("add {}", example(key))).absent());
        }
    }

    /// A string.
    pub fn string(&mut self, key: &'static str, out: &mut Diagnostics) -> Option<Spanned<String>> {
        let entry = self.take(key)?;
        match entry.value {
            DeValue::String(text) => Some(Spanned::new(text.to_string(), entry.value_place)),
            other => wrong_type(key, "a string", other, &entry.value_place, out),
        }
    }

    /// A string, or an array of strings.
    pub fn strings(
        &mut self,
        key: &'static str,
        out: &mut Diagnostics,
    ) -> Option<Spanned<Vec<Spanned<String>>>> {
        let entry = self.take(key)?;
        let strings = match entry.value {
            DeValue::String(text) => vec![Spanned::new(text.to_string(), entry.value_place.clone())],
            DeValue::Array(items) => items
                .iter()
                .filter_map(|item| {
                    let place = Span::new(entry.value_place.source(), item.span());
                    match item.get_ref() {
                        DeValue::String(text) => Some(Spanned::new(text.to_string(), place)),
                        other => wrong_type(key, "strings", other, &place, out),
                    }
                })
                .collect(),
            other => return wrong_type(key, "an array of strings", other, &entry.value_place, out),
        };
        Some(Spanned::new(strings, entry.value_place))
    }

    /// A whole number within `range`.
    pub fn integer(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u32>,
        out: &mut Diagnostics,
    ) -> Option<Spanned<u32>> {
        let entry = self.take(key)?;
        whole_number(&entry, &range, out)
    }

    /// A port or a range of ports, as a number or as a string, not yet understood.
    pub fn number_or_string(&mut self, key: &'static str, out: &mut Diagnostics) -> Option<Spanned<String>> {
        let entry = self.take(key)?;
        match entry.value {
            DeValue::Integer(number) => Some(Spanned::new(number.to_string(), entry.value_place)),
            DeValue::String(text) => Some(Spanned::new(text.to_string(), entry.value_place)),
            other => wrong_type(key, "a number or a string", other, &entry.value_place, out),
        }
    }

    /// One of a few words.
    pub fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, T)],
        out: &mut Diagnostics,
    ) -> Option<Spanned<T>> {
        let word = self.string(key, out)?;
        if let Some((_, value)) = choices.iter().find(|(known, _)| *known == word.value) {
            return Some(Spanned::new(*value, word.place));
        }
        let all = choices.iter().map(|(known, _)| format!("\"{known}\"")).collect::<Vec<_>>().join(", ");
        let remedy = match nearest(&word.value, choices.iter().map(|(known, _)| *known)) {
            Some(meant) => format!("did you mean \"{meant}\"? (one of {all})"),
            None => format!("write one of {all}"),
        };
        out.mistake(&word.place, format!("`{key}` cannot be \"{}\"", word.value), remedy);
        None
    }

    /// A table of its own, like `prefix = { … }`.
    pub fn table(
        &mut self,
        key: &'static str,
        title: &'static str,
        out: &mut Diagnostics,
    ) -> Option<Section<'a>> {
        let entry = self.take(key)?;
        match entry.value {
            DeValue::Table(table) => Some(Section::of(table, title, entry.value_place)),
            other => wrong_type(key, "a table", other, &entry.value_place, out),
        }
    }

    /// An array of tables, like `[[vip]]`; none when the file has none.
    pub fn tables(
        &mut self,
        key: &'static str,
        title: &'static str,
        out: &mut Diagnostics,
    ) -> Vec<Section<'a>> {
        self.asked.push(key);
        let mut sections = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.key == key) {
            let source = entry.value_place.source();
            let DeValue::Array(items) = entry.value else {
                let reason = format!("`{key}` is {}, but there can be several of them", kind(entry.value));
                let remedy = format!("write {title} with double brackets");
                if let DeValue::Table(table) = entry.value {
                    out.mistake(&entry.value_place, reason, remedy);
                    // It is clear what is meant, so go on with it.
                    sections.push(Section::of(table, title, entry.value_place.clone()));
                } else {
                    out.mistake(&entry.key_place, reason, remedy);
                }
                continue;
            };
            for item in items.iter() {
                let place = Span::new(source, item.span());
                match item.get_ref() {
                    DeValue::Table(table) => sections.push(Section::of(table, title, place)),
                    other => {
                        let reason = format!("`{key}` holds {}, not a table", kind(other));
                        out.mistake(&place, reason, format!("write {title} and its keys below"));
                    }
                }
            }
        }
        sections
    }

    /// Every key with its number: for tables whose keys are names.
    pub fn numbers(
        self,
        range: &RangeInclusive<u32>,
        out: &mut Diagnostics,
    ) -> Vec<(Spanned<String>, Spanned<u32>)> {
        let number = |entry: &Entry<'_>| {
            let key = Spanned::new(entry.key.to_owned(), entry.key_place.clone());
            Some((key, whole_number(entry, range, out)?))
        };
        self.entries.iter().filter_map(number).collect()
    }

    /// Reports the keys that nobody asked for.
    pub fn finish(self, out: &mut Diagnostics) {
        // Of two keys equally near, the one that is not there yet is meant.
        let mut known = self.asked.clone();
        known.sort_by_key(|key| self.has(key));
        for entry in self.entries.iter().filter(|entry| !self.asked.contains(&entry.key)) {
            let remedy = match nearest(entry.key, known.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("{} takes: {}", self.title, self.asked.join(", ")),
            };
            out.mistake(&entry.key_place, format!("unknown key `{}` in {}", entry.key, self.title), remedy);
        }
    }
}

/// A whole number within `range`.
fn whole_number(
    entry: &Entry<'_>,
    range: &RangeInclusive<u32>,
    out: &mut Diagnostics,
) -> Option<Spanned<u32>> {
    let (key, place) = (entry.key, &entry.value_place);
    let DeValue::Integer(number) = entry.value else {
        return wrong_type(key, "a number", entry.value, place, out);
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
    key: &str,
    wanted: &str,
    found: &DeValue<'_>,
    place: &Span,
    out: &mut Diagnostics,
) -> Option<T> {
    let reason = format!("`{key}` takes {wanted}, not {}", kind(found));
    out.mistake(place, reason, format!("write it like {}", example(key)));
    None
}
