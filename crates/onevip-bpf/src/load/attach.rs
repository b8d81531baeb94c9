//! Attaching the programs to interfaces, and keeping them there.
//!
//! Nothing here ends with the process: links are pinned, clsact filters belong to the interface. Replacing a program
//! is atomic in each way (`bpf_link_update`, filter replace), so no packet meets an interface without one.

use crate::error::{Error, Result};
use crate::load::chain::{self, Other};
use crate::load::first::{Contest, Held};
use crate::load::object::Programs;
use crate::load::pins::{Hook, Survey};
use crate::maps::pinned;
use crate::neighbour::Neighbour;
use crate::sys::netlink::{Side, TrafficControl};
use crate::sys::{self, AttachPoint};
use nix::net::if_::{if_nameindex, if_nametoindex};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Whether, and how, XDP drops foreign packets before the authority sees them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Accelerate {
    /// No XDP. The default.
    #[default]
    Off,
    /// In the driver. Attaching resets the link on some NICs, and limits the MTU.
    Xdp,
    /// In the stack, for any interface.
    XdpGeneric,
}

impl fmt::Display for Accelerate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
        })
    }
}

/// How the tc programs are attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TcMode {
    /// As pinned tcx links (Linux 6.6).
    Tcx,
    /// As filters of a clsact qdisc.
    Clsact,
}

impl fmt::Display for TcMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        })
    }
}

/// How the programs are attached to an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AttachMode {
    /// The authority and the guard.
    pub tc: TcMode,
    /// The early dropper; `Off` when there is none.
    pub xdp: Accelerate,
}

impl fmt::Display for AttachMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.xdp {
            Accelerate::Off => write!(f, "{}", self.tc),
            xdp => write!(f, "{} behind {xdp}", self.tc),
        }
    }
}

/// Which way of attaching to tc to choose.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AttachPreference {
    /// tcx where the kernel has it, else clsact.
    #[default]
    Auto,
    /// clsact, also where the kernel has tcx.
    Clsact,
}

impl AttachPreference {
    /// [`AttachPreference::Clsact`] when the environment says `ONEVIP_ATTACH=clsact`.
    pub fn from_env() -> Self {
        match std::env::var("ONEVIP_ATTACH").as_deref() {
            Ok("clsact") => Self::Clsact,
            _ => Self::Auto,
        }
    }
}

/// Something that was not as it should be and has been put right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Repair {
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

impl fmt::Display for Repair {
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

/// Where the programs are attached on one interface.
#[derive(Debug)]
pub(crate) struct Attached {
    pub name: String,
    pub ifindex: u32,
    pub mode: AttachMode,
    /// tcx and XDP links.
    links: Vec<Held>,
    contest: Contest,
    /// What [`Attacher::repair`] has to tell of what was found at attaching.
    news: Vec<Repair>,
}

pub(crate) const INGRESS_NAME: &str = "onevip_ingress";
pub(crate) const EGRESS_NAME: &str = "onevip_egress";

const fn side_name(side: Side) -> &'static str {
    match side {
        Side::Ingress => INGRESS_NAME,
        Side::Egress => EGRESS_NAME,
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

/// The index of an interface.
pub(crate) fn interface_index(name: &str) -> Result<u32> {
    if_nametoindex(name).map_err(|_| {
        let names = if_nameindex().map(|all| {
            all.iter().map(|interface| interface.name().to_string_lossy().into_owned()).collect::<Vec<_>>()
        });
        Error::NoInterface { name: name.to_owned(), present: names.unwrap_or_default().join(", ") }
    })
}

/// Everything needed to attach to one interface.
pub(crate) struct Attacher<'a> {
    pub dir: &'a Path,
    pub programs: &'a Programs,
    pub name: &'a str,
    pub ifindex: u32,
}

impl Attacher<'_> {
    /// Attaches all programs, in place of older ones, and takes those of `others` off.
    pub(crate) fn attach(
        &self,
        accelerate: Accelerate,
        preference: AttachPreference,
        others: Option<&Other>,
    ) -> Result<Attached> {
        let (mut links, mut news) = (Vec::new(), Vec::new());
        let tc = match preference {
            // Where others use tcx, clsact comes too late.
            AttachPreference::Clsact if self.before_clsact()?.is_none() => TcMode::Clsact,
            _ => self.attach_tcx(&mut links, &mut news)?,
        };
        // The new way first, then the old one goes: for a moment both judge, which changes nothing.
        match tc {
            TcMode::Tcx => detach_clsact(self.dir, self.ifindex)?,
            TcMode::Clsact => {
                self.attach_clsact()?;
                remove_link(self.dir, Hook::Ingress, self.ifindex)?;
                remove_link(self.dir, Hook::Egress, self.ifindex)?;
            }
        }
        if let Some(others) = others {
            let action = format!("take another onevip's programs off {}", self.name);
            others.take_off().map_err(Error::system(action))?;
            news.push(self.repair_of("ingress program", Cause::LeftBehind));
        }
        self.attach_xdp(accelerate, &mut links)?;
        let mode = AttachMode { tc, xdp: accelerate };
        let (name, ifindex) = (self.name.to_owned(), self.ifindex);
        Ok(Attached { name, ifindex, mode, links, contest: Contest::default(), news })
    }

