//! `onevip doctor`: everything that commonly goes wrong, with why it matters and what to do.

use crate::cli::Context;
use crate::daemon::control::{Conversation, Request, Response};
use crate::daemon::plan::Plan;
use crate::desk::doctor::{self, Finding, Patient};
use crate::desk::question::{Question, Reply};
use crate::status::Status;
use onevip_config::Config;
use onevip_host::run_dir::RunDir;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// Examines this host and, through its daemon, the cluster. The exit code is 0 when nothing was found, else 1.
pub fn run(ctx: &Context) -> anyhow::Result<ExitCode> {
    crate::daemon::require_root()?;
    let config = Config::load(&ctx.config)?;
    let plan = Plan::to_look_at(&config, config.this_node(ctx.node.as_deref())?)?;
    let control = RunDir::new(&ctx.run_dir).control();
    let status = status(&control)?;
    let replies = if status.is_some() { replies(&control) } else { Vec::new() };
    let patient = Patient { config: &config, plan: &plan, status: status.as_ref(), replies: &replies };
    let findings = doctor::examine(&patient);
    let mut out = std::io::stdout();
    if ctx.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&findings)?)?;
    } else {
        write!(out, "{}", page(&findings))?;
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn status(control: &Path) -> anyhow::Result<Option<Status>> {
    match Conversation::begin(control, Request::Status)? {
        Some((_, Response::Status(status))) => Ok(Some(*status)),
        Some(_) => Err(super::order::not_understood()),
        None => Ok(None),
    }
}

/// What the nodes say of themselves; nothing with fixed nodes, which do not speak to each other.
fn replies(control: &Path) -> Vec<Reply> {
    match Conversation::begin(control, Request::Ask { question: Question::Facts, node: None }) {
        Ok(Some((_, Response::Replies(replies)))) => replies,
        _ => Vec::new(),
    }
}

fn page(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "everything is well\n".to_owned();
    }
    let mut page = String::new();
    for Finding { check, finding, why, remedy } in findings {
        let _ = writeln!(
            page,
            "✗ {finding}  [{check}]\n    why it matters: {why}\n    what to do:     {remedy}\n"
        );
    }
    let count = findings.len();
    let _ = writeln!(page, "{count} {}", if count == 1 { "finding" } else { "findings" });
    page
}
