//! `onevip teardown`: removes every trace of onevip from this host.
//!
//! It needs no configuration: what was changed is in the run directory. So it also works when the file is broken or
//! gone, which is when somebody wants it.

use crate::base::paths::require_root;
use crate::cmd::context::Context;
use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal};
use onevip_bpf::Kernel;
use onevip_host::journal::Journal;
use onevip_host::reset;
use onevip_host::run_dir::RunDir;
use std::io::Write as _;
use std::process::ExitCode;

/// Undoes what `run` did: resets the sessions, then takes away the address (so that no packet for it meets a host without
/// a verdict), then the cluster MAC and settings, then the programs.
pub fn run(ctx: &Context) -> anyhow::Result<ExitCode> {
    require_root()?;
    let run_dir = RunDir::new(&ctx.run_dir);
    if !run_dir.path().exists() {
        say(&format!("nothing to remove: {} does not exist", run_dir.path().display()));
        return Ok(ExitCode::SUCCESS);
    }
    let lock = run_dir.lock()?;
    // Whoever calls this in a session to the VIP loses their terminal on the way; the rest must be done all the same.
    SigSet::from_iter([Signal::SIGHUP]).thread_block().context("cannot block the hangup signal")?;
    // All is tried even when one step fails; the first error is told at the end.
    let undone = Journal::open(run_dir.path()).and_then(|journal| {
        reset::sessions_of(&journal.addresses(), say);
        journal.undo_all()
    });
    let detached = Kernel::detach_and_unpin(&run_dir.pins());
    let unmounted = onevip_bpf::unmount_bpffs(&run_dir.pins());
    for change in undone? {
        say(&format!("removed {change}"));
    }
    detached?;
    unmounted?;
    say("removed the kernel part");
    drop(lock);
    run_dir.remove()?;
    Ok(ExitCode::SUCCESS)
}

/// A line for whoever still listens.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
