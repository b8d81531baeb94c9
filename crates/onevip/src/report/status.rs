//! What `onevip status` shows: the state of this node as plain data.
//!
//! The daemon collects it and sends it over the control socket; without a daemon the command collects it itself from the
//! pinned maps, because that is when it is needed most.

use crate::control::protocol::Request;
use onevip_health::results::HealthReport;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Everything about this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program that collected this.
    pub version: String,
    /// Name of the cluster.
    pub cluster: String,
    /// Name of this node.
    pub node: String,
    /// Its number.
    pub node_id: u8,
    /// `static` or `living`.
    pub membership: String,
    /// First bytes of the configuration's digest, in hex; equal on all nodes with the same configuration.
    pub config_digest: String,
    /// The daemon; `None` when none runs.
    pub daemon: Option<DaemonStatus>,
    /// The lease under which this node claims anything; of several VIPs' the one that runs out first.
    pub lease: LeaseStatus,
    /// How this node feels; `None` without a daemon.
    #[serde(default)]
    pub health: Option<HealthReport>,
    /// Prefixes that this node's kernel part keeps out: IPv4, IPv6.
    #[serde(default)]
    pub bans: [u32; 2],
    /// Whether the daemon resets orphans itself, because the resets of this host's stack do not leave.
    #[serde(default)]
    pub daemon_resets: bool,
    /// Where the kernel part is attached.
    pub attached: Vec<AttachedStatus>,
    /// Whether processes here are refused the ports of other nodes' slices; `None` where no service has slices.
    #[serde(default)]
    pub ports_guarded: Option<bool>,
    /// The VIPs that this node serves.
    pub vips: Vec<VipStatus>,
    /// Packets by program (`ingress`, `xdp`, `guard`) and reason, since the programs were first loaded.
    pub verdicts: BTreeMap<String, BTreeMap<String, u64>>,
}

/// The running daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// Its process id.
    pub pid: u32,
    /// Seconds since it began to serve.
    pub up_seconds: u64,
    /// Whether its beat loop has real-time rights.
    pub realtime: bool,
    /// Whether its memory is locked.
    pub memory_locked: bool,
}

/// The lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// Whether it has not yet run out.
    pub live: bool,
    /// Milliseconds until it runs out; negative since it has. 0 when there never was one.
    pub left_ms: i64,
}

/// The programs on one interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttachedStatus {
    /// The interface.
    pub interface: String,
    /// `tcx` or `clsact`.
    pub mode: String,
    /// `xdp` or `xdp-generic`, where the early dropper is attached.
    pub xdp: Option<String>,
}

/// One VIP on this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VipStatus {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The cluster MAC.
    pub cluster_mac: String,
    /// The interface that bears it here.
    pub interface: String,
    /// Why that interface cannot be used now, if so: it is not there, down, without a carrier.
    #[serde(default)]
    pub trouble: Option<String>,
    /// The hash mode.
    pub hash: String,
    /// Buckets that this node claims.
    pub claims: usize,
    /// Buckets in which this node has sockets.
    #[serde(rename = "guests")]
    pub with_sessions: usize,
    /// Buckets in which another kernel may hold flows.
    pub elsewhere: usize,
    /// Established TCP connections to the VIP that this node holds.
    pub sessions: usize,
    /// The lease under which this node claims anything of it.
    pub lease: LeaseStatus,
    /// The nodes that serve it.
    pub nodes: Vec<NodeStatus>,
    /// What came in to open something and what left for it, by address and kind of clients.
    #[serde(default)]
    pub effects: Vec<EffectStatus>,
    /// What living membership knows; `None` with fixed nodes or without a daemon.
    pub membership: Option<MembershipStatus>,
}

/// What was counted of openings, since the kernel part was loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectStatus {
    /// The address of the VIP.
    pub address: IpAddr,
    /// Whose: `on-link` or `routed`.
    pub clients: String,
    /// SYNs to the service's port that were let in.
    pub syns: u64,
    /// SYN-ACKs that left from there.
    pub syn_acks: u64,
    /// Resets that left, of sessions as well.
    pub resets: u64,
    /// Third segments of handshakes for which a socket was here.
    pub handshakes: u64,
    /// Segments that nobody holds, let in to be reset.
    pub orphans: u64,
    /// ARP requests or neighbour solicitations let in.
    pub questions: u64,
    /// Their answers that left.
    pub answers: u64,
    /// Who sent the newest SYN.
    pub newest: Option<IpAddr>,
}

