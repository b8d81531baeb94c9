//! Whether this host can serve users of SSH: asked by the node itself, on threads that no beat waits for.
//!
//! Three kinds of checks post what they find as [`results`]: [`sshd`] (does it answer connections), [`host`] (memory,
//! processors, processes, files, room, `nologin`) and [`command`] (what the administrator asks besides). The
//! [`monitor`] makes one assessment of all that is posted, the [`impact`], and tells the beat loop: a [`Health`] level, which
//! decides whether the node gets new users at all while others feel better, and a percentage of its weight.
//!
//! Nothing here cuts a session: the kernel part holds those whatever the health. What decides about others' shares is
//! the membership engine; this is only what a node says of itself. `docs/health.md` has it all on one page.
//!
//! [`Health`]: onevip_core::beat::Health

pub mod answers;
pub mod command;
pub mod host;
pub mod hysteresis;
pub mod impact;
pub mod monitor;
pub mod results;
pub mod sshd;
pub mod weight_steps;
