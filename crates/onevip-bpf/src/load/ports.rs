//! The guard of ports: what keeps processes of this host from binding the ports of other nodes' slices.
//!
//! Two programs on a cgroup, one for each family, which see every `bind` of the processes in it and below. Their links
//! are pinned beside the others, so the guard outlives the daemon as the sessions do. They are loaded apart from the
//! packet programs, and only where a service is answered by sockets: an older kernel is no obstacle to anything else.

use crate::error::{Error, Result};
use crate::load::object;
use crate::load::pins;
use crate::maps::pinned;
use crate::sys::{self, AttachPoint};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

/// Pin, program and place of each.
const GUARDS: [(&str, &str, AttachPoint); 2] = [
    (pins::GUARDS[0], "onevip_bind4", AttachPoint::Bind4),
    (pins::GUARDS[1], "onevip_bind6", AttachPoint::Bind6),
];

/// Lets every process in `cgroup` and below bind only ports of this node's slices, where `dir` is the pin directory of
/// an attached kernel part. Takes the place of an earlier guard without a moment in between.
///
/// # Errors
/// When there is no such cgroup of version 2, or the kernel refuses (before 5.7 it has no such links).
pub fn guard_ports(dir: &Path, cgroup: &Path) -> Result<()> {
    let group = File::open(cgroup).map_err(Error::system(format!("open the cgroup {}", cgroup.display())))?;
    let programs = object::load_guards(dir, sys::netns_cookie(), GUARDS.map(|(_, program, _)| program))?;
    for ((pin, _, at), program) in GUARDS.iter().zip(&programs) {
        let failed = || format!("attach the guard of ports to the cgroup {}", cgroup.display());
        let link =
            sys::link_create_on(program.as_fd(), group.as_fd(), *at).map_err(Error::system(failed()))?;
        let path = dir.join(pin);
        sys::pin_over(link.as_fd(), &path).map_err(Error::system(format!("pin {}", path.display())))?;
    }
    Ok(())
}

/// Ends what [`guard_ports`] began; quiet when there is nothing to end.
///
/// # Errors
/// When a pin cannot be removed.
pub fn release_ports(dir: &Path) -> Result<()> {
    for (pin, ..) in GUARDS {
        let path = dir.join(pin);
        if let Some(link) = pinned::open(&path)? {
            // Already detached, or its cgroup is gone: fine.
            let _ = sys::link_detach(link.as_fd());
            sys::remove_if_there(&path)
                .map_err(Error::system(format!("remove the pin {}", path.display())))?;
        }
    }
    Ok(())
}

/// Whether both programs of the guard are in place.
pub(crate) fn ports_are_guarded(dir: &Path) -> bool {
    GUARDS.iter().all(|(pin, ..)| {
        let link = pinned::open(&dir.join(pin)).ok().flatten();
        link.is_some_and(|link| sys::link_is_on_cgroup(link.as_fd()))
    })
}
