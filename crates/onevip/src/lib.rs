//! The parts of the `onevip` daemon and command line: I/O around the decisions of `onevip-core`.
//!
//! The binary (`main.rs`) does nothing but call [`cli::main`]. A room imports only rooms that stand before it here.

pub mod bans;
pub mod base;
pub mod cli;
pub mod cmd;
pub mod control;
pub mod daemon;
pub mod doctor;
pub mod engine;
pub mod events;
pub mod limits;
pub mod peer_check;
pub mod report;
pub mod rpc;
pub mod sessions;
