//! Hooks: commands that run when something happens.
//!
//! One at a time and in order, on a thread that merely watches as `onevip watch` does; so no hook can hold up the log,
//! let alone a beat. One that takes too long is killed with all its children, and when too much happens meanwhile the
//! rest is left out, and the log says so.

use crate::base::supervisor::background;
use crate::events::bus::Bus;
use crate::events::record::Record;
use anyhow::{Context, bail};
use onevip_config::Hook;
use onevip_host::bounded::{self, Bounds, Capture};
use onevip_host::programs;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// How long to wait before watching again, after too much has happened.
const REST: Duration = Duration::from_secs(1);

/// Begins to watch, if there are hooks.
///
/// # Errors
/// No thread can be started, or too many watch already.
pub fn start(hooks: &[Hook], bus: &Bus) -> anyhow::Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let (hooks, bus) = (hooks.to_vec(), bus.clone());
    let mut records = bus.subscribe().context("too many are watching")?;
    background("hooks", move || {
        loop {
            records.iter().for_each(|record| run_all(&hooks, &record));
            tracing::warn!("more has happened than hooks could be run for: some were left out");
            thread::sleep(REST);
            let Some(again) = bus.subscribe() else { return };
            records = again;
        }
    })
}

fn run_all(hooks: &[Hook], record: &Record) {
    for hook in hooks.iter().filter(|hook| hook.on.contains(&record.event)) {
        if let Err(why) = run(hook, record) {
            tracing::warn!("hook {:?} for {}: {why:#}", hook.command, record.event);
        }
    }
}

/// Runs a hook to its end, or to the end of its time.
fn run(hook: &Hook, record: &Record) -> anyhow::Result<()> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &hook.command]);
    command
        .env("ONEVIP_EVENT", &record.event)
        .env("ONEVIP_VIP", &record.vip)
        .env("ONEVIP_TEXT", &record.text)
        .env("ONEVIP_NODE", record.node.as_deref().unwrap_or_default())
        .env("ONEVIP_TIME", record.time.to_string());
    let time = hook.timeout;
    let bounds = Bounds { time, bytes: 0, ends_when_full: false, spares_rest: true, ends: &|| false };
    let ran = bounded::run(&mut command, Capture::Nothing, &bounds).context("cannot start /bin/sh")?;
    programs::remember_undead(ran.undead);
    match ran.status {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("it ended with {status}"),
        None => bail!("killed after {:?}", hook.timeout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{SigSet, Signal};
    use std::time::Instant;

    fn hook(command: &str, timeout: Duration) -> Hook {
        Hook { on: vec!["node-out".into()], command: command.into(), timeout }
    }

    fn record() -> Record {
        let text = "unix2 is out: 'nothing'; $(arrives)".to_owned();
        let (vip, event, node) = ("login".into(), "node-out".into(), Some("unix2".into()));
        Record { time: 1.5, vip, event, node, check: None, text }
    }

    #[test]
    fn a_hook_is_told_what_happened_word_for_word() {
        let path = std::env::temp_dir().join(format!("onevip-hook-{}", std::process::id()));
        let command =
            format!("echo \"$ONEVIP_EVENT $ONEVIP_VIP $ONEVIP_NODE $ONEVIP_TEXT\" > {}", path.display());
        run(&hook(&command, Duration::from_secs(20)), &record()).unwrap();
        let told = std::fs::read_to_string(&path).unwrap();
        assert_eq!(told, "node-out login unix2 unix2 is out: 'nothing'; $(arrives)\n");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_hook_that_hangs_is_killed_with_its_children_and_one_that_fails_is_named() {
        let begun = Instant::now();
        let why =
            run(&hook("sleep 60 & wait", Duration::from_millis(50)), &record()).unwrap_err().to_string();
        assert!(why.contains("killed after 50ms") && begun.elapsed() < Duration::from_secs(20), "{why}");
        let why = run(&hook("exit 3", Duration::from_secs(20)), &record()).unwrap_err().to_string();
        assert!(why.contains("exit status: 3"), "{why}");
    }

    #[test]
    fn a_hook_can_be_ended_by_signals() {
        let blocked = SigSet::from_iter([Signal::SIGTERM]);
        let ended = thread::spawn(move || {
            blocked.thread_block().unwrap();
            run(&hook("kill -TERM $$; sleep 60", Duration::from_secs(30)), &record()).unwrap_err().to_string()
        });
        assert!(ended.join().unwrap().contains("signal: 15"));
    }
}
