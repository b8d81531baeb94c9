//! What the daemon tells the kernel part about its VIPs.

use onevip_core::{Selector, VipView};
use std::net::IpAddr;

/// Everything the programs have to know about one VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipConfig {
    /// Its addresses, both families. All VIPs together may have 8.
    pub addresses: Vec<IpAddr>,
    /// What it serves, and how its packets are assigned to buckets. All VIPs together may have
    /// 32 services and 1024 exceptions.
    pub selector: Selector,
    /// UDP port on which beats arrive.
    pub beat_port: u16,
    /// The cluster MAC.
    pub cluster_mac: [u8; 6],
    /// A segment that no kernel seems to want is reset only when one of its flow already came in vain this long
    /// before, in ms (of 2^20 ns each: the programs count in shifts). A retransmission takes 200 ms at least.
    pub orphan_wait_ms: u16,
}

/// The VIPs that this host serves, at most 8. A VIP's place in the list is its index everywhere else.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct KernelConfig {
    /// The VIPs.
    pub vips: Vec<VipConfig>,
}

impl VipConfig {
    /// The same VIP as the reference verdict sees it.
    pub fn view(&self) -> VipView {
        VipView {
            addresses: self.addresses.clone(),
            selector: self.selector.clone(),
            beat_port: self.beat_port,
            cluster_mac: self.cluster_mac,
        }
    }
}
