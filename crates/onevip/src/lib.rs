//! The parts of the `onevip` daemon and command line: I/O around the decisions of `onevip-core`.
//!
//! The binary (`main.rs`) does nothing but call [`cli::main`]. Everything lives in this library so that tests, the lab
//! and importers can use the same configuration.

pub mod bans;
pub mod cli;
mod cmd;
pub mod daemon;
pub mod desk;
pub mod limits;
pub mod sight;
pub mod status;
pub mod witness;
