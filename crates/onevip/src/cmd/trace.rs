//! `onevip trace`: decisions about packets, as they are made. One line each.
//!
//! The kernel part tells of them only while somebody watches, so this costs a busy host nothing when it is over; and
//! it does not need the daemon.

use crate::cmd::context::{Context, colour};
use crate::cmd::packet::{self, Sketch};
use anyhow::{Context as _, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use onevip_bpf::{Kernel, PinnedView, Trace, TraceFilter, TracedBy, Tracer, boot_time_ns};
use onevip_config::Config;
use onevip_core::{Action, Flags, Packet, VipView};
use onevip_host::run_dir::RunDir;
use serde::Serialize;
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

/// How often the kernel part is told that somebody still watches.
const RENEW_MS: u16 = 500;

/// Options of `onevip trace`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only packets from this client or network, and errors about its flows [default: all for a VIP]
    #[arg(value_name = "ADDRESS|PREFIX")]
    clients: Option<Clients>,
    /// End after so many decisions
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// At most so many a second; the others are counted
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// As JSON, one object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// An address or a network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Clients(TraceFilter);

impl FromStr for Clients {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let prefix: IpAddr = address
            .parse()
            .map_err(|_| "name an IP address or a network; `getent ahosts NAME` finds that of a host")?;
        let longest = if prefix.is_ipv4() { 32 } else { 128 };
        let bits = match bits.map(str::parse::<u8>) {
            None => longest,
            Some(Ok(bits)) if bits <= longest => bits,
            Some(_) => return Err(format!("the prefix length is a number from 0 to {longest}")),
        };
        Ok(Self(TraceFilter { prefix, bits }))
    }
}

/// One line of `onevip trace --json`.
#[derive(Serialize, Debug)]
struct Line {
    /// Seconds since 1970.
    time: f64,
    #[serde(flatten)]
    sketch: Sketch,
    /// Name of the VIP.
    vip: Option<String>,
    bucket: Option<u16>,
    /// Who answers its new connections: this node if it claims the bucket, else by the table while all live.
    owner: Option<String>,
    verdict: &'static str,
    reason: &'static str,
    /// `ingress`, or `xdp`: the early dropper.
    by: &'static str,
}

/// Shows decisions until it is interrupted, or has shown as many as were asked for.
///
/// # Errors
/// Nothing is pinned here, somebody else traces already, or this is not root.
pub fn run(ctx: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let run_dir = RunDir::new(&ctx.run_dir);
    let pins = run_dir.pins();
    let eyes = Eyes::open(ctx, Kernel::open_pinned(&pins)?)?;
    let _alone = alone(&run_dir)?;
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block().context("cannot block signals")?;
    let ending = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC).context("cannot wait for signals")?;
    let mut tracer = Tracer::begin(&pins, args.clients.map(|Clients(scope)| scope), args.rate)?;
    eprintln!("onevip: watching; end with Ctrl-C");
    let mut out = std::io::stdout();
    let paint = colour(&out);
    let mut shown = 0;
    loop {
        let mut fds =
            [PollFd::new(tracer.as_fd(), PollFlags::POLLIN), PollFd::new(ending.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(RENEW_MS)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for decisions"),
        }
        let over = fds[1].any().unwrap_or(true);
        while let Some(trace) = tracer.next() {
            let line = eyes.line(&trace);
            let text = if ctx.json { serde_json::to_string(&line)? } else { line.for_people(paint) };
            writeln!(out, "{text}")?;
            shown += 1;
            if args.count == Some(shown) {
                return Ok(ExitCode::SUCCESS);
            }
        }
        out.flush()?;
        let lost = tracer.lost();
        if lost > 0 {
            eprintln!("onevip: {lost} more were too many to show; name a client or network, or raise --rate");
        }
        if over {
            return Ok(ExitCode::SUCCESS);
        }
        if !tracer.renew() {
            bail!("the daemon has made the kernel part anew (an upgrade?); trace again");
        }
    }
}

