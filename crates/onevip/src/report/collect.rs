//! Collects what `onevip status` shows: from the pinned maps, the sockets and, where there is one, the daemon.

use super::status::{
    AskStatus, AttachedStatus, DaemonStatus, EffectStatus, LeaseStatus, MembershipStatus, NodeStatus,
    PeerView, Placement, Status, VipStatus,
};
use crate::base::beat_loop::BeatLoopHandle;
use crate::base::clock::now;
use crate::base::command::VipReport;
use crate::base::current::{Configured, Current};
use crate::base::interfaces::{self, Interfaces};
use crate::base::plan::{Plan, VipPlan};
use crate::control::server::Handler;
use crate::events::words::{names, state_word, why_lost, why_out};
use crate::peer_check::Suspicions;
use anyhow::Context;
use onevip_bpf::{Accelerate, AttachMode, ClientKind, Kernel, PinnedView};
use onevip_config::{Config, Delivery};
use onevip_core::{BUCKETS, Bucket, BucketSet, Flags, NodeId, NodeSet, Reason, Table, membership};
use onevip_health::results::Results;
use onevip_host::run_dir::RunDir;
use onevip_host::sockets::{self, TcpPhase};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A peer without a beat for this long is silent, whatever the beat time.
const SILENCE: Duration = Duration::from_secs(1);

/// What only the running daemon knows.
pub struct Running {
    /// Who is asked how the VIPs stand.
    pub beat_loop: BeatLoopHandle,
    /// When it began to serve.
    pub since: Instant,
    /// Whether the beat loop has real-time rights.
    pub realtime: Arc<AtomicBool>,
    /// Whether memory is locked.
    pub memory_locked: bool,
    /// Digest of the SSH host keys; 0 while they are not known.
    pub host_keys: Arc<AtomicU64>,
    /// What the health checks found.
    pub health: Arc<Results>,
    /// What this node finds out about others.
    pub peer_check: Arc<Suspicions>,
    /// Sessions by VIP, from the newest scan.
    pub sessions: Vec<Arc<AtomicUsize>>,
    /// What their interfaces are like.
    pub interfaces: Arc<Interfaces>,
}

/// Knows where to look.
pub struct Collector {
    current: Current,
    kernel: PinnedView,
    running: Option<Running>,
}

impl Collector {
    /// For the daemon.
    ///
    /// # Errors
    /// The pins cannot be opened.
    pub fn of_daemon(current: &Current, run_dir: &RunDir, running: Running) -> anyhow::Result<Self> {
        Self::new(current, run_dir, Some(running))
    }

    /// For a command that found no daemon.
    ///
    /// # Errors
    /// The pins cannot be opened: nothing was ever set up, or not by this user.
    pub fn without_daemon(current: &Current, run_dir: &RunDir) -> anyhow::Result<Self> {
        Self::new(current, run_dir, None)
    }

    fn new(current: &Current, run_dir: &RunDir, running: Option<Running>) -> anyhow::Result<Self> {
        let kernel = Kernel::open_pinned(&run_dir.pins())?;
        Ok(Self { current: current.clone(), kernel, running })
    }

    /// Looks, and asks the beat loop.
    ///
    /// # Errors
    /// The beat loop does not answer, or the kernel part cannot be read.
    pub fn look(&self) -> anyhow::Result<(Status, Vec<VipReport>)> {
        let reports =
            self.running.as_ref().map_or_else(|| Ok(Vec::new()), |running| running.beat_loop.report())?;
        let status = self.glance(&self.current.get()).collect(&reports)?;
        Ok((status, reports))
    }

    /// How this node stands to the clients of a bucket, of whom it holds so many sessions.
    pub fn placement(
        &self,
        vip: usize,
        bucket: Bucket,
        sessions: usize,
        report: Option<&VipReport>,
    ) -> Placement {
        self.glance(&self.current.get()).placement(vip, bucket, sessions, report)
    }

    fn glance<'a>(&'a self, current: &'a Configured) -> Glance<'a> {
        let (kernel, running) = (&self.kernel, self.running.as_ref());
        Glance { config: &current.config, plan: &current.plan, kernel, running }
    }
}

/// Carries out `status`.
pub fn handler(collector: &Arc<Collector>) -> Handler {
    let collector = Arc::clone(collector);
    Handler::new(move |AskStatus {}, _| collector.look().map(|(status, _)| status))
}

/// One look: all of it by the same configuration.
struct Glance<'a> {
    config: &'a Config,
    plan: &'a Plan,
    kernel: &'a PinnedView,
    running: Option<&'a Running>,
}

