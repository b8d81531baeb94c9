//! The daemon: puts a node's VIPs in place and keeps them there. This, with [features], is the list of what runs.
//!
//! Threads, each with one business: the *beat loop* decides and never blocks; the *reconciler* keeps addresses, MACs and
//! programs in place and scans sockets; the *neighbour probe* asks whether silent kernels live; *rpc* carries questions
//! to other nodes and answers theirs; *events* writes the log; and what the [features] need. The main thread sets
//! everything up (after [waiting] for what is late), waits for a signal and stops the others in the opposite order. What
//! must survive the daemon (programs, maps, address, cluster MAC) stays when it ends.

mod features;
mod shared;
mod waiting;

use crate::base::current::Current;
use crate::base::interfaces::Interfaces;
use crate::base::panics;
use crate::base::paths::{Paths, require_root};
use crate::base::supervisor::Supervisor;
use crate::control::reload::Reloader;
use crate::engine::scan::Scanned;
use crate::engine::set_up::set_up;
use crate::engine::start::LivingStart;
use crate::report::systemd;
use anyhow::Context;
use features::Features;
use nix::sys::signal::{SigSet, Signal};
use onevip_config::Membership;
use onevip_host::frames::FrameSender;
use onevip_host::journal::Journal;
use onevip_host::{descriptors, realtime};
use shared::{Ends, Shared};
use waiting::Ready;

/// Serves the VIPs of this host, the node of that name or else the one of the hostname, until a signal ends it. What is late
/// is waited for.
///
/// # Errors
/// Anything else that keeps this node from serving; everything that was set up before stays, `teardown` removes it.
pub fn run(name: Option<&str>, paths: &Paths) -> anyhow::Result<()> {
    require_root()?;
    panics::end_the_process();
    if let Err(error) = descriptors::raise() {
        tracing::warn!("cannot raise the number of descriptors: {error}");
    }
    paths.run_dir.create()?;
    let _lock = paths.run_dir.lock()?;
    // Blocked before any thread starts, so that all of them leave signals to the main thread.
    let signals = blocked_signals()?;
    // Rights do not come with time: what takes them fails before anything is waited for.
    let sender = FrameSender::open().context("cannot open a packet socket")?;
    let Some(Ready { config, plan }) = waiting::until_ready(name, paths, &signals)? else {
        return Ok(());
    };
    let living = match config.membership {
        Membership::Static => None,
        Membership::Living => Some(LivingStart::take(&config, &paths.state_dir)?),
    };
    let memory_locked = realtime::lock_memory().inspect_err(|error| {
        tracing::warn!("cannot lock memory ({error}): beats may be late when this host swaps");
    });
    let mut journal = Journal::open(paths.run_dir.path())?;
    let kernel = set_up(&plan, &paths.run_dir, &mut journal)?;

    let mut supervisor = Supervisor::default();
    let interfaces = Interfaces::of(&plan, living.is_some())?;
    let (shared, ends) = Shared::new(Current::new(config, plan), interfaces)?;
    let scanned = Scanned::of(&shared.current.get().plan);
    let features = Features::new(&shared, &kernel, &scanned, paths, memory_locked.is_ok())?;
    let Ends { commands, probe, rpc, notices } = ends;
    let beat_loop = shared.beat_loop(&kernel, &scanned, living.as_ref(), sender, commands)?;
    shared.start_probe(&mut supervisor, probe)?;
    features.start_limits(&mut supervisor, kernel.refusals()?)?;
    features.start_rpc(&mut supervisor, living.as_ref(), rpc)?;
    shared.start_reconciler(&mut supervisor, kernel, journal, scanned, living.is_some())?;
    shared.start_log(&mut supervisor, notices, paths)?;
    shared.start_beats(&mut supervisor, beat_loop)?;
    let reloader = features.start(&mut supervisor)?;
    systemd::say("READY=1\nSTATUS=");
    tracing::info!("{}", shared.serves());
    wait_for_the_end(&signals, &reloader)?;
    systemd::say("STOPPING=1");
    supervisor.stop()?;
    std::fs::remove_file(paths.run_dir.control()).context("cannot remove the control socket")
}

fn blocked_signals() -> anyhow::Result<SigSet> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    signals.thread_block().context("cannot block signals")?;
    Ok(signals)
}

/// Returns when the daemon is to end; a hangup means "read the configuration again".
fn wait_for_the_end(signals: &SigSet, reloader: &Reloader) -> anyhow::Result<()> {
    loop {
        let signal = signals.wait().context("cannot wait for signals")?;
        if signal != Signal::SIGHUP {
            tracing::info!(
                "{signal}: ending; sessions stay with the kernel part, `onevip teardown` removes it"
            );
            return Ok(());
        }
        match reloader.reload() {
            Ok(changes) => tracing::info!("reloaded: {changes}"),
            Err(error) => tracing::error!("not reloaded, nothing changed: {error:#}"),
        }
    }
}
