//! What the programs have counted, by program and reason.

use crate::error::{Error, Result};
use crate::maps::layout::REASONS_MAX;
use crate::sys;
use onevip_core::Reason;
use std::fs;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;

const INGRESS_ROW: usize = 0;
const XDP_ROW: usize = 1;
const EGRESS_ROW: usize = 2;

/// Packets counted since the maps were made, over all CPUs. A packet is counted once: what XDP drops never reaches
/// the ingress program, and what XDP passes it does not count. Packets that are not ours are not counted at all.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Counters {
    /// Verdicts of the authority, by number of the [`Reason`].
    pub ingress: Vec<u64>,
    /// Drops of the early dropper, by number of the [`Reason`].
    pub xdp: Vec<u64>,
    /// ARP messages into which the egress guard put the cluster MAC.
    pub guard_rewrote: u64,
    /// ARP messages that it had to drop because it could not.
    pub guard_failed: u64,
    /// Segments in sampled buckets, which were looked at more closely than others.
    pub sampled_segments: u64,
}

impl Counters {
    /// Packets that met this verdict in either program.
    pub fn of(&self, reason: Reason) -> u64 {
        self.ingress_of(reason) + self.xdp_of(reason)
    }

    /// Packets that met this verdict at the authority.
    pub fn ingress_of(&self, reason: Reason) -> u64 {
        self.ingress.get(reason as usize).copied().unwrap_or(0)
    }

    /// Packets that the early dropper dropped for this reason.
    pub fn xdp_of(&self, reason: Reason) -> u64 {
        self.xdp.get(reason as usize).copied().unwrap_or(0)
    }

    /// Only [`Counters::sampled_segments`].
    pub(crate) fn read_sampled_segments(map: BorrowedFd<'_>) -> Result<u64> {
        counter_read(map, (EGRESS_ROW * REASONS_MAX + 2) as u32)
    }

    pub(crate) fn read(map: BorrowedFd<'_>) -> Result<Self> {
        let read = |row: usize, number: usize| counter_read(map, (row * REASONS_MAX + number) as u32);
        let row = |row| (0..Reason::END).map(|number| read(row, number)).collect::<Result<Vec<_>>>();
        let (ingress, xdp) = (row(INGRESS_ROW)?, row(XDP_ROW)?);
        let (guard_rewrote, guard_failed) = (read(EGRESS_ROW, 0)?, read(EGRESS_ROW, 1)?);
        Ok(Self { ingress, xdp, guard_rewrote, guard_failed, sampled_segments: read(EGRESS_ROW, 2)? })
    }
}

/// One counter by its index in the map, summed over the CPUs: for tests that look at single packets.
///
/// # Errors
/// When the kernel refuses to read the map.
pub fn counter_read(map: BorrowedFd<'_>, index: u32) -> Result<u64> {
    let mut per_cpu = vec![0u64; possible_cpus()];
    sys::array_read(map, index, &mut per_cpu).map_err(Error::system("read the counters"))?;
    Ok(per_cpu.iter().sum())
}

/// How many CPUs the kernel keeps a copy for. It lists them as ranges, the last of which ends with the highest.
pub(crate) fn possible_cpus() -> usize {
    static CPUS: OnceLock<usize> = OnceLock::new();
    *CPUS.get_or_init(|| {
        let list = fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
        let highest = list.trim().rsplit([',', '-']).next().and_then(|last| last.parse::<usize>().ok());
        // A buffer too large does no harm, one too small does.
        highest.map_or(8192, |highest| highest + 1)
    })
}
