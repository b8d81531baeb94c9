//! The kernel part in the hands of the daemon: [`Kernel`].

use crate::config::KernelConfig;
use crate::error::{Error, Result};
use crate::load::attach::AttachedInterface;
use crate::load::clsact::detach_clsact;
use crate::load::inspect::{PinnedState, clone_fd, pinned_programs, pinned_state};
use crate::load::interface::interface_index;
use crate::load::link::{Attacher, remove_link};
use crate::load::mode::{Accelerate, AttachMode, AttachPreference};
use crate::load::object::{self, Programs};
use crate::load::pins::{InterfacePin, PROGRAMS, Survey, is_bpffs};
use crate::load::ports;
use crate::load::repair::{AttachRepair, Cause};
use crate::load::rival::{OwnIds, RivalPrograms};
use crate::maps::bans::Bans;
use crate::maps::beats::Beats;
use crate::maps::counters::Counters;
use crate::maps::effects::EffectCounters;
use crate::maps::flows::Flows;
use crate::maps::pinned::{self, MAPS};
use crate::maps::refusals::Refusals;
use crate::maps::set::Maps;
use crate::maps::sources::Sources;
use crate::maps::words::Words;
use crate::sys;
use nix::net::if_::{if_nameindex, if_nametoindex};
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer than any lease: what a killed daemon's is waited for.
const LEASE_ENDS_WITHIN: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What [`Kernel::open`] found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OpenOutcome {
    /// Nothing was pinned. Everything is new and empty.
    Fresh,
    /// Pinned programs and maps were of this version and sound. They are used as they are.
    Adopted,
    /// Pinned maps were sound and are kept; the programs are new, and replace the old ones in [`Kernel::attach`].
    Upgraded,
    /// Pinned maps could not be trusted. They are replaced, with the programs, in [`Kernel::attach`]; until then the
    /// old ones stay in force. In the new ones all buckets are marked GUESTS and none MINE, so that sessions live on.
    Rebuilt {
        /// What was wrong.
        why: String,
    },
}

/// Maps and programs, loaded. Dropping it changes nothing: what is attached stays attached.
pub struct Kernel {
    dir: PathBuf,
    maps: Arc<Maps>,
    map_fds: HashMap<&'static str, OwnedFd>,
    programs: Programs,
    preference: AttachPreference,
    interfaces: Vec<AttachedInterface>,
    /// Maps and programs are pinned.
    pinned: bool,
}

impl Kernel {
    /// Loads the kernel part. Takes over what is pinned under `dir` when it is ours, sound and of this layout; else
    /// makes it anew, and says which. Nothing that is attached changes before [`Kernel::attach`], so the caller can
    /// set configuration and flags first.
    ///
    /// # Errors
    /// When `dir` is not in a bpffs, holds pins that are not ours, or the kernel refuses a program.
    pub fn open(dir: &Path) -> Result<(Kernel, OpenOutcome)> {
        if !is_bpffs(dir) {
            return Err(Error::NotBpffs(dir.to_owned()));
        }
        let survey = Survey::of(dir)?;
        survey.refuse_foreign(dir)?;
        for leftover in &survey.leftovers {
            sys::remove_if_there(leftover)
                .map_err(Error::system(format!("remove the leftover pin {}", leftover.display())))?;
        }
        match pinned_state(dir)? {
            PinnedState::Sound => Self::adopt(dir),
            PinnedState::Absent if survey.interface_pins.is_empty() => {
                Ok((Self::build(dir, false)?, OpenOutcome::Fresh))
            }
            PinnedState::Absent => {
                let why = "programs are attached, but their maps are not pinned".into();
                Ok((Self::build(dir, true)?, OpenOutcome::Rebuilt { why }))
            }
            PinnedState::Unsound(why) => Ok((Self::build(dir, true)?, OpenOutcome::Rebuilt { why })),
        }
    }

    /// Loads new programs over new maps.
    fn build(dir: &Path, guests_everywhere: bool) -> Result<Kernel> {
        let kernel = Self::assemble(dir, object::load(None)?, false)?;
        if guests_everywhere {
            kernel.maps.expect_guests_everywhere();
        }
        Ok(kernel)
    }

