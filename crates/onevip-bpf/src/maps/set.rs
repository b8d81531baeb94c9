//! The maps as this process sees them: what is in them, whether it can be trusted, and how it is changed.

use crate::clock::boot_time_ns;
use crate::config::KernelConfig;
use crate::error::{Error, Result};
use crate::maps::allowed;
use crate::maps::counters::Counters;
use crate::maps::encoding::{decode_exception, encode_exception};
use crate::maps::layout::{
    ADDRESSES_MAX, FLOWS, LAYOUT, MAGIC, ON_LINK_MAX, ORPHAN_MEMORY_TICKS, ORPHANS, ORPHANS_SEED, RawClients,
    RawConfig, RawException, RawExceptionKey, RawFlow, RawNetwork4, RawNetwork6, RawSettings, TICK_SHIFT,
    VIPS_MAX, WORDS,
};
use crate::maps::mapped::MappedArray;
use crate::maps::pinned::shape;
use crate::sys;
use onevip_core::hash::jhash2;
use onevip_core::{BUCKETS, Bucket, Flags, Flow};
use std::mem::{offset_of, size_of};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// No daemon sets a deadline this far ahead; one that is found there is damage.
pub const LEASE_MAX: Duration = Duration::from_secs(3600);

/// The maps that hold words, mapped, and the counters.
#[derive(Debug)]
pub(crate) struct Maps {
    config: MappedArray,
    flags: MappedArray,
    last_syn: MappedArray,
    lease: MappedArray,
    orphans: MappedArray,
    settled: MappedArray,
    exceptions: OwnedFd,
    flows: MappedArray,
    counters: OwnedFd,
    pub(crate) effects: OwnedFd,
    clients: MappedArray,
    /// IPv4, IPv6.
    pub(crate) bans: [OwnedFd; 2],
    pub(crate) banned: MappedArray,
    pub(crate) sources: OwnedFd,
    allowed: OwnedFd,
}

impl Maps {
    /// Maps what `fd_of` returns for each name.
    pub(crate) fn new(mut fd_of: impl FnMut(&str) -> Result<OwnedFd>, writable: bool) -> Result<Self> {
        let mut mapped = |map: &str, word_size: usize, writable: bool| {
            let (_, _, value_size, _, _) = shape(map);
            MappedArray::new(fd_of(map)?, word_size, value_size as usize / word_size, writable)
                .map_err(Error::system(format!("map the BPF array {map} into memory")))
        };
        Ok(Self {
            config: mapped("config", size_of::<RawConfig>(), writable)?,
            flags: mapped("flags", 4, writable)?,
            last_syn: mapped("last_syn", 8, false)?,
            lease: mapped("lease", 8, writable)?,
            orphans: mapped("orphans", 8, false)?,
            settled: mapped("settled", 8, writable)?,
            banned: mapped("banned", 4, writable)?,
            flows: mapped("witness", size_of::<RawFlow>(), false)?,
            clients: mapped("clients", size_of::<RawClients>(), writable)?,
            exceptions: fd_of("excepted")?,
            counters: fd_of("counters")?,
            effects: fd_of("effects")?,
            bans: [fd_of("bans4")?, fd_of("bans6")?],
            sources: fd_of("sources")?,
            allowed: fd_of("allowed")?,
        })
    }

    /// Why what is in the maps cannot be trusted, if so.
    pub(crate) fn damage(&self) -> Option<String> {
        let head = self.config_head();
        if (head[0], head[1]) == (0, 0) && self.settings(0) == RawSettings::default() {
            return Some("config was never written".into());
        }
        if head[0] != MAGIC {
            return Some(format!("config begins with {:#010x} instead of {MAGIC:#010x}", head[0]));
        }
        if head[1] != LAYOUT {
            return Some(format!("config has layout {} instead of {LAYOUT}", head[1]));
        }
        if head[2] > 1 || self.config().is_none() {
            return Some("config has a wrong checksum".into());
        }
        for word in 0..WORDS {
            let bits = self.flags.word32(word).load(Ordering::Relaxed);
            if bits & !Flags::ALL.bits() != 0 {
                return Some(format!(
                    "flags of VIP {}, bucket {} are {bits:#x}",
                    word / BUCKETS,
                    word % BUCKETS
                ));
            }
        }
        let latest = (0..VIPS_MAX).map(|vip| self.lease_deadline_ns(vip)).max().unwrap_or(0);
        let ahead = Duration::from_nanos(latest.saturating_sub(boot_time_ns()));
        (ahead > LEASE_MAX).then(|| format!("lease runs for another {} s", ahead.as_secs()))
    }

    /// Magic, layout and active half.
    fn config_head(&self) -> [u32; 3] {
        let base = self.config.element(0).cast::<u32>();
        // SAFETY: three words at the start of a mapped, aligned RawConfig. The daemon that may be writing them is
        // this process or one that only flips the third word; volatile reads see one value or the other.
        [0, 1, 2].map(|at| unsafe { base.add(at).read_volatile() })
    }

