//! Node lists, as administrators write them: `unix[1-4]`, `unix[01-16]`, `rack[1,3]n[1-4],gpu1`.
//!
//! [`expand`] reads them; [`compress`] is its inverse for people to read. Both know names only, not whether a node of
//! that name exists.

use onevip_core::NODES_MAX;
use std::collections::BTreeMap;
use std::ops::Range;

/// Why a node list cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeListError {
    /// The bytes of the list that are wrong.
    pub at: Range<usize>,
    /// What is wrong with them.
    pub reason: String,
    /// What to write instead.
    pub remedy: String,
}

/// All names that a node list stands for, in its order; a name that it has twice, twice.
///
/// # Errors
///
/// A bracket that does not close, a range that runs backwards, an empty part, or more than 64 names.
pub fn expand(list: &str) -> Result<Vec<String>, NodeListError> {
    let mut names = Vec::new();
    for part in split_outside_brackets(list) {
        if list[part.clone()].trim().is_empty() {
            let reason =
                if list.trim().is_empty() { "the node list is empty" } else { "a name is missing here" };
            return Err(error(part, reason, "write names like unix1 or unix[1-4], with commas between them"));
        }
        let lead = list[part.clone()].len() - list[part.clone()].trim_start().len();
        let start = part.start + lead;
        let trimmed = list[part].trim();
        names.extend(expand_one(trimmed, start)?);
        if names.len() > NODES_MAX {
            return Err(too_many(0..list.len(), names.len()));
        }
    }
    Ok(names)
}

/// Expands one name with any number of brackets; `offset` is where it begins in the list.
fn expand_one(name: &str, offset: usize) -> Result<Vec<String>, NodeListError> {
    let mut names = vec![String::new()];
    let mut at = 0;
    while at < name.len() {
        let rest = &name[at..];
        let literal = &rest[..rest.find(['[', ']']).unwrap_or(rest.len())];
        for so_far in &mut names {
            so_far.push_str(literal);
        }
        at += literal.len();
        let Some(bracket) = name[at..].chars().next() else { break };
        if bracket == ']' {
            let here = offset + at..offset + at + 1;
            return Err(error(
                here,
                "`]` closes a bracket that was never opened",
                "write ranges like unix[1-4]",
            ));
        }
        let Some(length) = name[at..].find(']') else {
            let here = offset + at..offset + name.len();
            return Err(error(here, "the bracket is not closed", "write ranges like unix[1-4]"));
        };
        let numbers = bracket_numbers(&name[at + 1..at + length], offset + at + 1)?;
        let total = names.len() * numbers.len();
        if total > NODES_MAX {
            return Err(too_many(offset..offset + name.len(), total));
        }
        names = names.iter().flat_map(|so_far| numbers.iter().map(move |n| format!("{so_far}{n}"))).collect();
        at += length + 1;
    }
    Ok(names)
}

/// The numbers of the inside of a bracket, with their padding; `offset` is where it begins in the list.
fn bracket_numbers(inside: &str, offset: usize) -> Result<Vec<String>, NodeListError> {
    let mut numbers = Vec::new();
    let mut at = 0;
    for piece in inside.split(',') {
        let here = offset + at..offset + at + piece.len();
        at += piece.len() + 1;
        let (first, last) = piece.split_once('-').unwrap_or((piece, piece));
        let (first, last) = (first.trim(), last.trim());
        let (Some(low), Some(high)) = (number(first), number(last)) else {
            let reason = format!("`{piece}` is neither a number nor a range");
            return Err(error(here, reason, "brackets hold numbers and ranges: [1-4], [01-16], [1,3-5]"));
        };
        if low > high {
            let remedy = format!("write {last}-{first}");
            return Err(error(here, format!("the range {first}-{last} runs backwards"), remedy));
        }
        let padded = |digits: &str| digits.len() > 1 && digits.starts_with('0');
        let width = if padded(first) { first.len() } else { 0 };
        if last.len() < width || (padded(last) && last.len() != width) {
            let reason = format!("{first} and {last} are padded with zeros to different widths");
            let width = first.len().max(last.len());
            return Err(error(here, reason, format!("write {low:0width$}-{high:0width$}")));
        }
        let count = (high - low) as usize + 1 + numbers.len();
        if count > NODES_MAX {
            return Err(too_many(here, count));
        }
        numbers.extend((low..=high).map(|n| format!("{n:0width$}")));
    }
    Ok(numbers)
}

/// A number of at most nine digits and nothing else.
fn number(digits: &str) -> Option<u32> {
    let plain = (1..=9).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// The parts between those commas that stand outside brackets.
fn split_outside_brackets(list: &str) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let (mut start, mut inside) = (0, false);
    for (at, c) in list.char_indices() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            ',' if !inside => {
                parts.push(start..at);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(start..list.len());
    parts
}

fn error(at: Range<usize>, reason: impl Into<String>, remedy: impl Into<String>) -> NodeListError {
    NodeListError { at, reason: reason.into(), remedy: remedy.into() }
}

fn too_many(at: Range<usize>, count: usize) -> NodeListError {
    let reason = format!("this stands for {count} names, but a cluster has at most {NODES_MAX} nodes");
    error(at, reason, "write a smaller range")
}

/// The shortest list that stands for these names, sorted: `unix1 unix2 unix3` becomes `unix[1-3]`.
///
/// Names that differ in their last number only are taken together. [`expand`] gives the same set of names back, as
/// long as none contains brackets, commas or blanks.
pub fn compress<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut families: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in names {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        // Digits beyond nine belong to the stem: as a number they would not fit.
        let stem_len = stem.len().max(name.len().saturating_sub(9));
        families.entry(&name[..stem_len]).or_default().push(&name[stem_len..]);
    }
    let mut parts = Vec::new();
    for (stem, numbers) in families {
        if numbers.contains(&"") {
            parts.push(stem.to_owned());
        }
        parts.extend(bracket(stem, numbers));
    }
    parts.join(",")
}

