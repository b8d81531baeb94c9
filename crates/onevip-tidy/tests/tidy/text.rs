//! Sources as text: what is comment, what is code, and the words in both. For Rust and C alike.

/// A stretch of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A comment, with its marks: its first line, from 1, and its text.
    Comment(usize, String),
    /// Code without string and character literals: its first line, and its text.
    Code(usize, String),
}

/// Takes a source apart. Literals are left out.
pub fn pieces(source: &str) -> Vec<Piece> {
    let mut scanner = Scanner { rest: source, line: 1, out: Vec::new(), code: String::new(), code_line: 1 };
    while !scanner.rest.is_empty() {
        scanner.step();
    }
    scanner.end_code();
    scanner.out
}

struct Scanner<'a> {
    rest: &'a str,
    line: usize,
    out: Vec<Piece>,
    code: String,
    code_line: usize,
}

impl Scanner<'_> {
    fn step(&mut self) {
        let rest = self.rest;
        if rest.starts_with("//") {
            self.comment(rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with("/*") {
            self.comment(block_comment(rest));
        } else if let Some(length) = raw_string(rest).filter(|_| !self.inside_a_word()) {
            self.skip(length);
        } else if rest.starts_with('"') {
            self.skip(quoted(rest, '"'));
        } else if let Some(length) = character(rest) {
            self.skip(length);
        } else {
            let length = rest.chars().next().map_or(1, char::len_utf8);
            self.code.push_str(&rest[..length]);
            self.advance(length);
        }
    }

    fn inside_a_word(&self) -> bool {
        self.code.ends_with(|last: char| last.is_alphanumeric() || last == '_')
    }

    fn advance(&mut self, length: usize) {
        self.line += self.rest[..length].matches('\n').count();
        self.rest = &self.rest[length..];
    }

    fn skip(&mut self, length: usize) {
        // A literal separates words, and keeps the lines right.
        self.code.push(' ');
        let lines = self.rest[..length].matches('\n').count();
        self.code.extend(std::iter::repeat_n('\n', lines));
        self.advance(length);
    }

    fn end_code(&mut self) {
        let code = std::mem::take(&mut self.code);
        if !code.trim().is_empty() {
            self.out.push(Piece::Code(self.code_line, code));
        }
    }

    fn comment(&mut self, length: usize) {
        self.end_code();
        self.out.push(Piece::Comment(self.line, self.rest[..length].to_owned()));
        self.advance(length);
        self.code_line = self.line;
    }
}

/// Length of a block comment; in Rust they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Length of `r"…"`, `r#"…"#`, `br"…"`, `cr"…"`.
fn raw_string(text: &str) -> Option<usize> {
    let after =
        text.strip_prefix("br").or_else(|| text.strip_prefix("cr")).or_else(|| text.strip_prefix('r'))?;
    let marks = after.len() - after.trim_start_matches('#').len();
    after[marks..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(marks));
    let start = text.len() - after.len() + marks + 1;
    Some(text[start..].find(&end).map_or(text.len(), |at| start + at + end.len()))
}

/// Length of a literal that begins and ends with a mark.
fn quoted(text: &str, mark: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == mark => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of a character literal; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    if first == '\\' {
        return Some(quoted(text, '\''));
    }
    let after = 1 + first.len_utf8();
    text[after..].starts_with('\'').then_some(after + 1)
}

/// Names in a stretch of code or prose, with the line each is in (the first line being `line`).
pub fn names(text: &str, line: usize) -> Vec<(usize, &str)> {
    let mut out = Vec::new();
    for (offset, one) in text.split('\n').enumerate() {
        let words = one.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        out.extend(words.filter(|word| !word.is_empty()).map(|word| (line + offset, word)));
    }
    out
}

/// The words of a name: `LeaseSlack`, `lease_slack` and `LEASE_SLACK` have the same two.
pub fn words(name: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut before_lower = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && before_lower) {
            out.push(String::new());
        }
        if c.is_alphanumeric() {
            out.last_mut().expect("there is always one").extend(c.to_lowercase());
        }
        before_lower = c.is_lowercase() || c.is_numeric();
    }
    out.retain(|word| !word.is_empty());
    out
}

/// A comment without what stands between backticks: that is quoted, and often what users see.
pub fn unquoted(comment: &str) -> String {
    let mut quoting = false;
    comment
        .chars()
        .map(|c| {
            quoting ^= c == '`';
            if quoting && c != '\n' { ' ' } else { c }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_code_and_literals_are_told_apart() {
        let found = pieces("let a = \"no // comment\"; // one\nr#\"no /* \"#;\n/* two */ 'x' 'a: fn");
        assert_eq!(found[1], Piece::Comment(1, "// one".to_owned()));
        assert_eq!(found[3], Piece::Comment(3, "/* two */".to_owned()));
        let Piece::Code(3, last) = &found[4] else { panic!("{found:?}") };
        assert_eq!(names(last, 3), [(3, "a"), (3, "fn")]);
        assert_eq!(found.len(), 5);
    }

    #[test]
    fn a_literal_of_several_lines_keeps_the_count() {
        assert_eq!(pieces("\"a\nb\" // c")[0], Piece::Comment(2, "// c".to_owned()));
    }

    #[test]
    fn names_are_split_into_words() {
        assert_eq!(words("LeaseSlack2"), ["lease", "slack2"]);
        assert_eq!(words("LEASE_SLACK"), ["lease", "slack"]);
        assert_eq!(words("lease_slack"), ["lease", "slack"]);
    }

    #[test]
    fn what_is_quoted_is_left_out() {
        assert_eq!(unquoted("the `desk` here").split_whitespace().collect::<Vec<_>>(), ["the", "`", "here"]);
    }
}
