//! `onevip undrain`, `rebalance`, `reload`: what is asked of this node's daemon, and how any command asks it.

use crate::cli::Context;
use crate::daemon::control::{Conversation, Request, Response};
use anyhow::Context as _;
use onevip_host::run_dir::RunDir;
use std::process::ExitCode;

/// Asks the daemon and says what it said.
pub fn run(ctx: &Context, request: Request) -> anyhow::Result<ExitCode> {
    println!("{}", ask(ctx, request)?);
    Ok(ExitCode::SUCCESS)
}

/// Asks for something that is done, or not.
pub fn ask(ctx: &Context, request: Request) -> anyhow::Result<String> {
    match conversation(ctx, request)? {
        Response::Done(words) => Ok(words),
        _ => Err(not_understood()),
    }
}

/// Asks the daemon, which must be there.
pub fn conversation(ctx: &Context, request: Request) -> anyhow::Result<Response> {
    let run_dir = RunDir::new(&ctx.run_dir);
    let (_, response) =
        Conversation::begin(&run_dir.control(), request)?.with_context(|| run_dir.no_daemon())?;
    Ok(response)
}

/// The daemon answered another question than was asked.
pub fn not_understood() -> anyhow::Error {
    anyhow::anyhow!("the daemon answered something else; is it of another version?")
}
