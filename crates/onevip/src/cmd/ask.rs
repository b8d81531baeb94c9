//! `onevip undrain`, `rebalance`, `reload`: what is asked of this node's daemon, and how any command asks it.

use super::context::Context;
use crate::control::client;
use crate::control::protocol::Request;
use anyhow::Context as _;
use onevip_host::run_dir::RunDir;
use std::process::ExitCode;

/// Asks the daemon and says what it said.
pub fn run<R: Request<Reply = String>>(ctx: &Context, request: &R) -> anyhow::Result<ExitCode> {
    println!("{}", ask(ctx, request)?);
    Ok(ExitCode::SUCCESS)
}

/// Asks the daemon, which must be there.
pub fn ask<R: Request>(ctx: &Context, request: &R) -> anyhow::Result<R::Reply> {
    let run_dir = RunDir::new(&ctx.run_dir);
    client::call(&run_dir.control(), request)?.with_context(|| run_dir.no_daemon())
}
