//! The subcommands, one file each. Each turns a [`Context`](context::Context) into output and an exit code.

pub mod ask;
pub mod ban;
pub mod check;
pub mod check_health;
pub mod context;
pub mod doctor;
pub mod drain;
pub mod explain;
pub mod import;
pub mod keygen;
pub mod limits;
pub mod packet;
pub mod render;
pub mod run;
pub mod status;
pub mod teardown;
pub mod trace;
pub mod watch;
pub mod r#where;
pub mod who;
