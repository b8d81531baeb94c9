//! The configuration that is in force, and what it means for this host.

use super::plan::Plan;
use onevip_config::Config;
use std::sync::{Arc, PoisonError, RwLock};

/// A configuration with its plan.
#[derive(Clone, Debug)]
pub struct Configured {
    /// The file, understood.
    pub config: Config,
    /// What this host has to do.
    pub plan: Plan,
}

/// The one that is in force now; clone it for every thread.
#[derive(Clone)]
pub struct Current(Arc<RwLock<Arc<Configured>>>);

impl Current {
    /// Begins with this one.
    pub fn new(config: Config, plan: Plan) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(Configured { config, plan }))))
    }

    /// It; whoever holds it is not touched by a later [`Current::set`].
    pub fn get(&self) -> Arc<Configured> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Another one is in force from now on.
    pub fn set(&self, configured: Arc<Configured>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = configured;
    }
}
