//! Limits of connections per source: who is at one, how refused clients are answered, how counts move with their buckets.
//!
//! The kernel part counts and refuses (`bpf/limit.h`); `onevip_core::limit` says what a limit is.

pub mod counters;
pub mod hand_over;
pub mod refusals;
