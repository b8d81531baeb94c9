//! The lab's own services, which nodes run beside `sshd`: as processes of `onevip-lab` itself, one a node.

pub mod bulk;
pub mod echo;
mod listen;

use std::env;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::netns::{self, Entrance};
use crate::plan::{Host, Name};
use crate::process::{is_alive, spawn_background, tail, wait_until};

/// `onevip-lab` itself: the running program, or, for a test, the one beside it.
///
/// # Errors
/// When there is none.
pub(crate) fn program() -> Result<PathBuf> {
    let own = env::current_exe().context("cannot tell where this program lies")?;
    if own.file_name() == Some("onevip-lab".as_ref()) {
        return Ok(own);
    }
    let beside = own.ancestors().skip(1).take(2).map(|dir: &Path| dir.join("onevip-lab"));
    beside
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| format!("there is no onevip-lab beside {}: build it (`cargo build`)", own.display()))
}

/// Starts `onevip-lab SERVICE …` on a node and waits until it listens on a port.
fn start(name: &Name, id: u8, words: &[&str], port: u16) -> Result<()> {
    let service = words[0];
    let log = name.node_dir(id).join(format!("{service}.log"));
    let mut command = Command::new(program()?);
    command.args(words);
    Entrance::open(name, Host::Node(id))?.apply(&mut command);
    let pid = spawn_background(&mut command, &log)?;
    let listens = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
    wait_until(Duration::from_secs(10), &format!("the {service} service on unix{id} to listen"), || {
        !is_alive(pid) || netns::inside(name, Host::Node(id), listens).unwrap_or(false)
    })?;
    ensure!(is_alive(pid), "the {service} service on unix{id} ended:\n{}", tail(&log, 5));
    Ok(())
}
