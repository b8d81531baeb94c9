//! Where the daemon's files are, and who may run it.

use anyhow::bail;
use onevip_host::run_dir::RunDir;
use std::path::PathBuf;

/// Where the daemon's files are.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The configuration file.
    pub config: PathBuf,
    /// What need not survive a reboot.
    pub run_dir: RunDir,
    /// What must: the incarnation, and whose kernels answer.
    pub state_dir: PathBuf,
}

/// Refuses to go on without root.
///
/// # Errors
/// The effective user is not root.
pub fn require_root() -> anyhow::Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    bail!("this needs root (it attaches programs to the network and changes addresses); run it with sudo")
}
