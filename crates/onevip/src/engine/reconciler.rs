//! The reconciler: keeps on this host what others remove, and looks at its sockets.
//!
//! Addresses and links are watched over netlink and put back when they change; an interface that was made anew gets
//! everything again, in the order in which it was first set up: programs, then addresses, then beats. Programs and the cluster MAC can vanish
//! without a word from the kernel, so they are looked at every [`TICK`]. All of it may wait for the kernel's network
//! lock, which is why none of it happens in the beat loop.

use super::follower::Follower;
use super::scan::Scanned;
use crate::base::beat_loop::BeatLoopHandle;
use crate::base::clock::now;
use crate::base::command::Command;
use crate::base::plan::early_drop;
use crate::base::supervisor::StopSignal;
use anyhow::Context;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use onevip_bpf::Kernel;
use onevip_core::Prefix;
use onevip_core::beat::Facts;
use onevip_health::impact::{DEAD, Finding, Impact};
use onevip_health::results::{PROGRAMS, Results};
use onevip_host::VipSetup;
use onevip_host::journal::Journal;
use onevip_host::netlink::{LinkWatch, Netlink};
use onevip_host::others;
use onevip_host::sockets;
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often programs and cluster MAC are looked at: what is removed by hand is back within 100 ms.
const TICK: Duration = Duration::from_millis(50);
/// How often an interface that could not be followed is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How often everything is looked at even though the kernel reported no change.
const FULL_LOOK: Duration = Duration::from_secs(5);
/// How often sockets are scanned. The kernel part bridges the time in between by itself (SYN_MEMORY_SECS).
const SCAN: Duration = Duration::from_secs(2);
/// How long nobody may have been before this node's programs until it is well again.
const CONTEST_OVER: Duration = Duration::from_secs(60);
/// How long to wait before saying again that a repair failed.
const COMPLAIN_AGAIN: Duration = Duration::from_secs(30);

/// The state of the reconciler.
pub struct Reconciler {
    /// The kernel part, for its attachments.
    pub kernel: Kernel,
    /// Where the interfaces are now.
    pub follower: Follower,
    /// What each VIP needs on its interface, of those whose interfaces are there.
    pub setups: Vec<VipSetup>,
    /// What was changed on this host.
    pub journal: Journal,
    /// What to look for among the sockets.
    pub scanned: Vec<Scanned>,
    /// The way to the beat loop.
    pub beat_loop: BeatLoopHandle,
    /// What this node tells the others about itself, but for what a scan finds.
    pub facts: Facts,
    /// Digest of the SSH host keys.
    pub host_keys: Arc<AtomicU64>,
    /// Where it is said when other programs hide packets from this node's.
    pub health: Arc<Results>,
    /// When they last did.
    pub contested: Option<Instant>,
}

impl Reconciler {
    /// Watches until told to stop.
    ///
    /// # Errors
    /// The kernel refuses the netlink sockets.
    pub fn run(mut self, stop: &StopSignal) -> anyhow::Result<()> {
        let mut netlink = Netlink::open().context("cannot talk to the kernel over netlink")?;
        let mut watch = LinkWatch::open().context("cannot watch the network over netlink")?;
        let (mut next_look, mut next_scan) = (Instant::now(), Instant::now());
        let mut complaint = Complaint::default();
        while !stop.is_set() {
            let changed = wait(&mut watch)?;
            let now = Instant::now();
            if changed || now >= next_look {
                let followed = self.follow(&mut netlink);
                next_look = now + if followed.is_ok() { FULL_LOOK } else { LOOK_AGAIN };
                complaint.about(followed);
            } else {
                complaint.about(self.ensure_programs());
                complaint.about(self.rejoin_macs(&mut netlink));
            }
            if now >= next_scan {
                complaint.about(self.scan());
                next_scan = now + SCAN;
            }
        }
        Ok(())
    }

    /// Makes sure of everything where the interfaces are now: programs first, then addresses, then beats. What can be done
    /// is done also where something else fails.
    fn follow(&mut self, netlink: &mut Netlink) -> anyhow::Result<()> {
        let anew = self.follower.look(netlink)?;
        let attached = self.attach();
        let programs = self.ensure_programs();
        self.setups = self.follower.setups();
        let placed = self.ensure_setups(netlink, anew);
        self.follower.publish();
        let told = self.tell_on_link(netlink);
        attached.and(programs).and(placed).and(told)
    }

    /// Attaches the programs to interfaces that are new, and forgets those that are gone.
    fn attach(&mut self) -> anyhow::Result<()> {
        let unattached = self.follower.unattached();
        for (index, name, accelerate) in &unattached {
            self.kernel.attach(name, early_drop(*accelerate))?;
            // One that was made anew once more just now is attached to once more: the kernel has told of it already.
            self.follower.attached(*index, name);
        }
        if !unattached.is_empty() {
            self.kernel.detach_all_but(&self.follower.names())?;
        }
        Ok(())
    }

