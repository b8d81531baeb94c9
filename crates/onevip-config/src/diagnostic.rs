//! Mistakes and advice: what is wrong, where, why, and what to do about it; and how that looks in a terminal.
//!
//! Nothing here knows what a configuration means. `parse.rs` and `validate.rs` collect; `onevip check` and every command
//! that loads a configuration show.

use super::span::Span;
use std::fmt::{self, Write as _};

/// How many are kept. Beyond that they are counted only, so that a hostile file costs little memory.
const KEPT_MAX: usize = 1000;
/// How many are shown at once; a file of noise must not scroll away what stands first.
const SHOWN_MAX: usize = 100;
/// The longest piece of a line that is shown, in characters.
const LINE_CHARS_MAX: usize = 120;

/// Whether the configuration can be used nevertheless.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// It cannot.
    Mistake,
    /// It can, but the author may not have meant it.
    Advice,
}

/// One mistake or piece of advice.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// Mistake or advice.
    pub severity: Severity,
    /// Where it stands.
    pub place: Span,
    /// What is wrong, naming the thing; one line.
    pub reason: String,
    /// What to do; one line.
    pub remedy: String,
    /// Other places that have to do with it, each with a word on how.
    pub also: Vec<(Span, String)>,
    /// Whether it only says that something is missing. Then it may be the echo of a syntax error.
    pub(super) absence: bool,
}

impl Diagnostic {
    /// A mistake.
    pub fn mistake(place: &Span, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (reason, remedy) = (reason.into(), remedy.into());
        Self {
            severity: Severity::Mistake,
            place: place.clone(),
            reason,
            remedy,
            also: Vec::new(),
            absence: false,
        }
    }

    /// Advice.
    pub fn advice(place: &Span, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Advice, ..Self::mistake(place, reason, remedy) }
    }

    /// Adds another place that has to do with it.
    #[must_use]
    pub fn also(mut self, place: &Span, note: impl Into<String>) -> Self {
        self.also.push((place.clone(), note.into()));
        self
    }

    /// Marks it as saying only that something is missing.
    #[must_use]
    pub(super) fn absent(mut self) -> Self {
        self.absence = true;
        self
    }
}

/// Everything found in a configuration, in the order of the files and lines.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    /// Mistakes beyond [`KEPT_MAX`].
    beyond: usize,
}

