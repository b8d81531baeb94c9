//! Runs the checks of this host's health, and tells the beat loop what comes of them.

use crate::base::beat_loop::BeatLoopHandle;
use crate::base::command::Command;
use crate::base::current::Configured;
use crate::control::reload::{Apply, Reload};
use onevip_health::monitor::{self, Announce, Monitor, Subject};
use onevip_health::results::Results;
use std::sync::{Arc, Mutex, PoisonError};

/// The running checks; a new configuration starts others in their place.
pub struct HealthChecks {
    results: Arc<Results>,
    announce: Announce,
    /// None only after the threads of new checks could not be started.
    monitor: Mutex<Option<Monitor>>,
}

impl HealthChecks {
    /// Starts them.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(
        configured: &Configured,
        results: &Arc<Results>,
        beat_loop: BeatLoopHandle,
    ) -> anyhow::Result<Self> {
        let announce: Announce = Arc::new(move |health, percent| {
            beat_loop.send(Command::Feel { health, percent });
        });
        let monitor = Mutex::new(Some(Monitor::start(&subject(configured), results, &announce)?));
        Ok(Self { results: Arc::clone(results), announce, monitor })
    }
}

impl Reload for HealthChecks {
    fn prepare<'a>(&'a self, old: &'a Configured, new: &'a Configured) -> anyhow::Result<Apply<'a>> {
        Ok(Box::new(move || {
            if old.config.health != new.config.health || old.config.checks != new.config.checks {
                let mut monitor = self.monitor.lock().unwrap_or_else(PoisonError::into_inner);
                // The old one first: two must not speak for the node.
                *monitor = None;
                *monitor = Some(Monitor::start(&subject(new), &self.results, &self.announce)?);
            }
            Ok(())
        }))
    }
}

/// What the checks are about.
fn subject(configured: &Configured) -> Subject {
    let vips = configured.plan.vips.iter().map(|vip| vip.vip.clone()).collect();
    Subject { config: configured.config.clone(), vips, host_root: monitor::host_root() }
}
