//! Bans for the whole cluster: who is kept out, who never is, and how all nodes come to know.
//!
//! `onevip_core::bans` has the book and the rules by which books become one; the kernel part keeps people out. Here a
//! node's [`list`] is kept, carried into the kernel part, stored, and replicated to the other nodes.

pub mod handlers;
pub mod list;
pub mod never;
pub mod replication;
mod store;
pub mod wire;
