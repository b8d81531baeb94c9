//! `onevip drain`: send new connections elsewhere and, if wanted, see the sessions off: wait, tell people, end the rest.

use super::order::{ask, conversation, not_understood};
use crate::cli::Context;
use crate::config::Config;
use crate::daemon::control::{Request, Response};
use crate::daemon::plan::Plan;
use crate::desk::sessions::{self, Session};
use crate::desk::{ending, show, terminals};
use anyhow::{bail, ensure};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// How often the sessions are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The exit code when the time is over and sessions are left.
pub const EXIT_LEFT: u8 = 3;

/// Options of `onevip drain`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The node to drain: this one
    // With an id of its own: `--node` is an option of all commands.
    #[arg(id = "drained", value_name = "NODE")]
    node: Option<String>,
    /// Wait until the last session has ended
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this (e.g. 10m), then list what is left; the exit code is then 3
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// Write this to the terminals of those who are logged in
    #[arg(long, value_name = "TEXT")]
    notify: Option<String>,
    /// End the sessions that are left after this time; their users are told so at once
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = humantime::parse_duration)]
    kill_after: Option<Duration>,
    /// Drain even if no other node would serve the clients
    #[arg(long)]
    force: bool,
}

/// Drains this node, and sees its sessions off as far as that is wanted.
pub fn run(ctx: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(asked) = &args.node {
        refuse_others(ctx, asked)?;
    }
    let tells = args.notify.is_some() || args.kill_after.is_some();
    ensure!(
        !tells || terminals::may_tell(),
        "--notify and --kill-after need root: they reach into other people's sessions"
    );
    // A mistake in the file must not keep anybody from a plain drain.
    let plan = if tells { Some(plan(ctx)?) } else { plan(ctx).ok() };
    println!("{}", ask(ctx, Request::Drain { force: args.force })?);
    if let Some(plan) = &plan {
        tell(plan, args)?;
    }
    if !args.wait {
        return Ok(ExitCode::SUCCESS);
    }
    let left = see_off(ctx, plan.as_ref(), args)?;
    if left.is_empty() {
        println!("no session is left: this host may be stopped");
        return Ok(ExitCode::SUCCESS);
    }
    println!("time is over, the node stays drained (`onevip undrain` ends that); {}:", show::left(&left));
    print!("{}", show::table(&left));
    Ok(ExitCode::from(EXIT_LEFT))
}

fn plan(ctx: &Context) -> anyhow::Result<Plan> {
    let config = Config::load(&ctx.config)?;
    Plan::new(&config, config.this_node(ctx.node.as_deref())?)
}

/// A daemon obeys only its own host's root.
fn refuse_others(ctx: &Context, asked: &str) -> anyhow::Result<()> {
    let config = Config::load(&ctx.config)?;
    let this = &config.this_node(ctx.node.as_deref())?.name;
    match config.node_by_name(asked) {
        None => bail!("there is no node {asked} in the configuration"),
        Some(node) if node.name == *this => Ok(()),
        Some(node) => bail!(
            "this is {this}; a node is drained on itself: `ssh {} onevip drain`",
            node.addresses.first().map_or_else(|| node.name.clone(), ToString::to_string)
        ),
    }
}

/// Tells those who are logged in what they have to know.
fn tell(plan: &Plan, args: &Args) -> anyhow::Result<()> {
    let deadline = args.kill_after.map(|after| {
        let after = show::span(after.as_secs());
        format!("Your session ends in {after}: log in again, and you meet another host.")
    });
    let words: Vec<&str> = args.notify.as_deref().into_iter().chain(deadline.as_deref()).collect();
    if words.is_empty() {
        return Ok(());
    }
    let told = terminals::tell(&sessions::look(plan)?, &plan.node.name, &words.join("\n"));
    println!("told {told} terminals");
    Ok(())
}

/// Waits for the sessions to end; returns those that are left when the time is over.
fn see_off(ctx: &Context, plan: Option<&Plan>, args: &Args) -> anyhow::Result<Vec<Session>> {
    let begun = Instant::now();
    let all = plan.map(sessions::look).transpose()?.unwrap_or_default();
    let own = sessions::own(&all).map(|own| (own.address, own.port));
    if own.is_some() {
        println!("your own session is one of them: it is neither counted nor ended");
    }
    let others = |mut sessions: Vec<Session>| {
        sessions.retain(|session| Some((session.address, session.port)) != own);
        sessions
    };
    let mut kill_at = args.kill_after.map(|after| begun + after);
    let mut shown: Option<String> = None;
    loop {
        let (left, claims) = held(ctx)?;
        let left = others(left);
        if shown.is_none() {
            print!("{}", show::table(&left));
        }
        let line = show::left(&left);
        if shown.as_ref() != Some(&line) {
            progress(&line);
            shown = Some(line);
        }
        if left.is_empty() && claims == 0 {
            return Ok(left);
        }
        if args.timeout.is_some_and(|timeout| begun.elapsed() >= timeout) {
            return Ok(left);
        }
        if let Some(plan) = plan.filter(|_| kill_at.is_some_and(|at| Instant::now() >= at)) {
            kill_at = None;
            end_the_rest(&others(sessions::look(plan)?));
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn held(ctx: &Context) -> anyhow::Result<(Vec<Session>, usize)> {
    let Response::Sessions(left) = conversation(ctx, Request::Who)? else { return Err(not_understood()) };
    let Response::Status(status) = conversation(ctx, Request::Status)? else { return Err(not_understood()) };
    Ok((left, status.vips.iter().map(|vip| vip.claims).sum()))
}

fn end_the_rest(rest: &[Session]) {
    let ended = ending::end(rest);
    println!("ended {ended} of {} sessions", rest.len());
    if let Some(other) = rest.iter().find(|session| !session.is_login()) {
        let program = other.program.as_deref().unwrap_or("no process");
        println!("a session of {program} is not ended, only those of sshd and mosh-server are");
    }
}

/// On a terminal one line that changes, else a line each time.
fn progress(line: &str) {
    let mut out = std::io::stdout();
    // Nothing can be done about an output that is gone.
    let _ = if out.is_terminal() { write!(out, "\r\x1b[K{line}  ") } else { writeln!(out, "{line}") };
    let _ = out.flush();
}