    fn half(&self, half: usize) -> std::ptr::NonNull<RawSettings> {
        let offset = offset_of!(RawConfig, halves) + (half & 1) * size_of::<RawSettings>();
        // SAFETY: both halves lie within the mapped RawConfig.
        unsafe { self.config.element(0).add(offset).cast() }
    }

    fn settings(&self, half: usize) -> RawSettings {
        // SAFETY: the half is mapped and aligned, and every bit pattern is a RawSettings. A reader that races with a
        // writer gets a torn copy; the checksum tells.
        unsafe { self.half(half).read_volatile() }
    }

    /// The configuration in force; `None` when it is damaged.
    pub(crate) fn config(&self) -> Option<KernelConfig> {
        let active = self.config_head()[2];
        let mut config = self.settings(active as usize).decode()?;
        for source in self.exception_keys_of(active).ok()? {
            let raw: RawException = sys::map_get(self.exceptions.as_fd(), &source).ok()??;
            let (vip, exception) = decode_exception(&source, &raw)?;
            config.vips.get_mut(vip)?.selector.exceptions.push(exception);
        }
        for vip in &mut config.vips {
            vip.selector.exceptions.sort_by_key(|exception| exception.network);
        }
        allowed::read(self.allowed.as_fd(), &mut config).ok()?;
        Some(config)
    }

    /// Writes the half that is not in force and flips. Returns once no program can still be reading the old one.
    pub(crate) fn set_config(&self, config: &KernelConfig) -> Result<()> {
        allowed::write(self.allowed.as_fd(), config)?;
        let active = self.config_head()[2] & 1;
        let raw = RawSettings::encode(config, 1 - active)?;
        self.clear_exceptions(1 - active)?;
        self.write_exceptions(config, 1 - active)?;
        let base = self.config.element(0).cast::<u32>();
        // SAFETY: the inactive half has no reader (see `wait_for_readers`), and there is one writer: this process.
        unsafe { self.half(1 - active as usize).write_volatile(raw) };
        for (at, word) in [(0, MAGIC), (1, LAYOUT)] {
            // SAFETY: within the mapped RawConfig; no program reads these two.
            unsafe { base.add(at).write_volatile(word) };
        }
        // SAFETY: the third word of a mapped, aligned RawConfig, accessed atomically by everybody.
        let flip = unsafe { base.add(2).cast::<std::sync::atomic::AtomicU32>().as_ref() };
        flip.store(1 - active, Ordering::Release);
        wait_for_readers();
        self.clear_exceptions(active)
    }

    /// Writes the exceptions that belong to one half of the configuration.
    fn write_exceptions(&self, config: &KernelConfig, half: u32) -> Result<()> {
        for (index, vip) in config.vips.iter().enumerate() {
            for exception in &vip.selector.exceptions {
                let (source, raw) = encode_exception(half, index, exception);
                sys::map_put(self.exceptions.as_fd(), &source, &raw)
                    .map_err(Error::system(format!("write the exception for {}", exception.network)))?;
            }
        }
        Ok(())
    }

    /// Removes the exceptions that belong to one half of the configuration.
    fn clear_exceptions(&self, half: u32) -> Result<()> {
        let remove = |source: &RawExceptionKey| sys::map_remove(self.exceptions.as_fd(), source).map(drop);
        let removed = self.exception_keys_of(half).and_then(|stale| stale.iter().try_for_each(remove));
        removed.map_err(Error::system("remove old exceptions".to_owned()))
    }

    /// The keys of the exceptions that belong to one half of the configuration.
    fn exception_keys_of(&self, half: u32) -> std::io::Result<Vec<RawExceptionKey>> {
        let (mut last, mut found): (Option<RawExceptionKey>, Vec<RawExceptionKey>) = (None, Vec::new());
        while let Some(source) = sys::map_next_key(self.exceptions.as_fd(), last.as_ref())? {
            if u32::from(source.half) == half {
                found.push(source);
            }
            last = Some(source);
        }
        Ok(found)
    }

    pub(crate) fn set_flags(&self, vip: usize, bucket: Bucket, flags: Flags) {
        self.flags.word32(word(vip, bucket)).store(flags.bits(), Ordering::Release);
    }

    /// Marks all buckets GUESTS, so that sessions of which nothing is known live on until a scan has found them.
    pub(crate) fn expect_guests_everywhere(&self) {
        for word in 0..WORDS {
            self.flags.word32(word).fetch_or(Flags::GUESTS.bits(), Ordering::AcqRel);
        }
    }

    pub(crate) fn flags(&self, vip: usize, bucket: Bucket) -> Flags {
        Flags::from_bits(self.flags.word32(word(vip, bucket)).load(Ordering::Acquire))
    }

    pub(crate) fn last_syn_ns(&self, vip: usize, bucket: Bucket) -> u64 {
        self.last_syn.word64(word(vip, bucket)).load(Ordering::Acquire)
    }

    pub(crate) fn set_lease_deadline_ns(&self, vip: usize, deadline_ns: u64) {
        self.lease.word64(vip).store(deadline_ns, Ordering::Release);
    }

    pub(crate) fn lease_deadline_ns(&self, vip: usize) -> u64 {
        self.lease.word64(vip).load(Ordering::Acquire)
    }

