//! Retired words do not come back into names and comments. Where one lives on in what users see (configuration, JSON,
//! metrics, the kernel's maps), `docs/glossary.md` says so; such a word stands in a literal or between backticks here,
//! and neither is looked at.

use crate::text::{self, Piece};
use crate::{Failure, Tree};

/// Where a word is retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// In any name: of a variable, a function, a type, a module, a file.
    Names,
    /// In names of types, modules and files alone: it is a common verb, too.
    Nouns,
    /// In any name, and in comments.
    Everywhere,
}

/// A word that is not used any more.
#[derive(Clone, Copy, Debug)]
pub struct Retired {
    /// Its forms.
    pub forms: &'static [&'static str],
    /// What is said instead.
    pub instead: &'static str,
    /// What it is looked for in.
    pub places: Where,
    /// Beginnings of the paths that are looked at.
    pub paths: &'static [&'static str],
}

const ALL: &[&str] = &["crates/onevip"];
/// Of those, the ones in which a letter is no part of a word, a margin none of a text, and a guest no virtual machine.
const SERVING: &[&str] = &["crates/onevip/", "crates/onevip-core/", "crates/onevip-health/"];
const PROGRAM: &[&str] = &["crates/onevip/"];
const KERNEL: &[&str] = &["crates/onevip-bpf/bpf/"];
/// What judges in the core are verdicts about packets; what is retired are those about checks.
const HEALTH: &[&str] = &["crates/onevip-health/", "crates/onevip/src/health/"];
const LAB: &[&str] = &["crates/onevip-lab/"];
/// All but the kernel part, whose pinned maps and flags keep their names over upgrades, and the lab.
const DAEMON: &[&str] = &[
    "crates/onevip/",
    "crates/onevip-core/",
    "crates/onevip-config/",
    "crates/onevip-host/",
    "crates/onevip-health/",
];

const fn word(
    forms: &'static [&'static str],
    instead: &'static str,
    places: Where,
    paths: &'static [&'static str],
) -> Retired {
    Retired { forms, instead, places, paths }
}

/// The retired words.
pub const RETIRED: &[Retired] = &[
    word(&["desk", "desks"], "sessions, doctor or rpc", Where::Everywhere, ALL),
    word(&["steward", "stewards"], "control handler", Where::Everywhere, ALL),
    word(&["warden", "wardens"], "reconciler", Where::Everywhere, ALL),
    word(&["letter", "letters"], "rpc message", Where::Everywhere, SERVING),
    word(&["post", "posts", "mail", "mails"], "rpc transport", Where::Names, DAEMON),
    word(&["news"], "events", Where::Everywhere, PROGRAM),
    word(&["gather", "gathers"], "report", Where::Nouns, DAEMON),
    word(&["ears"], "link activity", Where::Everywhere, ALL),
    word(&["margin", "margins"], "lease slack", Where::Names, SERVING),
    word(&["toll", "tolls"], "impact", Where::Everywhere, ALL),
    word(&["board", "boards"], "results", Where::Names, DAEMON),
    word(&["judge", "judges"], "hysteresis", Where::Names, HEALTH),
    word(&["ladder", "ladders"], "weight steps", Where::Everywhere, ALL),
    word(&["course", "courses"], "check", Where::Names, DAEMON),
    word(&["sight", "sights"], "socket snapshot", Where::Names, DAEMON),
    word(&["knock", "knocks", "knocking"], "probe", Where::Everywhere, ALL),
    word(&["witness", "witnesses"], "peer check", Where::Everywhere, SERVING),
    word(&["stand", "stands"], "peer check", Where::Nouns, DAEMON),
    word(&["examination", "examinations"], "peer check", Where::Everywhere, ALL),
    word(&["tally", "tallies"], "counters", Where::Everywhere, ALL),
    word(&["heir", "heirs"], "hand-over", Where::Everywhere, PROGRAM),
    word(&["keeper", "keepers"], "list", Where::Everywhere, DAEMON),
    word(&["spread"], "replication", Where::Nouns, DAEMON),
    word(&["guest", "guests"], "local sessions (the kernel's flag stays GUESTS)", Where::Everywhere, SERVING),
    word(&["onlooker", "onlookers"], "dry run", Where::Everywhere, ALL),
    word(&["inquiry", "inquiries"], "context", Where::Everywhere, ALL),
    word(&["judged"], "verdict", Where::Names, KERNEL),
    word(&["act", "acts"], "scenario", Where::Nouns, LAB),
    word(&["take", "takes"], "measurement", Where::Nouns, LAB),
    word(&["tape", "tapes"], "samples", Where::Names, LAB),
    word(&["sheet", "sheets"], "results", Where::Names, LAB),
    word(&["stage", "stages"], "testbed", Where::Names, LAB),
];

