//! Limits of connections per source: who is at one, how refused clients are answered, how counts move to an heir.
//!
//! The kernel part counts and refuses (`bpf/limit.h`); `onevip_core::limit` says what a limit is.

mod answer;
pub mod heirs;
pub mod tally;

pub use answer::answer;
pub use heirs::inherit;
