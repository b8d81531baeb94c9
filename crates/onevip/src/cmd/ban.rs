//! `onevip ban` and `bans`: who is kept away from all nodes.

use super::ask::ask;
use crate::bans::handlers::ListBans;
use crate::bans::wire::{BanRequest, ListedBan};
use crate::cmd::context::Context;
use crate::sessions::show::span;
use anyhow::bail;
use onevip_bpf::{Kernel, boot_time_ns};
use onevip_core::Prefix;
use onevip_core::Time;
use onevip_core::bans::REASON_MAX;
use onevip_host::run_dir::RunDir;
use std::io::Write;
use std::net::IpAddr;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

/// Options of `onevip ban`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// An address, or a network like 192.0.2.0/24
    #[arg(value_name = "PREFIX")]
    prefix: Prefix,
    /// For how long: 10m, 1h, 7d, a number of seconds, or forever
    #[arg(long, value_name = "TIME", default_value = "1h", allow_hyphen_values = true)]
    ttl: HowLong,
    /// Why; shown by `onevip bans`
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Let sessions that exist go on; refuse only what is new
    #[arg(long)]
    keep_sessions: bool,
    /// Also what is wider than /8 (IPv6: /16), or where you come from yourself
    #[arg(long)]
    force: bool,
}

/// A time, or for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct HowLong(Option<Duration>);

impl FromStr for HowLong {
    type Err = String;

    /// Reads what people write, and what fail2ban has for `<bantime>`: seconds, below zero for ever.
    fn from_str(text: &str) -> Result<Self, String> {
        const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
        if text == "forever" || text.parse::<i64>().is_ok_and(|seconds| seconds < 0) {
            return Ok(Self(None));
        }
        let seconds = text.parse().ok().map(Duration::from_secs);
        match seconds.or_else(|| humantime::parse_duration(text).ok()) {
            Some(long) if long < Duration::from_secs(1) => Err("shorter than a second".to_owned()),
            Some(long) if long > LONGEST => Err("longer than ten years; write forever".to_owned()),
            Some(long) => Ok(Self(Some(long))),
            None => Err("write a time like 10m, 1h or 7d, a number of seconds, or forever".to_owned()),
        }
    }
}

/// Bans.
pub fn run(ctx: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    if args.reason.len() > REASON_MAX {
        bail!("the reason has {} bytes, more than {REASON_MAX}", args.reason.len());
    }
    if let Some(own) = own_address().filter(|own| args.prefix.contains(&Prefix::host(*own)) && !args.force) {
        bail!("{} is not banned: you come from {own} yourself; --force bans it all the same", args.prefix);
    }
    let request = BanRequest {
        prefix: args.prefix.to_string(),
        seconds: args.ttl.0.map(|long| long.as_secs()),
        keep_sessions: args.keep_sessions,
        reason: args.reason.clone(),
        force: args.force,
    };
    println!("{}", ask(ctx, &request)?);
    Ok(ExitCode::SUCCESS)
}

/// From where whoever types this has come by ssh, if it is known.
fn own_address() -> Option<IpAddr> {
    let came = ["SSH_CONNECTION", "SSH_CLIENT"].iter().find_map(|name| std::env::var(name).ok())?;
    came.split_whitespace().next()?.parse().ok()
}

/// Lists the bans; without a daemon what the kernel part keeps out all the same.
pub fn list(ctx: &Context) -> anyhow::Result<ExitCode> {
    let bans = ask(ctx, &ListBans {}).or_else(|error| without_daemon(ctx).ok_or(error))?;
    let mut out = std::io::stdout();
    if ctx.json {
        for ban in &bans {
            writeln!(out, "{}", serde_json::to_string(ban)?)?;
        }
    } else {
        write!(out, "{}", table(&bans))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn without_daemon(ctx: &Context) -> Option<Vec<ListedBan>> {
    let kernel = Kernel::open_pinned(&RunDir::new(&ctx.run_dir).pins()).ok()?;
    let now = Time::from_nanos(boot_time_ns());
    let mut bans = kernel.bans().ok()?;
    bans.retain(|(_, stop)| stop.openings_until > now);
    bans.sort_by_key(|(prefix, _)| *prefix);
    let listed = bans.into_iter().map(|(prefix, stop)| ListedBan {
        prefix: prefix.to_string(),
        left_seconds: (stop.openings_until != Time::NEVER).then(|| stop.openings_until.since(now).as_secs()),
        since: 0,
        by: "-".to_owned(),
        keep_sessions: stop.everything_until <= now,
        reason: "no daemon runs here: this is what the kernel part keeps out".to_owned(),
        ignored: None,
    });
    Some(listed.collect())
}

/// A table with a line for each ban; empty when there is none.
fn table(bans: &[ListedBan]) -> String {
    if bans.is_empty() {
        return String::new();
    }
    let head = ["PREFIX", "LEFT", "BY", "REASON"].map(str::to_owned);
    let rows: Vec<[String; 4]> = std::iter::once(head).chain(bans.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..4).map(width).collect();
    let line = |row: &[String; 4]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn row(ban: &ListedBan) -> [String; 4] {
    let mut remarks = vec![ban.reason.clone()];
    if ban.keep_sessions {
        remarks.push("(sessions go on)".to_owned());
    }
    if let Some(why) = &ban.ignored {
        remarks.push(format!("(let in here all the same: {why})"));
    }
    remarks.retain(|remark| !remark.is_empty());
    [
        ban.prefix.clone(),
        ban.left_seconds.map_or_else(|| "-".to_owned(), span),
        ban.by.clone(),
        remarks.join(" "),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_and_fail2ban_write_them() {
        let read = |text: &str| text.parse::<HowLong>().map(|long| long.0.map(|long| long.as_secs()));
        assert_eq!(read("1h"), Ok(Some(3600)));
        assert_eq!(read("600"), Ok(Some(600)));
        assert_eq!(read("1h 30m"), Ok(Some(5400)));
        assert_eq!((read("-1"), read("forever")), (Ok(None), Ok(None)));
        assert!(read("0").unwrap_err().contains("shorter"));
        assert!(read("20y").unwrap_err().contains("forever"));
        assert!(read("soon").unwrap_err().contains("like 10m"));
    }

    #[test]
    fn a_list_says_what_matters() {
        let ban = ListedBan {
            prefix: "192.0.2.0/24".into(),
            left_seconds: None,
            since: 0,
            by: "unix1".into(),
            keep_sessions: true,
            reason: "scans".into(),
            ignored: None,
        };
        let page = table(&[ban]);
        assert_eq!(
            page,
            "PREFIX        LEFT  BY     REASON\n192.0.2.0/24  -     unix1  scans (sessions go on)\n"
        );
        assert_eq!(table(&[]), "");
    }
}
