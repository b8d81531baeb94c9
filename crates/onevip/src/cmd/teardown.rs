//! `onevip teardown`: removes every trace of onevip from this host.
//!
//! It needs no configuration: what was changed is in the run directory. So it also works when the file is broken or
//! gone, which is when somebody wants it.

use crate::cli::Context;
use crate::daemon::{require_root, run_dir::RunDir};
use crate::host::journal::Journal;
use onevip_bpf::Kernel;
use std::process::ExitCode;

/// Undoes what `run` did: first the address (so that no packet for it meets a host without a verdict), then the
/// cluster MAC and settings, then the programs.
pub fn run(ctx: &Context) -> anyhow::Result<ExitCode> {
    require_root()?;
    let run_dir = RunDir::new(&ctx.run_dir);
    if !run_dir.path().exists() {
        println!("nothing to remove: {} does not exist", run_dir.path().display());
        return Ok(ExitCode::SUCCESS);
    }
    let lock = run_dir.lock()?;
    // All is tried even when one step fails; the first error is told at the end.
    let undone = Journal::open(run_dir.path()).and_then(Journal::undo_all);
    let detached = Kernel::detach_and_unpin(&run_dir.pins());
    let unmounted = onevip_bpf::unmount_bpffs(&run_dir.pins());
    for change in undone? {
        println!("removed {change}");
    }
    detached?;
    unmounted?;
    println!("removed the kernel part");
    drop(lock);
    run_dir.remove()?;
    Ok(ExitCode::SUCCESS)
}
