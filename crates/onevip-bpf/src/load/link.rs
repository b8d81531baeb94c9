//! One program on one pinned link: made, found again, or refused with the likely cause.

use crate::error::{Error, Result};
use crate::load::object::Programs;
use crate::load::pins::InterfacePin;
use crate::load::repair::{AttachRepair, Cause};
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
    pub(crate) fn attach_link(&self, pin: InterfacePin) -> io::Result<OwnedFd> {
        let path = pin.path(self.dir, self.ifindex);
        if let Ok(link) = sys::open(&path) {
            let info = sys::link_info(link.as_fd())?;
            if info.kind == link_kind(pin) && info.ifindex == self.ifindex {
                if info.program_id != sys::program_info(self.program(pin))?.id {
                    sys::link_update(link.as_fd(), self.program(pin))?;
                }
                return Ok(link);
            }
        }
        let (at, flags) = match pin {
            InterfacePin::Ingress => (AttachPoint::TcxIngress, sys::BEFORE_ALL),
            InterfacePin::Egress => (AttachPoint::TcxEgress, sys::BEFORE_ALL),
            InterfacePin::XdpNative => (AttachPoint::Xdp, sys::XDP_NATIVE),
            InterfacePin::XdpGeneric => (AttachPoint::Xdp, sys::XDP_GENERIC),
            InterfacePin::Clsact | InterfacePin::Qdisc => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let link = sys::link_create(self.program(pin), self.ifindex, at, flags)?;
        sys::pin_over(link.as_fd(), &path)?;
        Ok(link)
    }

    pub(crate) fn program(&self, pin: InterfacePin) -> BorrowedFd<'_> {
        match pin {
            InterfacePin::Ingress | InterfacePin::Clsact | InterfacePin::Qdisc => {
                self.programs.ingress.as_fd()
            }
            InterfacePin::Egress => self.programs.egress.as_fd(),
            InterfacePin::XdpNative | InterfacePin::XdpGeneric => self.programs.xdp.as_fd(),
        }
    }

    pub(crate) fn failed(&self, pin: InterfacePin, source: io::Error) -> Error {
        let hint = match (pin, source.raw_os_error()) {
            (InterfacePin::XdpNative | InterfacePin::XdpGeneric, Some(libc::EBUSY | libc::EEXIST)) => {
                format!(
                    "; another XDP program is there: remove it (ip link set dev {} xdp off), or set accelerate = \"off\"",
                    self.name
                )
            }
            (InterfacePin::XdpNative, Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ERANGE)) => {
                "; its driver or MTU does not allow it: set accelerate = \"xdp-generic\" or \"off\""
                    .to_owned()
            }
            _ => crate::error::privilege_hint(&source).to_owned(),
        };
        Error::Attach { what: format!("the {}", what(pin)), interface: self.name.to_owned(), source, hint }
    }

    pub(crate) fn repair_of(&self, what: &'static str, cause: Cause) -> AttachRepair {
        AttachRepair { interface: self.name.to_owned(), what, cause }
    }
}

pub(crate) const fn what(pin: InterfacePin) -> &'static str {
    match pin {
        InterfacePin::Ingress => "ingress program",
        InterfacePin::Egress => "egress program",
        InterfacePin::XdpNative | InterfacePin::XdpGeneric => "XDP program",
        InterfacePin::Clsact | InterfacePin::Qdisc => "clsact",
    }
}

const fn link_kind(pin: InterfacePin) -> u32 {
    match pin {
        InterfacePin::XdpNative | InterfacePin::XdpGeneric => sys::LINK_XDP,
        InterfacePin::Ingress | InterfacePin::Egress | InterfacePin::Clsact | InterfacePin::Qdisc => {
            sys::LINK_TCX
        }
    }
}

/// Detaches a pinned link at once and removes its pin. One that is not there is as good as removed.
pub(crate) fn remove_link(dir: &Path, pin: InterfacePin, ifindex: u32) -> Result<()> {
    let path = pin.path(dir, ifindex);
    if let Some(link) = pinned::open(&path)? {
        // Already detached, or its interface is gone: fine. Whatever else it says, removing the pin comes next.
        let _ = sys::link_detach(link.as_fd());
    }
    sys::remove_if_there(&path).map_err(Error::system(format!("remove the pin {}", path.display())))
}
