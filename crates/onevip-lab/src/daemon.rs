//! The `onevip` daemon of a node: finding the program, starting, stopping, and taking its kernel part down.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use nix::sys::socket::{getsockopt, sockopt};

use crate::netns::Entrance;
use crate::plan::{Host, Name};
use crate::process::{check_interrupt, is_alive, run_ok, signal, spawn_background, tail, wait_until};

/// A daemon that is not ready by now will not become so.
const READY_WITHIN: Duration = Duration::from_secs(15);
/// A daemon that has not ended by now is killed.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// The program: `$ONEVIP`, else `onevip` beside the running program (or one directory up, where a test's build lies).
///
/// # Errors
/// When there is none.
pub fn program() -> Result<PathBuf> {
    if let Some(path) = env::var_os("ONEVIP") {
        let path = PathBuf::from(path);
        ensure!(path.is_file(), "$ONEVIP is {}, which is no file", path.display());
        return Ok(path);
    }
    let own = env::current_exe().context("cannot tell where this program lies")?;
    let places = own.ancestors().skip(1).take(2).map(|dir| dir.join("onevip"));
    places.into_iter().find(|p| p.is_file()).with_context(|| {
        format!(
            "there is no onevip beside {}: build it (`cargo build`), set $ONEVIP, or use --no-onevip",
            own.display()
        )
    })
}

/// Makes sure that the program is not older than its sources: `cargo test --test health` builds the tests and not the
/// daemon, and a test of yesterday's daemon says nothing. A program that was not built here has no sources to be older than.
///
/// # Panics
/// When it is older.
pub fn must_be_fresh() {
    let Ok(program) = program() else { return };
    let Ok(rule) = fs::read_to_string(program.with_extension("d")) else { return };
    let modified = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let built = modified(&program);
    let sources = rule.split_once(": ").map_or("", |(_, sources)| sources).split_whitespace();
    let newer = sources.into_iter().find(|source| modified(Path::new(source)) > built);
    assert_eq!(newer, None, "{} is older than this source: run `cargo build` first", program.display());
}

/// A command of the daemon's program with the arguments that make it speak of this node:
/// `onevip SUBCOMMAND --config … --node … --run-dir … --state-dir …`, on the node.
///
/// # Errors
/// When the program or the node is missing.
pub fn command(name: &Name, id: u8, subcommand: &str) -> Result<Command> {
    let mut command = Command::new(program()?);
    let (config, run_dir, state_dir) = (config_path(name, id), run_dir(name, id), state_dir(name, id));
    let node = format!("unix{id}");
    let settings = [
        OsStr::new("--config"),
        config.as_os_str(),
        OsStr::new("--node"),
        OsStr::new(&node),
        OsStr::new("--run-dir"),
        run_dir.as_os_str(),
        OsStr::new("--state-dir"),
        state_dir.as_os_str(),
    ];
    command
        .arg(subcommand)
        .args(settings)
        .env("ONEVIP_HOST_ROOT", host_root(name, id))
        .env("ONEVIP_CGROUP", own_cgroup(name, id))
        .envs(environment(name));
    Entrance::open(name, Host::Node(id))?.apply(&mut command);
    Ok(command)
}

/// The node's cgroup, never the machine's: what a daemon attaches must not reach processes outside the lab.
fn own_cgroup(name: &Name, id: u8) -> PathBuf {
    let group = crate::cgroup::path(name, Host::Node(id)).filter(|path| path.is_dir());
    group.unwrap_or_else(|| PathBuf::from("none"))
}

/// What the lab's daemons find in their environment besides that of whoever starts them; a file that is not there says
/// nothing.
fn environment(name: &Name) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(environment_path(name)).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Starts a node's daemon without waiting for it. Returns its process id.
///
/// # Errors
/// When it cannot be started.
pub fn start(name: &Name, id: u8) -> Result<i32> {
    let log = log_path(name, id);
    let pid = spawn_background(&mut command(name, id, "run")?, &log)?;
    std::fs::write(pid_path(name, id), format!("{pid}\n"))?;
    Ok(pid)
}

/// Waits until a started daemon accepts a connection on its control socket.
///
/// # Errors
/// When it ends or stays deaf: then with the end of its log.
pub fn wait_ready(name: &Name, id: u8, pid: i32) -> Result<()> {
    let (socket, log) = (run_dir(name, id).join("control.sock"), log_path(name, id));
    let mut ready = false;
    let waited = wait_until(READY_WITHIN, &format!("onevip on unix{id} to be ready"), || {
        ready = UnixStream::connect(&socket).is_ok_and(|stream| is_served_by(&stream, pid));
        ready || !is_alive(pid)
    });
    match waited {
        Ok(()) if ready => Ok(()),
        Ok(()) => {
            bail!("onevip on unix{id} ended; the last it said ({}):\n{}", log.display(), tail(&log, 15))
        }
        Err(error) if check_interrupt().is_err() => Err(error),
        Err(error) => {
            Err(error.context(format!("the last it said ({}):\n{}", log.display(), tail(&log, 15))))
        }
    }
}

/// Whether it is this process that listens. A killed daemon, whose threads are still ending, may have the socket open.
fn is_served_by(stream: &UnixStream, pid: i32) -> bool {
    getsockopt(stream, sockopt::PeerCredentials).is_ok_and(|peer| peer.pid() == pid)
}

/// Ends a daemon with SIGTERM, and by force if it does not obey.
pub fn stop(pid: i32) {
    signal(pid, Signal::SIGTERM);
    signal(pid, Signal::SIGCONT);
    if wait_until(ENDS_WITHIN, "the daemon's end", || !is_alive(pid)).is_err() {
        signal(pid, Signal::SIGKILL);
    }
}

/// Takes a node's kernel part down with `onevip teardown`.
///
/// # Errors
/// When it fails: then with what it said.
pub fn teardown(name: &Name, id: u8) -> Result<()> {
    run_ok(&mut command(name, id, "teardown")?, ENDS_WITHIN * 2).map(drop)
}

/// Where a node finds the cluster's configuration.
pub fn config_path(name: &Name, id: u8) -> PathBuf {
    name.node_dir(id).join("onevip.toml")
}

/// Where a lab keeps the environment of its daemons, a `NAME=VALUE` a line.
pub fn environment_path(name: &Name) -> PathBuf {
    name.dir().join("onevip.env")
}

/// A daemon's run directory.
pub fn run_dir(name: &Name, id: u8) -> PathBuf {
    name.node_dir(id).join("run")
}

/// What a daemon keeps over reboots.
pub fn state_dir(name: &Name, id: u8) -> PathBuf {
    name.dir().join(format!("state/unix{id}"))
}

/// What a daemon says.
pub fn log_path(name: &Name, id: u8) -> PathBuf {
    name.node_dir(id).join("onevip.log")
}

/// What a node takes for its root where it looks for `/run/nologin` and for room: the real one is shared by all.
pub fn host_root(name: &Name, id: u8) -> PathBuf {
    name.node_dir(id).join("root")
}

/// Where the lab keeps the daemon's process id.
pub fn pid_path(name: &Name, id: u8) -> PathBuf {
    name.node_dir(id).join("onevip.pid")
}

/// The process id in a file, if that process lives and belongs to the node.
pub fn pid_in(name: &Name, id: u8, file: &Path) -> Option<i32> {
    let pid = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
    let netns = std::fs::File::open(crate::netns::netns_path(name, Host::Node(id))).ok()?;
    (is_alive(pid) && crate::netns::is_in(pid, &netns)).then_some(pid)
}
