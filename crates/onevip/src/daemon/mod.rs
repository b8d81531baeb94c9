//! The daemon: puts a node's VIPs in place and keeps them there.
//!
//! Threads, each with one business: the *beat loop* decides and never blocks; the *warden* keeps addresses, MACs and
//! programs in place and scans sockets; the *prober* asks whether silent kernels live; *health* asks whether users can be
//! served; the *witness* sees whether other nodes serve theirs; *news* writes the log; *control* answers commands, the *desk* other nodes'
//! questions, *bans* tells of bans and ends them, *refusals* answers those who are over a limit, *heirs* asks for the counts of
//! sources that moved here. The main thread sets
//! everything up (after [waiting] for what is late), waits for a signal and ends the others. What must survive the
//! daemon (programs, maps, address, cluster MAC) stays when it ends.

pub mod beat_loop;
pub mod control;
pub mod desk;
pub mod ears;
pub mod gather;
pub mod hooks;
pub mod host_keys;
pub mod http;
pub mod incarnation;
pub mod interfaces;
pub mod keys;
pub mod living;
pub mod mailbox;
pub mod margin;
pub mod metrics;
pub mod news;
pub mod notify;
pub mod orders;
pub mod panics;
pub mod plan;
pub mod prober;
pub mod realtime;
pub mod records;
pub mod steward;
pub mod vip_loop;
pub mod waiting;
pub mod warden;
pub mod wire;

use crate::bans::keeper::Keeper;
use crate::bans::spread::Wake;
use crate::limits::tally;
use anyhow::{Context, bail};
use beat_loop::{BeatLoop, Command, Notice};
use interfaces::{Follower, Interfaces};
use living::Founding;
use news::Watchers;
use nix::sys::signal::{SigSet, Signal};
use onevip_bpf::{Kernel, Origin, Refusals, Words};
use onevip_config::{Acceleration, Config, Membership};
use onevip_core::beat::Facts;
use onevip_core::{Bucket, BucketSet, Flags};
use onevip_health::board::Board;
use onevip_host::journal::{Change, Journal};
use onevip_host::netlink::Netlink;
use onevip_host::run_dir::RunDir;
use onevip_host::{Stage, cgroup, descriptors, others, reset, sockets};
use plan::Plan;
use prober::Prober;
use records::Records;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;
use vip_loop::{Decider, VipLoop};
use waiting::Ready;
use warden::{Scanned, Warden};

/// Stack of the beat loop and the other threads, in bytes. Only touched pages are locked in memory.
const STACK: usize = 512 * 1024;

/// Where the daemon's files are.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The configuration file.
    pub config: PathBuf,
    /// What need not survive a reboot.
    pub run_dir: RunDir,
    /// What must: the incarnation, and whose kernels answer.
    pub state_dir: PathBuf,
}

