//! A rolling reboot of all nodes by the script that administrators use (`packaging/rolling-reboot`), under load.

use std::fmt;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::lab::{Lab, Options};
use crate::load::short_sessions::{ShortSessionTotals, ShortSessions};
use crate::plan::Host;
use crate::process::{run_logged, tail};
use crate::{daemon, service};

/// The script, which this program carries with it.
const SCRIPT: &str = include_str!("../../../../packaging/rolling-reboot");
/// Twenty new sessions a second.
const EVERY: Duration = Duration::from_millis(50);
/// How long each of them stays.
const STAY: Duration = Duration::from_secs(3);
/// A node that takes longer than this is not coming back.
const NODE_WITHIN: Duration = Duration::from_secs(90);

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct RollingReport {
    /// Number of nodes, all of which were rebooted.
    pub nodes: u8,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// What the users saw.
    pub users: ShortSessionTotals,
}

/// Reboots every node of a lab, one after the other.
///
/// # Errors
/// When the lab cannot be built, or the script fails: then with what it said.
pub fn run(options: Options) -> Result<RollingReport> {
    let lab = Lab::up(options.echo())?;
    let sessions = ShortSessions::start(&lab, EVERY, STAY)?;
    let begun = Instant::now();
    reboot_all(&lab)?;
    let seconds = begun.elapsed().as_secs_f64();
    let users = sessions.totals()?;
    let nodes = lab.plan().nodes;
    lab.down()?;
    Ok(RollingReport { nodes, seconds, users })
}

fn reboot_all(lab: &Lab) -> Result<()> {
    let dir = lab.dir();
    let script = write_program(&dir.join("rolling-reboot"), SCRIPT)?;
    let (on, power) =
        (write_program(&dir.join("on"), &on(lab)?)?, write_program(&dir.join("power"), &power(lab)?)?);
    let log = dir.join("rolling-reboot.log");
    let mut script = Command::new(script);
    script
        .args(lab.plan().node_ids().map(|id| Host::Node(id).to_string()))
        .envs([("ON", &on), ("POWER", &power)])
        .env("TIMEOUT", "60s")
        .env("BACK", "60");
    let within = NODE_WITHIN * u32::from(lab.plan().nodes);
    let status = run_logged(&mut script, &log, within).with_context(|| tail(&log, 30))?;
    ensure!(status.success(), "the script ended with {status}:\n{}", tail(&log, 30));
    Ok(())
}

fn write_program(path: &Path, text: &str) -> Result<PathBuf> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(path, Permissions::from_mode(0o700))?;
    Ok(path.to_owned())
}

/// What stands for `ssh` here: `onevip` of a node with that node's files.
fn on(lab: &Lab) -> Result<String> {
    let (program, lab_program, name) = (daemon::program()?, service::program()?, lab.name());
    let dir = lab.dir().join("nodes");
    Ok(format!(
        "#!/bin/sh\nnode=$1; command=$3; shift 3\nexec {} exec --name {name} \"$node\" -- {} \"$command\" \
         --config {dir}/\"$node\"/onevip.toml --node \"$node\" --run-dir {dir}/\"$node\"/run \"$@\"\n",
        lab_program.display(),
        program.display(),
        dir = dir.display(),
    ))
}

/// What stands for the power switch.
fn power(lab: &Lab) -> Result<String> {
    let (program, name) = (service::program()?, lab.name());
    let program = program.display();
    Ok(format!(
        "#!/bin/sh\ncase $1 in\n  off) exec {program} fault --name {name} power-off \"$2\" ;;\n  \
         on) exec {program} heal --name {name} \"$2\" ;;\nesac\n"
    ))
}

impl RollingReport {
    /// What must not be.
    pub fn violations(&self) -> Vec<String> {
        let failed = self.users.failed.iter().map(|what| format!("rolling-reboot: no session: {what}"));
        failed.chain(self.users.cut.iter().map(|what| format!("rolling-reboot: cut: {what}"))).collect()
    }
}

impl fmt::Display for RollingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let users = &self.users;
        write!(
            f,
            "rolling reboot of {} nodes in {:.0} s under {:.0} new sessions/s: {} sessions, {} failed to begin, {} cut; \
             longest wait for a greeting {:.2} s",
            self.nodes,
            self.seconds,
            1.0 / EVERY.as_secs_f64(),
            users.begun,
            users.failed.len(),
            users.cut.len(),
            users.longest_wait
        )
    }
}
