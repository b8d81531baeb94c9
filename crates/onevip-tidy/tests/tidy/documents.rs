//! The documents tell the truth: what they name is there. Paths, sections, commands, settings.

use crate::commands::{self, Command};
use crate::markdown::{self, Code, Page};
use crate::rust::RustFile;
use crate::settings::{self, Settings};
use crate::{Failure, Tree};
use std::collections::{BTreeMap, BTreeSet};

/// Lines of prose are wrapped here; tables, links and code may be longer.
pub const WIDTH_MAX: usize = 100;

/// A page that is made from a template, fields filled in.
const GENERATED: &str = "docs/benchmarks.md";

/// Folders at the root whose paths documents may begin with.
const TOP: &[&str] = &["crates", "docs", "packaging", "scripts", "bench", "fuzz", "findings", ".ci"];
/// Endings of files that documents name without their folders.
const ENDINGS: &[&str] = &[".rs", ".h", ".c", ".md"];

/// The documents of a tree, read.
pub fn pages(tree: &Tree) -> BTreeMap<&str, Page> {
    let ours = |path: &str| !path.contains('/') || path.starts_with("docs/") || path == "bench/page.md";
    tree.ending(&[".md"])
        .filter(|(path, _)| ours(path))
        .map(|(path, text)| (path, markdown::read(text)))
        .collect()
}

/// Links that lead nowhere: to files or sections that are not there.
pub fn links(tree: &Tree) -> Vec<Failure> {
    let pages = pages(tree);
    let mut out = Vec::new();
    for (path, page) in &pages {
        for (line, target) in page.links.iter().filter(|(_, target)| !target.contains("://")) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            // The template of a page lies elsewhere than the page.
            let from = if *path == "bench/page.md" { "docs/page.md" } else { path };
            let file = if file.is_empty() { (*path).to_owned() } else { beside(from, file) };
            let there = tree.has(&file) || (*path == "bench/page.md" && file.starts_with("docs/plots"));
            let section =
                anchor.is_empty() || pages.get(file.as_str()).is_none_or(|page| has_anchor(page, anchor));
            if !there {
                out.push(Failure::new(path, *line, target, format!("the link {target} leads to no file")));
            } else if !section {
                out.push(Failure::new(path, *line, target, format!("{file} has no section #{anchor}")));
            }
        }
    }
    out
}

fn has_anchor(page: &Page, anchor: &str) -> bool {
    page.anchors.iter().any(|one| one == anchor)
}

/// A path that a document names from its own place.
fn beside(document: &str, path: &str) -> String {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Paths in code that are not there.
pub fn paths(tree: &Tree) -> Vec<Failure> {
    let mut out = Vec::new();
    for (path, page) in pages(tree) {
        for code in &page.code {
            let (line, text, span) = match code {
                Code::Span(line, text) => (*line, text, true),
                Code::Line(line, text, _) => (*line, text, false),
            };
            for word in text.split([' ', '(', ')', ',', ';', '=', '"', '\'']) {
                let word = word.trim_end_matches(['.', ':', '…']).trim_start_matches("./");
                if names_a_path(tree, word, span) && !is_there(tree, word) {
                    out.push(Failure::new(path, line, word, format!("there is no `{word}`")));
                }
            }
        }
    }
    out
}

/// Whether a word of code is meant to name something of the tree.
fn names_a_path(tree: &Tree, word: &str, span: bool) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-*{}".contains(c);
    if word.is_empty()
        || word.starts_with(['/', '~', '-', '.']) && !word.starts_with(".ci")
        || !word.chars().all(plain)
    {
        return false;
    }
    let first = word.split('/').next().unwrap_or_default();
    let within = word.contains('/') && (TOP.contains(&first) || tree.has(&format!("crates/{first}")));
    let is_crate = word.starts_with("onevip-") && word.ends_with('/');
    let file = ENDINGS.iter().any(|end| word.len() > end.len() && word.ends_with(end)) && !word.contains('*');
    let folder = word.ends_with('/') && word.chars().all(|c| c.is_ascii_lowercase() || "_/".contains(c));
    (within || is_crate || (span && (file || folder))) && !word.contains("NNNN")
}

