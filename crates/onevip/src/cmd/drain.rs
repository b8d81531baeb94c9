//! `onevip drain`: send new connections elsewhere and, if wanted, see the sessions off: wait, tell people, end the rest.

use super::ask::{self, ask};
use crate::base::plan::Plan;
use crate::cmd::context::Context;
use crate::engine::orders::{Drain, Undrain};
use crate::engine::remote_drain::{OrderNode, RemoteOrder};
use crate::report::status::AskStatus;
use crate::rpc::nodes;
use crate::sessions::handlers::{AskWho, Who};
use crate::sessions::list::{self, Session};
use crate::sessions::{ending, show, terminals};
use anyhow::{Context as _, bail, ensure};
use onevip_config::Config;
use onevip_host::run_dir::RunDir;
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
    /// The node to drain, if it is not this one: as root, and unless its `remote_drain` is "refuse"
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
    /// Drain it at this VIP only, and wait for the sessions of that VIP
    #[arg(long, value_name = "NAME")]
    vip: Option<String>,
    /// Drain even if no other node would serve the clients
    #[arg(long)]
    force: bool,
}

/// Drains this node, and sees its sessions off as far as that is wanted.
pub fn run(ctx: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(other) = args.node.as_deref().map(|asked| other(ctx, asked)).transpose()?.flatten() {
        return run_remote(ctx, args, &other);
    }
    let tells = args.notify.is_some() || args.kill_after.is_some();
    ensure!(
        !tells || terminals::may_tell(),
        "--notify and --kill-after need root: they reach into other people's sessions"
    );
    // A mistake in the file must not keep anybody from a plain drain.
    let plan = if tells { Some(plan(ctx)?) } else { plan(ctx).ok() };
    println!("{}", ask(ctx, &Drain { force: args.force, vip: args.vip.clone() })?);
    if let Some(plan) = &plan {
        tell(plan, args)?;
    }
    if !args.wait {
        return Ok(ExitCode::SUCCESS);
    }
    let left = see_off(ctx, plan.as_ref(), args)?;
    Ok(verdict(&left, args.vip.as_deref(), "the node stays drained (`onevip undrain` ends that)"))
}

/// Says how it ended.
fn verdict(left: &[Session], vip: Option<&str>, stays: &str) -> ExitCode {
    if left.is_empty() {
        match vip {
            None => println!("no session is left: this host may be stopped"),
            Some(vip) => println!("no session of {vip} is left"),
        }
        return ExitCode::SUCCESS;
    }
    println!("time is over, {stays}; {}:", show::left(left));
    print!("{}", show::table(left));
    ExitCode::from(EXIT_LEFT)
}

fn plan(ctx: &Context) -> anyhow::Result<Plan> {
    let config = Config::load(&ctx.config)?;
    Plan::to_look_at(&config, config.this_node(ctx.node.as_deref())?)
}

/// The name of a node, if it is another one than this.
fn other(ctx: &Context, asked: &str) -> anyhow::Result<Option<String>> {
    let config = Config::load(&ctx.config)?;
    let this = config.this_node(ctx.node.as_deref())?.id;
    let Some(node) = config.node_by_name(asked) else {
        bail!("there is no node {asked} in the configuration")
    };
    Ok((node.id != this).then(|| node.name.clone()))
}

/// Ends a drain, here or on another node.
pub fn undrain(ctx: &Context, node: Option<&str>, vip: Option<String>) -> anyhow::Result<ExitCode> {
    match node.map(|asked| other(ctx, asked)).transpose()?.flatten() {
        Some(node) => {
            ensure!(vip.is_none(), "--vip is for the node itself: run this on {node}");
            ask::run(ctx, &OrderNode { node, order: RemoteOrder::Undrain })
        }
        None => ask::run(ctx, &Undrain { vip }),
    }
}

/// Drains another node, through its daemon.
fn run_remote(ctx: &Context, args: &Args, node: &str) -> anyhow::Result<ExitCode> {
    ensure!(
        args.notify.is_none() && args.kill_after.is_none(),
        "--notify and --kill-after reach into sessions, which only {node} itself can: run this there"
    );
    ensure!(args.vip.is_none(), "--vip is for the node itself: run this on {node}");
    let order = RemoteOrder::Drain { force: args.force };
    println!("{}", ask(ctx, &OrderNode { node: node.to_owned(), order })?);
    if !args.wait {
        return Ok(ExitCode::SUCCESS);
    }
    let left = wait_for(args.timeout, || held_by(ctx, node), |_| ())?;
    Ok(verdict(&left, None, &format!("{node} stays drained (`onevip undrain {node}` ends that)")))
}

