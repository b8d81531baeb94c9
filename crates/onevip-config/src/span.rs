//! Where a value stands: files, places in them, and values that remember their place.
//!
//! Every mistake that `onevip check` shows points at a line, so everything read from a file carries its place along
//! until the configuration is accepted; [`Config`](super::Config) itself is plain data again.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The text of one configuration file and its name.
#[derive(Debug)]
pub struct SourceFile {
    path: PathBuf,
    text: String,
    /// Where each line begins, so that the line of a place is found without reading the file again.
    line_starts: Vec<usize>,
}

impl SourceFile {
    /// A file of this name with this text.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Arc<Self> {
        let text = text.into();
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Arc::new(Self { path: path.into(), text, line_starts })
    }

    /// The name of the file, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The line (from 0) that the byte `at` lies on, and where it begins.
    fn line_at(&self, at: usize) -> (usize, usize) {
        let line = self.line_starts.partition_point(|start| *start <= at).saturating_sub(1);
        (line, self.line_starts[line])
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A stretch of a file, or the file as a whole.
#[derive(Clone)]
pub struct Span {
    source: Arc<SourceFile>,
    span: Option<Range<usize>>,
}

impl Span {
    /// The bytes `span` of `source`. A span that leaves the text, or splits a character, is moved inside.
    pub fn new(source: &Arc<SourceFile>, span: Range<usize>) -> Self {
        let text = source.text();
        let inside = |at: usize| {
            let at = at.min(text.len());
            (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
        };
        let (start, end) = (inside(span.start), inside(span.end));
        Self { source: source.clone(), span: Some(start..end.max(start)) }
    }

    /// The file as a whole, where no line can be named.
    pub fn whole(source: &Arc<SourceFile>) -> Self {
        Self { source: source.clone(), span: None }
    }

    /// The file.
    pub fn source(&self) -> &Arc<SourceFile> {
        &self.source
    }

    /// The bytes of the file, or `None` for the file as a whole.
    pub fn bytes(&self) -> Option<Range<usize>> {
        self.span.clone()
    }

    /// Whether it is a stretch of a file: not for a file as a whole, nor for what no file says.
    pub fn is_in_a_line(&self) -> bool {
        self.span.is_some()
    }

    /// The text at this place, empty for the file as a whole.
    pub fn text(&self) -> &str {
        self.span.clone().and_then(|span| self.source.text().get(span)).unwrap_or("")
    }

    /// Line (from 1) and column in characters (from 1), or `None` for the file as a whole.
    pub fn line_column(&self) -> Option<(usize, usize)> {
        let at = self.span.as_ref()?.start;
        let (line, start) = self.source.line_at(at);
        Some((line + 1, self.source.text()[start..at].chars().count() + 1))
    }

    /// The line (from 1) on which the place begins, or `None` for the file as a whole.
    pub fn line_number(&self) -> Option<usize> {
        self.span.as_ref().map(|span| self.source.line_at(span.start).0 + 1)
    }

    /// The line on which the place begins, without its end, and the place within that line, in bytes.
    pub fn line(&self) -> Option<(&str, Range<usize>)> {
        let span = self.span.clone()?;
        let text = self.source.text();
        let (_, start) = self.source.line_at(span.start);
        let end = text[span.start..].find('\n').map_or(text.len(), |newline| span.start + newline);
        let line = text[start..end].trim_end_matches('\r');
        let within = |at: usize| (at - start).min(line.len());
        Some((line, within(span.start)..within(span.end)))
    }

    /// A part of a quoted string that stands at this place, by its bytes in the string's value. The whole place when
    /// the string holds escapes, so that bytes of the value and bytes of the text differ.
    pub fn within_string(&self, value: &str, part: Range<usize>) -> Self {
        let plain = self.text().get(1..).is_some_and(|text| text.starts_with(value));
        match &self.span {
            Some(span) if plain && self.text().len() == value.len() + 2 => {
                Self::new(&self.source, span.start + 1 + part.start..span.start + 1 + part.end)
            }
            Some(_) | None => self.clone(),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source.path().display())?;
        match self.line_column() {
            Some((line, column)) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A value and the place it was read from.
#[derive(Clone, Debug)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Span,
}

impl<T> Spanned<T> {
    /// `value`, read from `place`.
    pub fn new(value: T, place: Span) -> Self {
        Self { value, place }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_knows_its_line_and_column_in_characters() {
        let source = SourceFile::new("f", "# ü\r\nname = \"ü\" x\n");
        let x = source.text().find('x').unwrap();
        let place = Span::new(&source, x..x + 1);
        assert_eq!(place.to_string(), "f:2:12");
        assert_eq!(place.line(), Some(("name = \"ü\" x", 12..13)));
        assert_eq!(Span::whole(&source).to_string(), "f");
    }

    #[test]
    fn a_span_outside_the_text_is_moved_inside() {
        let source = SourceFile::new("f", "ü");
        assert_eq!(Span::new(&source, 1..99).bytes(), Some(0..2));
        assert_eq!(Span::new(&source, 99..100).bytes(), Some(2..2));
    }

    #[test]
    fn a_part_of_a_string_is_found_unless_it_has_escapes() {
        let source = SourceFile::new("f", r#"a = "unix[9-1]" b = "\u0041x""#);
        let plain = Span::new(&source, 4..15);
        assert_eq!(plain.within_string("unix[9-1]", 5..8).text(), "9-1");
        let escaped = Span::new(&source, 20..29);
        assert_eq!(escaped.within_string("Ax", 1..2).text(), r#""\u0041x""#);
    }
}
