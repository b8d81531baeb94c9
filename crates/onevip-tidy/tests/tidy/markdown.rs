//! Documents in Markdown: their sections, their links, and what stands in them as code.

/// Code in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code {
    /// Between backticks in a line of text.
    Span(usize, String),
    /// A line of a block, with the language that the block names.
    Line(usize, String, String),
}

/// What a document consists of.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The names by which links find its sections.
    pub anchors: Vec<String>,
    /// The titles of its sections, without marks.
    pub titles: Vec<String>,
    /// Targets of links, each with its line.
    pub links: Vec<(usize, String)>,
    /// All that is written as code.
    pub code: Vec<Code>,
    /// Text without code, line by line.
    pub prose: Vec<(usize, String)>,
}

/// Reads a page.
pub fn read(text: &str) -> Page {
    let mut page = Page::default();
    let mut fence: Option<(String, String)> = None;
    let mut paragraph: Vec<(usize, &str)> = Vec::new();
    let mut before_blank = true;
    let mut in_block = false;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let inner = line.trim_start();
        if let Some((mark, language)) = &fence {
            if inner.starts_with(mark.as_str()) {
                fence = None;
            } else {
                page.code.push(Code::Line(number, inner.to_owned(), language.clone()));
            }
        } else if let Some(language) = inner.strip_prefix("```") {
            end_paragraph(&mut page, &mut paragraph);
            fence = Some(("```".to_owned(), language.trim().to_owned()));
        } else if line.trim().is_empty() {
            end_paragraph(&mut page, &mut paragraph);
            before_blank = true;
            continue;
        } else if line.starts_with("    ")
            && (in_block || before_blank)
            && !is_item(inner)
            && deep_enough(line)
        {
            page.code.push(Code::Line(number, inner.to_owned(), String::new()));
            in_block = true;
            continue;
        } else if let Some(title) = heading(line) {
            end_paragraph(&mut page, &mut paragraph);
            section(&mut page, title);
            paragraph.push((number, title));
        } else {
            paragraph.push((number, line));
        }
        in_block = false;
        before_blank = false;
    }
    end_paragraph(&mut page, &mut paragraph);
    page
}

/// Text of an item is indented by up to three; what follows a blank line further in is a block.
fn deep_enough(line: &str) -> bool {
    line.len() - line.trim_start().len() >= 4
}

fn is_item(inner: &str) -> bool {
    inner.starts_with("- ") || inner.starts_with("* ") || inner.starts_with("| ")
}

fn heading(line: &str) -> Option<&str> {
    let title = line.trim_start_matches('#');
    let depth = line.len() - title.len();
    (1..=6).contains(&depth).then_some(title).and_then(|title| title.strip_prefix(' ')).map(str::trim)
}

fn section(page: &mut Page, title: &str) {
    let plain: String = title.chars().filter(|c| *c != '`' && *c != '*').collect();
    let mut anchor = String::new();
    for c in plain.to_lowercase().chars() {
        match c {
            ' ' => anchor.push('-'),
            _ if c.is_alphanumeric() || c == '-' || c == '_' => anchor.push(c),
            _ => {}
        }
    }
    let same = page.titles.iter().filter(|known| **known == plain).count();
    page.anchors.push(if same == 0 { anchor } else { format!("{anchor}-{same}") });
    page.titles.push(plain);
}

/// Takes a paragraph apart: spans of code may go over the end of a line, links may, too.
fn end_paragraph(page: &mut Page, paragraph: &mut Vec<(usize, &str)>) {
    let lines = std::mem::take(paragraph);
    let mut prose = String::new();
    let mut span: Option<(usize, String)> = None;
    for &(number, line) in &lines {
        if let Some((_, code)) = &mut span {
            code.push(' ');
        }
        for c in line.trim_start().chars() {
            match (&mut span, c) {
                (None, '`') => span = Some((number, String::new())),
                (Some(_), '`') => {
                    let (number, code) = span.take().unwrap_or_default();
                    page.code.push(Code::Span(number, code));
                    prose.push('`');
                }
                (Some((_, code)), c) => code.push(c),
                (None, c) => prose.push(c),
            }
        }
        prose.push('\n');
    }
    for (offset, line) in prose.lines().enumerate() {
        let number = lines.first().map_or(0, |(first, _)| first + offset);
        let mut rest = line;
        while let Some(at) = rest.find("](") {
            let target = &rest[at + 2..];
            let end = target.find([')', ' ']).unwrap_or(target.len());
            page.links.push((number, target[..end].to_owned()));
            rest = &target[end..];
        }
        page.prose.push((number, line.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_links_and_code_are_found() {
        let page = read(
            "# A `b`, c\n\nText `one\ntwo` and [x](y.md#z).\n\n    onevip run\n\n```toml\na = 1\n```\n\n- item\n\n  more\n## A b, c\n",
        );
        assert_eq!(page.anchors, ["a-b-c", "a-b-c-1"]);
        assert_eq!(page.links, [(4, "y.md#z".to_owned())]);
        let wanted = [
            Code::Span(1, "b".to_owned()),
            Code::Span(3, "one two".to_owned()),
            Code::Line(6, "onevip run".to_owned(), String::new()),
            Code::Line(9, "a = 1".to_owned(), "toml".to_owned()),
        ];
        assert_eq!(page.code, wanted);
    }
}
