//! What people and machines see of a node: status, metrics, hooks, systemd.

pub mod collect;
pub mod hooks;
pub mod http;
pub mod metrics;
pub mod page;
pub mod placement;
pub mod status;
pub mod systemd;
