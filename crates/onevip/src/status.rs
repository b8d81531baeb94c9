//! What `onevip status` shows: the state of this node as plain data, and as a page for people.
//!
//! The daemon gathers it and sends it over the control socket; without a daemon the command gathers it itself from the
//! pinned maps, because that is when it is needed most.

use onevip_core::Reason;
use onevip_health::board::{Check, Report as Health};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// Everything about this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program that gathered this.
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
    pub daemon: Option<Daemon>,
    /// The lease under which this node claims anything; of several VIPs' the one that runs out first.
    pub lease: Lease,
    /// How this node feels; `None` without a daemon.
    #[serde(default)]
    pub health: Option<Health>,
    /// Prefixes that this node's kernel part keeps out: IPv4, IPv6.
    #[serde(default)]
    pub bans: [u32; 2],
    /// Where the kernel part is attached.
    pub attached: Vec<Attached>,
    /// Whether processes here are refused the ports of other nodes' slices; `None` where no service has slices.
    #[serde(default)]
    pub ports_guarded: Option<bool>,
    /// The VIPs that this node serves.
    pub vips: Vec<Vip>,
    /// Packets by program (`ingress`, `xdp`, `guard`) and reason, since the programs were first loaded.
    pub verdicts: BTreeMap<String, BTreeMap<String, u64>>,
}

/// The running daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Daemon {
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
pub struct Lease {
    /// Whether it has not yet run out.
    pub live: bool,
    /// Milliseconds until it runs out; negative since it has. 0 when there never was one.
    pub left_ms: i64,
}

/// The programs on one interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attached {
    /// The interface.
    pub interface: String,
    /// `tcx` or `clsact`.
    pub mode: String,
    /// `xdp` or `xdp-generic`, where the early dropper is attached.
    pub xdp: Option<String>,
}

/// One VIP on this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vip {
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
    pub guests: usize,
    /// Buckets in which another kernel may hold flows.
    pub elsewhere: usize,
    /// Established TCP connections to the VIP that this node holds.
    pub sessions: usize,
    /// The lease under which this node claims anything of it.
    pub lease: Lease,
    /// The nodes that serve it.
    pub nodes: Vec<Node>,
    /// What living membership knows; `None` with fixed nodes or without a daemon.
    pub membership: Option<Membership>,
}

/// How this node stands among the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Membership {
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
pub struct Peer {
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
pub struct Node {
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
    pub peer: Option<Peer>,
}

/// Loss in percent that is worth a remark.
const LOSS_WORTH_SAYING: u32 = 5;

/// Width of the bar that shows a share, in characters.
const BAR: usize = 24;

impl Status {
    /// The page for people.
    pub fn page(&self) -> Page<'_> {
        Page(self)
    }
}

/// Shows a [`Status`] to people.
pub struct Page<'a>(&'a Status);

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.0;
        writeln!(
            f,
            "{} (node {}) of cluster {} · membership {} · configuration {}",
            status.node, status.node_id, status.cluster, status.membership, status.config_digest
        )?;
        writeln!(f, "daemon  {}", daemon_line(status))?;
        writeln!(f, "lease   {}", lease_line(status))?;
        if let Some(health) = &status.health {
            write_health(f, health, status.membership == "static")?;
        }
        if status.bans != [0, 0] {
            let [v4, v6] = status.bans;
            writeln!(f, "bans    {v4} of IPv4, {v6} of IPv6 (`onevip bans` lists them)")?;
        }
        for attached in &status.attached {
            let xdp = attached.xdp.as_ref().map(|mode| format!(" behind {mode}")).unwrap_or_default();
            writeln!(f, "kernel  {} on {}{xdp}", attached.mode, attached.interface)?;
        }
        for vip in &status.vips {
            write_vip(f, vip)?;
        }
        for (program, reasons) in &status.verdicts {
            write_verdicts(f, program, reasons)?;
        }
        Ok(())
    }
}