fn is_there(tree: &Tree, word: &str) -> bool {
    let fixed = word.split(['*', '{']).next().unwrap_or_default();
    let fixed = if fixed == word { word } else { fixed.rsplit_once('/').map_or("", |(folder, _)| folder) };
    // The results that benches leave, and what fuzzing makes, come and go.
    let made = ["bench/results", "fuzz/artifacts", "fuzz/corpus"].iter().any(|made| fixed.starts_with(made));
    made || tree.has(fixed) || tree.has(&format!("crates/{fixed}")) || tree.has_end(fixed)
}

/// Sections are named by links; `§` stands for those of RFCs alone. In sources, `docs/X.md, "Title"` names one.
pub fn sections(tree: &Tree) -> Vec<Failure> {
    let pages = pages(tree);
    let mut out = Vec::new();
    for (path, text) in tree.files() {
        let document = pages.contains_key(path);
        if !document
            && !path.ends_with(".rs")
            && !path.ends_with(".c")
            && !path.ends_with(".h")
            && path != "Cargo.toml"
        {
            continue;
        }
        for (index, line) in text.lines().enumerate().filter(|_| !path.starts_with("crates/onevip-tidy/")) {
            for (at, _) in line.match_indices('§') {
                if !follows_an_rfc(&line[..at]) {
                    let text = "§ is for RFCs: name the document and the title of the section";
                    out.push(Failure::new(path, index + 1, "§", text));
                }
            }
            if !document {
                out.extend(
                    titles_named(&pages, line).map(|text| Failure::new(path, index + 1, "title", text)),
                );
            }
        }
    }
    out
}

/// Whether a text ends in the number of an RFC.
fn follows_an_rfc(text: &str) -> bool {
    let text = text.trim_end();
    let before = text.trim_end_matches(|c: char| c.is_ascii_digit());
    before.len() < text.len() && before.ends_with("RFC ")
}

/// What is wrong with `docs/X.md, "Title"` in a line of a source.
fn titles_named<'a>(pages: &'a BTreeMap<&str, Page>, line: &'a str) -> impl Iterator<Item = String> {
    line.match_indices("docs/").filter_map(|(at, _)| {
        let rest = &line[at..];
        let end = rest.find(".md")? + 3;
        let file = &rest[..end];
        let Some(page) = pages.get(file) else { return Some(format!("there is no {file}")) };
        let rest = rest[end..].trim_start_matches('`');
        let title = rest.strip_prefix(", \"")?.split('"').next()?;
        let known = page.titles.iter().any(|one| one == title);
        (!known).then(|| format!("{file} has no section \"{title}\""))
    })
}

/// Calls of `onevip`, `onevip-lab` and `make` that would be refused.
pub fn calls(tree: &Tree, files: &[RustFile]) -> Vec<Failure> {
    let targets = commands::make_targets(tree);
    let mut out = Vec::new();
    let mut program = |name: &str| {
        let found = commands::of_crate(files, name);
        if found.is_none() {
            let text = "no command line is declared here: nothing can be compared with it";
            out.push(Failure::new(&format!("crates/{name}"), 0, name, text));
        }
        found.unwrap_or_default()
    };
    let (program, lab) = (program("onevip"), program("onevip-lab"));
    for (path, page) in pages(tree) {
        for code in &page.code {
            let (Code::Span(line, text) | Code::Line(line, text, _)) = code;
            for call in calls_in(text) {
                if let Some(why) = wrong(&call, &program, &lab, &targets) {
                    out.push(Failure::new(
                        path,
                        *line,
                        call.join(" "),
                        format!("`{}`: {why}", call.join(" ")),
                    ));
                }
            }
        }
    }
    out
}

fn wrong(call: &[&str], program: &Command, lab: &Command, targets: &BTreeSet<String>) -> Option<String> {
    let (name, words) = call.split_first()?;
    match name.rsplit('/').next()? {
        "onevip" => commands::mistake(program, words),
        "onevip-lab" => commands::mistake(lab, words),
        "make" => words
            .iter()
            .take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
            .map(|word| word.trim_end_matches([';', ',', '.']))
            .find(|word| !targets.contains(*word))
            .map(|word| format!("the Makefile has no target {word}")),
        _ => None,
    }
}