impl Glance<'_> {
    /// `reports` are what the beat loop says, one for each VIP; none without a daemon.
    fn collect(&self, reports: &[VipReport]) -> anyhow::Result<Status> {
        let sessions = match self.running {
            Some(running) => running.sessions.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            None => self.count_sessions()?,
        };
        let vips = self.plan.vips.iter().zip(sessions).enumerate();
        let sliced = self.plan.vips.iter().any(|vip| vip.vip.selector().is_sliced());
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: self.config.cluster.clone(),
            node: self.plan.node.name.clone(),
            node_id: self.plan.node.id.get(),
            membership: self.config.membership.to_string(),
            config_digest: self.config.digest_hex(),
            daemon_resets: self.kernel.effects().is_ok_and(|counts| counts.daemon_resets),
            daemon: self.running.map(|running| DaemonStatus {
                pid: std::process::id(),
                up_seconds: running.since.elapsed().as_secs(),
                realtime: running.realtime.load(Ordering::Relaxed),
                memory_locked: running.memory_locked,
            }),
            lease: self.shortest_lease(),
            health: self.running.map(|running| running.health.status()),
            bans: self.kernel.ban_counts(),
            attached: self.attached()?,
            ports_guarded: sliced.then(|| self.kernel.ports_are_guarded()),
            vips: vips
                .map(|(index, (plan, sessions))| self.vip(index, plan, sessions, reports.get(index)))
                .collect(),
            verdicts: self.verdicts()?,
        })
    }

    /// How this node stands to the clients of a bucket, of whom it holds so many sessions.
    fn placement(
        &self,
        vip: usize,
        bucket: Bucket,
        sessions: usize,
        report: Option<&VipReport>,
    ) -> Placement {
        let live = self.lease(vip).live;
        let engine = report.and_then(|report| report.membership.as_ref());
        Placement {
            answers: live && self.kernel.flags(vip, bucket).has(Flags::MINE),
            state: engine.map_or("serving", |engine| state_word(engine.standing.state)).to_owned(),
            why_out: engine.and_then(|engine| self.why_out(engine)),
            sessions,
            at_limits: Vec::new(),
        }
    }

    fn lease(&self, vip: usize) -> LeaseStatus {
        let (deadline_ns, now_ns) = (self.kernel.lease_deadline_ns(vip), onevip_bpf::boot_time_ns());
        let left_ms = (deadline_ns as i64 - now_ns as i64) / 1_000_000;
        LeaseStatus { live: deadline_ns > now_ns, left_ms: if deadline_ns == 0 { 0 } else { left_ms } }
    }

    /// The one that runs out first.
    fn shortest_lease(&self) -> LeaseStatus {
        let all = (0..self.plan.vips.len()).map(|vip| self.lease(vip));
        // One that never was is no worse than one that ran out.
        all.min_by_key(|lease| (lease.live, lease.left_ms)).unwrap_or(LeaseStatus { live: false, left_ms: 0 })
    }

    fn count_sessions(&self) -> anyhow::Result<Vec<usize>> {
        let connections = sockets::connections().context("cannot list the sockets of this host")?;
        let bound = sockets::bound().context("cannot list the UDP sockets of this host")?;
        let of = |vip: &VipPlan| {
            let selector = vip.vip.selector_of(self.plan.node.id);
            sockets::by_socket(&bound, &vip.vip.addresses, &selector).count()
                + connections
                    .iter()
                    .filter(|c| c.phase == TcpPhase::Session && vip.vip.addresses.contains(&c.flow.local))
                    .filter(|c| c.flow.remote != c.flow.local)
                    .count()
        };
        Ok(self.plan.vips.iter().map(of).collect())
    }

    fn vip(&self, index: usize, plan: &VipPlan, sessions: usize, report: Option<&VipReport>) -> VipStatus {
        let flagged = |flag| -> BucketSet {
            Bucket::all().filter(|bucket| self.kernel.flags(index, *bucket).has(flag)).collect()
        };
        let vip = &plan.vip;
        let engine = report.and_then(|report| report.membership.as_ref());
        let trouble = self.trouble(index, plan);
        VipStatus {
            name: vip.name.clone(),
            addresses: vip.addresses.clone(),
            cluster_mac: vip.mac.to_string(),
            interface: plan.link.name.clone(),
            trouble: trouble.clone(),
            hash: vip.hash_word().to_owned(),
            claims: flagged(Flags::MINE).len(),
            with_sessions: flagged(Flags::GUESTS).len(),
            elsewhere: flagged(Flags::ELSEWHERE).len(),
            sessions,
            lease: self.lease(index),
            nodes: self.nodes(index, vip, engine),
            effects: self.effects(index),
            membership: report
                .zip(engine)
                .map(|(report, engine)| membership(report, engine, vip.delivery, self.why_out(engine)))
                .map(|said| if trouble.is_some() { for_want_of_an_interface(said, trouble) } else { said }),
        }
    }

    /// None where the kernel does not tell: status has to come all the same.
    fn effects(&self, vip: usize) -> Vec<EffectStatus> {
        let before: usize = self.plan.vips[..vip].iter().map(|plan| plan.vip.addresses.len()).sum();
        let Ok(counts) = self.kernel.effects() else { return Vec::new() };
        let addresses = self.plan.vips[vip].vip.addresses.iter().zip(before..);
        let each = addresses.flat_map(|address| ClientKind::ALL.map(|kind| (address, kind)));
        each.map(|((address, index), kind)| {
            let seen = counts.of(index, kind);
            EffectStatus {
                address: *address,
                clients: kind.word().to_owned(),
                syns: seen.syns,
                syn_acks: seen.syn_acks,
                resets: seen.resets,
                handshakes: seen.handshakes,
                orphans: seen.orphans,
                questions: seen.questions,
                answers: seen.answers,
                newest: counts.newest(index, kind, *address),
            }
        })
        .collect()
    }

    /// Why the interface of a VIP cannot be used now.
    fn trouble(&self, index: usize, plan: &VipPlan) -> Option<String> {
        match self.running {
            Some(running) => running.interfaces.trouble(index),
            None if plan.link.index == 0 => Some(interfaces::not_there(&plan.link.name)),
            None => interfaces::trouble(&plan.link),
        }
    }

    /// The nodes of the file, then those that beat without being in it.
    fn nodes(
        &self,
        index: usize,
        vip: &onevip_config::Vip,
        engine: Option<&membership::EngineStatus>,
    ) -> Vec<NodeStatus> {
        let table = match engine {
            None => self.config.full_table(vip),
            Some(engine) => {
                let members: Vec<_> = engine.members.clone();
                Table::compute_reserved(&members, vip.seed, vip.layout(), &vip.reserve())
            }
        };
        let peer_of = |id| engine.and_then(|engine| engine.peers.iter().find(|peer| peer.node == id));
        let entry = |id: NodeId, configured: Option<&onevip_config::Node>| {
            let wants = table.owned_by(id).len();
            let said = peer_of(id).and_then(|peer| peer.said.as_ref());
            NodeStatus {
                name: configured.map_or_else(|| format!("node {id}"), |node| node.name.clone()),
                id: id.get(),
                addresses: configured.map_or_else(Vec::new, |node| node.addresses.clone()),
                weight: said.map_or_else(
                    || configured.map_or(0, |node| vip.weight_of(node)),
                    |(_, standing, _)| standing.weight.get(),
                ),
                this: id == self.plan.node.id,
                alive: engine.is_none_or(|engine| engine.alive.contains(id)),
                wants,
                share_percent: wants as f64 * 100.0 / BUCKETS as f64,
                peer: peer_of(id).map(|status| self.peer(index, status)),
            }
        };
        let configured = self.config.nodes_of(vip).map(|node| entry(node.id, Some(node)));
        let others = engine
            .into_iter()
            .flat_map(|engine| &engine.peers)
            .filter(|peer| !peer.in_file && peer.said.is_some());
        configured.chain(others.map(|peer| entry(peer.node, None))).collect()
    }

    fn peer(&self, vip: usize, status: &membership::PeerStatus) -> PeerView {
        let ours = u64::from_be_bytes(self.config.digest());
        let said = status.said.as_ref();
        let found = self.running.and_then(|running| running.peer_check.about(vip, status.node));
        let against = if status.votes.convict() { status.votes.against } else { NodeSet::EMPTY };
        PeerView {
            heard: status.heard,
            since_seconds: now().since(status.since).as_secs(),
            why_lost: status.why_lost.map(|why| why_lost(why).to_owned()),
            silent_ms: status.silent_for.map(|span| span.as_millis() as u64),
            state: said.map(|(_, standing, _)| state_word(standing.state).to_owned()),
            loss_percent: status.lost * 100 / membership::LOSS_WINDOW,
            finds_us_lossy: status.finds_us_lossy,
            illness: said.map_or(0, |(_, standing, _)| standing.health.level()),
            hears: status.hears.iter().map(NodeId::get).collect(),
            claims: status.claims,
            sessions: said.map(|(.., facts)| facts.sessions),
            kernel_gone: status.kernel_gone,
            kernel_askable: status.askable,
            config_differs: said.is_some_and(|(.., facts)| facts.config_digest != ours),
            host_keys_differ: said.is_some_and(|(.., facts)| self.has_other_keys(facts.host_keys_digest)),
            in_file: status.in_file,
            missing_families: missing_families(status),
            voted_out_by: names(self.config, against),
            witnessed: found.as_ref().is_some_and(|found| found.able),
            suspicion: found.map(|found| found.words).filter(|words| !words.is_empty()),
        }
    }

    /// Whether these host keys are others than ours, as far as both are known.
    fn has_other_keys(&self, digest: u64) -> bool {
        let ours = self.running.map_or(0, |running| running.host_keys.load(Ordering::Relaxed));
        ours != 0 && digest != 0 && ours != digest
    }

    /// Why this node takes no share, in words.
    fn why_out(&self, engine: &membership::EngineStatus) -> Option<String> {
        let words = why_out(engine.why_out?).to_owned();
        if engine.why_out != Some(membership::WhyOut::VotedOut) || engine.votes.against.is_empty() {
            return Some(words);
        }
        Some(format!("{words} ({})", names(self.config, engine.votes.against).join(", ")))
    }

    fn attached(&self) -> anyhow::Result<Vec<AttachedStatus>> {
        let attached = |(interface, mode): (String, AttachMode)| AttachedStatus {
            interface,
            mode: mode.tc.to_string(),
            xdp: (mode.xdp != Accelerate::Off).then(|| mode.xdp.to_string()),
        };
        Ok(self.kernel.attachments()?.into_iter().map(attached).collect())
    }

    fn verdicts(&self) -> anyhow::Result<BTreeMap<String, BTreeMap<String, u64>>> {
        let counters = self.kernel.counters()?;
        let row = |count: &dyn Fn(Reason) -> u64| -> BTreeMap<String, u64> {
            Reason::ALL.iter().map(|reason| (reason.label().to_owned(), count(*reason))).collect()
        };
        let guard = [("rewrote", counters.guard_rewrote), ("failed", counters.guard_failed)];
        Ok(BTreeMap::from([
            ("ingress".to_owned(), row(&|reason| counters.ingress_of(reason))),
            ("xdp".to_owned(), row(&|reason| counters.xdp_of(reason))),
            ("guard".to_owned(), guard.into_iter().map(|(label, count)| (label.to_owned(), count)).collect()),
        ]))
    }
}

