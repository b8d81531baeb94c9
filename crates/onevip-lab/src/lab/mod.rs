//! A running lab: building it, its parts, taking it down.

mod lock;
mod node;
mod options;
mod reach;

use std::fs::{self, DirBuilder};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

pub(crate) use self::lock::lock;
use self::lock::own;
pub use self::node::LabNode;
pub use self::options::Options;
pub use self::reach::COMMAND_WITHIN;
use crate::kind::HostKinds;
use crate::plan::{Host, LabPlan, Name, ROOT};
use crate::process::{check_interrupt, clear_interrupt, tail, wait_until};
use crate::service::echo;
use crate::{cgroup, cleanup, config, daemon, net, netns, ssh};

/// Nodes that claim nothing by now will not do so by themselves.
const SERVES_WITHIN: Duration = Duration::from_secs(10);

/// What `up` writes down for the commands that come after it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub plan: LabPlan,
    pub vip: Vec<IpAddr>,
    pub cluster_mac: String,
    /// Kinds of the nodes, as on the command line; empty for plain ones.
    #[serde(default)]
    pub hosts: String,
}

/// A running lab. One that [`Lab::up`] made is taken down when it is dropped, also by a panic, unless
/// [kept](Lab::keep).
pub struct Lab {
    pub(crate) state: State,
    /// There while the lab belongs to this value, and goes with it.
    owned: Option<UnixListener>,
}

