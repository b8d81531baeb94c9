//! `onevip explain`: what would this host's kernel part do with a packet, right now? The kernel itself is asked: the
//! authority's judgement is run once over a made-up frame, by a program that counts and remembers nothing.

mod frame;
mod question;

use crate::cmd::context::{Context, colour};
use crate::cmd::packet::{self, Sketch};
use anyhow::{Context as _, anyhow, bail};
use onevip_bpf::{Explainer, Kernel, KernelConfig, PinnedView, boot_time_ns};
use onevip_config::Config;
use onevip_core::{Action, Flags, Packet, Reason};
use onevip_host::run_dir::RunDir;
use question::Question;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;

/// SSH, unless the file names other services.
const PORT: u16 = 22;

/// Options of `onevip explain`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The packet, in words.
    #[arg(
        help = "The packet: CLIENT[:PORT] [VIP:PORT] [syn|ack|fin|rst|psh|seq=N|ack=N|udp|ping|arp|nd|fragment] [default: a SYN]",
        value_name = "PACKET",
        required = true
    )]
    packet: Vec<String>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What would become of the packet. As JSON it is the interface of `onevip explain --json`.
#[derive(Serialize, Debug)]
struct Explanation {
    #[serde(flatten)]
    sketch: Sketch,
    verdict: &'static str,
    reason: &'static str,
    meaning: &'static str,
    bucket: Option<u16>,
    /// The state of the bucket here.
    flags: Option<Vec<&'static str>>,
    /// Who owns the bucket while all nodes live, by the configuration.
    owner: Option<String>,
    /// What is left of the lease, in ms; 0 when it ran out.
    lease_ms: u64,
}

/// Explains. The exit code is 0 whatever the verdict.
///
/// # Errors
/// The packet cannot be read or goes to no VIP of this host, nothing is pinned here, or this is not root.
pub fn run(ctx: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let question = Question::parse(&args.packet).map_err(|why| anyhow!(why))?;
    let pins = RunDir::new(&ctx.run_dir).pins();
    let view = Kernel::open_pinned(&pins)?;
    let kernel = view.config().context("the kernel part has no configuration, or a damaged one")?;
    let (vip, dest) = destination(&kernel, &question)?;
    let config = Config::load(&ctx.config).ok();
    let port = question.dest_port.unwrap_or_else(|| first_port(config.as_ref(), dest));
    let frame = frame::frame(&question, dest, port, kernel.vips[vip].cluster_mac);
    let reason = Explainer::open(&pins)?.ask(&frame)?;
    let explanation = explain(&view, &kernel, config.as_ref(), &frame, reason);
    let mut out = std::io::stdout();
    if ctx.json {
        writeln!(out, "{}", serde_json::to_string(&explanation)?)?;
    } else {
        write!(out, "{}", explanation.for_people(colour(&out)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The VIP (by its index) and the address of it that the packet goes to.
fn destination(kernel: &KernelConfig, question: &Question) -> anyhow::Result<(usize, IpAddr)> {
    let wanted = |address: &IpAddr| match question.dest {
        Some(dest) => *address == dest,
        None => address.is_ipv4() == question.source.is_ipv4(),
    };
    let found = kernel.vips.iter().enumerate().find_map(|(index, vip)| {
        vip.addresses.iter().find(|address| wanted(address)).map(|address| (index, *address))
    });
    if let Some(found) = found {
        return Ok(found);
    }
    let addresses: Vec<String> =
        kernel.vips.iter().flat_map(|vip| &vip.addresses).map(ToString::to_string).collect();
    match question.dest {
        Some(dest) => bail!(
            "{dest} is no VIP of this host: it passes to the stack untouched; the VIPs are {}",
            addresses.join(", ")
        ),
        None => bail!(
            "no VIP of this host is of {}'s family; there is: {}",
            question.source,
            addresses.join(", ")
        ),
    }
}

/// The first port that the file serves at this address.
fn first_port(config: Option<&Config>, address: IpAddr) -> u16 {
    let vip = config.and_then(|config| config.vips.iter().find(|vip| vip.addresses.contains(&address)));
    vip.and_then(|vip| vip.services.first()).map_or(PORT, |service| *service.ports.start())
}

fn explain(
    view: &PinnedView,
    kernel: &KernelConfig,
    config: Option<&Config>,
    frame: &[u8],
    reason: Reason,
) -> Explanation {
    let views: Vec<_> = kernel.vips.iter().map(onevip_bpf::VipConfig::view).collect();
    let place = packet::place(&Packet::parse(frame, &views));
    let owner = place.and_then(|place| {
        let (config, address) = (config?, views[place.vip].addresses.first()?);
        let vip = config.vips.iter().find(|vip| vip.addresses.contains(address))?;
        Some(config.node(config.full_table(vip).owner(place.bucket)?)?.name.clone())
    });
    Explanation {
        sketch: Sketch::of(frame),
        verdict: match reason.action() {
            Action::Pass => "pass",
            Action::Drop => "drop",
            Action::ToDaemon => "to the daemon",
        },
        reason: reason.label(),
        meaning: reason.meaning(),
        bucket: place.map(|place| place.bucket.get()),
        flags: place.map(|place| names(view.flags(place.vip, place.bucket))),
        owner,
        lease_ms: view.lease_deadline_ns(place.map_or(0, |place| place.vip)).saturating_sub(boot_time_ns())
            / 1_000_000,
    }
}

fn names(flags: Flags) -> Vec<&'static str> {
    let all = [
        (Flags::MINE, "mine"),
        (Flags::GUESTS, "guests"),
        (Flags::ELSEWHERE, "elsewhere"),
        (Flags::WATCHED, "watched"),
        (Flags::SAMPLED, "sampled"),
    ];
    all.iter().filter(|(flag, _)| flags.has(*flag)).map(|(_, name)| *name).collect()
}

impl Explanation {
    fn for_people(&self, paint: bool) -> String {
        let bold = |text: &str| if paint { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() };
        let mut out = String::new();
        let _ = writeln!(out, "{} → {}", self.sketch, bold(self.verdict));
        let _ = writeln!(out, "  why     {}: {}", self.reason, self.meaning);
        if let (Some(bucket), Some(flags)) = (self.bucket, &self.flags) {
            let state = if flags.is_empty() { "nothing of it is here".to_owned() } else { flags.join(", ") };
            let owner =
                self.owner.as_ref().map_or(String::new(), |owner| format!(", {owner}'s while all live"));
            let _ = writeln!(out, "  bucket  {bucket}: {state}{owner}");
        }
        let _ = match self.lease_ms {
            0 => writeln!(out, "  lease   ran out: this node claims nothing"),
            left => writeln!(out, "  lease   live, {left} ms left"),
        };
        out
    }
}
