//! The command line: options, subcommands, and how an error leaves the program.
//!
//! Each subcommand is a file of `cmd/`. An error goes to standard error; the exit code is 0 when all is well, 1 when
//! something failed, 2 when the command line or the configuration is wrong; a subcommand may have more of them.

use crate::bans::handlers::Unban;
use crate::cmd;
use crate::cmd::context::{Context, EXIT_WRONG, Mistake, colour};
use crate::control::reload::ReloadRequest;
use crate::engine::orders::{Forget, Rebalance};
use clap::{Parser, Subcommand};
use onevip_config::{Diagnostics, UnknownNode};
use onevip_core::Prefix;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Several hosts, one SSH address, no load balancer.
#[derive(Parser, Debug)]
#[command(name = "onevip", version, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    /// Configuration file; conf.d/*.toml beside it is read, too
    #[arg(long, global = true, value_name = "PATH", default_value = "/etc/onevip/onevip.toml")]
    pub config: PathBuf,
    /// Where the running daemon keeps its state
    #[arg(long, global = true, value_name = "PATH", default_value = "/run/onevip")]
    pub run_dir: PathBuf,
    /// Where the daemon keeps what must survive a reboot
    #[arg(long, global = true, value_name = "PATH", default_value = "/var/lib/onevip")]
    pub state_dir: PathBuf,
    /// Name of this node [default: the hostname]
    #[arg(long, global = true, value_name = "NAME")]
    pub node: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Serve the VIPs on this host
    Run,
    /// Remove every trace of onevip from this host
    ///
    /// Its sessions to the VIPs are reset; `onevip drain --wait`, before the daemon is stopped, lets them end first.
    Teardown,
    /// Check a configuration: all mistakes at once
    Check {
        /// The file to check [default: the one of --config]
        file: Option<PathBuf>,
    },
    /// Which node answers a client, and why
    Where(cmd::r#where::Args),
    /// Whose sessions are here, since when, and for how long they were idle
    Who(cmd::who::Args),
    /// What this node does right now
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Decisions about packets, as this node makes them: one line each
    Trace(cmd::trace::Args),
    /// What this node would do with a packet, and why
    Explain(cmd::explain::Args),
    /// What commonly goes wrong: each finding with why it matters and what to do
    Doctor {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// One line for monitoring systems, and an exit code
    CheckHealth(cmd::check_health::Args),
    /// What happens, as it happens: one line each
    Watch {
        /// As JSON, one object a line
        #[arg(long)]
        json: bool,
    },
    /// Send new connections elsewhere; sessions stay until they end
    Drain(cmd::drain::Args),
    /// End a drain
    Undrain {
        /// The node, if it is not this one
        // With an id of its own: `--node` is an option of all commands.
        #[arg(id = "undrained", value_name = "NODE")]
        node: Option<String>,
        /// At this VIP only
        #[arg(long, value_name = "NAME")]
        vip: Option<String>,
    },
    /// Keep an address or a network away from all nodes, for a while
    Ban(cmd::ban::Args),
    /// Lift a ban
    Unban {
        /// The address or network, as it was banned
        #[arg(value_name = "PREFIX")]
        prefix: Prefix,
    },
    /// Who is banned, for how long, by whom and why
    Bans {
        /// As JSON: one object for each ban, each on a line
        #[arg(long)]
        json: bool,
    },
    /// Who opens connections here, and who is at a limit
    Limits {
        /// As JSON: one object for each source, each on a line
        #[arg(long)]
        json: bool,
    },
    /// Move buckets to where the table wants them now, busy ones included
    Rebalance,
    /// Say that a silent node is gone, where its kernel cannot be asked: its sessions are reset until it is back
    Forget {
        /// Its name
        #[arg(value_name = "NODE")]
        whom: String,
    },
    /// Read the configuration and the keys again
    Reload,
    /// Make the cluster's key file, or change its keys
    Keygen(cmd::keygen::Args),
    /// Make a configuration of CLUSTERIP, xt_cluster, nftables or Pacemaker rules
    Import(cmd::import::Args),
    /// Make a static rule set of the configuration, for hosts that want no daemon
    Render(cmd::render::Args),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) => report(&error),
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let mut ctx = Context {
        config: cli.config,
        run_dir: cli.run_dir,
        state_dir: cli.state_dir,
        node: cli.node,
        json: false,
    };
    match cli.command {
        Command::Run => cmd::run::run(&ctx),
        Command::Teardown => cmd::teardown::run(&ctx),
        Command::Check { file } => {
            ctx.config = file.unwrap_or(ctx.config);
            cmd::check::run(&ctx)
        }
        Command::Where(args) => {
            ctx.json = args.json;
            cmd::r#where::run(&ctx, &args)
        }
        Command::Who(args) => {
            ctx.json = args.json;
            cmd::who::run(&ctx, &args)
        }
        Command::Status { json } => {
            ctx.json = json;
            cmd::status::run(&ctx)
        }
        Command::Doctor { json } => {
            ctx.json = json;
            cmd::doctor::run(&ctx)
        }
        Command::CheckHealth(args) => cmd::check_health::run(&ctx, &args),
        Command::Watch { json } => {
            ctx.json = json;
            cmd::watch::run(&ctx)
        }
        Command::Drain(args) => cmd::drain::run(&ctx, &args),
        Command::Undrain { node, vip } => cmd::drain::undrain(&ctx, node.as_deref(), vip),
        Command::Ban(args) => cmd::ban::run(&ctx, &args),
        Command::Unban { prefix } => cmd::ask::run(&ctx, &Unban { prefix: prefix.to_string() }),
        Command::Bans { json } => {
            ctx.json = json;
            cmd::ban::list(&ctx)
        }
        Command::Limits { json } => {
            ctx.json = json;
            cmd::limits::run(&ctx)
        }
        Command::Rebalance => cmd::ask::run(&ctx, &Rebalance {}),
        Command::Forget { whom } => cmd::ask::run(&ctx, &Forget { node: whom }),
        Command::Reload => cmd::ask::run(&ctx, &ReloadRequest {}),
        Command::Trace(args) => {
            ctx.json = args.json;
            cmd::trace::run(&ctx, &args)
        }
        Command::Explain(args) => {
            ctx.json = args.json;
            cmd::explain::run(&ctx, &args)
        }
        Command::Keygen(args) => cmd::keygen::run(&ctx, &args),
        Command::Import(args) => cmd::import::run(&args),
        Command::Render(args) => cmd::render::run(&ctx, &args),
    }
}

/// Shows an error and chooses the exit code. Mistakes of the configuration are shown in full.
fn report(error: &anyhow::Error) -> ExitCode {
    let mut err = std::io::stderr();
    // Nothing can be done about an error stream that is gone.
    if let Some(mistakes) = error.downcast_ref::<Diagnostics>() {
        let _ = writeln!(err, "{}", mistakes.render(colour(&err)));
        return ExitCode::from(EXIT_WRONG);
    }
    if let Some(unknown) = error.downcast_ref::<UnknownNode>() {
        let _ = writeln!(err, "onevip: {unknown}");
        return ExitCode::from(EXIT_WRONG);
    }
    if let Some(mistake) = error.downcast_ref::<Mistake>() {
        let _ = writeln!(err, "onevip: {mistake}");
        return ExitCode::from(EXIT_WRONG);
    }
    let is_broken_pipe = |cause: &std::io::Error| cause.kind() == std::io::ErrorKind::BrokenPipe;
    if error.downcast_ref().is_some_and(is_broken_pipe) {
        // The reader has seen enough (`onevip where … | head -1`).
        return ExitCode::SUCCESS;
    }
    let _ = writeln!(err, "onevip: {error:#}");
    ExitCode::FAILURE
}
