//! The programs as filters of a clsact qdisc, for kernels without tcx (before 6.6).

use crate::error::{Error, Result};
use crate::load::chain;
use crate::load::link::{Attacher, what};
use crate::load::object::{EGRESS_NAME, INGRESS_NAME};
use crate::load::pins::InterfacePin;
use crate::load::repair::{AttachRepair, Cause};
use crate::neighbour::Neighbour;
use crate::sys;
use crate::sys::netlink::{TcDirection, TrafficControl};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

impl Attacher<'_> {
    /// A tcx program of somebody else's, which sees every packet before any clsact filter does.
    pub(super) fn before_clsact(&self) -> Result<Option<Neighbour>> {
        for direction in TcDirection::BOTH {
            let chain = chain::tcx(self.ifindex, direction);
            let chain = chain.map_err(Error::system(format!("list the programs of {}", self.name)))?;
            let mut theirs = chain.iter().map(|place| Neighbour::of(place.program));
            if let Some(first) = theirs.find(|neighbour| neighbour.name != direction_name(direction)) {
                return Ok(Some(first));
            }
        }
        Ok(None)
    }

    pub(super) fn attach_clsact(&self) -> Result<()> {
        let failed = |source: io::Error| {
            let hint = match source.raw_os_error() {
                Some(libc::EINVAL | libc::EOPNOTSUPP | libc::EEXIST) => {
                    "; an ingress qdisc, or a filter of another kind at preference 1, may be in the way: \
                     see tc qdisc show, tc filter show"
                }
                _ => crate::error::privilege_hint(&source),
            };
            let what = "the programs as clsact filters".to_owned();
            Error::Attach { what, interface: self.name.to_owned(), source, hint: hint.to_owned() }
        };
        let mut tc = TrafficControl::open().map_err(failed)?;
        if tc.qdisc_make(self.ifindex).map_err(failed)? {
            self.mark(InterfacePin::Qdisc)?;
        }
        self.mark(InterfacePin::Clsact)?;
        for direction in TcDirection::BOTH {
            tc.filter_put_first(
                self.ifindex,
                direction,
                self.direction_program(direction),
                direction_name(direction),
            )
            .map_err(failed)?;
        }
        Ok(())
    }

    /// Leaves word in the pin directory for a later process.
    fn mark(&self, pin: InterfacePin) -> Result<()> {
        let path = pin.path(self.dir, self.ifindex);
        sys::pin_over(self.programs.ingress.as_fd(), &path)
            .map_err(Error::system(format!("pin {}", path.display())))
    }

    fn direction_program(&self, direction: TcDirection) -> BorrowedFd<'_> {
        match direction {
            TcDirection::Ingress => self.programs.ingress.as_fd(),
            TcDirection::Egress => self.programs.egress.as_fd(),
        }
    }

    /// Which of our filters are not there, hold another program than ours, or have another before them.
    pub(super) fn filters_amiss(&self) -> Result<Vec<AttachRepair>> {
        let mut tc = TrafficControl::open().map_err(Error::system("open a netlink socket"))?;
        let mut amiss = Vec::new();
        for (direction, pin) in
            [(TcDirection::Egress, InterfacePin::Egress), (TcDirection::Ingress, InterfacePin::Ingress)]
        {
            let program = sys::program_info(self.direction_program(direction))
                .map_err(Error::system("look at a loaded program"))?;
            let filters = tc
                .filters(self.ifindex, direction)
                .map_err(Error::system(format!("list the filters of {}", self.name)))?;
            let ours = filters.iter().position(|f| f.is_ours() && f.program_id == program.id);
            let cause = match ours {
                Some(0) => continue,
                None => Cause::Removed,
                Some(_) => Cause::Displaced(Neighbour {
                    name: filters[0].name.clone(),
                    program_id: filters[0].program_id,
                }),
            };
            amiss.push(self.repair_of(what(pin), cause));
        }
        Ok(amiss)
    }
}

const fn direction_name(direction: TcDirection) -> &'static str {
    match direction {
        TcDirection::Ingress => INGRESS_NAME,
        TcDirection::Egress => EGRESS_NAME,
    }
}

/// Removes our filters from an interface, and the qdisc when it was made for them and is empty now.
pub(crate) fn detach_clsact(dir: &Path, ifindex: u32) -> Result<()> {
    let failed = |source| Error::System { action: format!("remove filters of interface {ifindex}"), source };
    let mut tc = TrafficControl::open().map_err(failed)?;
    for direction in TcDirection::BOTH {
        let filters = tc.filters(ifindex, direction).map_err(failed)?;
        for filter in
            filters.iter().filter(|filter| filter.is_ours() && filter.name == direction_name(direction))
        {
            tc.filter_remove(ifindex, direction, filter).map_err(failed)?;
        }
    }
    let marker = InterfacePin::Qdisc.path(dir, ifindex);
    if marker.exists() {
        let in_use = TcDirection::BOTH
            .iter()
            .any(|&direction| tc.filters_present(ifindex, direction).unwrap_or(false));
        if !in_use {
            // The interface, or the qdisc, may be gone already.
            let _ = tc.qdisc_remove(ifindex);
        }
    }
    for pin in [InterfacePin::Qdisc, InterfacePin::Clsact] {
        let path = pin.path(dir, ifindex);
        sys::remove_if_there(&path).map_err(Error::system(format!("remove the pin {}", path.display())))?;
    }
    Ok(())
}