/// Where one of these words is used.
pub fn failures(tree: &Tree, retired: &[Retired]) -> Vec<Failure> {
    let mut out = Vec::new();
    for (path, source) in tree.ending(&[".rs", ".c", ".h"]) {
        let wanted: Vec<&Retired> =
            retired.iter().filter(|one| one.paths.iter().any(|start| path.starts_with(start))).collect();
        if wanted.is_empty() {
            continue;
        }
        let mut seen = Seen { path, out: &mut out };
        let inside = path.split('/').skip(2).collect::<Vec<_>>().join("/");
        for part in inside.split('/').flat_map(|part| part.split('.').next()) {
            seen.name(0, part, true, &wanted);
        }
        for piece in text::pieces(source) {
            match piece {
                Piece::Comment(line, comment) => seen.comment(line, &comment, &wanted),
                Piece::Code(line, code) => {
                    for (line, name) in text::names(&code, line) {
                        seen.name(line, name, is_noun(name), &wanted);
                    }
                }
            }
        }
    }
    out
}

/// Whether a name is one of a type.
fn is_noun(name: &str) -> bool {
    name.starts_with(char::is_uppercase) && name.contains(char::is_lowercase)
}

/// The kernel's flag keeps its name, which is written in capitals.
fn is_flag(name: &str) -> bool {
    name == "GUESTS" || name.ends_with("_GUESTS")
}

struct Seen<'a> {
    path: &'a str,
    out: &'a mut Vec<Failure>,
}

impl Seen<'_> {
    fn name(&mut self, line: usize, name: &str, noun: bool, wanted: &[&Retired]) {
        let words = text::words(name);
        for retired in wanted.iter().filter(|one| (noun || one.places != Where::Nouns) && !is_flag(name)) {
            if let Some(word) = words.iter().find(|word| retired.forms.contains(&word.as_str())) {
                self.tell(line, word, &format!("`{name}`"), retired);
            }
        }
    }

    fn comment(&mut self, line: usize, comment: &str, wanted: &[&Retired]) {
        for (line, name) in text::names(&text::unquoted(comment), line) {
            let lower = name.to_lowercase();
            for retired in wanted.iter().filter(|one| one.places == Where::Everywhere && !is_flag(name)) {
                if retired.forms.contains(&lower.as_str()) {
                    self.tell(line, &lower, "a comment", retired);
                }
            }
        }
    }

    fn tell(&mut self, line: usize, word: &str, place: &str, retired: &Retired) {
        let text = format!("the retired word `{word}` in {place}: say {}", retired.instead);
        self.out.push(Failure::new(self.path, line, format!("{}: {word}", self.path), text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retired_word_is_found_in_names_comments_and_file_names() {
        let tree = Tree::made_up(&[
            ("crates/onevip/src/steward.rs", "//! Head.\n"),
            ("crates/onevip/src/a.rs", "//! Head.\nfn ask_the_desk() {} // a letter\n"),
            ("crates/onevip-bpf/bpf/b.h", "/* an onlooker */\nstruct judged {};\n"),
            ("crates/onevip-lab/src/c.rs", "struct Take; fn f() { x.take(); sheet(); }"),
        ]);
        let keys: Vec<_> = failures(&tree, RETIRED).into_iter().map(|one| one.key).collect();
        let wanted = [
            "crates/onevip-bpf/bpf/b.h: onlooker",
            "crates/onevip-bpf/bpf/b.h: judged",
            "crates/onevip-lab/src/c.rs: take",
            "crates/onevip-lab/src/c.rs: sheet",
            "crates/onevip/src/a.rs: desk",
            "crates/onevip/src/a.rs: letter",
            "crates/onevip/src/steward.rs: steward",
        ];
        assert_eq!(keys, wanted);
    }

    #[test]
    fn what_users_see_and_the_flag_of_the_kernel_are_left_alone() {
        let text = "//! The key `[desk]`.\nconst KEY: &str = \"desk\"; const GUESTS: u32 = 1; // GUESTS\n";
        assert!(failures(&Tree::made_up(&[("crates/onevip/src/a.rs", text)]), RETIRED).is_empty());
    }
}
