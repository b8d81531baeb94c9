//! What is in the maps: their layouts, and the types by which the daemon reads and writes them.
//!
//! Nothing here loads, pins or attaches anything: see [`crate::load`].

mod allowed;
pub(crate) mod bans;
pub(crate) mod beats;
pub(crate) mod counters;
pub(crate) mod effects;
pub(crate) mod encoding;
pub(crate) mod flows;
pub mod layout;
pub(crate) mod mapped;
pub(crate) mod pinned;
pub(crate) mod refusals;
pub(crate) mod set;
pub(crate) mod sources;
pub(crate) mod trace;
pub(crate) mod words;
