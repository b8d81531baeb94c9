//! `onevip who`: whose sessions are where, since when, and who is there at all.

use crate::base::plan::Plan;
use crate::cmd::context::{Context, Mistake};
use crate::control::client;
use crate::rpc::nodes::{self, Reply};
use crate::sessions::handlers::{AskWho, Who};
use crate::sessions::list::{self, Session};
use crate::sessions::show;
use crate::sessions::whom::Whom;
use anyhow::Context as _;
use onevip_config::Config;
use onevip_host::run_dir::RunDir;
use std::io::Write;
use std::process::ExitCode;

/// Options of `onevip who`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only sessions of this user, or from this address, network, or address and port
    #[arg(value_name = "USER|ADDRESS|NETWORK|ADDRESS:PORT")]
    whom: Option<Whom>,
    /// Ask all nodes
    #[arg(long)]
    all_nodes: bool,
    /// As JSON: one object for each session, each on a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Shows the sessions of this node, for which it can do without a daemon, or of all.
///
/// The exit code is 1 when a node could not be asked, so that nobody takes part of the truth for all of it.
pub fn run(ctx: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(Whom::User(name)) = &args.whom {
        is_no_node(ctx, name)?;
    }
    let (mut sessions, silent) = if args.all_nodes {
        everywhere(ctx, args.whom.as_ref().and_then(Whom::as_asked))?
    } else {
        (here(ctx)?, Vec::new())
    };
    sessions.retain(|session| args.whom.as_ref().is_none_or(|whom| whom.has(session)));
    let mut out = std::io::stdout();
    if ctx.json {
        for session in &sessions {
            writeln!(out, "{}", serde_json::to_string(session)?)?;
        }
    } else {
        write!(out, "{}", show::table(&sessions))?;
    }
    for (node, why) in &silent {
        eprintln!("onevip: {node} was not asked: {why}");
    }
    Ok(if silent.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Who asks for a node means its sessions, and an empty list would say that it has none.
fn is_no_node(ctx: &Context, name: &str) -> anyhow::Result<()> {
    // Without a configuration nobody knows of nodes.
    let nodes = Config::load(&ctx.config).map_or_else(|_| Vec::new(), |config| config.nodes);
    if nodes.iter().any(|node| node.name == name) {
        return Err(Mistake(format!(
            "{name} is a node, not a user; `onevip who` on {name} lists its sessions, `onevip who --all-nodes` those of all"
        ))
        .into());
    }
    Ok(())
}

/// Nodes that said nothing, and why.
type Silent = Vec<(String, String)>;

/// The sessions of all nodes, and which nodes said nothing, and why.
fn everywhere(ctx: &Context, whom: Option<String>) -> anyhow::Result<(Vec<Session>, Silent)> {
    let run_dir = RunDir::new(&ctx.run_dir);
    let replies = nodes::ask(&run_dir.control(), &AskWho { whom }, None)?;
    let (mut sessions, mut silent) = (Vec::new(), Vec::new());
    for Reply { node, answer } in replies.with_context(|| run_dir.no_daemon())? {
        match answer {
            Ok(held) => sessions.extend(held),
            Err(why) => silent.push((node, why.to_string())),
        }
    }
    sessions
        .sort_by(|a, b| (&a.user, &a.node, a.address, a.port).cmp(&(&b.user, &b.node, b.address, b.port)));
    Ok((sessions, silent))
}

fn here(ctx: &Context) -> anyhow::Result<Vec<Session>> {
    let control = RunDir::new(&ctx.run_dir).control();
    client::call(&control, &Who {})?.map_or_else(|| without_daemon(ctx), Ok)
}

fn without_daemon(ctx: &Context) -> anyhow::Result<Vec<Session>> {
    let config = Config::load(&ctx.config)?;
    let node = config.this_node(ctx.node.as_deref())?;
    list::look(&Plan::to_look_at(&config, node)?)
}
