//! `onevip status`: what this node does right now.

use crate::base::current::Current;
use crate::base::plan::Plan;
use crate::cmd::context::Context;
use crate::control::client;
use crate::report::collect::Collector;
use crate::report::status::{AskStatus, Status};
use onevip_config::Config;
use onevip_host::run_dir::RunDir;
use std::io::Write;
use std::process::ExitCode;

/// Asks the daemon; without one, looks at the kernel part itself.
pub fn run(ctx: &Context) -> anyhow::Result<ExitCode> {
    let run_dir = RunDir::new(&ctx.run_dir);
    let status = match client::call(&run_dir.control(), &AskStatus {})? {
        Some(status) => status,
        None => without_daemon(ctx, &run_dir)?,
    };
    let mut out = std::io::stdout();
    if ctx.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&status)?)?;
    } else {
        write!(out, "{}", status.page())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn without_daemon(ctx: &Context, run_dir: &RunDir) -> anyhow::Result<Status> {
    if let Some(words) = run_dir.waits_for() {
        anyhow::bail!(words);
    }
    let config = Config::load(&ctx.config)?;
    let node = config.this_node(ctx.node.as_deref())?;
    if !run_dir.pins().exists() {
        anyhow::bail!(
            "onevip does not run on this host and left nothing behind ({} does not exist); start it with `onevip run`",
            run_dir.pins().display()
        );
    }
    let plan = Plan::to_look_at(&config, node)?;
    let collector = Collector::without_daemon(&Current::new(config, plan), run_dir)?;
    collector.look().map(|(status, _)| status)
}