/// Serves the VIPs of this host, the node of that name or else the one of the hostname, until a signal ends it. What is late
/// is waited for.
///
/// # Errors
/// Anything else that keeps this node from serving; everything that was set up before stays, `teardown` removes it.
pub fn run(name: Option<&str>, paths: &Paths) -> anyhow::Result<()> {
    require_root()?;
    panics::end_the_process();
    if let Err(error) = descriptors::raise() {
        tracing::warn!("cannot raise the number of descriptors: {error}");
    }
    let run_dir = &paths.run_dir;
    run_dir.create()?;
    let _lock = run_dir.lock()?;
    // Blocked before any thread starts, so that all of them leave signals to the main thread.
    let signals = blocked_signals()?;
    // Rights do not come with time: what takes them fails before anything is waited for.
    let sender = wire::Sender::open().context("cannot open a packet socket")?;
    let Some(Ready { config, node, plan }) = waiting::until_ready(name, paths, &signals)? else {
        return Ok(());
    };
    let (config, node) = (&config, &node);
    let founding = match config.membership {
        Membership::Static => None,
        Membership::Living => Some(Founding::new(config, &paths.state_dir)?),
    };
    let memory_locked = realtime::lock_memory().inspect_err(|error| {
        tracing::warn!("cannot lock memory ({error}): beats may be late when this host swaps");
    });

    let mut journal = Journal::open(run_dir.path())?;
    let stages: Vec<Stage> = plan.vips.iter().map(plan::VipPlan::stage).collect();
    let kernel = set_up(&plan, &stages, run_dir, &mut journal)?;
    let scanned = Scanned::of(&plan);
    let host_keys = host_keys::watch(config, &plan)?;
    let interfaces = Arc::new(Interfaces::of(&plan, founding.is_some())?);
    let (notices, news) = mpsc::channel();
    let prober_notices = notices.clone();
    let of_checks = notices.clone();
    let board = Arc::new(Board::new(move |change| drop(of_checks.send(Notice::Health(change)))));
    let running = gather::Running {
        host_keys: Arc::clone(&host_keys),
        since: Instant::now(),
        realtime: Arc::new(AtomicBool::new(false)),
        memory_locked: memory_locked.is_ok(),
        health: Arc::clone(&board),
        witness: crate::witness::Tools {
            flows: kernel.flows(),
            findings: Arc::default(),
            news: notices.clone(),
        },
        sessions: scanned.iter().map(|vip| Arc::clone(&vip.sessions)).collect(),
        interfaces: Arc::clone(&interfaces),
    };

    let (to_loop, inbox) = mailbox::mailbox().context("cannot make a mailbox")?;
    let (to_prober, questions) = mailbox::mailbox().context("cannot make a mailbox")?;
    let (slot, mail) = desk::slot(node.id);
    let desk = founding
        .as_ref()
        .map(|founding| desk::Desk::new(config, &plan, founding, Arc::clone(&interfaces), mail))
        .transpose()?;
    let margin = Arc::new(margin::Margin::default());
    let beat_loop = BeatLoop {
        vips: vip_loops(config, &plan, &scanned, founding.as_ref(), &kernel.words())?,
        words: kernel.words(),
        beats: kernel.beats()?,
        sender,
        inbox,
        notices,
        prober: to_prober.clone(),
        letters: slot.clone(),
        margin: Arc::clone(&margin),
        realtime: Arc::clone(&running.realtime),
    };
    let prober = Prober::new(config, &plan, questions, to_loop.clone(), prober_notices)?;
    let records = Records::new(&paths.state_dir, to_loop.clone(), slot.clone());
    let watchers = Watchers::default();
    let (wake, wakes) = mpsc::channel();
    let bans = Keeper::new(config, node.id, kernel.bans()?, &paths.state_dir, watchers.clone(), wake.clone());
    let bans = Arc::new(bans);
    hooks::start(&config.hooks, &watchers)?;
    let listener = control::listen(&run_dir.control(), config.control_group.as_deref())?;
    let ways = steward::Ways {
        beat_loop: to_loop.clone(),
        letters: slot.clone(),
        prober: to_prober.clone(),
        watchers: watchers.clone(),
        bans: Arc::clone(&bans),
        sources: kernel.sources(),
    };
    let steward = steward::Steward::new(config, &plan, paths, ways, running)?;
    let stop = Arc::new(AtomicBool::new(false));
    let kernel_refusals = kernel.refusals()?;
    let facts = Facts { config_digest: u64::from_be_bytes(config.digest()), ..Facts::default() };
    let follower = Follower::new(
        plan.clone(),
        founding.is_some(),
        Arc::clone(&interfaces),
        to_loop.clone(),
        to_prober.clone(),
    );
    let warden = Warden {
        board,
        contested: None,
        kernel,
        follower,
        stages,
        journal,
        scanned,
        beat_loop: to_loop.clone(),
        facts,
        host_keys,
        stop: Arc::clone(&stop),
    };

    let beats = spawn("beats", move || beat_loop.run())?;
    let prober = spawn("prober", move || prober.run())?;
    let warden = spawn("warden", move || warden.run())?;
    let vip_names: Vec<_> = plan.vips.iter().map(|vip| vip.vip.name.clone()).collect();
    let config_of_news = config.clone();
    let watchers_of_metrics = watchers.clone();
    let watchers_of_heirs = watchers.clone();
    let news = spawn("news", move || news::run(&config_of_news, &vip_names, &news, &watchers, records))?;
    let steward_of_signals = Arc::new(steward);
    let steward_of_control = Arc::clone(&steward_of_signals);
    spawn("control", move || {
        control::serve(&listener, |request, by_root| steward_of_control.handle(request, by_root))
    })?;

    let steward_of_desk = Arc::clone(&steward_of_signals);
    let desk = desk
        .map(|desk| {
            spawn("desk", move || desk.run(|from, question| steward_of_desk.answer(Some(from), question)))
        })
        .transpose()?;

    let (steward_of_bans, slot_of_bans, me) = (Arc::clone(&steward_of_signals), slot.clone(), node.id);
    let bans = spawn("bans", move || {
        crate::bans::spread(&bans, &wakes, &slot_of_bans, me, || steward_of_bans.heard());
    })?;

    let of_limits =
        start_limits(&plan, kernel_refusals, interfaces, &steward_of_signals, &watchers_of_heirs, &stop)?;
    if let Some(listen) = &config.metrics {
        let source = metrics::Source {
            steward: Arc::clone(&steward_of_signals),
            margin,
            watchers: watchers_of_metrics,
        };
        metrics::start(listen, config.control_group.as_deref(), source)?;
    }
    notify::start(&steward_of_signals)?;
    tracing::info!("{} serves {}", node.name, served(&plan));
    wait_for_the_end(&signals, &steward_of_signals)?;
    notify::say("STOPPING=1");
    let _ = wake.send(Wake::Stop);
    bans.join().map_err(|_| anyhow::anyhow!("the bans thread panicked"))?;
    to_loop.send(Command::Leave);
    beats.join().map_err(|_| anyhow::anyhow!("the beat loop panicked"))?;
    news.join().map_err(|_| anyhow::anyhow!("the news thread panicked"))?;
    if let Some(desk) = desk {
        slot.post(desk::Mail::Stop);
        desk.join().map_err(|_| anyhow::anyhow!("the desk panicked"))?;
    }
    stop.store(true, Ordering::Relaxed);
    for (thread, name) in of_limits {
        thread.join().map_err(|_| anyhow::anyhow!("the {name} thread panicked"))?;
    }
    to_prober.send(prober::Question::Stop);
    prober.join().map_err(|_| anyhow::anyhow!("the prober panicked"))?;
    warden.join().map_err(|_| anyhow::anyhow!("the warden panicked"))??;
    std::fs::remove_file(run_dir.control()).context("cannot remove the control socket")
}

