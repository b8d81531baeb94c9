//! The words that the beat loop writes: flags, lease, and since when orphans count. One writer, no system calls.

use crate::clock::boot_time_ns;
use crate::maps::set::Maps;
use onevip_core::{Bucket, Flags, Flow};
use std::sync::Arc;

/// A handle on the flags, `last_syn`, the lease and the memory of orphans, for the one thread that writes them. Each
/// access is a single load or store of the word that the programs see.
#[derive(Clone, Debug)]
pub struct Words(pub(crate) Arc<Maps>);

impl Words {
    /// Sets the state of a bucket. `vip` is below 8.
    pub fn set_flags(&self, vip: usize, bucket: Bucket, flags: Flags) {
        self.0.set_flags(vip, bucket, flags);
    }

    /// The state of a bucket. `vip` is below 8.
    pub fn flags(&self, vip: usize, bucket: Bucket) -> Flags {
        self.0.flags(vip, bucket)
    }

    /// Boot time in ns when a SYN of this bucket last passed; 0 when that never was or is more than two minutes ago.
    pub fn last_syn_ns(&self, vip: usize, bucket: Bucket) -> u64 {
        self.0.last_syn_ns(vip, bucket)
    }

    /// Since when, in boot time ns, what is seen of orphans counts. `vip` is below 8.
    pub fn set_settled_ns(&self, vip: usize, since_ns: u64) {
        self.0.set_settled_ns(vip, since_ns);
    }

    /// Whether a segment of this flow that no socket wants would be reset now, rather than only remembered, if its
    /// bucket were claimed and nobody else might have it.
    pub fn orphan_waited(&self, vip: usize, flow: &Flow) -> bool {
        self.0.orphan_waited(vip, flow, boot_time_ns())
    }

    /// Until when MINE counts at a VIP, in boot time ns. More than an hour ahead would be taken for damage by the next
    /// daemon.
    pub fn set_lease_deadline_ns(&self, vip: usize, deadline_ns: u64) {
        self.0.set_lease_deadline_ns(vip, deadline_ns);
    }

    /// Until when MINE counts at a VIP, in boot time ns.
    pub fn lease_deadline_ns(&self, vip: usize) -> u64 {
        self.0.lease_deadline_ns(vip)
    }
}
