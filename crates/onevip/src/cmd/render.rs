//! `onevip render`: the configuration as a static rule set, for hosts that want no daemon and no eBPF.

use crate::cmd::context::{Context, EXIT_WRONG};
use onevip_config::render::{Format, render};
use onevip_config::{Config, Node};
use std::io::Write as _;
use std::process::ExitCode;

/// Options of `onevip render`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// nft is exact; iptables needs mapping = "clusterip"
    #[arg(long, value_enum, default_value_t = Format::Nft)]
    format: Format,
}

/// Prints the script for this node, or the one of `--node` (a name or a number). The exit code is 2 when the format cannot
/// say what the file wants.
///
/// # Errors
/// The configuration has mistakes, or no such node.
pub fn run(ctx: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(&ctx.config)?;
    let node =
        by_number(&config, ctx.node.as_deref()).map_or_else(|| config.this_node(ctx.node.as_deref()), Ok)?;
    match render(&config, node, args.format) {
        Ok(script) => {
            std::io::stdout().write_all(script.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(refusals) => {
            let mut err = std::io::stderr();
            for refusal in refusals {
                writeln!(err, "error: {refusal}")?;
            }
            Ok(ExitCode::from(EXIT_WRONG))
        }
    }
}

fn by_number<'a>(config: &'a Config, node: Option<&str>) -> Option<&'a Node> {
    let number: u8 = node?.parse().ok()?;
    config.nodes.iter().find(|node| node.id.get() == number)
}