    pub(crate) fn repair_of(&self, what: &'static str, cause: Cause) -> Repair {
        Repair { interface: self.name.to_owned(), what, cause }
    }

    /// The guard goes first: no ARP answer may leave before it stands.
    fn attach_tcx(&self, links: &mut Vec<Held>, news: &mut Vec<Repair>) -> Result<TcMode> {
        for hook in [Hook::Egress, Hook::Ingress] {
            match self.hold(hook) {
                Ok((held, before)) => {
                    links.push(held);
                    news.extend(before.map(|by| self.repair_of(what(hook), Cause::Displaced(by))));
                }
                Err(error) if lacks_tcx(&error) && links.is_empty() => return Ok(TcMode::Clsact),
                Err(error) => return Err(self.failed(hook, error)),
            }
        }
        Ok(TcMode::Tcx)
    }

    /// A tcx program of somebody else's, which sees every packet before any clsact filter does.
    fn before_clsact(&self) -> Result<Option<Neighbour>> {
        for side in Side::BOTH {
            let chain = chain::tcx(self.ifindex, side);
            let chain = chain.map_err(Error::system(format!("list the programs of {}", self.name)))?;
            let mut theirs = chain.iter().map(|place| Neighbour::of(place.program));
            if let Some(first) = theirs.find(|neighbour| neighbour.name != side_name(side)) {
                return Ok(Some(first));
            }
        }
        Ok(None)
    }

