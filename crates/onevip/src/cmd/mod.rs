//! The subcommands, one file each. Each turns a [`Context`](crate::cli::Context) into output and an exit code.

pub mod ban;
pub mod check;
pub mod check_health;
pub mod doctor;
pub mod drain;
pub mod explain;
pub mod import;
pub mod keygen;
pub mod limits;
pub mod order;
pub mod render;
pub mod run;
pub mod status;
pub mod teardown;
pub mod trace;
pub mod watch;
pub mod r#where;
pub mod who;
