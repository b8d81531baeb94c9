//! Who this node is to the others: its keys, its incarnation, its host.

use super::plan::{Plan, VipPlan};
use super::{incarnation, keys};
use onevip_config::Config;
use onevip_core::beat::{Incarnation, Keyring, Sealer};
use onevip_core::rpc::Endpoint;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;

/// What all VIPs of a living cluster share.
pub struct Identity {
    /// The cluster's keys.
    pub keyring: Keyring,
    /// Which life of this node's daemon it is.
    pub incarnation: Incarnation,
}

impl Identity {
    /// Reads the keys and takes the next incarnation.
    ///
    /// # Errors
    /// Either fails.
    pub fn take(config: &Config, state_dir: &Path) -> anyhow::Result<Self> {
        Ok(Self { keyring: keyring(config)?, incarnation: incarnation::next(state_dir)? })
    }

    /// Seals and opens this node's messages at one VIP.
    pub fn endpoint(&self, config: &Config, plan: &Plan, vip: &VipPlan) -> Endpoint {
        let names = (config.cluster.as_str(), vip.vip.name.as_str());
        Endpoint::new(&self.keyring, names, plan.node.id, host_number(vip), self.incarnation)
    }
}

/// The keys as they are in the file now.
///
/// # Errors
/// The key file cannot be used.
pub fn keyring(config: &Config) -> anyhow::Result<Keyring> {
    Ok(keys::read(&keys::location(&config.key_file))?.keyring())
}

/// What the beats of a VIP are sealed with.
pub fn sealer(keyring: &Keyring, config: &Config, vip: &VipPlan) -> Sealer {
    Sealer::new(keyring, &config.cluster, &vip.vip.name)
}

/// Tells hosts apart that have the same node number by mistake: from the machine id, and from the MAC, because
/// machines that were cloned often share the former.
pub fn host_number(vip: &VipPlan) -> u32 {
    let machine = fs::read("/etc/machine-id").unwrap_or_default();
    let mut hash = Sha256::new();
    hash.update(machine);
    hash.update(vip.link.mac.unwrap_or_default());
    let digest = hash.finalize();
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}