/// Two tracers would take each other's lines. The lock is on the run directory itself, so that no file is left.
fn alone(run_dir: &RunDir) -> anyhow::Result<Flock<std::fs::File>> {
    let path = run_dir.path();
    let dir = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Flock::lock(dir, FlockArg::LockExclusiveNonblock)
        .map_err(|_| anyhow::anyhow!("somebody traces here already; two would take each other's lines"))
}

/// What is needed to understand a decision.
struct Eyes {
    view: PinnedView,
    vips: Vec<VipView>,
    config: Option<Config>,
    here: Option<String>,
}

impl Eyes {
    fn open(ctx: &Context, view: PinnedView) -> anyhow::Result<Self> {
        let kernel = view.config().context("the kernel part has no configuration, or a damaged one")?;
        let vips = kernel.vips.iter().map(onevip_bpf::VipConfig::view).collect();
        // Names are a courtesy: addresses and verdicts do not need the file.
        let config = Config::load(&ctx.config).ok();
        let here = config.as_ref().and_then(|config| config.this_node(ctx.node.as_deref()).ok());
        let here = here.map(|node| node.name.clone());
        Ok(Self { view, vips, config, here })
    }

    fn line(&self, trace: &Trace) -> Line {
        let place = packet::place(&Packet::parse(&trace.frame, &self.vips));
        let vip = place.and_then(|place| {
            let address = self.vips[place.vip].addresses.first()?;
            self.config.as_ref()?.vips.iter().find(|vip| vip.addresses.contains(address))
        });
        let mine = place.is_some_and(|place| self.view.flags(place.vip, place.bucket).has(Flags::MINE));
        let owner = match (mine, place) {
            (true, _) => self.here.clone(),
            (false, Some(place)) => self.by_table(vip, place.bucket),
            (false, None) => None,
        };
        let action = trace.reason.action();
        Line {
            time: wall_clock(trace.time_ns)
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs_f64(),
            sketch: Sketch::of(&trace.frame),
            vip: vip.map(|vip| vip.name.clone()),
            bucket: place.map(|place| place.bucket.get()),
            owner,
            verdict: match action {
                Action::Pass => "pass",
                Action::Drop => "drop",
                Action::ToDaemon => "to the daemon",
            },
            reason: trace.reason.label(),
            by: match trace.by {
                TracedBy::Ingress => "ingress",
                TracedBy::Xdp => "xdp",
            },
        }
    }

    fn by_table(&self, vip: Option<&onevip_config::Vip>, bucket: onevip_core::Bucket) -> Option<String> {
        let (config, vip) = (self.config.as_ref()?, vip?);
        let owner = config.full_table(vip).owner(bucket)?;
        Some(config.node(owner)?.name.clone())
    }
}

impl Line {
    fn for_people(&self, paint: bool) -> String {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(self.time);
        let bucket = self.bucket.map_or(String::new(), |bucket| match &self.owner {
            Some(owner) => format!(" · bucket {bucket} of {owner}"),
            None => format!(" · bucket {bucket}"),
        });
        let verdict = match self.verdict {
            "pass" if paint => "\x1b[1;32mpass\x1b[0m",
            other => other,
        };
        let early = if self.by == "xdp" { " (xdp)" } else { "" };
        let time = humantime::format_rfc3339_micros(time);
        format!("{time} {}{bucket} · {verdict}: {}{early}", self.sketch, self.reason)
    }
}

/// The time of day at a moment of the boot clock.
fn wall_clock(boot_ns: u64) -> SystemTime {
    SystemTime::now() - Duration::from_nanos(boot_time_ns().saturating_sub(boot_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_an_address_or_a_network() {
        let read =
            |text: &str| text.parse::<Clients>().map(|Clients(scope)| (scope.prefix.to_string(), scope.bits));
        assert_eq!(read("198.51.100.7"), Ok(("198.51.100.7".into(), 32)));
        assert_eq!(read("198.51.100.0/24"), Ok(("198.51.100.0".into(), 24)));
        assert_eq!(read("2001:db8::/32"), Ok(("2001:db8::".into(), 32)));
        assert!(read("198.51.100.0/33").unwrap_err().contains("0 to 32"));
        assert!(read("unix1").unwrap_err().contains("getent ahosts"));
    }
}
