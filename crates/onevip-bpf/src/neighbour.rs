//! A program on an interface, as the kernel knows it.

use crate::sys;
use std::fmt;
use std::os::fd::AsFd;

/// A program that is attached to an interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Neighbour {
    /// Its name, as the kernel keeps it: at most 15 bytes. Empty when it has none.
    pub name: String,
    /// Its id, by which `bpftool prog show id` finds it.
    pub program_id: u32,
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() { "a program without a name" } else { &self.name };
        write!(f, "{name} (program {})", self.program_id)
    }
}

impl Neighbour {
    pub(crate) fn of(program_id: u32) -> Self {
        let name = sys::program_by_id(program_id).and_then(|program| sys::program_info(program.as_fd()));
        Self { name: name.map(|info| sys::name_of(&info.name)).unwrap_or_default(), program_id }
    }
}
