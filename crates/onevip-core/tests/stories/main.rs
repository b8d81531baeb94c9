//! Small stories about two or three engines, told beat by beat.
#![allow(clippy::unwrap_used)] // A test may panic, its helpers included.

mod kernels;
mod links;
mod lives;
mod segment;
mod shares;
mod votes;