fn daemon_line(status: &Status) -> String {
    let Some(daemon) = &status.daemon else {
        let sessions: usize = status.vips.iter().map(|vip| vip.sessions).sum();
        return format!(
            "not running: nothing new is answered here; sessions held by the kernel part: {sessions}"
        );
    };
    let mut line =
        format!("running for {} (pid {}, {})", duration(daemon.up_seconds), daemon.pid, status.version);
    if !daemon.realtime {
        line.push_str(" · without real-time rights: beats may be late under load");
    }
    if !daemon.memory_locked {
        line.push_str(" · memory not locked: beats may be late when the host swaps");
    }
    line
}

fn lease_line(status: &Status) -> String {
    let lapsed: Vec<&str> =
        status.vips.iter().filter(|vip| !vip.lease.live).map(|vip| vip.name.as_str()).collect();
    let nothing = if lapsed.len() < status.vips.len() {
        format!("this node claims nothing of {}", lapsed.join(", "))
    } else {
        "this node claims nothing".to_owned()
    };
    match (status.lease.live, status.lease.left_ms) {
        (true, left) => format!("live, {left} ms left"),
        (false, 0) => format!("none: {nothing}"),
        (false, left) => format!("ran out {} ago: {nothing}", duration((-left / 1000).max(0) as u64)),
    }
}

/// One line while all is well, and one more for each check that is not.
fn write_health(f: &mut fmt::Formatter<'_>, health: &Health, is_static: bool) -> fmt::Result {
    let ill: Vec<&Check> = health.checks.iter().filter(|check| check.state != "well").collect();
    let mut line = match (ill.is_empty(), health.illness) {
        (true, _) => format!("well ({} checks)", health.checks.len()),
        (false, 0) => "not quite well".to_owned(),
        (false, illness) => format!("ill ({illness} of 3): new users go where it is better"),
    };
    if health.weight_percent < 100 {
        line.push_str(&format!(" · sheds load: {} % of its weight", health.weight_percent));
    }
    if is_static && !ill.is_empty() {
        line.push_str(" · without effect: with fixed nodes nobody takes over");
    }
    writeln!(f, "health  {line}")?;
    for check in ill {
        let (name, since) = (&check.name, duration(check.since_seconds));
        writeln!(f, "        {:4}  {name}: {} (for {since})", check.state, check.finding)?;
    }
    Ok(())
}

fn write_vip(f: &mut fmt::Formatter<'_>, vip: &Vip) -> fmt::Result {
    let addresses: Vec<_> = vip.addresses.iter().map(ToString::to_string).collect();
    writeln!(
        f,
        "\nvip {}  {} at {} on {} · by {}",
        vip.name,
        addresses.join(", "),
        vip.cluster_mac,
        vip.interface,
        vip.hash
    )?;
    if let Some(trouble) = &vip.trouble {
        writeln!(f, "  {trouble}: this node serves nobody here")?;
    }
    if let Some(membership) = &vip.membership {
        writeln!(f, "  {}", membership_line(membership))?;
        if let Some(hint) = &membership.hint {
            writeln!(f, "  {hint}")?;
        }
    }
    let name_width = vip.nodes.iter().map(|node| node.name.len()).max().unwrap_or(0).max(4);
    let largest = vip.nodes.iter().map(|node| node.wants).max().unwrap_or(0).max(1);
    for node in &vip.nodes {
        let filled = (node.wants * BAR).div_ceil(largest);
        let bar = format!("{}{}", "█".repeat(filled), "░".repeat(BAR - filled));
        let line = format!(
            "  {:>2} {:name_width$} {bar} {:>4} buckets {:>5.1} %  {}",
            node.id,
            node.name,
            node.wants,
            node.share_percent,
            node_remark(vip, node)
        );
        writeln!(f, "{}", line.trim_end())?;
    }
    if vip.guests > 0 || vip.elsewhere > 0 {
        writeln!(
            f,
            "  buckets with guests here {}, with flows perhaps elsewhere {}",
            vip.guests, vip.elsewhere
        )?;
    }
    let rejected = vip.membership.iter().flat_map(|membership| &membership.beats_rejected);
    for (why, count) in rejected.filter(|(_, count)| **count > 0) {
        writeln!(f, "  {count} beats rejected: {why}")?;
    }
    Ok(())
}