/// The calls of our programs in a line of code: at its beginning, after a prompt, and after what joins commands.
fn calls_in(line: &str) -> Vec<Vec<&str>> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ours = [
        "onevip",
        "onevip-lab",
        "make",
        "target/release/onevip-lab",
        "target/debug/onevip-lab",
        "target/release/onevip",
    ];
    let joins = |word: &str| {
        ["&&", ";", "|", "sudo", "$", "#", "||"].contains(&word) || word.ends_with([';', '$', '#'])
    };
    let mut starts: Vec<usize> = Vec::new();
    for (at, word) in words.iter().enumerate() {
        if ours.contains(word) && (at == 0 || joins(words[at - 1])) {
            starts.push(at);
        }
    }
    starts
        .iter()
        .map(|&start| {
            let end = words[start + 1..].iter().position(|word| joins(word) && !word.ends_with(';'));
            words[start..end.map_or(words.len(), |end| start + 1 + end)].to_vec()
        })
        .collect()
}

/// Settings that no configuration file may have.
pub fn settings(tree: &Tree) -> Vec<Failure> {
    let known = settings::known(tree);
    let mut out = Vec::new();
    for (path, page) in pages(tree) {
        let mut table = (0, String::new());
        for code in &page.code {
            let (line, unknown) = match code {
                Code::Span(line, text) => (*line, unknown_in_span(&known, text)),
                Code::Line(line, text, language) if language == "toml" => {
                    if *line != table.0 + 1 {
                        table.1 = String::new();
                    }
                    table.0 = *line;
                    let text = text.trim_start_matches('#').trim_start();
                    (*line, unknown_in_file(&known, text, &mut table.1))
                }
                Code::Line(..) => continue,
            };
            if let Some(unknown) = unknown {
                out.push(Failure::new(path, line, &unknown, format!("there is no setting {unknown}")));
            }
        }
    }
    out
}

/// In text: `[health]`, `[health] sshd`, `sshd = "kex"`.
fn unknown_in_span(known: &Settings, text: &str) -> Option<String> {
    if text.starts_with('[') {
        let end = text.rfind(']')? + 1;
        let table = settings::table_of(&text[..end])?;
        let Some(keys) = known.get(table) else { return Some(format!("[{table}]")) };
        let key = text[end..].split_whitespace().next()?;
        return (!keys.contains(key)).then(|| format!("{key} in [{table}]"));
    }
    let key = settings::key_of(text)?;
    (!known.values().any(|keys| keys.contains(key))).then(|| key.to_owned())
}

fn unknown_in_file(known: &Settings, line: &str, table: &mut String) -> Option<String> {
    if let Some(name) = settings::table_of(line) {
        name.clone_into(table);
        return (!known.contains_key(name)).then(|| format!("[{name}]"));
    }
    let key = settings::key_of(line)?;
    let there = known.get(table.as_str()).is_some_and(|keys| keys.contains(key));
    // A block without a table may be a part of one.
    let somewhere = table.is_empty() && known.values().any(|keys| keys.contains(key));
    (!there && !somewhere).then(|| format!("{key} in [{table}]"))
}

/// Lines of prose that are too long.
pub fn widths(tree: &Tree) -> Vec<Failure> {
    let mut out = Vec::new();
    for (path, _) in pages(tree).into_iter().filter(|(path, _)| *path != GENERATED) {
        let mut fence = false;
        for (index, line) in tree.text(path).unwrap_or_default().lines().enumerate() {
            fence ^= line.trim_start().starts_with("```");
            let free = fence || line.starts_with(['|', '#']) || line.starts_with("    ");
            // A link cannot be broken, nor can a field of a template.
            let free = free || line.contains("](") || line.contains("{{");
            let width = line.chars().count();
            if !free && width > WIDTH_MAX && line.trim().contains(' ') {
                let text = format!("{width} characters; prose is wrapped at {WIDTH_MAX}");
                out.push(Failure::new(path, index + 1, path, text));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
