//! The daemon.

pub mod control;
pub mod realtime;
pub mod run_dir;