/// The sessions that another node holds, and the buckets that it claims.
fn held_by(ctx: &Context, node: &str) -> anyhow::Result<(Vec<Session>, usize)> {
    let run_dir = RunDir::new(&ctx.run_dir);
    let replies = nodes::ask(&run_dir.control(), &AskWho { whom: None }, Some(node.to_owned()))?;
    let mut replies = replies.with_context(|| run_dir.no_daemon())?.into_iter();
    let left = match replies.find(|reply| reply.node == node).map(|reply| reply.answer) {
        Some(Ok(left)) => left,
        Some(Err(why)) => bail!("{node} does not say what it holds: {why}"),
        None => bail!("{node} was not asked: it serves no VIP of this node"),
    };
    let status = ask(ctx, &AskStatus {})?;
    let known = status.vips.iter().flat_map(|vip| &vip.nodes).filter(|known| known.name == node);
    Ok((left, known.filter_map(|known| Some(known.peer.as_ref()?.claims)).sum()))
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
    let told = terminals::tell(&of_vip(list::look(plan)?, args), &plan.node.name, &words.join("\n"));
    println!("told {told} terminals");
    Ok(())
}

/// Those that the drain is about.
fn of_vip(mut sessions: Vec<Session>, args: &Args) -> Vec<Session> {
    sessions.retain(|session| args.vip.as_ref().is_none_or(|vip| session.vip == *vip));
    sessions
}

/// Waits for the sessions to end; returns those that are left when the time is over.
fn see_off(ctx: &Context, plan: Option<&Plan>, args: &Args) -> anyhow::Result<Vec<Session>> {
    let begun = Instant::now();
    let all = of_vip(plan.map(list::look).transpose()?.unwrap_or_default(), args);
    let own = list::own(&all).map(|own| (own.address, own.port));
    if own.is_some() {
        println!("your own session is one of them: it is neither counted nor ended");
    }
    let others = |mut sessions: Vec<Session>| {
        sessions.retain(|session| Some((session.address, session.port)) != own);
        sessions
    };
    let mut kill_at = args.kill_after.map(|after| begun + after);
    let look = || held(ctx, args).map(|(left, claims)| (others(left), claims));
    wait_for(args.timeout, look, |_| {
        if let Some(plan) = plan.filter(|_| kill_at.is_some_and(|at| Instant::now() >= at)) {
            kill_at = None;
            // Who cannot be looked at is looked at again in a moment.
            list::look(plan).into_iter().for_each(|all| end_the_rest(&others(of_vip(all, args))));
        }
    })
}

/// Waits until nothing is held nor claimed, or the time is over; shows what is left whenever that changes.
fn wait_for(
    timeout: Option<Duration>,
    look: impl Fn() -> anyhow::Result<(Vec<Session>, usize)>,
    mut meanwhile: impl FnMut(&[Session]),
) -> anyhow::Result<Vec<Session>> {
    let begun = Instant::now();
    let mut shown: Option<String> = None;
    loop {
        let (left, claims) = look()?;
        if shown.is_none() {
            print!("{}", show::table(&left));
        }
        let line = show::left(&left);
        if shown.as_ref() != Some(&line) {
            progress(&line);
            shown = Some(line);
        }
        if left.is_empty() && claims == 0 || timeout.is_some_and(|timeout| begun.elapsed() >= timeout) {
            return Ok(left);
        }
        meanwhile(&left);
        thread::sleep(LOOK_EVERY);
    }
}

fn held(ctx: &Context, args: &Args) -> anyhow::Result<(Vec<Session>, usize)> {
    let (left, status) = (ask(ctx, &Who {})?, ask(ctx, &AskStatus {})?);
    let vips = status.vips.iter().filter(|vip| args.vip.as_ref().is_none_or(|name| vip.name == *name));
    Ok((of_vip(left, args), vips.map(|vip| vip.claims).sum()))
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
