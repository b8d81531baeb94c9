//! One node of a running lab: its files, its processes, its daemon.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::Lab;
use crate::plan::{Host, LabPlan};
use crate::process::run_ok;
use crate::{cgroup, daemon};

/// One node of a running lab.
#[derive(Clone, Copy)]
pub struct LabNode<'a> {
    lab: &'a Lab,
    /// Its number, from 1.
    pub id: u8,
}

impl<'a> LabNode<'a> {
    pub(crate) fn of(lab: &'a Lab, id: u8) -> Self {
        Self { lab, id }
    }

    /// Its hostname, `unixK`.
    pub fn name(self) -> String {
        Host::Node(self.id).to_string()
    }

    /// Its own IPv4 address.
    pub fn address(self) -> IpAddr {
        self.lab.plan().addresses4(Host::Node(self.id))[0].into()
    }

    /// Its own MAC, in lower case.
    pub fn mac(self) -> String {
        LabPlan::mac(Host::Node(self.id))
    }

    /// Its directory.
    pub fn dir(self) -> PathBuf {
        self.lab.name().node_dir(self.id)
    }

    /// The daemon's run directory.
    pub fn run_dir(self) -> PathBuf {
        daemon::run_dir(self.lab.name(), self.id)
    }

    /// Its configuration file, the same for all nodes.
    pub fn config(self) -> PathBuf {
        daemon::config_path(self.lab.name(), self.id)
    }

    /// What its `sshd` has logged.
    pub fn sshd_log(self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir().join("sshd.log")).unwrap_or_default()).into_owned()
    }

    /// What its daemon has logged.
    pub fn onevip_log(self) -> String {
        let log = fs::read(daemon::log_path(self.lab.name(), self.id)).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The process id of its `sshd`, while that lives.
    pub fn sshd(self) -> Option<i32> {
        daemon::pid_in(self.lab.name(), self.id, &self.dir().join("sshd.pid"))
    }

    /// The process id of its daemon, while that lives.
    pub fn onevip(self) -> Option<i32> {
        daemon::pid_in(self.lab.name(), self.id, &daemon::pid_path(self.lab.name(), self.id))
    }

    /// Every process of the node.
    pub fn pids(self) -> Vec<i32> {
        cgroup::pids(self.lab.name(), Host::Node(self.id))
    }

    /// `onevip SUBCOMMAND --config … --node … --run-dir …` on the node, to be completed and run.
    ///
    /// # Errors
    /// When the program is missing or the node is powered off.
    pub fn onevip_command(self, subcommand: &str) -> Result<Command> {
        daemon::command(self.lab.name(), self.id, subcommand)
    }

    /// What `onevip status --json` says on the node.
    ///
    /// # Errors
    /// When it fails, takes longer than ten seconds, or says something else than JSON.
    pub fn onevip_status(self) -> Result<serde_json::Value> {
        let text = run_ok(self.onevip_command("status")?.arg("--json"), Duration::from_secs(10))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// How many buckets of the first VIP it claims, while its daemon runs and says so.
    pub fn claims(self) -> Option<u64> {
        let status = self.onevip_status().ok()?;
        status.get("daemon").filter(|daemon| !daemon.is_null())?;
        status.get("vips")?.get(0)?.get("claims")?.as_u64()
    }

    /// Starts the daemon (which must not run) and waits until it is ready. Returns its process id.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start_onevip(self) -> Result<i32> {
        let pid = daemon::start(self.lab.name(), self.id)?;
        daemon::wait_ready(self.lab.name(), self.id, pid)?;
        Ok(pid)
    }

    /// Ends the daemon with SIGTERM; its kernel part stays, as in an upgrade.
    pub fn stop_onevip(self) {
        if let Some(pid) = self.onevip() {
            daemon::stop(pid);
        }
    }
}
