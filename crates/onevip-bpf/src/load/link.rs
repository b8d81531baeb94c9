//! One program on one pinned link: made, found again, or refused with the likely cause.

use crate::error::{Error, Result};
use crate::load::object::Programs;
use crate::load::pins::Hook;
use crate::load::repair::{Cause, Repair};
use crate::maps::pinned;
use crate::sys::{self, AttachPoint};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Everything needed to attach to one interface.
pub(crate) struct Attacher<'a> {
    pub dir: &'a Path,
    pub programs: &'a Programs,
    pub name: &'a str,
    pub ifindex: u32,
}

impl Attacher<'_> {
    /// Our program on a pinned link: the one that is pinned already, if it lives on this interface, else a new one.
    pub(crate) fn attach_link(&self, hook: Hook) -> io::Result<OwnedFd> {
        let path = hook.path(self.dir, self.ifindex);
        if let Ok(link) = sys::open(&path) {
            let info = sys::link_info(link.as_fd())?;
            if info.kind == link_kind(hook) && info.ifindex == self.ifindex {
                if info.program_id != sys::program_info(self.program(hook))?.id {
                    sys::link_update(link.as_fd(), self.program(hook))?;
                }
                return Ok(link);
            }
        }
        let (at, flags) = match hook {
            Hook::Ingress => (AttachPoint::TcxIngress, sys::BEFORE_ALL),
            Hook::Egress => (AttachPoint::TcxEgress, sys::BEFORE_ALL),
            Hook::XdpNative => (AttachPoint::Xdp, sys::XDP_NATIVE),
            Hook::XdpGeneric => (AttachPoint::Xdp, sys::XDP_GENERIC),
            Hook::Clsact | Hook::Qdisc => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let link = sys::link_create(self.program(hook), self.ifindex, at, flags)?;
        sys::pin_over(link.as_fd(), &path)?;
        Ok(link)
    }

    pub(crate) fn program(&self, hook: Hook) -> BorrowedFd<'_> {
        match hook {
            Hook::Ingress | Hook::Clsact | Hook::Qdisc => self.programs.ingress.as_fd(),
            Hook::Egress => self.programs.egress.as_fd(),
            Hook::XdpNative | Hook::XdpGeneric => self.programs.xdp.as_fd(),
        }
    }

    pub(crate) fn failed(&self, hook: Hook, source: io::Error) -> Error {
        let hint = match (hook, source.raw_os_error()) {
            (Hook::XdpNative | Hook::XdpGeneric, Some(libc::EBUSY | libc::EEXIST)) => format!(
                "; another XDP program is there: remove it (ip link set dev {} xdp off), or set accelerate = \"off\"",
                self.name
            ),
            (Hook::XdpNative, Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ERANGE)) => {
                "; its driver or MTU does not allow it: set accelerate = \"xdp-generic\" or \"off\""
                    .to_owned()
            }
            _ => crate::error::privilege_hint(&source).to_owned(),
        };
        Error::Attach { what: format!("the {}", what(hook)), interface: self.name.to_owned(), source, hint }
    }

    pub(crate) fn repair_of(&self, what: &'static str, cause: Cause) -> Repair {
        Repair { interface: self.name.to_owned(), what, cause }
    }
}

pub(crate) const fn what(hook: Hook) -> &'static str {
    match hook {
        Hook::Ingress => "ingress program",
        Hook::Egress => "egress program",
        Hook::XdpNative | Hook::XdpGeneric => "XDP program",
        Hook::Clsact | Hook::Qdisc => "clsact",
    }
}

const fn link_kind(hook: Hook) -> u32 {
    match hook {
        Hook::XdpNative | Hook::XdpGeneric => sys::LINK_XDP,
        Hook::Ingress | Hook::Egress | Hook::Clsact | Hook::Qdisc => sys::LINK_TCX,
    }
}

/// Detaches a pinned link at once and removes its pin. One that is not there is as good as removed.
pub(crate) fn remove_link(dir: &Path, hook: Hook, ifindex: u32) -> Result<()> {
    let path = hook.path(dir, ifindex);
    if let Some(link) = pinned::open(&path)? {
        // Already detached, or its interface is gone: fine. Whatever else it says, removing the pin comes next.
        let _ = sys::link_detach(link.as_fd());
    }
    sys::remove_if_there(&path).map_err(Error::system(format!("remove the pin {}", path.display())))
}
