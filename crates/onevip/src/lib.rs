//! The parts of the `onevip` daemon and command line: I/O around the decisions of `onevip-core`.
//!
//! The binary (`main.rs`) does nothing but call [`cli::main`]. Everything lives in this library so that tests, the lab
//! and importers can use the same configuration.

pub mod bans;
pub mod cli;
mod cmd;
pub mod config;
pub mod daemon;
pub mod desk;
pub mod health;
pub mod host;
pub mod import;
pub mod limits;
pub mod render;
pub mod sight;
pub mod status;
pub mod witness;
