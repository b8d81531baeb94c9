//! Attaching the programs to interfaces, and keeping them there.
//!
//! Nothing here ends with the process: links are pinned, clsact filters belong to the interface. Replacing a program
//! is atomic in each way (`bpf_link_update`, filter replace), so no packet meets an interface without one.

use crate::error::{Error, Result};
use crate::load::clsact::detach_clsact;
use crate::load::first::{Contest, Held};
use crate::load::link::{Attacher, remove_link, what};
use crate::load::mode::{Accelerate, AttachMode, AttachPreference, TcMode};
use crate::load::pins::{InterfacePin, Survey};
use crate::load::repair::{AttachRepair, Cause};
use crate::load::rival::RivalPrograms;
use std::io;
use std::path::Path;

/// Where the programs are attached on one interface.
#[derive(Debug)]
pub(crate) struct AttachedInterface {
    pub name: String,
    pub ifindex: u32,
    pub mode: AttachMode,
    /// tcx and XDP links.
    links: Vec<Held>,
    contest: Contest,
    /// What [`Attacher::repair`] has to tell of what was found at attaching.
    pending: Vec<AttachRepair>,
}

impl Attacher<'_> {
    /// Attaches all programs, in place of older ones, and takes those of `others` off.
    pub(crate) fn attach(
        &self,
        accelerate: Accelerate,
        preference: AttachPreference,
        others: Option<&RivalPrograms>,
    ) -> Result<AttachedInterface> {
        let (mut links, mut pending) = (Vec::new(), Vec::new());
        let tc = match preference {
            // Where others use tcx, clsact comes too late.
            AttachPreference::Clsact if self.before_clsact()?.is_none() => TcMode::Clsact,
            _ => self.attach_tcx(&mut links, &mut pending)?,
        };
        // The new way first, then the old one goes: for a moment both classify, which changes nothing.
        match tc {
            TcMode::Tcx => detach_clsact(self.dir, self.ifindex)?,
            TcMode::Clsact => {
                self.attach_clsact()?;
                remove_link(self.dir, InterfacePin::Ingress, self.ifindex)?;
                remove_link(self.dir, InterfacePin::Egress, self.ifindex)?;
            }
        }
        if let Some(others) = others {
            let action = format!("take another onevip's programs off {}", self.name);
            others.take_off().map_err(Error::system(action))?;
            pending.push(self.repair_of("ingress program", Cause::LeftBehind));
        }
        self.attach_xdp(accelerate, &mut links)?;
        let mode = AttachMode { tc, xdp: accelerate };
        let (name, ifindex) = (self.name.to_owned(), self.ifindex);
        Ok(AttachedInterface { name, ifindex, mode, links, contest: Contest::default(), pending })
    }

    /// The guard goes first: no ARP answer may leave before it stands.
    fn attach_tcx(&self, links: &mut Vec<Held>, pending: &mut Vec<AttachRepair>) -> Result<TcMode> {
        for pin in [InterfacePin::Egress, InterfacePin::Ingress] {
            match self.hold(pin) {
                Ok((held, before)) => {
                    links.push(held);
                    pending.extend(before.map(|by| self.repair_of(what(pin), Cause::Displaced(by))));
                }
                Err(error) if lacks_tcx(&error) && links.is_empty() => return Ok(TcMode::Clsact),
                Err(error) => return Err(self.failed(pin, error)),
            }
        }
        Ok(TcMode::Tcx)
    }

    fn attach_xdp(&self, accelerate: Accelerate, links: &mut Vec<Held>) -> Result<()> {
        let wanted = match accelerate {
            Accelerate::Off => None,
            Accelerate::Xdp => Some(InterfacePin::XdpNative),
            Accelerate::XdpGeneric => Some(InterfacePin::XdpGeneric),
        };
        // An interface takes one XDP program, so the other mode has to go first.
        for pin in [InterfacePin::XdpNative, InterfacePin::XdpGeneric] {
            if wanted != Some(pin) {
                remove_link(self.dir, pin, self.ifindex)?;
            }
        }
        if let Some(pin) = wanted {
            links.push(self.hold(pin).map_err(|error| self.failed(pin, error))?.0);
        }
        Ok(())
    }

    /// Whether everything of `attached` is as it should be; in as few calls as possible, since this is asked all the
    /// time.
    pub(crate) fn is_whole(&self, attached: &AttachedInterface) -> Result<bool> {
        if !attached.pending.is_empty() || !attached.links.iter().all(|held| self.is_in_place(held)) {
            return Ok(false);
        }
        Ok(attached.mode.tc != TcMode::Clsact
            || (self.filters_amiss()?.is_empty() && self.before_clsact()?.is_none()))
    }

    /// Puts right what is amiss with `attached`, which is on this very interface, and takes the programs of `others`
    /// off.
    pub(crate) fn repair(
        &self,
        attached: &mut AttachedInterface,
        others: Option<&RivalPrograms>,
    ) -> Result<Vec<AttachRepair>> {
        let mut repairs = std::mem::take(&mut attached.pending);
        if attached.mode.tc == TcMode::Clsact
            && let Some(by) = self.before_clsact()?
        {
            *attached = self.attach(attached.mode.xdp, AttachPreference::Auto, others)?;
            repairs.push(self.repair_of("ingress program", Cause::Displaced(by)));
            return Ok(repairs);
        }
        if let Some(others) = others {
            let action = format!("take another onevip's programs off {}", self.name);
            others.take_off().map_err(Error::system(action))?;
            repairs.push(self.repair_of("ingress program", Cause::LeftBehind));
        }
        let AttachedInterface { links, contest, .. } = attached;
        for held in links.iter_mut().filter(|held| !self.is_in_place(held)) {
            let cause = self.put_in_place(held, contest)?;
            repairs.extend(cause.map(|cause| self.repair_of(what(held.pin), cause)));
        }
        if attached.mode.tc == TcMode::Clsact {
            let amiss = self.filters_amiss()?;
            if !amiss.is_empty() {
                self.attach_clsact()?;
            }
            repairs.extend(amiss);
        }
        Ok(repairs)
    }
}

/// Whether a refused tcx link means that this kernel (before 6.6) knows no such links.
fn lacks_tcx(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS))
}

/// How the programs of this pin directory are attached, by interface index.
pub(crate) fn attachments(dir: &Path) -> Result<Vec<(u32, AttachMode)>> {
    let survey = Survey::of(dir)?;
    let mut found: Vec<(u32, AttachMode)> = Vec::new();
    for &(pin, ifindex) in &survey.interface_pins {
        let tc = match pin {
            InterfacePin::Ingress => TcMode::Tcx,
            InterfacePin::Clsact => TcMode::Clsact,
            InterfacePin::Egress
            | InterfacePin::XdpNative
            | InterfacePin::XdpGeneric
            | InterfacePin::Qdisc => continue,
        };
        let xdp = match () {
            () if survey.interface_pins.contains(&(InterfacePin::XdpNative, ifindex)) => Accelerate::Xdp,
            () if survey.interface_pins.contains(&(InterfacePin::XdpGeneric, ifindex)) => {
                Accelerate::XdpGeneric
            }
            () => Accelerate::Off,
        };
        found.push((ifindex, AttachMode { tc, xdp }));
    }
    Ok(found)
}
