//! `onevip drain`, `undrain`, `rebalance`, `reload`: what is asked of this node's daemon.

use crate::cli::Context;
use crate::config::Config;
use crate::daemon::control::{Conversation, Request, Response};
use crate::daemon::run_dir::RunDir;
use crate::status::Status;
use anyhow::{Context as _, bail};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// How often `drain --wait` looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Options of `onevip drain`.
#[derive(clap::Args, Debug)]
pub struct DrainArgs {
    /// The node to drain: this one
    // With an id of its own: `--node` is an option of all commands.
    #[arg(id = "drained", value_name = "NODE")]
    pub node: Option<String>,
    /// Wait until the last session has ended
    #[arg(long)]
    pub wait: bool,
    /// Wait no longer than this (e.g. 10m); the exit code is then 1
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = humantime::parse_duration)]
    pub timeout: Option<Duration>,
}

/// Asks the daemon and says what it said.
pub fn run(ctx: &Context, request: Request) -> anyhow::Result<ExitCode> {
    println!("{}", ask(ctx, request)?);
    Ok(ExitCode::SUCCESS)
}

/// Drains this node, and waits if that is wanted.
pub fn drain(ctx: &Context, args: &DrainArgs) -> anyhow::Result<ExitCode> {
    if let Some(asked) = &args.node {
        refuse_others(ctx, asked)?;
    }
    println!("{}", ask(ctx, Request::Drain)?);
    if !args.wait {
        return Ok(ExitCode::SUCCESS);
    }
    let until = args.timeout.map(|timeout| Instant::now() + timeout);
    let left = wait_for_the_last(ctx, until)?;
    if left == 0 {
        println!("no session is left: this host may be stopped");
        return Ok(ExitCode::SUCCESS);
    }
    println!("time is over: {left} sessions are left; the node stays drained (`onevip undrain` ends that)");
    Ok(ExitCode::FAILURE)
}

/// A daemon obeys only its own host's root.
fn refuse_others(ctx: &Context, asked: &str) -> anyhow::Result<()> {
    let config = Config::load(&ctx.config)?;
    let this = config.this_node(ctx.node.as_deref())?;
    match config.node_by_name(asked) {
        None => bail!("there is no node {asked} in the configuration"),
        Some(node) if node.id == this.id => Ok(()),
        Some(node) => bail!(
            "this is {}; a node is drained on itself: `ssh {} onevip drain`",
            this.name,
            node.addresses.first().map_or_else(|| node.name.clone(), ToString::to_string)
        ),
    }
}

fn ask(ctx: &Context, request: Request) -> anyhow::Result<String> {
    match conversation(ctx, request)? {
        Response::Done(words) => Ok(words),
        _ => bail!("the daemon answered something else; is it of another version?"),
    }
}

fn conversation(ctx: &Context, request: Request) -> anyhow::Result<Response> {
    let control = RunDir::new(&ctx.run_dir).control();
    let (_, response) = Conversation::begin(&control, request)?
        .with_context(|| format!("no onevip daemon runs here ({} is not there)", control.display()))?;
    Ok(response)
}

/// Sessions left: 0, or however many there are when the time is over.
fn wait_for_the_last(ctx: &Context, until: Option<Instant>) -> anyhow::Result<usize> {
    let mut shown = None;
    loop {
        let Response::Status(status) = conversation(ctx, Request::Status)? else {
            bail!("the daemon answered something else; is it of another version?");
        };
        let (left, claims) = held(&status);
        if shown != Some(left) {
            show(left);
            shown = Some(left);
        }
        if left == 0 && claims == 0 {
            return Ok(0);
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            return Ok(left);
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn held(status: &Status) -> (usize, usize) {
    let sessions = status.vips.iter().map(|vip| vip.sessions).sum();
    (sessions, status.vips.iter().map(|vip| vip.claims).sum())
}

/// On a terminal one line that changes, else a line each time.
fn show(left: usize) {
    let mut out = std::io::stdout();
    let end = if out.is_terminal() { "\r" } else { "\n" };
    // Nothing can be done about an output that is gone.
    let _ = write!(out, "{left} sessions left    {end}");
    let _ = out.flush();
}
