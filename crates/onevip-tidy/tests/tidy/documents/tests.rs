//! A small tree of documents, and what is wrong with it.

use super::*;
use crate::rust;

fn keys(failures: Vec<Failure>) -> Vec<String> {
    failures.into_iter().map(|one| one.key).collect()
}

#[test]
fn links_that_lead_nowhere_are_found() {
    let tree = Tree::made_up(&[
        (
            "README.md",
            "# A\n[a](docs/b.md) [b](docs/b.md#part-one) [c](docs/b.md#two) [d](c.md) [e](#a) [f](https://x.y)",
        ),
        ("docs/b.md", "## Part one\n[g](../README.md) [h](../LICENCE)"),
    ]);
    assert_eq!(keys(links(&tree)), ["docs/b.md#two", "c.md", "../LICENCE"]);
}

#[test]
fn paths_that_are_not_there_are_found() {
    let text = "`crates/a/src/b.rs`, `b.rs`, `a/src`, `engine/`, `crates/c`, `x/y.rs`, `desk/`, `packaging/*`, `/etc/x.md`\n\n    install packaging/gone /etc\n";
    let tree = Tree::made_up(&[
        ("README.md", text),
        ("crates/a/src/b.rs", ""),
        ("crates/a/src/engine/c.rs", ""),
        ("packaging/d", ""),
    ]);
    assert_eq!(keys(paths(&tree)), ["crates/c", "x/y.rs", "desk/", "packaging/gone"]);
}

#[test]
fn sections_by_number_and_titles_that_are_gone_are_found() {
    let tree = Tree::made_up(&[
        ("docs/design.md", "# Beats\nRFC 1112 §6.4, and §7"),
        (
            "crates/a/src/b.rs",
            "//! docs/design.md, \"Beats\"; docs/gone.md\n//! (docs/design.md, \"Facts\") §3\n",
        ),
    ]);
    let found: Vec<_> = sections(&tree).into_iter().map(|one| (one.file, one.line, one.key)).collect();
    let source = "crates/a/src/b.rs".to_owned();
    let wanted = [
        (source.clone(), 1, "title".to_owned()),
        (source.clone(), 2, "§".to_owned()),
        (source, 2, "title".to_owned()),
        ("docs/design.md".to_owned(), 2, "§".to_owned()),
    ];
    let (mut found, mut wanted) = (found, wanted.to_vec());
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
}

#[test]
fn calls_that_would_be_refused_are_found() {
    let tree = Tree::made_up(&[
        ("Makefile", "test:\n"),
        (
            "README.md",
            "`onevip run`, `onevip walk`, `make test`, `make tea`, `onevip`\n\n    unix1$ onevip run --fast\n    onevip: no call\n    x && onevip sit\n",
        ),
        (
            "crates/onevip/src/cli.rs",
            "#[derive(Parser)] struct Cli { #[command(subcommand)] command: Sub } #[derive(Subcommand)] enum Sub { Run }",
        ),
        ("crates/onevip-lab/src/main.rs", "#[derive(Parser)] struct Cli { #[arg(long)] fast: bool }"),
    ]);
    let files = rust::parse(&tree).expect("it is Rust");
    assert_eq!(keys(calls(&tree, &files)), ["onevip walk", "make tea", "onevip run --fast", "onevip sit"]);
}

#[test]
fn a_program_without_a_command_line_is_found() {
    assert_eq!(keys(calls(&Tree::made_up(&[("README.md", "")]), &[])), ["onevip", "onevip-lab"]);
}

#[test]
fn settings_that_there_are_not_are_found() {
    let tree = Tree::made_up(&[
        ("packaging/onevip.toml", "#beat = \"50ms\"\n[health]\nsshd = \"kex\"\n"),
        (
            "README.md",
            "`[health]`, `[health] sshd`, `[wealth]`, `[health] gold`, `beat = \"1s\"`, `bite = 1`\n\n```toml\n[health]\nbeat = 1\nsshd = \"off\"\n```\n",
        ),
    ]);
    assert_eq!(keys(settings(&tree)), ["[wealth]", "gold in [health]", "bite", "beat in [health]"]);
}

#[test]
fn long_lines_of_prose_are_found_and_tables_are_not() {
    let long = "word ".repeat(30);
    let text = format!("{long}\n\n| {long} |\n\n```\n{long}\n```\n");
    assert_eq!(widths(&Tree::made_up(&[("README.md", &text)])).len(), 1);
}
