//! The ground of the daemon: nouns that all rooms share, and how threads begin and end.

pub mod beat_loop;
pub mod clock;
pub mod command;
pub mod current;
pub mod identity;
pub mod incarnation;
pub mod interfaces;
pub mod keys;
pub mod mailbox;
pub mod panics;
pub mod paths;
pub mod plan;
pub mod supervisor;
pub mod tagged;
