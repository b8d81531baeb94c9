//! A running lab: building it, reaching its hosts, logging in, taking it down.

mod node;

use std::fs::{self, DirBuilder};
use std::net::IpAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::process::{Child, Command, Output};
use std::sync::Once;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

pub use self::node::LabNode;
use crate::config;
use crate::load::echo;
use crate::netns::{self, Entrance};

use crate::plan::{Host, Name, Plan, ROOT};
use crate::process::{check_interrupt, clear_interrupt, run, tail, wait_until};
use crate::ssh::{self, Login};
use crate::{cgroup, cleanup, daemon, net};

/// Longest that [`Lab::exec`] and [`Lab::ssh`] wait for a command to end.
pub const COMMAND_WITHIN: Duration = Duration::from_secs(60);
/// Nodes that claim nothing by now will not do so by themselves.
const SERVES_WITHIN: Duration = Duration::from_secs(10);

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
    /// Whether every node runs the lab's [echo service](crate::load::echo).
    pub echo: bool,
    /// What the daemons find in their environment, as `NAME=VALUE`, besides the environment of whoever starts them.
    pub env: Vec<String>,
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
        }
    }

    /// The defaults for a test: the name gets the process's id, so that several runs of the same tests never meet
    /// ([`Lab::name`] tells the whole of it); labs that killed tests left behind are removed.
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

    /// With the [echo service](crate::load::echo) on every node.
    pub fn echo(self) -> Self {
        Self { echo: true, ..self }
    }

    fn plan(&self) -> Result<Plan> {
        let plan = Plan::new(&self.name, self.nodes, self.clients, self.onevip)?;
        Ok(Plan { living: self.living, echo: self.echo, ..plan })
    }

    /// With a variable in the environment of every daemon.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push(format!("{name}={value}"));
        self
    }

    /// Without daemons.
    pub fn no_onevip(self) -> Self {
        Self { onevip: false, ..self }
    }
}

