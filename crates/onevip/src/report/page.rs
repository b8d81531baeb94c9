//! The status as a page for people.

use super::status::{MembershipStatus, NodeStatus, Status, VipStatus};
use onevip_core::Reason;
use onevip_health::impact::CheckState;
use onevip_health::results::{CheckReport, HealthReport};
use std::collections::BTreeMap;
use std::fmt;

/// Loss in percent that is worth a remark.
const LOSS_WORTH_SAYING: u32 = 5;

/// Width of the bar that shows a share, in characters.
const BAR: usize = 24;

impl Status {
    /// The page for people.
    pub fn page(&self) -> StatusPage<'_> {
        StatusPage(self)
    }
}

/// Shows a [`Status`] to people.
pub struct StatusPage<'a>(&'a Status);

impl fmt::Display for StatusPage<'_> {
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
fn write_health(f: &mut fmt::Formatter<'_>, health: &HealthReport, is_static: bool) -> fmt::Result {
    let ill: Vec<&CheckReport> =
        health.checks.iter().filter(|check| check.state != CheckState::Well).collect();
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
        writeln!(f, "        {:4}  {name}: {} (for {since})", check.state.word(), check.finding)?;
    }
    Ok(())
}

fn write_vip(f: &mut fmt::Formatter<'_>, vip: &VipStatus) -> fmt::Result {
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
    if vip.with_sessions > 0 || vip.elsewhere > 0 {
        writeln!(
            f,
            "  buckets with guests here {}, with flows perhaps elsewhere {}",
            vip.with_sessions, vip.elsewhere
        )?;
    }
    let rejected = vip.membership.iter().flat_map(|membership| &membership.beats_rejected);
    for (why, count) in rejected.filter(|(_, count)| **count > 0) {
        writeln!(f, "  {count} beats rejected: {why}")?;
    }
    Ok(())
}

fn membership_line(membership: &MembershipStatus) -> String {
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
fn node_remark(vip: &VipStatus, node: &NodeStatus) -> String {
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