/// Starts what limits need, where there are any; a change of them takes a restart of the daemon.
fn start_limits(
    plan: &Plan,
    mut refusals: Refusals,
    interfaces: Arc<Interfaces>,
    steward: &Arc<steward::Steward>,
    watchers: &Watchers,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<Vec<(thread::JoinHandle<()>, &'static str)>> {
    if tally::limits(plan).is_empty() {
        return Ok(Vec::new());
    }
    let answers = wire::Sender::open().context("cannot open a packet socket")?;
    let (stop_of_answers, stop_of_heirs, steward) = (Arc::clone(stop), Arc::clone(stop), Arc::clone(steward));
    let refusals = spawn("refusals", move || {
        crate::limits::answer(&mut refusals, &interfaces, &answers, &stop_of_answers);
    })?;
    let claims = watchers.join().context("nobody can watch the claims")?;
    let heirs = spawn("heirs", move || {
        let ask = |to| steward.ask_for_counts(&to);
        crate::limits::inherit(&claims, &stop_of_heirs, ask, |answer| steward.take_counts(answer));
    })?;
    Ok(vec![(refusals, "refusals"), (heirs, "heirs")])
}

/// Returns when the daemon is to end; a hangup means "read the configuration again".
fn wait_for_the_end(signals: &SigSet, steward: &steward::Steward) -> anyhow::Result<()> {
    loop {
        let signal = signals.wait().context("cannot wait for signals")?;
        if signal != Signal::SIGHUP {
            tracing::info!(
                "{signal}: ending; sessions stay with the kernel part, `onevip teardown` removes it"
            );
            return Ok(());
        }
        match steward.reload() {
            Ok(changes) => tracing::info!("reloaded: {changes}"),
            Err(error) => tracing::error!("not reloaded, nothing changed: {error:#}"),
        }
    }
}

/// Refuses to go on without root.
///
/// # Errors
/// The effective user is not root.
pub fn require_root() -> anyhow::Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    bail!("this needs root (it attaches programs to the network and changes addresses); run it with sudo")
}

