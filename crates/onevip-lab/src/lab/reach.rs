//! Reaching the hosts of a lab: commands that run there, closures inside their namespaces, logins as users make them.

use std::net::IpAddr;
use std::process::{Child, Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Lab;
use crate::netns::{self, Entrance};
use crate::plan::Host;
use crate::process::run;
use crate::ssh::Login;

/// Longest that [`Lab::exec`] and [`Lab::ssh`] wait for a command to end.
pub const COMMAND_WITHIN: Duration = Duration::from_secs(60);

impl Lab {
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