    /// Loads programs over the pinned maps; when they are no others than those that are pinned, uses the pinned ones.
    fn adopt(dir: &Path) -> Result<(Kernel, OpenOutcome)> {
        let mut kernel = Self::assemble(dir, object::load(Some(dir))?, true)?;
        kernel.beats()?.drain();
        match pinned_programs(dir, &kernel.programs)? {
            Some(programs) => {
                kernel.programs = programs;
                Ok((kernel, OpenOutcome::Adopted))
            }
            None => {
                kernel.pinned = false;
                Ok((kernel, OpenOutcome::Upgraded))
            }
        }
    }

    fn assemble(dir: &Path, loaded: object::Loaded, pinned: bool) -> Result<Kernel> {
        let object::Loaded { programs, maps } = loaded;
        let mut map_fds = HashMap::new();
        for (&name, map) in &maps {
            let fd = map.fd().as_fd().try_clone_to_owned();
            map_fds.insert(name, fd.map_err(Error::system(format!("keep the map {name}")))?);
        }
        let fd_of = |name: &str| clone_fd(&map_fds[name]);
        Ok(Kernel {
            dir: dir.to_owned(),
            maps: Arc::new(Maps::new(fd_of, true)?),
            map_fds,
            programs,
            preference: AttachPreference::from_env(),
            interfaces: Vec::new(),
            pinned,
        })
    }

    /// Which way of attaching to choose. By default what [`AttachPreference::from_env`] says.
    pub fn set_attach_preference(&mut self, preference: AttachPreference) {
        self.preference = preference;
    }

    /// Puts a configuration into force. It is written beside the one in force, then one word is flipped: a packet is
    /// classified by the old or the new one, never by a mixture. Takes some milliseconds (an RCU grace period).
    ///
    /// # Errors
    /// When it holds more VIPs or addresses than fit; then nothing has changed.
    pub fn set_config(&mut self, config: &KernelConfig) -> Result<()> {
        self.maps.set_config(config)
    }

    /// The configuration in force; `None` before the first [`Kernel::set_config`].
    pub fn config(&self) -> Option<KernelConfig> {
        self.maps.config()
    }

    /// The words that say what this node claims; they stay valid as long as anybody holds them.
    pub fn words(&self) -> Words {
        Words(Arc::clone(&self.maps))
    }

    /// What the programs count of openings, and of what left for them.
    pub fn effects(&self) -> EffectCounters {
        EffectCounters(Arc::clone(&self.maps))
    }

    /// The sources that the programs count.
    pub fn sources(&self) -> Sources {
        Sources(Arc::clone(&self.maps))
    }

    /// The reading end of the ring buffer for refused SYNs, for the one thread that answers them.
    ///
    /// # Errors
    /// When the kernel refuses to map the buffer into memory.
    pub fn refusals(&self) -> Result<Refusals> {
        Refusals::new(clone_fd(&self.map_fds["refusals"])?)
    }

    /// The bans that the programs keep, for the one thread that changes them.
    ///
    /// # Errors
    /// When the kernel refuses to list them.
    pub fn bans(&self) -> Result<Bans> {
        Bans::of(Arc::clone(&self.maps))
    }

    /// Attaches the programs to an interface, atomically in place of older ones of ours, and pins everything, so that
    /// it outlives the process. Programs of others on the interface are left alone, but come after ours; those of
    /// another onevip that runs no more are taken off. May be called again, e.g. with another `accelerate`.
    ///
    /// # Errors
    /// When there is no such interface, another onevip serves on it (which takes up to three seconds to be sure of), or
    /// the kernel refuses; the message says what is in the way.
    pub fn attach(&mut self, ifname: &str, accelerate: Accelerate) -> Result<AttachMode> {
        let ifindex = interface_index(ifname)?;
        let others = self.wait_for_others(ifname, ifindex)?;
        if others.is_some() {
            self.maps.expect_guests_everywhere();
        }
        let attacher = Attacher { dir: &self.dir, programs: &self.programs, name: ifname, ifindex };
        let attached = attacher.attach(accelerate, self.preference, others.as_ref())?;
        let mode = attached.mode;
        self.interfaces.retain(|other| other.name != ifname && other.ifindex != ifindex);
        self.interfaces.push(attached);
        self.pin_all()?;
        Ok(mode)
    }