    fn attach_clsact(&self) -> Result<()> {
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
            self.mark(Hook::Qdisc)?;
        }
        self.mark(Hook::Clsact)?;
        for side in Side::BOTH {
            tc.filter_put_first(self.ifindex, side, self.side_program(side), side_name(side))
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Leaves word in the pin directory for a later process.
    fn mark(&self, hook: Hook) -> Result<()> {
        let path = hook.path(self.dir, self.ifindex);
        sys::pin_over(self.programs.ingress.as_fd(), &path)
            .map_err(Error::system(format!("pin {}", path.display())))
    }

    fn attach_xdp(&self, accelerate: Accelerate, links: &mut Vec<Held>) -> Result<()> {
        let wanted = match accelerate {
            Accelerate::Off => None,
            Accelerate::Xdp => Some(Hook::XdpNative),
            Accelerate::XdpGeneric => Some(Hook::XdpGeneric),
        };
        // An interface takes one XDP program, so the other mode has to go first.
        for hook in [Hook::XdpNative, Hook::XdpGeneric] {
            if wanted != Some(hook) {
                remove_link(self.dir, hook, self.ifindex)?;
            }
        }
        if let Some(hook) = wanted {
            links.push(self.hold(hook).map_err(|error| self.failed(hook, error))?.0);
        }
        Ok(())
    }

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

    fn side_program(&self, side: Side) -> BorrowedFd<'_> {
        match side {
            Side::Ingress => self.programs.ingress.as_fd(),
            Side::Egress => self.programs.egress.as_fd(),
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

    /// Whether everything of `attached` is as it should be; in as few calls as possible, since this is asked all the time.
    pub(crate) fn is_whole(&self, attached: &Attached) -> Result<bool> {
        if !attached.news.is_empty() || !attached.links.iter().all(|held| self.is_in_place(held)) {
            return Ok(false);
        }
        Ok(attached.mode.tc != TcMode::Clsact
            || (self.filters_amiss()?.is_empty() && self.before_clsact()?.is_none()))
    }

    /// Puts right what is amiss with `attached`, which is on this very interface, and takes the programs of `others` off.
    pub(crate) fn repair(&self, attached: &mut Attached, others: Option<&Other>) -> Result<Vec<Repair>> {
        let mut repairs = std::mem::take(&mut attached.news);
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
        let Attached { links, contest, .. } = attached;
        for held in links.iter_mut().filter(|held| !self.is_in_place(held)) {
            let cause = self.put_in_place(held, contest)?;
            repairs.extend(cause.map(|cause| self.repair_of(what(held.hook), cause)));
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

    /// Which of our filters are not there, hold another program than ours, or have another before them.
    fn filters_amiss(&self) -> Result<Vec<Repair>> {
        let mut tc = TrafficControl::open().map_err(Error::system("open a netlink socket"))?;
        let mut amiss = Vec::new();
        for (side, hook) in [(Side::Egress, Hook::Egress), (Side::Ingress, Hook::Ingress)] {
            let program = sys::program_info(self.side_program(side))
                .map_err(Error::system("look at a loaded program"))?;
            let filters = tc
                .filters(self.ifindex, side)
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
            amiss.push(self.repair_of(what(hook), cause));
        }
        Ok(amiss)
    }
}

const fn link_kind(hook: Hook) -> u32 {
    match hook {
        Hook::XdpNative | Hook::XdpGeneric => sys::LINK_XDP,
        Hook::Ingress | Hook::Egress | Hook::Clsact | Hook::Qdisc => sys::LINK_TCX,
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
    for &(hook, ifindex) in &survey.hooks {
        let tc = match hook {
            Hook::Ingress => TcMode::Tcx,
            Hook::Clsact => TcMode::Clsact,
            Hook::Egress | Hook::XdpNative | Hook::XdpGeneric | Hook::Qdisc => continue,
        };
        let xdp = match () {
            () if survey.hooks.contains(&(Hook::XdpNative, ifindex)) => Accelerate::Xdp,
            () if survey.hooks.contains(&(Hook::XdpGeneric, ifindex)) => Accelerate::XdpGeneric,
            () => Accelerate::Off,
        };
        found.push((ifindex, AttachMode { tc, xdp }));
    }
    Ok(found)
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

/// Removes our filters from an interface, and the qdisc when it was made for them and is empty now.
pub(crate) fn detach_clsact(dir: &Path, ifindex: u32) -> Result<()> {
    let failed = |source| Error::System { action: format!("remove filters of interface {ifindex}"), source };
    let mut tc = TrafficControl::open().map_err(failed)?;
    for side in Side::BOTH {
        let filters = tc.filters(ifindex, side).map_err(failed)?;
        for filter in filters.iter().filter(|filter| filter.is_ours() && filter.name == side_name(side)) {
            tc.filter_remove(ifindex, side, filter).map_err(failed)?;
        }
    }
    let marker = Hook::Qdisc.path(dir, ifindex);
    if marker.exists() {
        let in_use = Side::BOTH.iter().any(|&side| tc.filters_present(ifindex, side).unwrap_or(false));
        if !in_use {
            // The interface, or the qdisc, may be gone already.
            let _ = tc.qdisc_remove(ifindex);
        }
    }
    for hook in [Hook::Qdisc, Hook::Clsact] {
        let path = hook.path(dir, ifindex);
        sys::remove_if_there(&path).map_err(Error::system(format!("remove the pin {}", path.display())))?;
    }
    Ok(())
}
