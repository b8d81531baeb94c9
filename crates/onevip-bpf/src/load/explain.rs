//! Asking the kernel part what it would do with a packet, without a packet, and without a trace of the question.

use crate::error::{Error, Result};
use crate::load::object;
use crate::maps::pinned::{self, MAPS};
use crate::sys;
use onevip_core::Reason;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// A dry run of the authority, loaded over the pinned maps: it sees what the authority sees, and neither counts nor
/// remembers.
pub struct Explainer(OwnedFd);

impl Explainer {
    /// Loads it. Takes some tenths of a second: the kernel verifies it.
    ///
    /// # Errors
    /// When nothing is pinned there, it is of another layout (a daemon of another release), or the kernel refuses.
    pub fn open(pins: &Path) -> Result<Self> {
        for map in MAPS {
            pinned::sound(pins, map)?;
        }
        object::load_explain(pins).map(Self)
    }

    /// Why the authority would pass or drop this frame now, were it to arrive in the calling thread's network
    /// namespace.
    ///
    /// # Errors
    /// When the kernel refuses to run the program, e.g. because the frame is too short.
    pub fn ask(&self, frame: &[u8]) -> Result<Reason> {
        let run = sys::test_run(self.0.as_fd(), frame, 1)
            .map_err(Error::system("run the program that explains"))?;
        let reason = Reason::of_number(run.returned);
        reason.ok_or_else(|| Error::System {
            action: "understand what the program says".into(),
            source: std::io::Error::other(format!("it returned {}", run.returned)),
        })
    }

    /// The program, for tests.
    pub fn program_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
