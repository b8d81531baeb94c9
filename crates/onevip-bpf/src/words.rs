//! The words that the beat loop writes: flags and lease. One writer, no system calls.

use crate::maps::Maps;
use onevip_core::{Bucket, Flags};
use std::sync::Arc;

/// A grip on the flags, `last_syn` and the lease, for the one thread that writes them. Each access is a single load or
/// store of the word that the programs see.
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

    /// Until when MINE counts, in boot time ns. More than an hour ahead would be taken for damage by the next daemon.
    pub fn set_lease_deadline_ns(&self, deadline_ns: u64) {
        self.0.set_lease_deadline_ns(deadline_ns);
    }

    /// Until when MINE counts, in boot time ns.
    pub fn lease_deadline_ns(&self) -> u64 {
        self.0.lease_deadline_ns()
    }
}
