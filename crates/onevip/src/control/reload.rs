//! `onevip reload`: a new configuration for everything that can take one while it runs.

use super::protocol::{DONE, Request};
use super::server::Handler;
use crate::base::current::{Configured, Current};
use crate::base::plan::Plan;
use anyhow::anyhow;
use onevip_config::{Config, Membership};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Carries out what a part has prepared.
pub type Apply<'a> = Box<dyn FnOnce() -> anyhow::Result<()> + 'a>;

/// Something that takes a new configuration.
pub trait Reload: Send + Sync {
    /// Reads what it needs, and changes nothing yet.
    ///
    /// # Errors
    /// It cannot take this configuration: then no part changes anything.
    fn prepare<'a>(&'a self, old: &'a Configured, new: &'a Configured) -> anyhow::Result<Apply<'a>>;
}

/// Read the configuration again.
#[derive(Serialize, Deserialize)]
pub struct ReloadRequest {}

impl Request for ReloadRequest {
    const COMMAND: &'static str = "reload";
    type Reply = String;
    const REPLY: &'static str = DONE;
}

/// Everything that takes a new configuration, in the order in which it does.
pub struct Reloader {
    file: PathBuf,
    current: Current,
    parts: Mutex<Vec<Arc<dyn Reload>>>,
}

impl Reloader {
    /// Reads this file.
    pub fn new(file: &Path, current: Current, parts: Vec<Arc<dyn Reload>>) -> Self {
        Self { file: file.to_owned(), current, parts: Mutex::new(parts) }
    }

    /// Reads the configuration again and applies what is different; in words.
    ///
    /// # Errors
    /// The file is wrong, or it changes what only a restart can change. Then nothing has changed.
    pub fn reload(&self) -> anyhow::Result<String> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.current.get();
        let config = Config::load(&self.file)?;
        let node = config.this_node(Some(&old.plan.node.name))?;
        let plan = Plan::new(&config, node)?;
        let new = Arc::new(Configured { config, plan });
        let changes = differences(&old, &new)?;
        let prepared =
            parts.iter().map(|part| part.prepare(&old, &new)).collect::<anyhow::Result<Vec<_>>>()?;
        prepared.into_iter().try_for_each(|apply| apply())?;
        self.current.set(Arc::clone(&new));
        Ok(changes)
    }
}

/// Carries out `reload`.
pub fn handler(reloader: &Arc<Reloader>) -> Handler {
    let reloader = Arc::clone(reloader);
    Handler::new(move |ReloadRequest {}, _| reloader.reload())
}

/// What a reload changes, in words.
///
/// # Errors
/// Something only a restart can change.
fn differences(old: &Configured, new: &Configured) -> anyhow::Result<String> {
    let interfaces = |plan: &Plan| plan.vips.iter().map(|vip| vip.setup().interface).collect::<Vec<_>>();
    let elsewhere = interfaces(&old.plan) != interfaces(&new.plan);
    let taken = old.config.reload(&new.config, &old.plan.node.name, elsewhere);
    let mut words = taken.map_err(|what| {
        anyhow!("{what} changed; that takes a restart of the daemon (sessions stay): nothing was applied")
    })?;
    if new.config.membership == Membership::Living {
        words.push("keys read again");
    }
    Ok(if words.is_empty() { "nothing is different".to_owned() } else { words.join(", ") })
}
