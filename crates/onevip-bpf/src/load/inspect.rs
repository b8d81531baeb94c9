//! What an earlier daemon has left pinned, and whether it can be used.

use crate::error::{Error, Result};
use crate::load::object::Programs;
use crate::load::pins::PROGRAMS;
use crate::maps::pinned::{self, MAPS, Pinned};
use crate::maps::set::Maps;
use crate::sys;
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What the pinned maps are worth, all together.
pub(crate) enum PinnedState {
    /// None is there.
    Absent,
    /// All are ours, of this layout, and hold what they may.
    Sound,
    /// Why they cannot be used.
    Unsound(String),
}

/// Whether the pinned maps, all together, can be trusted.
pub(crate) fn pinned_state(dir: &Path) -> Result<PinnedState> {
    let mut fds = HashMap::new();
    let mut missing = Vec::new();
    let mut unsound = None;
    for name in MAPS {
        match pinned::inspect(dir, name)? {
            Pinned::Sound(fd) => drop(fds.insert(name, fd)),
            Pinned::Absent => missing.push(name),
            Pinned::Unsound(why) => unsound = unsound.or(Some(why)),
        }
    }
    if let Some(why) = unsound {
        return Ok(PinnedState::Unsound(why));
    }
    if missing.len() == MAPS.len() {
        return Ok(PinnedState::Absent);
    }
    if !missing.is_empty() {
        return Ok(PinnedState::Unsound(format!("{} missing", missing.join(", "))));
    }
    let maps = Maps::new(|name| clone_fd(&fds[name]), false)?;
    Ok(maps.damage().map_or(PinnedState::Sound, PinnedState::Unsound))
}

/// The pinned programs, when they consist of the same instructions as `loaded`.
pub(crate) fn pinned_programs(dir: &Path, loaded: &Programs) -> Result<Option<Programs>> {
    let mut pinned = Vec::new();
    for (name, fd) in loaded.named() {
        let path = dir.join(name);
        let Some(old) = pinned::open(&path)? else { return Ok(None) };
        if sys::kind(old.as_fd()) != sys::ObjectKind::Program {
            return Err(Error::ForeignPin { path, what: "not a Program".into() });
        }
        let tag = |fd: BorrowedFd<'_>| {
            sys::program_info(fd)
                .map(|info| info.tag)
                .map_err(Error::system(format!("look at the program {name}")))
        };
        if tag(old.as_fd())? != tag(fd.as_fd())? {
            return Ok(None);
        }
        pinned.push(old);
    }
    let programs = <[OwnedFd; PROGRAMS.len()]>::try_from(pinned).ok();
    Ok(programs.map(|[ingress, egress, xdp]| Programs { ingress, egress, xdp }))
}

/// Another descriptor of the same map.
pub(crate) fn clone_fd(fd: &OwnedFd) -> Result<OwnedFd> {
    fd.try_clone().map_err(Error::system("keep a BPF map"))
}
