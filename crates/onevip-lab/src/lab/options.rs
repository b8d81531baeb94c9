//! What lab to build.

use std::sync::Once;

use anyhow::Result;

use crate::kind::HostKinds;
use crate::plan::LabPlan;
use crate::{cleanup, config, daemon};

/// What lab to build. `Options::new("name")` is four nodes, sixty clients, the generated configuration, daemons.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the lab; labs of different names run side by side.
    pub name: String,
    /// Number of nodes, 1 to 16.
    pub nodes: usize,
    /// Number of client addresses, 1 to 130.
    pub clients: usize,
    /// The text of `onevip.toml`; by default what [`config::generate`] makes.
    pub config: Option<String>,
    /// Whether daemons run. Without, no host has the VIP.
    pub onevip: bool,
    /// Whether the generated configuration has living membership.
    pub living: bool,
    /// Whether every node runs the lab's [echo service](crate::service::echo).
    pub echo: bool,
    /// What the daemons find in their environment, as `NAME=VALUE`, besides the environment of whoever starts them.
    pub env: Vec<String>,
    /// Of which kinds the nodes are; plain ones by default.
    pub hosts: HostKinds,
}

impl Options {
    /// The defaults under a name.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            nodes: 4,
            clients: 60,
            config: None,
            onevip: true,
            living: true,
            echo: false,
            env: Vec::new(),
            hosts: HostKinds::default(),
        }
    }

    /// The defaults for a test: the name gets the process's id, so that several runs of the same tests never meet
    /// ([`Lab::name`](crate::Lab::name) tells the whole of it); labs that killed tests left behind are removed.
    ///
    /// # Panics
    /// When the daemon is older than its sources.
    pub fn test(name: &str) -> Self {
        static SWEEP: Once = Once::new();
        SWEEP.call_once(cleanup::remove_abandoned);
        daemon::must_be_fresh();
        Self::new(&cleanup::test_name(name, std::process::id()))
    }

    /// With this many nodes.
    pub fn nodes(self, nodes: usize) -> Self {
        Self { nodes, ..self }
    }

    /// With this many client addresses.
    pub fn clients(self, clients: usize) -> Self {
        Self { clients, ..self }
    }

    /// With this configuration for every node.
    pub fn config(self, text: impl Into<String>) -> Self {
        Self { config: Some(text.into()), ..self }
    }

    /// With the generated configuration, edited. Call it last: it is generated for the numbers set so far.
    ///
    /// # Errors
    /// When a number is out of range.
    pub fn edit_config(self, edit: impl FnOnce(String) -> String) -> Result<Self> {
        let plan = self.plan()?;
        Ok(self.config(edit(config::generate(&plan))))
    }

    /// With a fixed set of nodes in the generated configuration, instead of living membership.
    pub fn static_membership(self) -> Self {
        Self { living: false, ..self }
    }

    /// With the [echo service](crate::service::echo) on every node.
    pub fn echo(self) -> Self {
        Self { echo: true, ..self }
    }

    pub(super) fn plan(&self) -> Result<LabPlan> {
        let plan = LabPlan::new(&self.name, self.nodes, self.clients, self.onevip)?;
        Ok(LabPlan { living: self.living, echo: self.echo, ..plan })
    }

    /// With a variable in the environment of every daemon.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push(format!("{name}={value}"));
        self
    }

    /// With nodes of these kinds.
    pub fn hosts(self, hosts: HostKinds) -> Self {
        Self { hosts, ..self }
    }

    /// Without daemons.
    pub fn no_onevip(self) -> Self {
        Self { onevip: false, ..self }
    }
}