/// What the pattern of silence suggests. Beats take the way of client traffic; ARP does not, where a switch snoops.
fn hint(engine: &membership::EngineStatus, delivery: Delivery) -> Option<&'static str> {
    let known = engine.peers.iter().filter(|peer| peer.in_file);
    let (mut silent, mut answering) = (0, 0);
    for peer in known.clone() {
        silent += usize::from(peer.silent_for.is_none_or(|span| span > SILENCE));
        answering += usize::from(peer.askable == Some(true) && !peer.kernel_gone);
    }
    (silent > 0 && silent == known.count() && answering > 0).then_some(match delivery {
        Delivery::Multicast => {
            "no beat arrives, but other nodes answer ARP: either their daemons do not run, or a switch withholds IP \
             frames to the cluster MAC (IGMP snooping: turn it off for this LAN, or write delivery = \"flood\"; see \
             docs/network.md)"
        }
        Delivery::Flood => {
            "no beat arrives, but other nodes answer ARP: either their daemons do not run, or a switch does not flood \
             frames to a unicast MAC that it does not know (blocking of unknown unicast, a static entry; see \
             docs/network.md)"
        }
    })
}

fn membership(
    report: &VipReport,
    engine: &membership::EngineStatus,
    delivery: Delivery,
    why_out: Option<String>,
) -> MembershipStatus {
    MembershipStatus {
        state: state_word(engine.standing.state).to_owned(),
        since_seconds: now().since(engine.since).as_secs(),
        hint: hint(engine, delivery).map(str::to_owned),
        why_out,
        intents: engine.intents,
        view: format!("{:08x}", engine.view),
        beats_sent: report.sent,
        beats_received: report.received,
        beats_rejected: report.rejected.iter().map(|(why, count)| ((*why).to_owned(), *count)).collect(),
    }
}

/// Without an interface, silence says nothing about others.
fn for_want_of_an_interface(said: MembershipStatus, trouble: Option<String>) -> MembershipStatus {
    let why_out = if said.why_out.is_some() { trouble } else { None };
    MembershipStatus { hint: None, why_out, ..said }
}

/// The families by which copies of a peer's beats stay away.
fn missing_families(status: &membership::PeerStatus) -> Vec<String> {
    let families = [membership::Family::V4, membership::Family::V6].into_iter();
    families.filter(|family| status.heard && status.misses[family.index()]).map(|f| f.to_string()).collect()
}
