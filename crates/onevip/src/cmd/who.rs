//! `onevip who`: whose sessions are where, since when, and who is there at all.

use super::order::not_understood;
use crate::cli::Context;
use crate::config::Config;
use crate::daemon::control::{Conversation, Request, Response};
use crate::daemon::plan::Plan;
use crate::daemon::run_dir::RunDir;
use crate::desk::sessions::{self, Session};
use crate::desk::show;
use std::io::Write;
use std::process::ExitCode;

/// Options of `onevip who`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only sessions of this user, or from this address
    #[arg(value_name = "USER|ADDRESS")]
    whom: Option<String>,
    /// As JSON: one object for each session, each on a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Shows the sessions of this node; without a daemon it looks itself.
pub fn run(ctx: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let control = RunDir::new(&ctx.run_dir).control();
    let all = match Conversation::begin(&control, Request::Who)? {
        Some((_, Response::Sessions(sessions))) => sessions,
        Some(_) => return Err(not_understood()),
        None => without_daemon(ctx)?,
    };
    let meant: Vec<Session> = match &args.whom {
        Some(whom) => all.into_iter().filter(|session| session.is_of(whom)).collect(),
        None => all,
    };
    let mut out = std::io::stdout();
    if ctx.json {
        for session in &meant {
            writeln!(out, "{}", serde_json::to_string(session)?)?;
        }
    } else {
        write!(out, "{}", show::table(&meant))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn without_daemon(ctx: &Context) -> anyhow::Result<Vec<Session>> {
    let config = Config::load(&ctx.config)?;
    let node = config.this_node(ctx.node.as_deref())?;
    sessions::look(&Plan::new(&config, node)?)
}
