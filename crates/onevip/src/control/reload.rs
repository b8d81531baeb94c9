//! `onevip reload`: a new configuration for everything that can take one while it runs.

use super::protocol::{DONE, Request};
use super::server::Handler;
use crate::base::current::{Configured, Current};
use crate::base::plan::{Plan, VipPlan};
use anyhow::bail;
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

/// What a reload would change, in words.
///
/// # Errors
/// Something only a restart can change.
fn differences(old: &Configured, new: &Configured) -> anyhow::Result<String> {
    let restart = |what: &str| -> anyhow::Result<String> {
        bail!("{what} changed; that takes a restart of the daemon (sessions stay): nothing was applied")
    };
    let (Configured { config: old, plan: old_plan }, Configured { config: new, plan }) = (old, new);
    if old.cluster != new.cluster || old.membership != new.membership {
        return restart("the cluster's name or membership");
    }
    if old.control_group != new.control_group {
        return restart("control_group");
    }
    if old.metrics != new.metrics || old.hooks != new.hooks {
        return restart("[metrics] or a [[hook]]");
    }
    if old_plan.node.id != plan.node.id || old_plan.node.addresses != plan.node.addresses {
        return restart("this node's number or own address");
    }
    let place = |plan: &Plan| {
        let of = |vip: &VipPlan| (vip.setup(), vip.vip.name.clone(), vip.vip.accelerate);
        (plan.vips.iter().map(of).collect::<Vec<_>>(), plan.kernel_config())
    };
    if place(old_plan) != place(plan) {
        return restart("an address, interface, hash, port or the set of VIPs of this node");
    }
    if old.membership == Membership::Static && (old.nodes != new.nodes || old.beat != new.beat) {
        return restart("the fixed set of nodes, or the beat time,");
    }
    Ok(taken(old, new))
}

/// What a running daemon takes, in words.
fn taken(old: &Config, new: &Config) -> String {
    let parts = [
        (old.beat != new.beat, "beat time"),
        (old.failback != new.failback, "failback"),
        (old.nodes != new.nodes, "nodes or weights"),
        (old.key_file != new.key_file, "place of the key file"),
        (old.health != new.health || old.checks != new.checks, "health checks"),
        (old.never_banned != new.never_banned, "who is never banned"),
        (new.membership == Membership::Living, "keys read again"),
    ];
    let changes: Vec<&str> = parts.iter().filter(|(changed, _)| *changed).map(|(_, what)| *what).collect();
    if changes.is_empty() { "nothing is different".to_owned() } else { changes.join(", ") }
}