fn membership_line(membership: &Membership) -> String {
    let mut line = format!("this node is {} for {}", membership.state, duration(membership.since_seconds));
    if let Some(why) = &membership.why_out {
        line.push_str(&format!(" and takes no share: {why}"));
    }
    if membership.intents > 0 {
        line.push_str(&format!(" · waits for {} buckets", membership.intents));
    }
    line
}

/// What is worth saying beside a node's bar.
fn node_remark(vip: &Vip, node: &Node) -> String {
    if node.this {
        return format!("← claims {}, holds {} sessions", vip.claims, vip.sessions);
    }
    let Some(peer) = &node.peer else { return String::new() };
    let mut remarks = Vec::new();
    match (&peer.state, peer.silent_ms) {
        (Some(state), Some(silent)) if peer.heard => {
            remarks.push(format!("{state}, claims {}, beat {silent} ms ago", peer.claims));
            remarks.extend(peer.sessions.map(|count| format!("{count} sessions")));
        }
        (_, None) => remarks.push("never heard".to_owned()),
        (_, Some(_)) => {
            let why = peer.why_lost.as_deref().unwrap_or("not heard");
            remarks.push(format!("OUT for {}: {why}", duration(peer.since_seconds)));
            remarks.push(match (peer.kernel_gone, peer.kernel_askable) {
                (true, _) => "its kernel is gone".to_owned(),
                (false, Some(false)) => format!("its kernel cannot be asked: `onevip forget {}`", node.name),
                (false, _) => "its kernel may hold sessions".to_owned(),
            });
        }
    }
    if peer.heard && peer.kernel_askable == Some(false) {
        remarks.push("its kernel does not answer ARP or ND".to_owned());
    }
    if peer.heard && peer.loss_percent >= LOSS_WORTH_SAYING {
        remarks.push(format!("{} % of its beats are lost", peer.loss_percent));
    }
    if peer.heard && peer.finds_us_lossy {
        remarks.push("misses many of ours".to_owned());
    }
    if peer.heard && peer.illness > 0 {
        remarks.push(format!("ill ({} of 3)", peer.illness));
    }
    if !peer.voted_out_by.is_empty() {
        remarks.push(format!("voted out by {}", peer.voted_out_by.join(", ")));
    }
    remarks.extend(peer.suspicion.clone());
    for family in &peer.missing_families {
        remarks.push(format!("not heard by {family}: something withholds those frames"));
    }
    if peer.config_differs {
        remarks.push("its configuration differs".to_owned());
    }
    if peer.host_keys_differ {
        remarks.push("its SSH host keys differ".to_owned());
    }
    if !peer.in_file {
        remarks.push("not in this node's configuration".to_owned());
    }
    remarks.join(", ")
}

/// Reasons with what they did, most frequent first; those that never happened are left out.
fn write_verdicts(f: &mut fmt::Formatter<'_>, program: &str, reasons: &BTreeMap<String, u64>) -> fmt::Result {
    let mut seen: Vec<_> = reasons.iter().filter(|(_, count)| **count > 0).collect();
    if seen.is_empty() {
        return Ok(());
    }
    seen.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    writeln!(f, "\nverdicts of {program}")?;
    for (label, count) in seen {
        let action = Reason::ALL.iter().find(|reason| reason.label() == label).map_or("", |reason| {
            match reason.action() {
                onevip_core::Action::Pass => "pass",
                onevip_core::Action::Drop => "drop",
                onevip_core::Action::ToDaemon => "take",
            }
        });
        writeln!(f, "  {count:>12}  {action:4}  {label}")?;
    }
    Ok(())
}

fn duration(seconds: u64) -> String {
    humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string()
}
