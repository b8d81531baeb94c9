//! Bans for the whole cluster: who is kept out, who never is, and how all nodes come to know.
//!
//! `onevip_core::bans` has the list and the rules by which lists become one; the kernel part keeps people out. Here a
//! node's list is kept, carried into the kernel part, stored, and told to the other nodes.

pub mod keeper;
pub mod never;
pub mod spread;
mod store;
pub mod wire;

pub use spread::spread;
