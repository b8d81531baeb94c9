//! Checks of the source tree itself, run by `make test` and, alone and in seconds, by `make tidy`.
//!
//! Nothing of onevip is built for them: they read files. `tree` holds the files, `rust` what a parser makes of those in
//! Rust, `text` comments and words of any source, `commands` the command line as `clap` will make it. Each other module
//! is one check with its own tests on a small made-up tree, which it must refuse. `real` runs them all on the tree in
//! which this crate lies; what is excused there, and why, stands in `exceptions`.

#![forbid(unsafe_code)]

mod circles;
mod commands;
mod documents;
mod exceptions;
mod failure;
mod fields;
mod heads;
mod imports;
mod markdown;
mod real;
mod rooms;
mod rust;
mod settings;
mod size;
mod text;
mod tree;
mod types;
mod vocabulary;

use failure::{Exception, Failure};
use tree::Tree;
