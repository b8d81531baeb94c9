//! Whole clusters in virtual time, from a seed.
//!
//! The simulator drives the same [`crate::membership::Engine`] as the daemon does, among simulated kernels, clocks,
//! links and clients, inflicts faults, and checks the invariants of `docs/membership.md` after every step. It serves the
//! tests (`tests/lives.rs`) and long campaigns (`examples/simulate.rs`). A life is a function of its seed.

mod arrive;
pub mod calls;
pub mod check;
pub mod faults;
pub mod figures;
pub mod host;
mod inflict;
pub mod life;
pub mod net;

mod queue;
pub mod record;
pub mod rng;
pub mod world;

pub use check::Violation;
pub use faults::{Fault, FaultKind};
pub use life::{LifeOutcome, LifePlan, live};
pub use world::{Setup, Totals, World};