/// What `up` writes down for the commands that come after it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub plan: Plan,
    pub vip: Vec<IpAddr>,
    pub cluster_mac: String,
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
        let text = options.config.unwrap_or_else(|| config::generate(&plan));
        let summary = config::summarise(&text)?;
        let owned = own(&plan.name)?;
        let _lock = lock(&plan.name)?;
        cleanup::remove_lab(&plan.name)?;
        let state = State { plan, vip: summary.vip, cluster_mac: summary.cluster_mac };
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
        self.start_services(&[id])
    }

    /// The lab's name.
    pub fn name(&self) -> &Name {
        &self.state.plan.name
    }

    /// The lab's shape: who is in it, with which addresses.
    pub fn plan(&self) -> &Plan {
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

    /// Prepares a command to run on a host (`unix1`…, `client`, `client2`, `switch`).
    ///
    /// # Errors
    /// When there is no such host, or it is powered off.
    pub fn command(&self, host: &str, program: &str) -> Result<Command> {
        let mut command = Command::new(program);
        self.enter(host, &mut command)?;
        Ok(command)
    }

    /// Makes a command run on a host.
    ///
    /// # Errors
    /// As [`Lab::command`].
    pub fn enter(&self, host: &str, command: &mut Command) -> Result<()> {
        Entrance::open(self.name(), self.plan().host(host)?)?.apply(command);
        Ok(())
    }

    /// Starts a command on a host. It belongs to that host from then on: it is frozen and killed with it.
    ///
    /// # Errors
    /// As [`Lab::command`], or when it cannot be started.
    pub fn spawn_in(&self, host: &str, mut command: Command) -> Result<Child> {
        self.enter(host, &mut command)?;
        let program = command.get_program().to_string_lossy().into_owned();
        command.spawn().with_context(|| format!("cannot run {program} on {host}"))
    }

    /// Runs a command on a host to its end, at most [`COMMAND_WITHIN`].
    ///
    /// # Errors
    /// As [`Lab::command`], or when it cannot be started or does not end. A command that fails is no error here.
    pub fn exec(&self, host: &str, words: &[&str]) -> Result<Output> {
        let (program, arguments) = words.split_first().context("nothing to run")?;
        let mut command = self.command(host, program)?;
        run(command.args(arguments), COMMAND_WITHIN)
    }

    /// [`Lab::exec`] of a command that must succeed; returns what it printed.
    ///
    /// # Errors
    /// As [`Lab::exec`], and when the command fails.
    pub fn exec_ok(&self, host: &str, words: &[&str]) -> Result<String> {
        let output = self.exec(host, words)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} on {host}: {}: {}", words.join(" "), output.status, said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a closure in a thread inside a host's network namespace; sockets it opens and returns stay there.
    ///
    /// # Errors
    /// As [`Lab::command`].
    pub fn inside<T: Send>(&self, host: &str, f: impl FnOnce() -> T + Send) -> Result<T> {
        netns::inside(self.name(), self.plan().host(host)?, f)
    }

    /// Logs in to the VIP from an address (by default the client's first) and runs a command there.
    ///
    /// # Errors
    /// When the address is no client's, or `ssh` does not end. A login that fails is a failed [`Output`].
    pub fn ssh(&self, from: Option<IpAddr>, command: &str) -> Result<Output> {
        let from = from.unwrap_or_else(|| self.clients()[0]);
        let mut ssh = self.ssh_command(self.vip_for(from), Some(from))?;
        run(ssh.arg(command), COMMAND_WITHIN)
    }

    /// The VIP of the same family as `from`; the first one when there is none.
    pub fn vip_for(&self, from: IpAddr) -> IpAddr {
        let same = self.vip().iter().find(|vip| vip.is_ipv4() == from.is_ipv4());
        *same.unwrap_or(&self.vip()[0])
    }

    /// `ssh` to any address, bound to `from`, up to and including the destination: the caller adds what to run.
    ///
    /// # Errors
    /// When `from` is no address of a client.
    pub fn ssh_command(&self, to: IpAddr, from: Option<IpAddr>) -> Result<Command> {
        let mut command = self.openssh("ssh", from)?;
        command.arg(format!("{}@{to}", Login::of(self.name()).user));
        Ok(command)
    }

    /// `ssh`, `scp` or `sftp` with the lab's identity, on the client that has the address `from`.
    ///
    /// # Errors
    /// When `from` is no address of a client.
    pub fn openssh(&self, program: &str, from: Option<IpAddr>) -> Result<Command> {
        let host = from.map_or(Ok(Host::Client), |address| self.client_with(address))?;
        let mut command = self.command(&host.to_string(), program)?;
        command.args(Login::of(self.name()).options());
        if let Some(from) = from {
            command.arg("-o").arg(format!("BindAddress={from}"));
        }
        Ok(command)
    }

    fn client_with(&self, address: IpAddr) -> Result<Host> {
        let has = |host: &Host| match address {
            IpAddr::V4(v4) => self.plan().addresses4(*host).contains(&v4),
            IpAddr::V6(v6) => self.plan().addresses6(*host).contains(&v6),
        };
        let found = [Host::Client, Host::Client2].into_iter().find(has);
        let own = self.plan().addresses4(Host::Client);
        found.with_context(|| {
            format!("{address} is no client's address; client has {} to {}", own[0], own[own.len() - 1])
        })
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

/// Keeps two commands from building or removing the same lab at once.
pub(crate) fn lock(name: &Name) -> Result<UnixListener> {
    take(name.as_str(), &format!("another command on lab {name} to end"))
}

/// Keeps a lab that belongs to a running program (a test, the demo) from being replaced by the `up` of another one.
fn own(name: &Name) -> Result<UnixListener> {
    take(&format!("{name}/owner"), &format!("the program to end whose lab {name} is (use another --name)"))
}

/// A lock is an abstract socket: it needs no file, and is gone with its process.
fn take(lock: &str, what: &str) -> Result<UnixListener> {
    let address = SocketAddr::from_abstract_name(format!("onevip-lab/{lock}"))?;
    let mut listener = None;
    wait_until(Duration::from_secs(60), what, || {
        listener = UnixListener::bind_addr(&address).ok();
        listener.is_some()
    })?;
    listener.context("a lock that was taken is there")
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
