//! `onevip watch`: what happens in the cluster, as this node sees it happen.

use crate::cli::Context;
use crate::daemon::control::{Conversation, Request};
use crate::daemon::news::Line;
use anyhow::Context as _;
use onevip_host::run_dir::RunDir;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

/// Prints a line per event until the daemon ends.
pub fn run(ctx: &Context) -> anyhow::Result<ExitCode> {
    let run_dir = RunDir::new(&ctx.run_dir);
    let (mut lines, _) =
        Conversation::begin(&run_dir.control(), Request::Watch)?.with_context(|| run_dir.no_daemon())?;
    lines.be_patient()?;
    let mut out = std::io::stdout();
    while let Some(line) = lines.next_line::<Line>()? {
        let text = if ctx.json { serde_json::to_string(&line)? } else { for_people(&line) };
        // Whoever read it has gone: so do we.
        if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
            return Ok(ExitCode::SUCCESS);
        }
    }
    eprintln!("onevip: the daemon has ended");
    Ok(ExitCode::FAILURE)
}

fn for_people(line: &Line) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(line.time.max(0.0));
    let vip = if line.vip.is_empty() { String::new() } else { format!("{}: ", line.vip) };
    format!("{} {vip}{}", humantime::format_rfc3339_millis(time), line.text)
}
