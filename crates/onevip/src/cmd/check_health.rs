//! `onevip check-health`: how this node stands, in one line and an exit code, for monitoring systems.

use crate::cmd::context::Context;
use crate::control::client;
use crate::report::status::{AskStatus, Status, VipStatus};
use onevip_host::run_dir::RunDir;
use std::process::ExitCode;

/// Options of `onevip check-health`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// As a plugin of Icinga or Nagios: exit codes 0 to 3 (OK, WARNING, CRITICAL, UNKNOWN), with performance data
    #[arg(long)]
    icinga: bool,
}

/// How bad it is. The numbers are those of monitoring plugins
/// (<https://www.monitoring-plugins.org/doc/guidelines.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Ok = 0,
    Warning = 1,
    Critical = 2,
}

/// Looks, and says it. Without `--icinga` the exit code is 0 or 1.
pub fn run(ctx: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let run_dir = RunDir::new(&ctx.run_dir);
    let (code, line) = match client::call(&run_dir.control(), &AskStatus {}) {
        Ok(Some(status)) => {
            let (level, words) = assess(&status);
            (level as u8, format!("{words}{}", if args.icinga { figures(&status) } else { String::new() }))
        }
        Ok(None) => (2, run_dir.no_daemon()),
        Err(error) => (3, format!("{error:#}")),
    };
    if args.icinga {
        let word = ["OK", "WARNING", "CRITICAL", "UNKNOWN"][usize::from(code)];
        println!("ONEVIP {word} - {}", line.replace('\n', " "));
        return Ok(ExitCode::from(code));
    }
    println!("{line}");
    Ok(if code == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is wrong, worst first; or what this node serves.
fn assess(status: &Status) -> (Level, String) {
    let mut found: Vec<(Level, String)> = Vec::new();
    if !status.lease.live {
        found.push((Level::Critical, "the lease ran out: this node claims nothing".to_owned()));
    }
    for vip in &status.vips {
        let name = &vip.name;
        if let Some(trouble) = &vip.trouble {
            // Who cannot hear has learnt nothing about others.
            found.push((Level::Critical, format!("{name}: {trouble}")));
            continue;
        }
        if let Some(membership) = &vip.membership {
            match &membership.why_out {
                Some(why) if membership.state == "draining" => {
                    found.push((
                        Level::Warning,
                        format!("{name}: no share: {why}, {} sessions left", vip.sessions),
                    ));
                }
                Some(why) => found.push((Level::Critical, format!("{name}: no share: {why}"))),
                None => {}
            }
            found.extend(membership.hint.iter().map(|hint| (Level::Critical, format!("{name}: {hint}"))));
        }
        for (node, peer) in vip.nodes.iter().filter_map(|node| Some((&node.name, node.peer.as_ref()?))) {
            if !peer.heard && peer.in_file {
                let why = peer.why_lost.as_deref().unwrap_or("never heard");
                found.push((Level::Warning, format!("{name}: {node} is out: {why}")));
            }
            if peer.config_differs {
                found.push((Level::Warning, format!("{name}: the configuration of {node} differs")));
            }
            if peer.host_keys_differ {
                found.push((Level::Warning, format!("{name}: the SSH host keys of {node} differ")));
            }
        }
    }
    found.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
    let Some((worst, _)) = found.first() else {
        let serves =
            |vip: &VipStatus| format!("{}: {} buckets, {} sessions", vip.name, vip.claims, vip.sessions);
        return (Level::Ok, status.vips.iter().map(serves).collect::<Vec<_>>().join("; "));
    };
    (*worst, found.iter().map(|(_, words)| words.as_str()).collect::<Vec<_>>().join("; "))
}

/// Performance data.
fn figures(status: &Status) -> String {
    let of = |vip: &VipStatus| {
        let heard = vip.nodes.iter().filter(|node| node.peer.as_ref().is_some_and(|peer| peer.heard)).count();
        format!(
            "'{0}_buckets'={1} '{0}_sessions'={2} '{0}_heard'={heard}",
            vip.name, vip.claims, vip.sessions
        )
    };
    format!(" | {}", status.vips.iter().map(of).collect::<Vec<_>>().join(" "))
}
