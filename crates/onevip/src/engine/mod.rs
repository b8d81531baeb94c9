//! The engine room: what keeps a node's claims right, and the host as the claims need it.
//!
//! The [`beat_loop`] decides and never blocks; the [`reconciler`] keeps addresses, MACs and programs in place and scans
//! sockets; the [`neighbour_probe`] asks whether silent kernels live; [`health`] asks whether users can be served.

pub mod answers;
pub mod beat_loop;
pub mod follower;
pub mod health;
pub mod lease_slack;
pub mod neighbour_probe;
pub mod orders;
pub mod reconciler;
pub mod records;
pub mod reload;
pub mod remote_drain;
pub mod scan;
pub mod set_up;
pub mod start;
pub mod vip_loop;
