//! `onevip check`: all mistakes at once, or what the file means when there are none.

use crate::cli::{Context, EXIT_WRONG, colour};
use onevip_config::{Config, Node, Vip, nodelist};
use std::io::Write as _;
use std::process::ExitCode;

/// Checks the file of `ctx.config`, and with `--node` that it has this node. The exit code is 2 when it has mistakes.
pub fn run(ctx: &Context) -> anyhow::Result<ExitCode> {
    let (config, found) = Config::inspect(&ctx.config);
    let mut err = std::io::stderr();
    if !found.is_empty() {
        writeln!(err, "{}", found.render(colour(&err)))?;
    }
    let Some(config) = config else { return Ok(ExitCode::from(EXIT_WRONG)) };
    if ctx.node.is_some()
        && let Err(unknown) = config.this_node(ctx.node.as_deref())
    {
        writeln!(err, "error: {unknown}")?;
        return Ok(ExitCode::from(EXIT_WRONG));
    }
    if !found.is_empty() {
        writeln!(err)?;
    }
    write!(std::io::stdout(), "{}", summary(ctx, &config))?;
    Ok(ExitCode::SUCCESS)
}

/// What the file means, in a few lines.
fn summary(ctx: &Context, config: &Config) -> String {
    let beat = humantime::format_duration(config.beat);
    let mut out = format!("{} is in order.\n\n", ctx.config.display());
    let mut line = |name: &str, text: String| out.push_str(&format!("  {name:<9}{text}\n"));
    line("cluster", format!("{}, {} membership, beat {beat}", config.cluster, config.membership));
    line("nodes", format!("{} ({})", names(config.nodes.iter()), config.nodes.len()));
    for vip in &config.vips {
        line("vip", format!("{}: {}", vip.name, addresses(vip)));
        line("", format!("{} on {}", services(vip), names(config.nodes_of(vip))));
        line(
            "",
            format!("cluster MAC {}, delivery {}, mapping {}", vip.mac, vip.delivery, vip.mapping_word()),
        );
    }
    line("digest", format!("{} (the same on every node, or the files differ)", config.digest_hex()));
    out
}

fn names<'a>(nodes: impl Iterator<Item = &'a Node>) -> String {
    nodelist::compress(nodes.map(|node| node.name.as_str()))
}

fn addresses(vip: &Vip) -> String {
    vip.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn services(vip: &Vip) -> String {
    vip.services.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
