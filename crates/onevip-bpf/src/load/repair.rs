//! What had happened to programs that should be attached, and was put right.

use crate::neighbour::Neighbour;
use std::fmt;

/// Something that was not as it should be and has been put right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttachRepair {
    /// The interface.
    pub interface: String,
    /// What it is about: "ingress program", "egress program", "XDP program".
    pub what: &'static str,
    /// What had happened to it.
    pub cause: Cause,
}

/// What had happened to a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cause {
    /// It, or the pin that keeps it, was removed.
    Removed,
    /// This program of somebody else's was put before it.
    Displaced(Neighbour),
    /// Besides ours there was one of another onevip, which runs no more.
    LeftBehind,
}

impl fmt::Display for AttachRepair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interface, what, cause } = self;
        match cause {
            Cause::Removed => write!(f, "somebody removed the {what} from {interface}; it is back"),
            Cause::Displaced(by) => write!(
                f,
                "{by} was put before the {what} of {interface}, which then sees only what that passes on; onevip's is \
                 first again"
            ),
            Cause::LeftBehind => write!(
                f,
                "programs of another onevip, which runs no more, were still on {interface} and would have dropped what \
                 this one lets in; taken off"
            ),
        }
    }
}