/// `stem[…]` for these numbers; one for each padding; the stem alone when there is one number only.
fn bracket(stem: &str, numbers: Vec<&str>) -> Vec<String> {
    let padded: Vec<usize> =
        numbers.iter().filter(|n| n.len() > 1 && n.starts_with('0')).map(|n| n.len()).collect();
    let mut by_width: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    for digits in numbers {
        let width = if padded.contains(&digits.len()) { digits.len() } else { 0 };
        if let Some(value) = number(digits) {
            by_width.entry(width).or_default().push(value);
        }
    }
    let mut parts = Vec::new();
    for (width, mut values) in by_width {
        values.sort_unstable();
        values.dedup();
        let runs: Vec<String> = values
            .chunk_by(|a, b| a + 1 == *b)
            .map(|run| match (run.first(), run.last()) {
                (Some(first), Some(last)) if first != last => format!("{first:0width$}-{last:0width$}"),
                (first, _) => format!("{:0width$}", first.copied().unwrap_or_default()),
            })
            .collect();
        let runs = runs.join(",");
        parts.push(if values.len() == 1 { format!("{stem}{runs}") } else { format!("{stem}[{runs}]") });
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn expanded(list: &str) -> String {
        expand(list).unwrap().join(" ")
    }

    #[test]
    fn lists_expand_as_administrators_expect() {
        assert_eq!(expanded("unix1"), "unix1");
        assert_eq!(expanded("unix[1-4]"), "unix1 unix2 unix3 unix4");
        assert_eq!(expanded("unix[1,3-5]"), "unix1 unix3 unix4 unix5");
        assert_eq!(expanded("unix[08-11]"), "unix08 unix09 unix10 unix11");
        assert_eq!(expanded("unix[09-011]".replace("011", "11").as_str()), "unix09 unix10 unix11");
        assert_eq!(expanded("r[1-2]n[1-2].lab"), "r1n1.lab r1n2.lab r2n1.lab r2n2.lab");
        assert_eq!(expanded("unix[1-2], gpu1"), "unix1 unix2 gpu1");
        assert_eq!(expand("n[1-64]").unwrap().len(), 64);
    }

    #[test]
    fn mistakes_name_their_place_and_remedy() {
        let wrong = |list: &str| {
            let error = expand(list).unwrap_err();
            (list[error.at.clone()].to_owned(), error.reason, error.remedy)
        };
        let (at, reason, remedy) = wrong("unix[4-1]");
        assert_eq!((at.as_str(), remedy.as_str()), ("4-1", "write 1-4"));
        assert!(reason.contains("runs backwards"));
        assert_eq!(wrong("unix[1-65]").1, "this stands for 65 names, but a cluster has at most 64 nodes");
        assert_eq!(wrong("unix[0-999999999]").0, "0-999999999");
        assert!(wrong("a[1-9]b[1-9]").1.contains("81 names"));
        assert!(wrong("a[1-40],b[1-40]").1.contains("80 names"));
        assert_eq!(wrong("unix[1-4").0, "[1-4");
        assert!(wrong("unix1]").1.contains("never opened"));
        assert_eq!(wrong("unix[]").1, "`` is neither a number nor a range");
        assert_eq!(wrong("unix[1-x]").0, "1-x");
        assert_eq!(wrong("unix[001-16]").2, "write 001-016");
        assert_eq!(wrong("unix[1-04]").2, "write 01-04");
        assert_eq!(wrong("").1, "the node list is empty");
        assert_eq!(wrong("a,,b").1, "a name is missing here");
    }

    #[test]
    fn names_compress_for_people() {
        assert_eq!(compress(["unix2", "unix1", "unix4", "gpu"]), "gpu,unix[1-2,4]");
        assert_eq!(compress(["unix09", "unix10", "unix1"]), "unix1,unix[09-10]");
        assert_eq!(compress(["a12345678901"]), "a12345678901");
    }

    proptest! {
        #[test]
        fn expand_undoes_compress(names in prop::collection::btree_set("[a-c]{0,2}(-|[.])?0{0,2}[0-9]{0,3}", 1..64)) {
            let names: BTreeSet<String> = names.into_iter().filter(|name| !name.is_empty()).collect();
            prop_assume!(!names.is_empty());
            let list = compress(names.iter().map(String::as_str));
            let back: BTreeSet<String> = expand(&list).unwrap().into_iter().collect();
            prop_assert_eq!(back, names, "by way of {}", list);
        }

        #[test]
        fn any_text_is_read_or_refused_inside_its_bounds(list in "[a-z0-9ü,\\[\\] -]{0,40}|\\PC{0,40}") {
            match expand(&list) {
                Ok(names) => prop_assert!((1..=NODES_MAX).contains(&names.len())),
                Err(error) => prop_assert!(list.get(error.at).is_some()),
            }
        }
    }
}
