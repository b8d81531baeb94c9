//! The public host keys of this node's `sshd`, and their digest for the beats.

use crate::base::current::Configured;
use crate::base::plan::Plan;
use crate::base::supervisor::background;
use crate::doctor::sshd::{self, Sshd};
use onevip_config::Config;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// How often the keys are looked at. They change once in years; `doctor` does not rely on this.
const LOOK_EVERY: Duration = Duration::from_secs(300);

/// How often while they cannot be told: `sshd` may not have started yet.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// The keys, by type. Asks `sshd` for its configuration, which takes some milliseconds and a process.
pub fn look(config: &Config, plan: &Plan) -> BTreeMap<String, String> {
    let effective = Sshd::of(config, plan).and_then(|sshd| sshd.effective());
    effective.map(|effective| effective.host_keys()).unwrap_or_default()
}

/// Keeps their digest up to date for as long as the process lives; 0 while they are not known. Nobody waits for it: `sshd`
/// may take its time.
///
/// # Errors
/// No thread can be started.
pub fn watch(configured: &Arc<Configured>, digest: &Arc<AtomicU64>) -> anyhow::Result<()> {
    let (configured, kept) = (Arc::clone(configured), Arc::clone(digest));
    background("host-keys", move || {
        loop {
            let digest = sshd::digest(&look(&configured.config, &configured.plan));
            kept.store(digest, Ordering::Relaxed);
            thread::sleep(if digest == 0 { LOOK_AGAIN } else { LOOK_EVERY });
        }
    })
}
