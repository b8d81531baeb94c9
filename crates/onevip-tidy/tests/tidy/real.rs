//! The checks on the tree in which this crate lies. One test for each, so that a failure names what is broken.

use crate::rust::{self, RustFile};
use crate::{Exception, Failure, Tree};
use crate::{circles, documents, exceptions, failure, fields, heads, rooms, size, types, vocabulary};
use std::path::Path;
use std::sync::LazyLock;

static TREE: LazyLock<Tree> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    Tree::read(&root).expect("the tree is readable")
});

/// Parsed anew by each test: what the parser makes cannot be shared between threads.
fn files() -> Vec<RustFile> {
    rust::parse(&TREE).expect("all files in crates/ are Rust")
}

/// Fails with all that is left when the exceptions are taken away.
fn assert_none(failures: Vec<Failure>, exceptions: &[Exception]) {
    let left = failure::excuse(failures, exceptions);
    let lines: Vec<String> = left.iter().map(Failure::to_string).collect();
    assert!(left.is_empty(), "{} failures:\n{}", left.len(), lines.join("\n"));
}

#[test]
fn files_are_not_too_long() {
    assert_none(size::long_files(&TREE), exceptions::LONG_FILES);
}

#[test]
fn functions_fit_on_a_screen() {
    assert_none(size::long_functions(&TREE, &files()), exceptions::LONG_FUNCTIONS);
}

#[test]
fn no_files_of_a_crate_need_each_other_in_a_circle() {
    assert_none(circles::failures(&files()), exceptions::CIRCLES);
}

#[test]
fn no_room_of_the_program_names_what_lies_above_it() {
    assert_none(rooms::failures(&files()), &[]);
}

#[test]
fn no_two_public_types_of_the_product_have_one_name() {
    assert_none(types::failures(&files(), types::PRODUCT), exceptions::SAME_TYPES);
}

#[test]
fn no_two_public_types_of_the_lab_have_one_name() {
    assert_none(types::failures(&files(), types::LAB), exceptions::SAME_LAB_TYPES);
}

#[test]
fn structs_are_not_too_wide() {
    assert_none(fields::failures(&files()), exceptions::WIDE_STRUCTS);
}

#[test]
fn retired_words_do_not_come_back() {
    assert_none(vocabulary::failures(&TREE, vocabulary::RETIRED), exceptions::RETIRED_WORDS);
}

#[test]
fn each_source_says_what_lives_in_it() {
    assert_none(heads::failures(&TREE), &[]);
}

#[test]
fn links_in_documents_lead_somewhere() {
    assert_none(documents::links(&TREE), &[]);
}

#[test]
fn paths_in_documents_are_there() {
    assert_none(documents::paths(&TREE), exceptions::PATHS);
}

#[test]
fn sections_are_named_by_titles_that_are_there() {
    assert_none(documents::sections(&TREE), &[]);
}

#[test]
fn calls_in_documents_would_be_accepted() {
    assert_none(documents::calls(&TREE, &files()), exceptions::CALLS);
}

#[test]
fn settings_in_documents_exist() {
    assert_none(documents::settings(&TREE), exceptions::SETTINGS);
}

#[test]
fn prose_is_wrapped() {
    assert_none(documents::widths(&TREE), &[]);
}
