//! What a daemon needs before it can serve, and what may be late: this host's name, an interface with a link, addresses, the
//! key.
//!
//! At boot all of that comes when it comes (slow DHCP, a cable, a file that is still to be copied), and a daemon that gave
//! up would stay away for good. So whatever is missing is waited for, with a look each second, and said: to the log once, again
//! when it becomes another, and rarely as a reminder; to systemd; and to who asks `onevip status`. A look reads the file
//! anew, so what is mended there counts at once. Nothing of the host is changed before everything is there.

use crate::base::interfaces::routes;
use crate::base::keys;
use crate::base::paths::Paths;
use crate::base::plan::{self, Plan};
use crate::control::server::group_id;
use crate::report::systemd;
use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use onevip_config::{Config, Membership, Node};
use onevip_core::MacAddr;
use onevip_host::address::Address;
use onevip_host::journal::Journal;
use onevip_host::netlink::Netlink;
use onevip_host::probe;
use std::fs;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How often a look is taken, in milliseconds. A look costs about a millisecond of processor.
const LOOK_EVERY_MS: u16 = 1000;
/// How often the log is told again what it already knows.
const REMIND_EVERY: Duration = Duration::from_secs(600);
/// How long systemd is asked to wait from now on: as the unit's `TimeoutStartSec=`, for what is left to do when the wait is
/// over. Loading the programs takes the kernel a fraction of a second, and minutes on an emulated and overloaded processor.
const GRACE: Duration = Duration::from_secs(300);
/// How often systemd is asked. Below the shortest limit that anybody would set.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// How much systemd is told, in characters of at most four bytes.
const STATUS_MAX: usize = 500;

/// What a daemon begins with.
pub struct Ready {
    /// The file as it is now.
    pub config: Config,
    /// What there is to do.
    pub plan: Plan,
}

/// Waits until this host can serve; `None` when a signal ended it before. `signals` are blocked; a hangup among them only
/// means to look at once.
///
/// # Errors
/// The kernel does not hand out signals, or the run directory cannot be written to.
pub fn until_ready(name: Option<&str>, paths: &Paths, signals: &SigSet) -> anyhow::Result<Option<Ready>> {
    let arriving = SignalFd::with_flags(signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .context("cannot wait for signals")?;
    let mut voice = Voice::new(paths);
    loop {
        match look(name, paths) {
            Ok(ready) => return voice.is_done().map(|()| Some(ready)),
            Err(missing) => voice.say(&format!("{missing:#}"))?,
        }
        if let Some(signal) = next_signal(&arriving).context("cannot wait for signals")? {
            tracing::info!("{signal}: ending; nothing was begun");
            systemd::say("STOPPING=1");
            return voice.is_done().map(|()| None);
        }
    }
}

/// The next signal that ends a daemon, if it comes before the next look.
fn next_signal(arriving: &SignalFd) -> nix::Result<Option<Signal>> {
    let mut fds = [PollFd::new(arriving.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(LOOK_EVERY_MS)) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error),
    }
    let Some(told) = arriving.read_signal()? else { return Ok(None) };
    let signal = Signal::try_from(told.ssi_signo as i32)?;
    Ok((signal != Signal::SIGHUP).then_some(signal))
}

/// Looks whether everything is there. The error is the first thing that is not.
fn look(name: Option<&str>, paths: &Paths) -> anyhow::Result<Ready> {
    let config = Config::load(&paths.config)?;
    let node = config.this_node(name)?.clone();
    if let Some(group) = &config.control_group {
        group_id(group)?;
    }
    let plan = Plan::new(&config, &node)?;
    let mut netlink = Netlink::open().context("cannot talk to the kernel over netlink")?;
    let present = netlink.addresses().context("cannot list the addresses of this host")?;
    require_carrier(&plan)?;
    require_an_address(&node, &present)?;
    if config.membership == Membership::Living {
        for vip in &plan.vips {
            routes(&plan, vip)?;
        }
        keys::read(&keys::location(&config.key_file))?;
    }
    refuse_silence(&plan, paths)?;
    refuse_strangers(&plan, &present)?;
    Ok(Ready { config, plan })
}

