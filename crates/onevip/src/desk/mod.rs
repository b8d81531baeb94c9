//! The help desk: who is logged in here, where a user lands, what is wrong, and how to tell people.
//!
//! Nothing here decides about packets, and nothing here runs on the beat loop's thread.

pub mod accounts;
pub mod doctor;
pub mod ending;
pub mod keytab;
pub mod processes;
pub mod question;
pub mod sessions;
pub mod show;
pub mod sshd;
pub mod terminals;