    pub(crate) fn set_settled_ns(&self, vip: usize, since_ns: u64) {
        self.settled.word64(vip).store(since_ns, Ordering::Release);
    }

    pub(crate) fn settled_ns(&self, vip: usize) -> u64 {
        self.settled.word64(vip).load(Ordering::Acquire)
    }

    /// As `orphan_waited` of the programs, but without remembering anything.
    pub(crate) fn orphan_waited(&self, vip: usize, flow: &Flow, now_ns: u64) -> bool {
        let hash = orphan_hash(vip, flow);
        let first = self.orphans.word64((hash >> (32 - ORPHANS.ilog2())) as usize).load(Ordering::Acquire);
        let age = ((now_ns >> TICK_SHIFT) as u32).wrapping_sub(first as u32);
        let known = first >> 32 == u64::from(hash) && u64::from(age) < ORPHAN_MEMORY_TICKS;
        let holds = |settled| u64::from(age) <= (now_ns - settled) >> TICK_SHIFT;
        let settled = self.settled_ns(vip);
        let wait = self.settings(self.config_head()[2] as usize).vips[vip].orphan_wait_ms;
        known && settled <= now_ns && holds(settled) && age >= u32::from(wait)
    }

    pub(crate) fn ban_counts(&self) -> [u32; 2] {
        [0, 1].map(|family| self.banned.word32(family).load(Ordering::Acquire))
    }

    /// One place of those in which connections of others' clients are noted. The programs may be writing it: what is
    /// read may be of two flows.
    pub(crate) fn flow(&self, place: usize) -> RawFlow {
        // SAFETY: the element is mapped and aligned, and every bit pattern is a RawFlow.
        unsafe { self.flows.element(place % FLOWS).cast::<RawFlow>().read_volatile() }
    }

    /// The networks on the link, and who opened last. A program may be writing the latter: what is read may be of two
    /// clients.
    pub(crate) fn clients(&self) -> RawClients {
        // SAFETY: the element is mapped and aligned, and every bit pattern is a RawClients.
        unsafe { self.clients.element(0).cast::<RawClients>().read_volatile() }
    }

    /// Writes which networks are on the link. A program that reads meanwhile may count one client among the others.
    pub(crate) fn set_on_link(&self, v4: [RawNetwork4; ON_LINK_MAX], v6: [RawNetwork6; ON_LINK_MAX]) {
        let clients = self.clients.element(0).cast::<RawClients>().as_ptr();
        // SAFETY: within the mapped, aligned RawClients, whose networks have this one writer.
        unsafe {
            (&raw mut (*clients).v4).write_volatile(v4);
            (&raw mut (*clients).v6).write_volatile(v6);
        }
    }

    /// Writes of which port SYNs to an address count.
    pub(crate) fn set_counted_port(&self, address: usize, port: u16) {
        let clients = self.clients.element(0).cast::<RawClients>().as_ptr();
        // SAFETY: within the mapped, aligned RawClients, whose ports have this one writer.
        unsafe { (&raw mut (*clients).port[address % ADDRESSES_MAX]).write_volatile(port.to_be_bytes()) };
    }

    /// Says whether the daemon resets orphans.
    pub(crate) fn set_daemon_resets(&self, resets: bool) {
        let clients = self.clients.element(0).cast::<RawClients>().as_ptr();
        // SAFETY: within the mapped, aligned RawClients; this word has this one writer.
        unsafe { (&raw mut (*clients).resets).write_volatile(resets.into()) };
    }

    pub(crate) fn counters(&self) -> Result<Counters> {
        Counters::read(self.counters.as_fd())
    }

    pub(crate) fn counters_fd(&self) -> &OwnedFd {
        &self.counters
    }
}

/// What tells TCP flows apart in the memory of orphans.
fn orphan_hash(vip: usize, flow: &Flow) -> u32 {
    let (mut words, mut count) = ([0; 6], 0);
    let mut push = |word| {
        words[count] = word;
        count += 1;
    };
    match flow.remote {
        IpAddr::V4(v4) => push(u32::from_ne_bytes(v4.octets())),
        IpAddr::V6(v6) => {
            v6.octets().chunks_exact(4).for_each(|b| push(u32::from_ne_bytes([b[0], b[1], b[2], b[3]])));
        }
    }
    push(u32::from(flow.remote_port) << 16 | u32::from(flow.local_port));
    push(vip as u32);
    jhash2(&words[..count], ORPHANS_SEED)
}

fn word(vip: usize, bucket: Bucket) -> usize {
    assert!(vip < VIPS_MAX, "VIP {vip} of at most {VIPS_MAX}");
    vip * BUCKETS + bucket.index()
}

/// Waits until every program run that began before has ended: `membarrier(MEMBARRIER_CMD_GLOBAL)` is an RCU grace
/// period. Kernels with isolated CPUs (`nohz_full`) refuse it; there a pause far longer than any packet must do.
fn wait_for_readers() {
    const GLOBAL: libc::c_int = 1;
    // SAFETY: takes no pointers.
    if unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) } != 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
}