/// How this node stands among the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MembershipStatus {
    /// `joining`, `serving`, `draining` or `leaving`.
    pub state: String,
    /// Seconds since it is so.
    pub since_seconds: u64,
    /// Why it takes no share; `None` if it does.
    pub why_out: Option<String>,
    /// What the pattern of silence suggests, if anything.
    pub hint: Option<String>,
    /// Buckets it wants and does not have yet.
    pub intents: usize,
    /// Digest of what the table is made of, in hex: equal on all nodes that agree.
    pub view: String,
    /// Beats sent.
    pub beats_sent: u64,
    /// Beats received and believed.
    pub beats_received: u64,
    /// Beats received and rejected, by reason.
    pub beats_rejected: BTreeMap<String, u64>,
}

/// What this node knows of another one from its beats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerView {
    /// Whether each hears the other.
    pub heard: bool,
    /// Seconds since `heard` is what it is.
    pub since_seconds: u64,
    /// Why it is not heard, if it ever was.
    pub why_lost: Option<String>,
    /// Milliseconds since its newest beat; `None` if it never spoke.
    pub silent_ms: Option<u64>,
    /// What it says it is doing.
    pub state: Option<String>,
    /// How many of its newest beats did not come, in percent.
    pub loss_percent: u32,
    /// Whether it misses too many of this node's beats.
    pub finds_us_lossy: bool,
    /// How ill it says it is, 0 to 3.
    #[serde(default)]
    pub illness: u8,
    /// Whom it hears, by number.
    pub hears: Vec<u8>,
    /// Buckets it claims.
    pub claims: usize,
    /// Sessions it says it holds.
    pub sessions: Option<u32>,
    /// Whether its kernel no longer answers.
    pub kernel_gone: bool,
    /// Whether its kernel answers questions while it lives; only then can it be found gone. `None`: not known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_askable: Option<bool>,
    /// Whether its configuration means something else than ours.
    pub config_differs: bool,
    /// Whether its SSH host keys are others than ours, as far as both are known.
    #[serde(default)]
    pub host_keys_differ: bool,
    /// Whether it stands in our configuration.
    pub in_file: bool,
    /// By which families of the VIP its beats do not come, though they come by the other.
    #[serde(default)]
    pub missing_families: Vec<String>,
    /// Who voted it out, by name; empty unless it is voted out.
    #[serde(default)]
    pub voted_out_by: Vec<String>,
    /// Why this node suspects it of not serving its clients, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspicion: Option<String>,
    /// Whether this node could tell that it does not serve.
    #[serde(default)]
    pub witnessed: bool,
}

/// A node as this one sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: u8,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// Its weight.
    pub weight: u16,
    /// Whether it is this node.
    pub this: bool,
    /// Whether it counts as alive.
    pub alive: bool,
    /// Buckets that the table gives it.
    pub wants: usize,
    /// Those as a share of all, in percent.
    pub share_percent: f64,
    /// What its beats tell; `None` for this node, with fixed nodes, or without a daemon.
    pub peer: Option<PeerView>,
}

/// How a node stands to a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Whether it answers new connections of the client now: it claims the bucket, and its lease is live.
    pub answers: bool,
    /// What it is doing: `serving`, `draining` and so on.
    pub state: String,
    /// Why it takes no share; `None` if it does.
    pub why_out: Option<String>,
    /// Sessions of the client's address that it holds.
    pub sessions: usize,
    /// At which limits the client is here.
    #[serde(default)]
    pub at_limits: Vec<String>,
}

/// Everything that `onevip status` shows.
#[derive(Serialize, Deserialize)]
pub struct AskStatus {}

impl Request for AskStatus {
    const COMMAND: &'static str = "status";
    type Reply = Status;
    const REPLY: &'static str = "status";
}
