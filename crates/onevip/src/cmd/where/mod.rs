//! `onevip where`: which node answers a client, and why. The question of the help support at three in the morning.
//!
//! Hash and bucket come from the configuration, and so does the node, as if all of them were alive. Where a daemon runs,
//! the nodes are asked, too (`now.rs`), and what they say counts. `answer.rs` finds the former, here all is shown.

mod answer;
mod client;
mod now;

use crate::cmd::context::{Context, colour};
use answer::Answer;
use anyhow::bail;
use client::Client;
use onevip_config::{Config, Vip, nearest};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

/// Options of `onevip where`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The client: an address, with its source port where the hash needs one ([2001:db8::1]:50022)
    #[allow(rustdoc::broken_intra_doc_links)] // clap shows this text as it is; the brackets are an address
    #[arg(value_name = "ADDRESS[:PORT]")]
    client: Client,
    /// The port that the client connects to, where the hash needs it [default: the VIP's first service]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    dest_port: Option<u16>,
    /// Only this VIP [default: all]
    #[arg(long, value_name = "NAME")]
    vip: Option<String>,
    /// As JSON: one object for each VIP, each on a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Answers for every VIP, or the one asked for.
///
/// # Errors
///
/// The configuration has mistakes, or no VIP of that name.
pub fn run(ctx: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(&ctx.config)?;
    let mut answers: Vec<Answer> = chosen(&config, args.vip.as_deref())?
        .into_iter()
        .map(|vip| Answer::find(&config, vip, args.client, args.dest_port))
        .collect();
    for answer in &mut answers {
        answer.now = answer.bucket.and_then(|bucket| now::ask(ctx, &answer.vip, args.client.address, bucket));
    }
    let mut out = std::io::stdout();
    if ctx.json {
        for answer in &answers {
            writeln!(out, "{}", serde_json::to_string(answer)?)?;
        }
    } else {
        let text = show(&config, args.client, &answers, colour(&out));
        out.write_all(text.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The VIP of this name, or all.
fn chosen<'a>(config: &'a Config, name: Option<&str>) -> anyhow::Result<Vec<&'a Vip>> {
    let Some(name) = name else { return Ok(config.vips.iter().collect()) };
    if let Some(vip) = config.vip(name) {
        return Ok(vec![vip]);
    }
    let names: Vec<&str> = config.vips.iter().map(|vip| vip.name.as_str()).collect();
    match nearest(name, names.iter().copied()) {
        Some(meant) => bail!("there is no VIP named {name}; did you mean --vip {meant}?"),
        None => bail!("there is no VIP named {name}; there is: {}", names.join(", ")),
    }
}

/// The answers for people: the node in the first line, the reasons below.
fn show(config: &Config, client: Client, answers: &[Answer], colour: bool) -> String {
    let paint = |code: &str, text: &str| {
        if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    };
    let (bold, dim) = (|text: &str| paint("1;32", text), |text: &str| paint("2", text));
    let mut out = String::new();
    for answer in answers {
        let place = if answers.len() > 1 { format!(" for {}", answer.vip) } else { String::new() };
        let by_file = answer.node.as_deref();
        let node = match answer.now.as_ref().map(|now| now.node.as_deref()) {
            None => by_file.map_or_else(|| paint("1;33", answer.nobody()), bold),
            Some(None) => paint("1;33", "nobody just now"),
            Some(live) if live == by_file => bold(live.unwrap_or_default()),
            Some(Some(live)) => {
                format!("{} ({} while all live and idle)", bold(live), by_file.unwrap_or("nobody"))
            }
        };
        let _ = writeln!(out, "{client}{place} → {node}");
        for (name, text) in answer.lines() {
            let _ = writeln!(out, "  {} {text}", dim(&format!("{name:<7}")));
        }
        for (node, text) in answer.now.iter().flat_map(now::Now::lines) {
            let _ = writeln!(out, "  {} {text}", dim(&format!("{node:<7}")));
        }
        if let Some(warning) = &answer.warning {
            let _ = writeln!(out, "  {} {warning}", paint("1;33", "note   "));
        }
        out.push('\n');
    }
    if answers.iter().any(|answer| answer.now.is_some()) {
        let _ =
            writeln!(out, "{}", dim("As the nodes say at this moment. `onevip status` shows how all stand."));
        return out;
    }
    let basis = if config.nodes.len() == 1 { "its node was" } else { "all nodes were" };
    let text = format!("From the configuration, as if {basis} alive. `onevip status` shows who is.");
    let _ = writeln!(out, "{}", dim(&text));
    out
}