    fn ensure_programs(&mut self) -> anyhow::Result<()> {
        let ensured = self.kernel.ensure_attached();
        self.note_contest(ensured.as_ref().err());
        for repair in ensured.context("cannot attach the kernel part again")? {
            tracing::warn!("{repair}");
        }
        Ok(())
    }

    /// A node whose programs do not see every packet is ill, until they have seen all for a while.
    fn note_contest(&mut self, error: Option<&onevip_bpf::Error>) {
        if let Some(error @ onevip_bpf::Error::Contested { .. }) = error {
            if self.contested.is_none() {
                let finding = Finding::ill(Impact::Out(DEAD), error.to_string());
                self.health.record(PROGRAMS, finding, Duration::MAX);
            }
            self.contested = Some(Instant::now());
        } else if self.contested.is_some_and(|last| last.elapsed() >= CONTEST_OVER) {
            self.health.record(PROGRAMS, Finding::well("onevip's see every packet"), Duration::MAX);
            self.contested = None;
        }
    }

    /// Tells the programs which clients are on the link, and which behind a router.
    fn tell_on_link(&self, netlink: &mut Netlink) -> anyhow::Result<()> {
        let indices: Vec<u32> =
            self.setups.iter().filter_map(|setup| if_nametoindex(setup.interface.as_str()).ok()).collect();
        let present = netlink.addresses().context("cannot list the addresses of this host")?;
        let on_link = present.iter().filter(|address| indices.contains(&address.link));
        let networks = on_link.filter_map(|address| Prefix::new(address.ip, address.prefix_len));
        let networks: BTreeSet<Prefix> =
            networks.filter(|network| *network != Prefix::host(network.address())).collect();
        self.kernel.effects().set_on_link(&networks.into_iter().collect::<Vec<_>>());
        Ok(())
    }

    /// On an interface that was made anew nobody has removed anything.
    fn ensure_setups(&mut self, netlink: &mut Netlink, anew: bool) -> anyhow::Result<()> {
        for setup in &self.setups {
            for repair in setup.ensure(netlink, &mut self.journal)? {
                if anew {
                    tracing::info!("{}", repair.at_start());
                } else {
                    tracing::warn!("{}", repair.later());
                }
            }
        }
        others::ensure(&self.setups, netlink, &mut self.journal)
    }

    fn rejoin_macs(&self, netlink: &mut Netlink) -> anyhow::Result<()> {
        self.setups.iter().try_for_each(|setup| setup.rejoin_mac(netlink))
    }

    fn scan(&self) -> anyhow::Result<()> {
        let as_of = now();
        let connections = sockets::connections().context("cannot list the sockets of this host")?;
        let sliced = self.scanned.iter().any(|scanned| scanned.is_sliced());
        let bound = if sliced {
            sockets::bound().context("cannot list the UDP sockets of this host")?
        } else {
            Vec::new()
        };
        for (vip, scanned) in self.scanned.iter().enumerate() {
            let found = Box::new(scanned.find(&connections, &bound));
            let count = scanned.sessions.load(Ordering::Relaxed) as u32;
            let host_keys_digest = self.host_keys.load(Ordering::Relaxed);
            let facts =
                Facts { sessions: count, load_percent: load_percent(), host_keys_digest, ..self.facts };
            self.beat_loop.send(Command::Scanned { vip, sessions: found, as_of, facts });
        }
        Ok(())
    }
}

/// The load of the last minute in percent of this host's processors; 0 where the kernel does not tell.
fn load_percent() -> u16 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0.0);
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (load * 100.0 / processors as f64) as u16
}

/// Waits for a change of the network or the next tick; true for a change.
fn wait(watch: &mut LinkWatch) -> anyhow::Result<bool> {
    let mut fds = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
    let ready = match poll(&mut fds, PollTimeout::from(TICK.as_millis() as u16)) {
        Err(nix::errno::Errno::EINTR) => 0,
        ready => ready.context("cannot wait for changes of the network")?,
    };
    Ok(ready > 0 && watch.changed())
}

/// Says what goes wrong, but not twenty times a second.
#[derive(Default)]
struct Complaint {
    last: Option<(String, Instant)>,
}

impl Complaint {
    fn about(&mut self, result: anyhow::Result<()>) {
        let Err(error) = result else { return };
        let text = format!("{error:#}");
        let known =
            self.last.as_ref().is_some_and(|(last, at)| *last == text && at.elapsed() < COMPLAIN_AGAIN);
        if !known {
            tracing::error!("{text}");
            self.last = Some((text, Instant::now()));
        }
    }
}
