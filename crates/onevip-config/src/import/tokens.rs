//! A line as tokens, each with its place.

use crate::{SourceFile, Span};
use std::sync::Arc;

/// A token of a file.
#[derive(Clone, Debug)]
pub(super) struct Token {
    /// Without quotes.
    pub text: String,
    pub place: Span,
}

/// The lines of a file with where they begin.
pub(super) fn lines(source: &SourceFile) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    source.text().split('\n').map(move |line| {
        let start = at;
        at += line.len() + 1;
        (start, line.trim_end_matches('\r'))
    })
}

/// The place of a whole line, without the space around it.
pub(super) fn place_of_line(source: &Arc<SourceFile>, start: usize, line: &str) -> Span {
    let indent = line.len() - line.trim_start().len();
    Span::new(source, start + indent..start + line.trim_end().len().max(indent))
}

/// The tokens of a line that begins at `start`. Quotes hold tokens together; `{`, `}`, `,` and `:` stand for themselves only
/// where `punctuation` says so.
pub(super) fn tokens(source: &Arc<SourceFile>, start: usize, line: &str, punctuation: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = line.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c.is_whitespace() {
            continue;
        }
        let mut text = String::new();
        let mut end = at + c.len_utf8();
        let mut quoted = c == '"';
        if !quoted {
            text.push(c);
        }
        if !punctuation.contains(c) {
            while let Some(&(next, c)) = chars.peek() {
                if !quoted && (c.is_whitespace() || punctuation.contains(c)) {
                    break;
                }
                chars.next();
                end = next + c.len_utf8();
                if c == '"' {
                    quoted = !quoted;
                } else {
                    text.push(c);
                }
            }
        }
        tokens.push(Token { text, place: Span::new(source, start + at..start + end) });
    }
    tokens
}

/// A number as iptables and nft write it: decimal, or hex with `0x`.
pub(super) fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