/// Kernel part first, then the address: no packet for the VIP ever meets a host without a verdict.
fn set_up(plan: &Plan, stages: &[Stage], run_dir: &RunDir, journal: &mut Journal) -> anyhow::Result<Kernel> {
    let mut netlink = Netlink::open().context("cannot talk to the kernel over netlink")?;
    onevip_bpf::ensure_bpffs(&run_dir.pins())?;
    let (mut kernel, origin) = Kernel::open(&run_dir.pins())?;
    match origin {
        Origin::Fresh => tracing::info!("kernel part loaded"),
        Origin::Adopted => tracing::info!("kernel part adopted from an earlier daemon"),
        Origin::Upgraded => tracing::info!("kernel part of an earlier version replaced, its state kept"),
        Origin::Rebuilt { why } => tracing::warn!("kernel part rebuilt: {why}"),
    }
    let wanted = plan.kernel_config();
    if kernel.config().is_some_and(|old| old != wanted) {
        expect_guests_everywhere(&kernel);
    }
    give_up_addresses(stages, journal)?;
    kernel.set_config(&wanted)?;
    for (interface, accelerate) in plan.attachments() {
        let attached = kernel.attach(&interface, early_drop(accelerate))?;
        tracing::info!("attached to {interface}: {attached}");
    }
    guard_ports(plan, run_dir)?;
    others::ensure(stages, &mut netlink, journal)?;
    for stage in stages {
        for repair in stage.ensure(&mut netlink, journal)? {
            tracing::info!("{}", repair.at_start());
        }
    }
    clear_away(stages, &mut kernel, journal)?;
    Ok(kernel)
}

/// Under another hash sockets lie in other buckets than those that are marked: until the next scan has found them, any
/// bucket may have some.
fn expect_guests_everywhere(kernel: &Kernel) {
    let words = kernel.words();
    for vip in 0..onevip_bpf::VIPS_MAX {
        for bucket in Bucket::all() {
            words.set_flags(vip, bucket, words.flags(vip, bucket).with(Flags::GUESTS));
        }
    }
}

/// No process of this host may take a port of another node's slice. Where that cannot be prevented everything else works.
fn guard_ports(plan: &Plan, run_dir: &RunDir) -> anyhow::Result<()> {
    if !plan.vips.iter().any(|vip| vip.vip.selector().is_sliced()) {
        return Ok(onevip_bpf::release_ports(&run_dir.pins())?);
    }
    let guarded = match cgroup::of_this_host() {
        None => Err(anyhow::anyhow!("no cgroup file system of version 2 is mounted")),
        Some(group) => onevip_bpf::guard_ports(&run_dir.pins(), &group).map(|()| group).map_err(Into::into),
    };
    match guarded {
        Ok(group) => {
            tracing::info!("ports of other nodes are refused to the processes in {}", group.display())
        }
        Err(error) => tracing::error!(
            "ports of other nodes are not refused to the processes of this host: {error:#}; a mosh-server that takes one \
             is never reached: mount -t cgroup2 none /sys/fs/cgroup/unified, then restart the daemon"
        ),
    }
    Ok(())
}