/// Without a link nobody can be asked whether he has the VIP, and nobody be answered.
fn require_carrier(plan: &Plan) -> anyhow::Result<()> {
    match plan.vips.iter().find(|vip| !vip.link.carrier) {
        None => Ok(()),
        Some(vip) => bail!(
            "interface {} (of vip {}) has no link: is the cable in, and the switch's port on?",
            vip.link.name,
            vip.vip.name
        ),
    }
}

/// A host that has none of its addresses yet has no route to its clients either: it would take its share, and answer none of
/// it. One of them is enough: a family that is out is another matter.
fn require_an_address(node: &Node, present: &[Address]) -> anyhow::Result<()> {
    let is_here = |ip: &IpAddr| present.iter().any(|known| known.ip == *ip);
    if node.addresses.is_empty() || node.addresses.iter().any(is_here) {
        return Ok(());
    }
    let wanted: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
    bail!(
        "no interface of this host has an address of node {} ({}): give it that, or correct `address` in the file",
        node.name,
        wanted.join(", ")
    )
}

/// Where the kernel was told not to answer ARP for a VIP, its clients would wait for ever.
fn refuse_silence(plan: &Plan, paths: &Paths) -> anyhow::Result<()> {
    let journal = Journal::open(paths.run_dir.path())?;
    for setup in plan.vips.iter().map(plan::VipPlan::setup) {
        if let Some(setting) = setup.silenced_by(&journal) {
            bail!(
                "{setting} keeps this host from answering ARP for the VIP on {}; `sysctl -w` it to 0, 1 or 2, and in \
                 /etc/sysctl.d",
                setup.interface
            );
        }
    }
    Ok(())
}

/// A VIP that is not here yet may be somebody else's, and so may one that duplicate address detection found elsewhere. Any
/// other that is here already is ours: an earlier daemon's, or the administrator's.
fn refuse_strangers(plan: &Plan, present: &[Address]) -> anyhow::Result<()> {
    for vip in &plan.vips {
        let is_ours = |ip: &&IpAddr| present.iter().any(|known| known.ip == **ip && !known.is_contested());
        for address in vip.vip.addresses.iter().filter(|ip| !is_ours(ip)) {
            let stranger = probe::find_stranger(&vip.link, *address, vip.vip.mac.0)
                .with_context(|| format!("cannot probe for {address} on {}", vip.link.name))?;
            if let Some(mac) = stranger {
                bail!(
                    "vip {}: {address} is already used on the LAN of {} by the host with MAC {}, which is not of this \
                     cluster (whose MAC is {}); take the address away there, or choose another",
                    vip.vip.name,
                    vip.link.name,
                    MacAddr(mac),
                    vip.vip.mac
                );
            }
        }
    }
    Ok(())
}

/// Says what is waited for, to all who want to know.
struct Voice<'a> {
    paths: &'a Paths,
    what: String,
    /// When the log, and when systemd, is to hear it again.
    log_at: Instant,
    systemd_at: Instant,
}

impl<'a> Voice<'a> {
    fn new(paths: &'a Paths) -> Self {
        let now = Instant::now();
        Self { paths, what: String::new(), log_at: now, systemd_at: now }
    }

    fn say(&mut self, what: &str) -> anyhow::Result<()> {
        let now = Instant::now();
        if self.what != what {
            what.clone_into(&mut self.what);
            self.note()?;
            (self.log_at, self.systemd_at) = (now, now);
        }
        if now >= self.log_at {
            tracing::warn!("waits, and does not serve yet: {what}");
            self.log_at = now + REMIND_EVERY;
        }
        if now >= self.systemd_at {
            self.tell_systemd();
            self.systemd_at = now + ASK_EVERY;
        }
        Ok(())
    }

    /// On one line, and not all of a long one: systemd ignores datagrams of more than 4096 bytes.
    fn tell_systemd(&self) {
        let words = self.what.split_whitespace().collect::<Vec<_>>().join(" ");
        let status: String = words.chars().take(STATUS_MAX).collect();
        systemd::say(&format!("EXTEND_TIMEOUT_USEC={}\nSTATUS=waits: {status}", GRACE.as_micros()));
    }

    /// Where `onevip status` finds it.
    fn note(&self) -> anyhow::Result<()> {
        let path = self.paths.run_dir.waiting();
        fs::write(&path, &self.what).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The wait is over.
    fn is_done(&self) -> anyhow::Result<()> {
        self.paths.run_dir.waits_no_more()
    }
}