impl Diagnostics {
    /// Nothing found.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.list.len() < KEPT_MAX {
            self.list.push(diagnostic);
        } else if diagnostic.severity == Severity::Mistake {
            self.beyond += 1;
        }
    }

    /// Adds all of `others`.
    pub(super) fn append(&mut self, others: Self) {
        self.beyond += others.beyond;
        for one in others.list {
            self.push(one);
        }
    }

    /// Adds a mistake.
    pub fn mistake(&mut self, place: &Span, reason: impl Into<String>, remedy: impl Into<String>) {
        self.push(Diagnostic::mistake(place, reason, remedy));
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// How many mistakes and how much advice there is.
    pub fn counts(&self) -> (usize, usize) {
        let mistakes = self.list.iter().filter(|one| one.severity == Severity::Mistake).count();
        (mistakes + self.beyond, self.list.len() - mistakes)
    }

    /// Whether the configuration cannot be used.
    pub fn has_mistakes(&self) -> bool {
        self.beyond > 0 || self.list.iter().any(|one| one.severity == Severity::Mistake)
    }

    /// Whether nothing was found at all.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Keeps only those for which `keep` holds.
    pub(super) fn retain(&mut self, keep: impl FnMut(&Diagnostic) -> bool) {
        self.list.retain(keep);
    }

    /// Sorts by file (in the order in which `files` has them) and place.
    pub(super) fn sort(&mut self, files: &[std::sync::Arc<super::span::SourceFile>]) {
        self.list.sort_by_key(|one| {
            let file = files.iter().position(|file| std::sync::Arc::ptr_eq(file, one.place.source()));
            (file, one.place.bytes().map(|span| span.start), one.severity == Severity::Advice)
        });
    }

    /// As text for a terminal, in colour if `colour`, ending with a line that counts them.
    pub fn render(&self, colour: bool) -> String {
        let paint = Paint { colour };
        let mut out = String::new();
        for one in self.list.iter().take(SHOWN_MAX) {
            render_one(&mut out, one, paint);
            out.push('\n');
        }
        let more = self.list.len().saturating_sub(SHOWN_MAX) + self.beyond;
        if more > 0 {
            let _ = writeln!(out, "… and {more} more\n");
        }
        out.push_str(&self.summary(paint));
        out
    }

    /// "3 mistakes, 1 piece of advice"
    fn summary(&self, paint: Paint) -> String {
        let (mistakes, advice) = self.counts();
        let count =
            |n: usize, one: &str, many: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {many}") };
        let mistakes = (mistakes > 0).then(|| paint.in_colour(RED, &count(mistakes, "mistake", "mistakes")));
        let advice = (advice > 0).then(|| paint.in_colour(YELLOW, &count(advice, "warning", "warnings")));
        [mistakes, advice].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

const RED: &str = "1;31";
const YELLOW: &str = "1;33";
const BLUE: &str = "1;34";
const GREEN: &str = "1;32";
const BOLD: &str = "1";

/// Colours, or none.
#[derive(Clone, Copy)]
struct Paint {
    colour: bool,
}

impl Paint {
    fn in_colour(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// One diagnostic, its lines and its remedy.
fn render_one(out: &mut String, one: &Diagnostic, paint: Paint) {
    let (colour, word) = match one.severity {
        Severity::Mistake => (RED, "error"),
        Severity::Advice => (YELLOW, "warning"),
    };
    let lines = std::iter::once(&one.place).chain(one.also.iter().map(|(place, _)| place));
    let widest = lines.filter_map(Span::line_column).map(|(line, _)| line.to_string().len()).max();
    let margin = widest.unwrap_or(1);
    let bar = paint.in_colour(BLUE, "|");
    let reason = paint.in_colour(BOLD, &format!(": {}", printable(&one.reason)));
    let _ = writeln!(out, "{}{reason}", paint.in_colour(colour, word));
    let arrow = paint.in_colour(BLUE, "-->");
    let _ = writeln!(out, "{:margin$}{arrow} {}", "", printable(&one.place.to_string()));
    if one.place.line().is_some() {
        let _ = writeln!(out, "{:margin$} {bar}", "");
        render_lines(out, one, margin, colour, paint);
        let _ = writeln!(out, "{:margin$} {bar}", "");
    }
    let help = paint.in_colour(GREEN, "help");
    let _ = writeln!(out, "{:margin$} {} {help}: {}", "", paint.in_colour(BLUE, "="), printable(&one.remedy));
}

/// The lines of all places, those of the mistake's own file first and in their order.
fn render_lines(out: &mut String, one: &Diagnostic, margin: usize, colour: &str, paint: Paint) {
    let mut places = vec![(&one.place, ('^', colour), "")];
    places.extend(one.also.iter().map(|(place, note)| (place, ('-', BLUE), note.as_str())));
    let is_other = |place: &Span| !std::sync::Arc::ptr_eq(place.source(), one.place.source());
    places.sort_by_key(|(place, ..)| (is_other(place), place.line_column()));
    let mut last: Option<usize> = None;
    for (place, mark, note) in places {
        let line = place.line_column().map(|(line, _)| line);
        if is_other(place) {
            let (bar, dots) = (paint.in_colour(BLUE, "|"), paint.in_colour(BLUE, ":::"));
            let _ = writeln!(out, "{:margin$} {bar}", "");
            let _ = writeln!(out, "{:margin$}{dots} {}", "", printable(&place.to_string()));
            let _ = writeln!(out, "{:margin$} {bar}", "");
        } else if last.zip(line).is_some_and(|(last, line)| line > last + 1) {
            let _ = writeln!(out, "{}", paint.in_colour(BLUE, "..."));
        }
        last = line;
        render_line(out, place, margin, mark, &printable(note), paint);
    }
}

/// The line a place begins on, and a mark under the place.
fn render_line(
    out: &mut String,
    place: &Span,
    margin: usize,
    (mark, colour): (char, &str),
    note: &str,
    paint: Paint,
) {
    let (Some((line, within)), Some((number, _))) = (place.line(), place.line_column()) else { return };
    let bar = paint.in_colour(BLUE, "|");
    let before = line[..within.start].chars().count();
    // A long line is shown from a little before its mark.
    let skip = if before + 20 > LINE_CHARS_MAX { before - 20 } else { 0 };
    let shown: String = line.chars().skip(skip).take(LINE_CHARS_MAX).collect();
    let marked = line[within.clone()].chars().count().clamp(1, (LINE_CHARS_MAX + skip - before).max(1));
    let number = paint.in_colour(BLUE, &format!("{number:>margin$}"));
    let _ = writeln!(out, "{number} {bar} {}", printable(&shown).trim_end());
    let marks = paint.in_colour(colour, format!("{} {note}", mark.to_string().repeat(marked)).trim_end());
    let _ = writeln!(out, "{:margin$} {bar} {:indent$}{marks}", "", "", indent = before - skip);
}

/// A tab becomes a space, so that marks stand right; any other control character a sign, so that a file cannot speak
/// to the terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' | '\n' => ' ',
            c if c.is_control() || is_invisible(c) => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// Characters that turn the direction of text around or take no room.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::super::span::SourceFile;
    use super::*;

    #[test]
    fn a_mistake_shows_line_mark_and_remedy() {
        let source = SourceFile::new("onevip.toml", "cluster = \"lab\"\n\tbeat = 50\n");
        let place = Span::new(&source, 24..26);
        let first = Span::new(&source, 0..7);
        let mut all = Diagnostics::new();
        all.push(
            Diagnostic::mistake(&place, "beat is a number", "write it with a unit").also(&first, "not this"),
        );
        let expected = "\
error: beat is a number
 --> onevip.toml:2:9
  |
1 | cluster = \"lab\"
  | ------- not this
2 |  beat = 50
  |         ^^
  |
  = help: write it with a unit

1 mistake";
        assert_eq!(all.render(false), expected);
        assert!(all.render(true).contains("\x1b[1;31merror\x1b[0m"));
    }

    #[test]
    fn a_file_cannot_speak_to_the_terminal() {
        let source = SourceFile::new("f\x1b[2J", "a = \"\x1b]0;owned\x07\u{202e}\"");
        let mut all = Diagnostics::new();
        all.mistake(&Span::new(&source, 4..9), "bad \x1b[31m", "none");
        let text = all.render(false);
        assert!(!text.contains(['\x1b', '\x07', '\u{202e}']), "{text:?}");
    }

    #[test]
    fn a_long_line_is_cut_around_its_mark() {
        let source = SourceFile::new("f", format!("{}BAD{}", "x".repeat(5000), "y".repeat(5000)));
        let mut all = Diagnostics::new();
        all.mistake(&Span::new(&source, 5000..5003), "r", "h");
        let text = all.render(false);
        assert!(text.lines().all(|line| line.chars().count() < 140), "{text}");
        assert!(text.contains("BAD") && text.contains("^^^"));
    }
}
