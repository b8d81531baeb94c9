//! The pin directory: which files are there, what each means, and the bpffs under it.
//!
//! | file | what it pins |
//! | --- | --- |
//! | `config`, `flags`, `last_syn`, `lease`, `orphans`, `settled`, `excepted`, `witness`, `counters`, `beats`, `bans4`, `bans6`, `banned`, `sources`, `allowed`, `refusals`, `tracing`, `traces`, `effects`, `clients` | the maps |
//! | `program_ingress`, `program_egress`, `program_xdp` | the programs in force |
//! | `ingress_N`, `egress_N` | tcx links on the interface with index N |
//! | `xdp_N`, `xdpgeneric_N` | XDP links, native or generic |
//! | `clsact_N` | says that the programs are attached to interface N as clsact filters |
//! | `bind4`, `bind6` | links of the guard of ports on a cgroup |
//! | `qdisc_N` | says that the clsact qdisc of interface N was made for that |
//!
//! (A bpffs allows no dots in names, and interface names may have some: hence the indices.)

use crate::error::{Error, Result};
use crate::maps::pinned::{self, MAPS};
use crate::sys;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The programs: name of the pin.
pub(crate) const PROGRAMS: [&str; 3] = ["program_ingress", "program_egress", "program_xdp"];

/// The links of the guard of ports: name of the pin.
pub(crate) const GUARDS: [&str; 2] = ["bind4", "bind6"];

/// A pin that belongs to one interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum InterfacePin {
    Ingress,
    Egress,
    XdpNative,
    XdpGeneric,
    Clsact,
    Qdisc,
}

impl InterfacePin {
    pub(crate) const ALL: [Self; 6] =
        [Self::Ingress, Self::Egress, Self::XdpNative, Self::XdpGeneric, Self::Clsact, Self::Qdisc];

    /// What its name begins with; the index of the interface follows.
    pub(crate) const fn prefix(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::XdpNative => "xdp",
            Self::XdpGeneric => "xdpgeneric",
            Self::Clsact => "clsact",
            Self::Qdisc => "qdisc",
        }
    }

    /// Whether a link is pinned there; else a program, as a mere marker.
    pub(crate) const fn is_link(self) -> bool {
        !matches!(self, Self::Clsact | Self::Qdisc)
    }

    /// Where it is, for the interface with this index.
    pub(crate) fn path(self, dir: &Path, ifindex: u32) -> PathBuf {
        dir.join(format!("{}_{ifindex}", self.prefix()))
    }

    fn parse(name: &str) -> Option<(Self, u32)> {
        let (prefix, number) = name.rsplit_once('_')?;
        let pin = Self::ALL.into_iter().find(|pin| pin.prefix() == prefix)?;
        Some((pin, number.parse().ok()?))
    }
}

/// What lies in a pin directory, by name.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Pins of maps and programs.
    pub objects: Vec<String>,
    /// Pins that belong to an interface, with its index.
    pub interface_pins: Vec<(InterfacePin, u32)>,
    /// Pins that were about to replace others when a process died.
    pub leftovers: Vec<PathBuf>,
    /// Everything else, which nobody but an administrator may touch.
    pub foreign: Vec<PathBuf>,
}

impl Survey {
    /// Looks into `dir`. A directory that is not there holds nothing.
    pub(crate) fn of(dir: &Path) -> Result<Self> {
        let mut survey = Self::default();
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(survey),
            other => other.map_err(Error::system(format!("read the pin directory {}", dir.display())))?,
        };
        for entry in entries {
            let entry = entry.map_err(Error::system(format!("read the pin directory {}", dir.display())))?;
            survey.sort_in(entry.file_name().to_string_lossy().into_owned(), entry.path());
        }
        Ok(survey)
    }

    fn sort_in(&mut self, name: String, path: PathBuf) {
        if MAPS.contains(&name.as_str())
            || PROGRAMS.contains(&name.as_str())
            || GUARDS.contains(&name.as_str())
        {
            self.objects.push(name);
        } else if let Some(pin) = InterfacePin::parse(&name) {
            self.interface_pins.push(pin);
        } else if name.ends_with(sys::FRESH_SUFFIX) {
            self.leftovers.push(path);
        } else if !name.contains('.') {
            // Nobody can make a name with a dot in a bpffs; the kernel's own `maps.debug` and `progs.debug` have one.
            self.foreign.push(path);
        }
    }

    /// Refuses a directory in which somebody else keeps something.
    pub(crate) fn refuse_foreign(&self, dir: &Path) -> Result<()> {
        if let Some(path) = self.foreign.first() {
            return Err(Error::ForeignPin { path: path.clone(), what: "no name that onevip uses".into() });
        }
        for &(pin, ifindex) in &self.interface_pins {
            let path = pin.path(dir, ifindex);
            let wanted = if pin.is_link() { sys::ObjectKind::Link } else { sys::ObjectKind::Program };
            let found = pinned::open(&path)?.map(|fd| sys::kind(std::os::fd::AsFd::as_fd(&fd)));
            if let Some(found) = found
                && found != wanted
            {
                return Err(Error::ForeignPin {
                    path,
                    what: format!("a {found:?} where a {wanted:?} belongs"),
                });
            }
        }
        Ok(())
    }
}

/// Whether `dir` is in a bpffs.
pub fn is_bpffs(dir: &Path) -> bool {
    statfs(dir).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

/// Makes sure that `dir` exists and is in a bpffs: mounts one there, readable by root alone, unless it is one already.
/// True when it had to mount it.
///
/// # Errors
/// When the directory cannot be made or the mount is refused.
pub fn ensure_bpffs(dir: &Path) -> Result<bool> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(Error::system(format!("make the pin directory {}", dir.display())))?;
    if is_bpffs(dir) {
        return Ok(false);
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), dir, Some("bpf"), flags, Some("mode=0700"))
        .map_err(|errno| Error::system(format!("mount a bpffs at {}", dir.display()))(errno.into()))?;
    Ok(true)
}

/// Unmounts the bpffs at `dir` and removes the directory. What is still pinned in it is gone with it. A directory that
/// is no mount point, or not there, is left alone.
///
/// # Errors
/// When the unmount is refused (somebody has a file open in it).
pub fn unmount_bpffs(dir: &Path) -> Result<()> {
    use nix::errno::Errno;
    match umount2(dir, MntFlags::empty()) {
        Ok(()) => {
            // Best effort: the directory may hold what lay under the mount.
            let _ = fs::remove_dir(dir);
            Ok(())
        }
        Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(Error::system(format!("unmount the bpffs at {}", dir.display()))(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pins_are_told_apart() {
        let mut survey = Survey::default();
        for name in
            ["flags", "program_xdp", "ingress_3", "xdpgeneric_12", "lease_fresh", "readme", "ingress_x"]
        {
            survey.sort_in(name.into(), name.into());
        }
        assert_eq!(survey.objects, ["flags", "program_xdp"]);
        assert_eq!(survey.interface_pins, [(InterfacePin::Ingress, 3), (InterfacePin::XdpGeneric, 12)]);
        assert_eq!(survey.leftovers, [PathBuf::from("lease_fresh")]);
        assert_eq!(survey.foreign, [PathBuf::from("readme"), PathBuf::from("ingress_x")]);
    }
}
