//! Who is logged in here, and how to tell people and end what stays.
//!
//! Nothing here decides about packets, and nothing here runs on the beat loop's thread.

pub mod accounts;
pub mod ending;
pub mod handlers;
pub mod list;
pub mod processes;
pub mod show;
pub mod terminals;
pub mod whom;
