//! `onevip doctor`: everything that commonly goes wrong, with why it matters and what to do.

use crate::base::plan::Plan;
use crate::cmd::context::Context;
use crate::control::client;
use crate::doctor::facts::AskFacts;
use crate::doctor::{self, Diagnosis, Inputs};
use crate::report::status::AskStatus;
use crate::rpc::nodes;
use onevip_config::Config;
use onevip_host::run_dir::RunDir;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

/// Examines this host and, through its daemon, the cluster. The exit code is 0 when nothing was found, else 1.
pub fn run(ctx: &Context) -> anyhow::Result<ExitCode> {
    crate::base::paths::require_root()?;
    let config = Config::load(&ctx.config)?;
    let plan = Plan::to_look_at(&config, config.this_node(ctx.node.as_deref())?)?;
    let control = RunDir::new(&ctx.run_dir).control();
    let status = client::call(&control, &AskStatus {})?;
    // Nothing with fixed nodes, which do not speak to each other.
    let replies = match &status {
        Some(_) => nodes::ask(&control, &AskFacts {}, None).ok().flatten().unwrap_or_default(),
        None => Vec::new(),
    };
    let inputs = Inputs { config: &config, plan: &plan, status: status.as_ref(), replies: &replies };
    let findings = doctor::examine(&inputs);
    let mut out = std::io::stdout();
    if ctx.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&findings)?)?;
    } else {
        write!(out, "{}", page(&findings))?;
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn page(findings: &[Diagnosis]) -> String {
    if findings.is_empty() {
        return "everything is well\n".to_owned();
    }
    let mut page = String::new();
    for Diagnosis { check, finding, why, remedy } in findings {
        let _ = writeln!(
            page,
            "✗ {finding}  [{check}]\n    why it matters: {why}\n    what to do:     {remedy}\n"
        );
    }
    let count = findings.len();
    let _ = writeln!(page, "{count} {}", if count == 1 { "finding" } else { "findings" });
    page
}
