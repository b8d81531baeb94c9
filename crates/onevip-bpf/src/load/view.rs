//! The kernel part as everybody but the daemon sees it: [`PinnedView`], which only reads.

use crate::config::KernelConfig;
use crate::error::Result;
use crate::load::kernel::Kernel;
use crate::load::mode::AttachMode;
use crate::load::{attach, ports};
use crate::maps::bans;
use crate::maps::counters::Counters;
use crate::maps::effects::{self, EffectCounts};
use crate::maps::pinned;
use crate::maps::set::Maps;
use onevip_core::bans::Stop;
use onevip_core::{Bucket, Flags, Prefix};
use std::path::{Path, PathBuf};

impl Kernel {
    /// Opens what is pinned under `dir` to look at it, without loading, changing or locking anything: for `status`
    /// when no daemon answers.
    ///
    /// # Errors
    /// When nothing is pinned there, or it is damaged.
    pub fn open_pinned(dir: &Path) -> Result<PinnedView> {
        let maps = Maps::new(|name| pinned::sound(dir, name), false)?;
        Ok(PinnedView { dir: dir.to_owned(), maps })
    }
}

/// The kernel part as it is pinned, to look at.
pub struct PinnedView {
    dir: PathBuf,
    maps: Maps,
}

impl PinnedView {
    /// How many bans there are, of IPv4 and of IPv6; those that have run out and were not taken away yet included.
    pub fn ban_counts(&self) -> [u32; 2] {
        self.maps.ban_counts()
    }

    /// The bans that the programs keep: until when, in boot time ns, counting wider ones in.
    ///
    /// # Errors
    /// When the kernel refuses to list them.
    pub fn bans(&self) -> Result<Vec<(Prefix, Stop)>> {
        bans::list(&self.maps)
    }

    /// The configuration in force; `None` when it is damaged.
    pub fn config(&self) -> Option<KernelConfig> {
        self.maps.config()
    }

    /// The state of a bucket. `vip` is below 8.
    pub fn flags(&self, vip: usize, bucket: Bucket) -> Flags {
        self.maps.flags(vip, bucket)
    }

    /// As [`crate::Words::last_syn_ns`].
    pub fn last_syn_ns(&self, vip: usize, bucket: Bucket) -> u64 {
        self.maps.last_syn_ns(vip, bucket)
    }

    /// Until when MINE counts, in boot time ns.
    pub fn lease_deadline_ns(&self, vip: usize) -> u64 {
        self.maps.lease_deadline_ns(vip)
    }

    /// What the programs have counted.
    ///
    /// # Errors
    /// When the kernel refuses to read the map.
    pub fn counters(&self) -> Result<Counters> {
        self.maps.counters()
    }

    /// What they have counted of openings, and of what left for them.
    ///
    /// # Errors
    /// When the kernel refuses to read the map.
    pub fn effects(&self) -> Result<EffectCounts> {
        effects::read(&self.maps)
    }

    /// Why the pinned maps cannot be trusted, if so.
    pub fn damage(&self) -> Option<String> {
        self.maps.damage()
    }

    /// Whether both programs of the guard of ports are in place.
    pub fn ports_are_guarded(&self) -> bool {
        ports::ports_are_guarded(&self.dir)
    }

    /// How the programs are attached, by interface.
    ///
    /// # Errors
    /// When the pin directory cannot be read.
    pub fn attachments(&self) -> Result<Vec<(String, AttachMode)>> {
        let name = |ifindex| {
            nix::net::if_::if_indextoname(ifindex)
                .map_or_else(|_| format!("(gone: {ifindex})"), |name| name.to_string_lossy().into_owned())
        };
        Ok(attach::attachments(&self.dir)?.into_iter().map(|(ifindex, mode)| (name(ifindex), mode)).collect())
    }
}