    /// The programs of another onevip on an interface, once nobody keeps them alive any more: one that was killed is
    /// waited for, since its lease outlives it by a moment.
    fn wait_for_others(&self, name: &str, ifindex: u32) -> Result<Option<RivalPrograms>> {
        let until = Instant::now() + LEASE_ENDS_WITHIN;
        loop {
            match self.others(name, ifindex) {
                Err(Error::Rival { .. }) if Instant::now() < until => std::thread::sleep(LOOK_EVERY),
                found => return found,
            }
        }
    }

    /// The programs of another onevip on an interface. Refused when somebody keeps them alive.
    fn others(&self, name: &str, ifindex: u32) -> Result<Option<RivalPrograms>> {
        let found = RivalPrograms::find(ifindex, &self.own(ifindex)?);
        let found = found.map_err(Error::system(format!("list the programs of {name}")))?;
        match found.holder() {
            Some(holder) => Err(Error::Rival { interface: name.to_owned(), holder: holder.to_string() }),
            None => Ok((!found.is_empty()).then_some(found)),
        }
    }

    fn own(&self, ifindex: u32) -> Result<OwnIds> {
        let maps = self.map_fds.values().map(|map| sys::map_info(map.as_fd()).map(|info| info.id));
        let maps = maps.collect::<std::io::Result<_>>().map_err(Error::system("look at a BPF map"))?;
        let (mut programs, mut links) = (Vec::new(), Vec::new());
        let pinned = PROGRAMS.map(|name| self.dir.join(name));
        for path in pinned.into_iter().chain(InterfacePin::ALL.map(|pin| pin.path(&self.dir, ifindex))) {
            let Some(fd) = pinned::open(&path)? else { continue };
            match sys::kind(fd.as_fd()) {
                sys::ObjectKind::Link => links.extend(sys::link_info(fd.as_fd()).map(|info| info.id)),
                sys::ObjectKind::Program => {
                    programs.extend(sys::program_info(fd.as_fd()).map(|info| info.id))
                }
                sys::ObjectKind::Map | sys::ObjectKind::Other => {}
            }
        }
        Ok(OwnIds { maps, programs, links })
    }

    /// Detaches the programs from every interface that is not one of `ifnames`: what a changed configuration leaves
    /// behind.
    ///
    /// # Errors
    /// When a link or filter cannot be removed.
    pub fn detach_all_but(&mut self, ifnames: &[&str]) -> Result<()> {
        let keep: Vec<u32> = ifnames.iter().filter_map(|name| if_nametoindex(*name).ok()).collect();
        for (pin, ifindex) in Survey::of(&self.dir)?.interface_pins {
            if keep.contains(&ifindex) {
                continue;
            }
            if pin.is_link() {
                remove_link(&self.dir, pin, ifindex)?;
            } else {
                detach_clsact(&self.dir, ifindex)?;
            }
        }
        self.interfaces.retain(|attached| keep.contains(&attached.ifindex));
        Ok(())
    }

    /// Looks whether everything is still attached, and first, and puts back what is not: detached by hand, displaced by
    /// another program, or gone with an interface that was made anew under the same name. A few microseconds per
    /// interface when nothing is amiss. An interface that is gone altogether is left for later.
    ///
    /// # Errors
    /// When something is missing and cannot be put back.
    pub fn ensure_attached(&mut self) -> Result<Vec<AttachRepair>> {
        let mut repairs = Vec::new();
        let mut interfaces = std::mem::take(&mut self.interfaces);
        let done = interfaces.iter_mut().try_for_each(|attached| {
            repairs.extend(self.ensure(attached)?);
            Ok(())
        });
        self.interfaces = interfaces;
        done.map(|()| repairs)
    }