/// Takes VIPs from this host that the configuration no longer has, while the kernel part still judges their packets, and
/// resets their sessions: without the address no reset gets out.
fn give_up_addresses(stages: &[Stage], journal: &mut Journal) -> anyhow::Result<()> {
    let serves = |address: &IpAddr| stages.iter().any(|stage| stage.addresses.contains(address));
    let given_up: Vec<_> = journal.addresses().into_iter().filter(|address| !serves(address)).collect();
    reset::sessions_of(&given_up, |said| tracing::warn!("addresses that the file no longer has: {said}"));
    let stays = |change: &Change| !matches!(change, Change::Address { address, .. } if !serves(address));
    for change in journal.undo_unless(stays)? {
        tracing::info!("the configuration no longer asks for {change}: undone");
    }
    Ok(())
}

/// Takes away what an earlier configuration has left on this host: the address first, then the kernel part that judged
/// its packets.
fn clear_away(stages: &[Stage], kernel: &mut Kernel, journal: &mut Journal) -> anyhow::Result<()> {
    let needed =
        |change: &Change| stages.iter().any(|stage| stage.needs(change)) || others::needs(stages, change);
    for change in journal.undo_unless(needed)? {
        tracing::info!("the configuration no longer asks for {change}: undone");
    }
    let interfaces: Vec<&str> = stages.iter().map(|stage| stage.interface.as_str()).collect();
    Ok(kernel.detach_all_but(&interfaces)?)
}

pub(super) fn early_drop(accelerate: Acceleration) -> onevip_bpf::Accelerate {
    match accelerate {
        Acceleration::Off => onevip_bpf::Accelerate::Off,
        Acceleration::Xdp => onevip_bpf::Accelerate::Xdp,
        Acceleration::XdpGeneric => onevip_bpf::Accelerate::XdpGeneric,
    }
}

/// One loop for each VIP, which begins with the sockets that are here already.
fn vip_loops(
    config: &Config,
    plan: &Plan,
    scanned: &[Scanned],
    founding: Option<&Founding>,
    words: &Words,
) -> anyhow::Result<Vec<VipLoop>> {
    let connections = sockets::connections().context("cannot list the sockets of this host")?;
    let bound = sockets::bound().context("cannot list the UDP sockets of this host")?;
    plan.vips
        .iter()
        .zip(scanned)
        .enumerate()
        .map(|(index, (vip, scanned))| {
            let guests = scanned.guests(&connections, &bound);
            let new = |claims, elsewhere, decider| {
                VipLoop::new(index, words, claims, guests.sockets, elsewhere, decider)
            };
            Ok(match founding {
                Some(founding) => {
                    let decider = founding.decider(config, plan, vip, guests.living)?;
                    new(BucketSet::EMPTY, BucketSet::FULL, decider)
                }
                None => {
                    let claims = config.full_table(&vip.vip).owned_by(plan.node.id);
                    new(claims, static_elsewhere(vip), Decider::fixed(config.beat))
                }
            })
        })
        .collect()
}

/// With a fixed set of nodes nobody says what the others hold, so a flow that is not here must be taken to live
/// elsewhere, unless there is no elsewhere.
fn static_elsewhere(vip: &plan::VipPlan) -> BucketSet {
    if vip.vip.nodes.len() > 1 { BucketSet::FULL } else { BucketSet::EMPTY }
}

fn served(plan: &Plan) -> String {
    let one = |vip: &plan::VipPlan| {
        let addresses: Vec<_> = vip.vip.addresses.iter().map(ToString::to_string).collect();
        format!("{} ({}) on {}", vip.vip.name, addresses.join(", "), vip.link.name)
    };
    plan.vips.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn blocked_signals() -> anyhow::Result<SigSet> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    signals.thread_block().context("cannot block signals")?;
    Ok(signals)
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<thread::JoinHandle<T>> {
    thread::Builder::new()
        .name(format!("onevip-{name}"))
        .stack_size(STACK)
        .spawn(work)
        .with_context(|| format!("cannot start the {name} thread"))
}