impl Lab {
    /// Builds a lab and waits until every `sshd` listens and every daemon is ready. What an earlier lab of that name
    /// left is removed first. When anything fails half way, what was built is removed.
    ///
    /// # Errors
    /// When not root, an option is out of range, a program is missing, a part does not start, or a lab of that name
    /// belongs to a program that runs (and goes on for a minute).
    pub fn up(options: Options) -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "a lab needs root: it makes network namespaces");
        let plan = options.plan()?;
        if plan.onevip {
            daemon::program()?;
        }
        options.hosts.check(plan.nodes)?;
        let text = options.config.unwrap_or_else(|| config::generate(&plan));
        let summary = config::summarise(&text)?;
        let owned = own(&plan.name)?;
        let _lock = lock(&plan.name)?;
        cleanup::remove_lab(&plan.name)?;
        let state = State {
            plan,
            vip: summary.vip,
            cluster_mac: summary.cluster_mac,
            hosts: options.hosts.to_string(),
        };
        let lab = Self { state, owned: Some(owned) };
        lab.build(&text, &options.env)?;
        Ok(lab)
    }

    /// A lab that another program brought up; dropping this value leaves it running.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn open(name: &str) -> Result<Self> {
        let name = Name::new(name)?;
        let path = name.dir().join("state.json");
        let text = fs::read(&path).with_context(|| {
            format!("there is no lab {name} ({}); `onevip-lab up --name {name}` makes one", path.display())
        })?;
        let state = serde_json::from_slice(&text).with_context(|| {
            format!(
                "{} is damaged; `onevip-lab down --name {name}` removes the lab all the same",
                path.display()
            )
        })?;
        Ok(Self { state, owned: None })
    }

    /// Leaves the lab running when this value is dropped.
    pub fn keep(mut self) {
        self.owned = None;
    }

    /// Takes the lab down and removes every trace of it.
    ///
    /// # Errors
    /// Names what could not be removed.
    pub fn down(mut self) -> Result<()> {
        let _owned = self.owned.take();
        down(self.name())
    }

    fn build(&self, config: &str, env: &[String]) -> Result<()> {
        self.write_files(config)?;
        fs::write(daemon::environment_path(self.name()), env.join("\n"))?;
        check_interrupt()?;
        let (plan, name) = (self.plan(), self.name());
        let stations = plan.stations();
        net::create_switch(name)?;
        net::create_stations(plan, &stations)?;
        self.kinds()?.make(name, &stations)?;
        check_interrupt()?;
        for &host in &stations {
            netns::create_uts(name, host)?;
            cgroup::create(name, host);
        }
        let nodes: Vec<u8> = plan.node_ids().collect();
        self.start_services(&nodes)?;
        if plan.onevip { self.wait_serving(SERVES_WITHIN) } else { Ok(()) }
    }

    /// Waits until every node that has a weight serves: with living membership a daemon that is ready still listens
    /// for a while before it claims anything.
    ///
    /// # Errors
    /// Names a node that does not get there, and what its status says.
    pub fn wait_serving(&self, deadline: Duration) -> Result<()> {
        let text = fs::read_to_string(self.dir().join("onevip.toml"))?;
        if !config::is_living(&text) {
            return Ok(());
        }
        let known = |id: &u8| self.plan().node_ids().any(|known| known == *id);
        let until = Instant::now() + deadline;
        for id in config::weighted(&text).into_iter().filter(known) {
            let left = until.saturating_duration_since(Instant::now());
            let serves = || self.node(id).claims().is_some_and(|claims| claims > 0);
            wait_until(left, &format!("unix{id} to claim its share"), serves).with_context(|| {
                let log = daemon::log_path(self.name(), id);
                format!("the last it said ({}):\n{}", log.display(), tail(&log, 15))
            })?;
        }
        Ok(())
    }

    fn write_files(&self, config: &str) -> Result<()> {
        let dir = self.dir();
        create_private(&dir)?;
        fs::write(dir.join("onevip.toml"), config)?;
        for id in self.plan().node_ids() {
            let node = self.name().node_dir(id);
            create_private(&node.join("run"))?;
            create_private(&daemon::host_root(self.name(), id).join("run"))?;
            symlink("../../onevip.toml", node.join("onevip.toml"))?;
        }
        config::create_key(&config::key_path(self.name()))?;
        fs::write(dir.join("state.json"), serde_json::to_vec_pretty(&self.state)?)?;
        ssh::create_keys(self.name())
    }

    /// Starts `sshd` and the daemon on nodes whose namespaces exist, and waits until they are ready.
    fn start_services(&self, nodes: &[u8]) -> Result<()> {
        let name = self.name();
        on_each(nodes, |id| ssh::start_sshd(name, id).map(drop))?;
        if self.plan().echo {
            on_each(nodes, |id| echo::start(name, id))?;
        }
        if self.plan().onevip { self.start_daemons(nodes) } else { Ok(()) }
    }

    /// Starts the daemon on every node, all at once, and waits until they are ready. For labs that began without.
    ///
    /// # Errors
    /// When one does not become ready.
    pub fn start_onevip(&self) -> Result<()> {
        self.start_daemons(&self.plan().node_ids().collect::<Vec<_>>())?;
        self.wait_serving(SERVES_WITHIN)
    }

    fn start_daemons(&self, nodes: &[u8]) -> Result<()> {
        let name = self.name();
        on_each(nodes, |id| daemon::wait_ready(name, id, daemon::start(name, id)?))
    }

    /// Boots a node that has lost its power: a fresh kernel (namespace), empty `/run`, its services.
    pub(crate) fn boot(&self, id: u8) -> Result<()> {
        let (name, host) = (self.name(), Host::Node(id));
        let run_dir = daemon::run_dir(name, id);
        let _ = fs::remove_dir_all(&run_dir);
        create_private(&run_dir)?;
        net::create_stations(self.plan(), &[host])?;
        self.kinds()?.make(name, &[host])?;
        self.start_services(&[id])
    }

    fn kinds(&self) -> Result<HostKinds> {
        if self.state.hosts.is_empty() { Ok(HostKinds::default()) } else { self.state.hosts.parse() }
    }

    /// The lab's name.
    pub fn name(&self) -> &Name {
        &self.state.plan.name
    }

    /// The lab's shape: who is in it, with which addresses.
    pub fn plan(&self) -> &LabPlan {
        &self.state.plan
    }

    /// The lab's directory, `/run/onevip-lab/NAME`.
    pub fn dir(&self) -> PathBuf {
        self.name().dir()
    }

    /// The VIP's addresses, as configured.
    pub fn vip(&self) -> &[IpAddr] {
        &self.state.vip
    }

    /// The cluster MAC that goes with the VIP.
    pub fn cluster_mac(&self) -> &str {
        &self.state.cluster_mac
    }

    /// Replaces the configuration file that all nodes share, as an administrator would; no daemon is told.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_config(&self, text: &str) -> Result<()> {
        // Renamed into place: a daemon that reads meanwhile finds the old file or the new one.
        let (path, new) = (self.dir().join("onevip.toml"), self.dir().join("onevip.toml.new"));
        fs::write(&new, text)?;
        fs::rename(new, &path).with_context(|| format!("cannot replace {}", path.display()))
    }

    /// One node: its files, processes and addresses.
    ///
    /// # Panics
    /// When the lab has no node of that number.
    pub fn node(&self, id: u8) -> LabNode<'_> {
        assert!((1..=self.plan().nodes).contains(&id), "lab {} has no node {id}", self.name());
        LabNode::of(self, id)
    }

    /// All nodes, by number.
    pub fn nodes(&self) -> impl Iterator<Item = LabNode<'_>> {
        self.plan().node_ids().map(|id| LabNode::of(self, id))
    }

    /// The IPv4 addresses of `client`.
    pub fn clients(&self) -> Vec<IpAddr> {
        self.plan().addresses4(Host::Client).into_iter().map(IpAddr::from).collect()
    }

    /// The IPv6 addresses of `client`.
    pub fn clients6(&self) -> Vec<IpAddr> {
        self.plan().addresses6(Host::Client).into_iter().map(IpAddr::from).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.owned.is_some() {
            // An interrupt is why we are here, perhaps; cleaning up must be able to wait all the same.
            clear_interrupt();
            if let Err(error) = cleanup::remove_lab(self.name()) {
                eprintln!("onevip-lab: {error:#}");
            }
        }
    }
}

/// Takes a lab down by name, whatever is left of it.
///
/// # Errors
/// Names what could not be removed.
pub fn down(name: &Name) -> Result<()> {
    let _lock = lock(name)?;
    cleanup::remove_lab(name)
}

/// Makes a directory that only root can enter, with its parents.
fn create_private(dir: &std::path::Path) -> Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    // Another lab that ends may take the empty parent away between its creation and its use.
    (0..3)
        .find_map(|_| builder.create(dir).ok())
        .with_context(|| format!("cannot create {}; is there room below {ROOT}?", dir.display()))
}

/// Does something for every node at the same time; the first error wins.
fn on_each(nodes: &[u8], f: impl Fn(u8) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = nodes
            .iter()
            .map(|&id| {
                scope.spawn({
                    let f = &f;
                    move || f(id)
                })
            })
            .collect();
        let results = threads
            .into_iter()
            .map(|t| t.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked"))));
        results.collect::<Vec<_>>().into_iter().collect()
    })
}