    /// One interface of [`Kernel::ensure_attached`].
    ///
    /// The daemon attaches to an interface that is new to it by [`Kernel::attach`], also when it was made anew. That
    /// and the last step here cannot be one. Only the daemon knows by which name, and whether at all, its VIPs want an
    /// interface that has come; and [`Kernel::attach`] waits for another onevip to end. But an interface may be made
    /// anew after the daemon has looked, or while it cannot attach to another one: then it gets its programs here, and
    /// not only when everything else is in order.
    fn ensure(&self, attached: &mut AttachedInterface) -> Result<Vec<AttachRepair>> {
        let (name, old) = (attached.name.clone(), attached.ifindex);
        let attacher = |ifindex| Attacher { dir: &self.dir, programs: &self.programs, name: &name, ifindex };
        if attacher(old).is_whole(attached)? {
            return Ok(Vec::new());
        }
        let Ok(ifindex) = if_nametoindex(name.as_str()) else { return Ok(Vec::new()) };
        let others = self.others(&name, ifindex)?;
        let attacher = attacher(ifindex);
        if ifindex == old {
            return attacher.repair(attached, others.as_ref());
        }
        *attached = attacher.attach(attached.mode.xdp, self.preference, others.as_ref())?;
        for pin in InterfacePin::ALL {
            let path = pin.path(&self.dir, old);
            sys::remove_if_there(&path)
                .map_err(Error::system(format!("remove the pin {}", path.display())))?;
        }
        Ok(vec![attacher.repair_of("everything: the interface was made anew", Cause::Removed)])
    }

    /// How each interface is attached.
    pub fn attached(&self) -> impl Iterator<Item = (&str, AttachMode)> {
        self.interfaces.iter().map(|attached| (attached.name.as_str(), attached.mode))
    }

    /// What the programs have counted.
    ///
    /// # Errors
    /// When the kernel refuses to read the map.
    pub fn counters(&self) -> Result<Counters> {
        self.maps.counters()
    }

    /// What was noted of connections of other nodes' clients.
    pub fn flows(&self) -> Flows {
        Flows(Arc::clone(&self.maps))
    }

    /// The reading end of the ring buffer, for the one thread that reads beats: two readers would steal from each
    /// other.
    ///
    /// # Errors
    /// When the kernel refuses to map the buffer into memory.
    pub fn beats(&self) -> Result<Beats> {
        Beats::new(clone_fd(&self.map_fds["beats"])?)
    }

    /// The loaded programs (ingress, egress, XDP), to be run with [`crate::test_run`] in tests and benchmarks.
    pub fn program_fds(&self) -> [BorrowedFd<'_>; 3] {
        self.programs.named().map(|(_, fd)| fd.as_fd())
    }

    /// The map of the counters, for tests that read single words of it.
    pub fn counters_fd(&self) -> BorrowedFd<'_> {
        self.maps.counters_fd().as_fd()
    }

    /// Pins maps and programs, each in one step in place of what is pinned there.
    fn pin_all(&mut self) -> Result<()> {
        if self.pinned {
            return Ok(());
        }
        let maps = MAPS.iter().map(|&name| (name, &self.map_fds[name]));
        for (name, fd) in maps.chain(self.programs.named()) {
            let path = self.dir.join(name);
            sys::pin_over(fd.as_fd(), &path).map_err(Error::system(format!("pin {}", path.display())))?;
        }
        self.pinned = true;
        Ok(())
    }

    /// Detaches the programs from every interface and removes every pin: no trace is left of the kernel part. Pins
    /// that are missing, and a directory that is not there, do not matter. Files that are not ours stay.
    ///
    /// # Errors
    /// When something is there and cannot be removed. What could be removed has been.
    pub fn detach_and_unpin(dir: &Path) -> Result<()> {
        let survey = Survey::of(dir)?;
        let mut first_error = None;
        let mut note = |result: Result<()>| {
            if let Err(error) = result {
                first_error.get_or_insert(error);
            }
        };
        note(ports::release_ports(dir));
        for &(pin, ifindex) in survey.interface_pins.iter().filter(|(pin, _)| pin.is_link()) {
            note(remove_link(dir, pin, ifindex));
        }
        // Filters stay when their markers get lost, so look everywhere.
        let mut indices: Vec<u32> = survey.interface_pins.iter().map(|(_, ifindex)| *ifindex).collect();
        if let Ok(interfaces) = if_nameindex() {
            indices.extend(interfaces.iter().map(|interface| interface.index()));
        }
        indices.sort_unstable();
        indices.dedup();
        for ifindex in indices {
            note(detach_clsact(dir, ifindex));
        }
        let objects = survey.objects.iter().map(|name| dir.join(name));
        for path in objects.chain(survey.leftovers.iter().cloned()) {
            let removed = sys::remove_if_there(&path);
            note(removed.map_err(Error::system(format!("remove the pin {}", path.display()))));
        }
        first_error.map_or(Ok(()), Err)
    }
}
