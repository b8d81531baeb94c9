//! `onevip watch`: what happens in the cluster, as this node sees it happen.

use crate::cmd::context::Context;
use crate::control::client::Conversation;
use crate::events::bus::WatchEvents;
use crate::events::record::Record;
use anyhow::Context as _;
use onevip_host::run_dir::RunDir;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

/// Prints a line per event until the daemon ends.
pub fn run(ctx: &Context) -> anyhow::Result<ExitCode> {
    let run_dir = RunDir::new(&ctx.run_dir);
    let (mut records, ()) =
        Conversation::begin(&run_dir.control(), &WatchEvents {})?.with_context(|| run_dir.no_daemon())?;
    records.be_patient()?;
    let mut out = std::io::stdout();
    while let Some(record) = records.next_line::<Record>()? {
        let text = if ctx.json { serde_json::to_string(&record)? } else { for_people(&record) };
        // Whoever read it has gone: so do we.
        if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
            return Ok(ExitCode::SUCCESS);
        }
    }
    eprintln!("onevip: the daemon has ended");
    Ok(ExitCode::FAILURE)
}

fn for_people(record: &Record) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(record.time.max(0.0));
    let vip = if record.vip.is_empty() { String::new() } else { format!("{}: ", record.vip) };
    format!("{} {vip}{}", humantime::format_rfc3339_millis(time), record.text)
}
