//! Checks of the source tree itself, run by `make test` and, alone and in seconds, by `make tidy`.
//!
//! Nothing of onevip is built for them: they read files. [`tree`] holds the files, [`rust`] what a parser makes of those
//! in Rust, [`text`] comments and words of any source, [`commands`] the command line as `clap` will make it. Each other
//! module is one check with its own tests on a small made-up tree, which it must refuse. `tests/tree.rs` runs them all
//! on the tree in which this crate lies; what is excused there, and why, stands in [`exceptions`].

#![forbid(unsafe_code)]

pub mod circles;
pub mod commands;
pub mod documents;
pub mod exceptions;
pub mod failure;
pub mod fields;
pub mod heads;
pub mod imports;
pub mod markdown;
pub mod rooms;
pub mod rust;
pub mod settings;
pub mod size;
pub mod text;
pub mod tree;
pub mod types;
pub mod vocabulary;

pub use failure::{Exception, Failure};
pub use tree::Tree;
