//! Metrics for Prometheus, and the status as JSON, over HTTP on this host alone.
//!
//! Nothing is collected until somebody asks: each answer is made of the status of that moment, and of the counters of
//! the kernel part, the beat loop and the events. No label has a client's address, so their number is bounded.

use super::collect::Collector;
use super::status::{Status, VipStatus};
use crate::base::command::VipReport;
use crate::base::supervisor::Supervisor;
use crate::engine::lease_slack::{LeaseSlack, Snapshot};
use crate::events::bus::Bus;
use crate::report::http::{self, Door, HttpPage};
use anyhow::Context;
use nix::unistd::{Group, chown};
use onevip_config::{EventKind, Listen};
use onevip_health::results::HealthReport;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge>;
type Spans = Family<Labels, Gauge<f64, AtomicU64>>;
type Counters = Family<Labels, Counter>;

/// Where the figures come from.
pub struct MetricsSource {
    /// The status.
    pub collector: Arc<Collector>,
    /// The lease.
    pub slack: Arc<LeaseSlack>,
    /// Events.
    pub bus: Bus,
}

/// Begins to answer.
///
/// # Errors
/// The address or path cannot be used.
pub fn start(
    supervisor: &mut Supervisor,
    listen: &Listen,
    group: Option<&str>,
    source: MetricsSource,
) -> anyhow::Result<()> {
    let door = match listen {
        Listen::Tcp(address) => {
            let listener = TcpListener::bind(address);
            Door::tcp(listener.with_context(|| format!("cannot listen on {address} ([metrics])"))?)
        }
        Listen::Unix(path) => Door::unix(unix(path, group)?),
    };
    let door = door.context("cannot serve metrics")?;
    supervisor.start_until("metrics", move |stop| {
        http::serve(&door, |path| page(path, &source), stop);
        Ok(())
    })
}

fn unix(path: &Path, group: Option<&str>) -> anyhow::Result<UnixListener> {
    let shown = path.display();
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        fs::remove_file(path).with_context(|| format!("cannot replace {shown} ([metrics])"))?;
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen on {shown} ([metrics])"))?;
    let gid = group.and_then(|name| Group::from_name(name).ok().flatten()).map(|group| group.gid);
    if gid.is_some() {
        chown(path, None, gid).with_context(|| format!("cannot give {shown} to control_group"))?;
    }
    let mode = Permissions::from_mode(if gid.is_some() { 0o660 } else { 0o600 });
    fs::set_permissions(path, mode).with_context(|| format!("cannot set the mode of {shown}"))?;
    Ok(listener)
}

fn page(path: &str, source: &MetricsSource) -> HttpPage {
    if !["/metrics", "/status"].contains(&path) {
        return HttpPage::words("404 Not Found", "there are /metrics and /status\n");
    }
    let (status, reports) = match source.collector.look() {
        Ok(found) => found,
        Err(error) => return HttpPage::words("503 Service Unavailable", format!("{error:#}\n")),
    };
    let (kind, body) = if path == "/status" {
        ("application/json", serde_json::to_string_pretty(&status).unwrap_or_default())
    } else {
        let text = render(&status, &reports, &source.slack.snapshot(), &source.bus);
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", text)
    };
    HttpPage { status: "200 OK", kind, body }
}

/// Everything, in the OpenMetrics text format.
fn render(status: &Status, reports: &[VipReport], slack: &Snapshot, bus: &Bus) -> String {
    let mut metrics = Metrics::new();
    metrics.node(status, slack);
    for (vip, report) in status.vips.iter().zip(reports) {
        metrics.vip(vip, report);
    }
    metrics.events(&status.vips, bus);
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _ = text::encode(&mut page, &metrics.registry);
    page
}

/// All metrics; each name is registered once, with the labels of all VIPs.
struct Metrics {
    registry: Registry,
    gauges: Vec<(&'static str, Gauges)>,
    /// How long each check took.
    took: Spans,
    counters: Vec<(&'static str, Counters)>,
}

/// Every gauge and what it means.
const GAUGES: &[(&str, &str)] = &[
    ("build_info", "Version, cluster and name of this node; always 1"),
    ("up_seconds", "Time since the daemon began to serve"),
    ("realtime", "Whether the beat loop has real-time rights"),
    ("memory_locked", "Whether the daemon's memory is locked"),
    ("lease_live", "Whether the lease under which this node claims anything has not run out"),
    ("bans", "Networks and addresses that are banned, by family"),
    ("buckets_claimed", "Buckets whose new connections this node answers"),
    ("buckets_wanted", "Buckets that the table gives this node"),
    ("buckets_guests", "Buckets in which this node has sockets"),
    ("sessions", "Established TCP connections to the VIP that this node holds"),
    ("state", "1 for what this node is doing: joining, serving, draining or leaving"),
    ("taking_share", "Whether this node takes its share"),
    ("health_check", "What a check found: 0 well, 1 shed (less of the share), 2 out (no new users)"),
    ("health_weight_percent", "How much of its weight this node announces: less while it sheds load"),
    ("health_level", "How ill this node feels: 0 is healthy, 3 is worst"),
    ("node_alive", "Whether a node counts as alive"),
    ("node_heard", "Whether this node and another hear each other"),
    ("node_buckets_claimed", "Buckets that another node claims"),
    ("node_sessions", "Sessions that another node says it holds"),
    ("node_voted_out", "Whether a node was voted out for not answering its clients"),
    ("node_suspected", "Whether this node found that another does not answer its clients"),
    ("node_config_differs", "Whether another node's configuration differs"),
    ("node_host_keys_differ", "Whether another node's SSH host keys differ"),
];

/// Every counter and what it means; `_total` is added to each name.
const COUNTERS: &[(&str, &str)] = &[
    ("packets", "Packets by program and reason, since the programs were loaded"),
    ("guard_messages", "ARP and ND messages that the egress guard rewrote, or failed to"),
    ("beats_sent", "Beats sent"),
    ("beats_received", "Beats received and believed"),
    ("beats_rejected", "Beats received and rejected"),
    ("beats_lost", "Beats that arrived while nobody read them"),
    ("view_changes", "Nodes that came into hearing or fell out of it"),
    ("events", "Events, as `onevip watch` tells them"),
];

/// How long the last answer of each check took.
const TOOK: (&str, &str) = ("health_check_seconds", "How long the last answer of a check took");

/// The name of the histogram.
const SLACK: (&str, &str) = ("lease_margin_seconds", "What was left of the lease when it was renewed");

impl Metrics {
    fn new() -> Self {
        let mut registry = Registry::with_prefix("onevip");
        let gauges = GAUGES.iter().map(|(name, help)| {
            let family = Gauges::default();
            registry.register(*name, *help, family.clone());
            (*name, family)
        });
        let gauges = gauges.collect();
        let counters = COUNTERS.iter().map(|(name, help)| {
            let family = Counters::default();
            registry.register(*name, *help, family.clone());
            (*name, family)
        });
        let counters = counters.collect();
        let took = Spans::default();
        registry.register(TOOK.0, TOOK.1, took.clone());
        Self { registry, gauges, took, counters }
    }

    fn set(&self, name: &str, labels: &[(&'static str, &str)], value: impl TryInto<i64>) {
        let family = self.gauges.iter().find(|(known, _)| *known == name);
        debug_assert!(family.is_some(), "{name} is missing in GAUGES");
        if let (Some((_, family)), Ok(value)) = (family, value.try_into()) {
            family.get_or_create(&owned(labels)).set(value);
        }
    }

    fn count(&self, name: &str, labels: &[(&'static str, &str)], value: u64) {
        let family = self.counters.iter().find(|(known, _)| *known == name);
        debug_assert!(family.is_some(), "{name} is missing in COUNTERS");
        if let Some((_, family)) = family {
            family.get_or_create(&owned(labels)).inc_by(value);
        }
    }

    fn node(&mut self, status: &Status, slack: &Snapshot) {
        let labels = [
            ("version", status.version.as_str()),
            ("cluster", status.cluster.as_str()),
            ("node", status.node.as_str()),
            ("membership", status.membership.as_str()),
        ];
        self.set("build_info", &labels, 1);
        if let Some(daemon) = &status.daemon {
            self.set("up_seconds", &[], daemon.up_seconds);
            self.set("realtime", &[], daemon.realtime);
            self.set("memory_locked", &[], daemon.memory_locked);
        }
        self.set("lease_live", &[], status.lease.live);
        if let Some(health) = &status.health {
            self.health(health);
        }
        for (family, count) in ["ipv4", "ipv6"].into_iter().zip(status.bans) {
            self.set("bans", &[("family", family)], count);
        }
        for (program, reasons) in &status.verdicts {
            for (reason, count) in reasons {
                match (program.as_str(), reason.as_str()) {
                    ("guard", what) => self.count("guard_messages", &[("result", what)], *count),
                    (program, reason) => {
                        self.count("packets", &[("program", program), ("reason", reason)], *count);
                    }
                }
            }
        }
        let lost = status.verdicts.get("ingress").and_then(|reasons| reasons.get("beat-lost"));
        self.count("beats_lost", &[], lost.copied().unwrap_or(0));
        self.registry.register(SLACK.0, SLACK.1, slack.clone());
    }

    fn health(&self, health: &HealthReport) {
        self.set("health_weight_percent", &[], health.weight_percent);
        for check in &health.checks {
            let of = [("check", check.name.as_str())];
            self.set("health_check", &of, check.state as u64);
            if let Some(seconds) = check.last_seconds {
                self.took.get_or_create(&owned(&of)).set(seconds);
            }
        }
    }

    fn vip(&self, vip: &VipStatus, report: &VipReport) {
        let of = [("vip", vip.name.as_str())];
        self.set("buckets_claimed", &of, vip.claims as u64);
        self.set("buckets_guests", &of, vip.with_sessions as u64);
        self.set("sessions", &of, vip.sessions as u64);
        for node in &vip.nodes {
            let of = [("vip", vip.name.as_str()), ("node", node.name.as_str())];
            self.set("node_alive", &of, node.alive);
            if node.this {
                self.set("buckets_wanted", &of[..1], node.wants as u64);
            }
            if let Some(peer) = &node.peer {
                self.set("node_heard", &of, peer.heard);
                self.set("node_buckets_claimed", &of, peer.claims as u64);
                self.set("node_sessions", &of, peer.sessions.unwrap_or(0));
                self.set("node_voted_out", &of, !peer.voted_out_by.is_empty());
                self.set("node_suspected", &of, peer.suspicion.is_some());
                self.set("node_config_differs", &of, peer.config_differs);
                self.set("node_host_keys_differ", &of, peer.host_keys_differ);
            }
        }
        if let Some(engine) = &report.membership {
            self.set("health_level", &of, engine.standing.health.level());
        }
        let Some(membership) = &vip.membership else { return };
        for state in ["joining", "serving", "draining", "leaving"] {
            let of = [("vip", vip.name.as_str()), ("state", state)];
            self.set("state", &of, membership.state == state);
        }
        self.set("taking_share", &of, membership.why_out.is_none());
        self.count("beats_sent", &of, membership.beats_sent);
        self.count("beats_received", &of, membership.beats_received);
        for (reason, count) in &membership.beats_rejected {
            self.count("beats_rejected", &[("vip", vip.name.as_str()), ("reason", reason)], *count);
        }
    }

    /// Every kind of event from the beginning on, so that the first one is a step and not a beginning.
    fn events(&self, vips: &[VipStatus], bus: &Bus) {
        let counts = bus.counts();
        for vip in vips {
            let count = |vip: &str, kind: &str| counts.get(&(vip.to_owned(), kind.to_owned())).copied();
            // What concerns the whole node concerns each of its VIPs.
            let of = |kind: &str| count(&vip.name, kind).unwrap_or(0) + count("", kind).unwrap_or(0);
            for kind in EventKind::ALL.map(EventKind::name) {
                self.count("events", &[("vip", vip.name.as_str()), ("event", kind)], of(kind));
            }
            self.count("view_changes", &[("vip", vip.name.as_str())], of("node-heard") + of("node-out"));
        }
    }
}

fn owned(labels: &[(&'static str, &str)]) -> Labels {
    labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

impl EncodeMetric for Snapshot {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.encode_histogram::<NoLabelSet>(self.sum_seconds, self.count, &self.buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onevip_health::impact::CheckState;
    use std::collections::BTreeSet;

    const DASHBOARD: &str = include_str!("../../../../packaging/grafana/onevip.json");
    const RULES: &str = include_str!("../../../../packaging/prometheus/onevip.rules.yml");

    /// All words in a text that begin as our metrics do.
    fn names_in(text: &str) -> BTreeSet<&str> {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        words.filter(|word| word.starts_with("onevip_")).collect()
    }

    fn all_names() -> BTreeSet<String> {
        let gauges = GAUGES.iter().map(|(name, _)| format!("onevip_{name}"));
        let counters = COUNTERS.iter().map(|(name, _)| format!("onevip_{name}_total"));
        let slack = ["bucket", "sum", "count"].map(|part| format!("onevip_{}_{part}", SLACK.0));
        let took = format!("onevip_{}", TOOK.0);
        gauges.chain(counters).chain(slack).chain([took]).collect()
    }

    #[test]
    fn the_dashboard_and_the_rules_name_metrics_that_exist() {
        let known = all_names();
        for text in [DASHBOARD, RULES] {
            let named = names_in(text);
            assert!(named.len() >= 5, "{named:?}");
            let unknown: Vec<_> = named.iter().filter(|name| !known.contains(**name)).collect();
            assert!(unknown.is_empty(), "{unknown:?}");
        }
    }

    #[test]
    fn the_dashboard_is_json_with_a_query_in_every_panel() {
        let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
        let panels = dashboard["panels"].as_array().unwrap();
        assert!(panels.len() >= 6);
        for panel in panels {
            let query = panel["targets"][0]["expr"].as_str().unwrap_or_default();
            assert!(query.contains("onevip_"), "{panel}");
        }
    }

    #[test]
    fn every_rule_has_what_prometheus_and_people_need() {
        let rules: Vec<&str> = RULES.split("- alert: ").skip(1).collect();
        assert!(rules.len() >= 6);
        for rule in rules {
            for part in ["expr: ", "for: ", "severity: ", "summary: ", "description: "] {
                assert!(rule.contains(part), "{part} in {rule}");
            }
        }
        assert!(!RULES.contains('\t'), "YAML knows no tabs");
    }

    #[test]
    fn names_are_as_prometheus_wants_them() {
        for (name, help) in GAUGES.iter().chain(COUNTERS).chain([&SLACK, &TOOK]) {
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            assert!(!name.ends_with("_total") && !name.ends_with("_ms") && help.len() >= 10, "{name}");
        }
    }

    #[test]
    fn the_page_has_counters_gauges_and_the_histogram() {
        let metrics = Metrics::new();
        metrics.set("sessions", &[("vip", "login")], 3u64);
        let check = |name: &str, state, last_seconds| onevip_health::results::CheckReport {
            name: name.into(),
            state,
            finding: "x".into(),
            since_seconds: 1,
            last_seconds,
        };
        let checks =
            vec![check("sshd", CheckState::Out, Some(0.25)), check("memory", CheckState::Shed, None)];
        metrics.health(&HealthReport { illness: 3, weight_percent: 50, checks });
        metrics.count("packets", &[("program", "ingress"), ("reason", "syn-own")], 7);
        let (slack, mut metrics) = (LeaseSlack::default(), metrics);
        slack.note(std::time::Duration::from_millis(180));
        metrics.registry.register(SLACK.0, SLACK.1, slack.snapshot());
        let mut page = String::new();
        text::encode(&mut page, &metrics.registry).unwrap();
        for line in [
            "onevip_sessions{vip=\"login\"} 3\n",
            "onevip_health_check{check=\"sshd\"} 2\n",
            "onevip_health_check{check=\"memory\"} 1\n",
            "onevip_health_check_seconds{check=\"sshd\"} 0.25\n",
            "onevip_health_weight_percent{} 50\n",
            "onevip_packets_total{program=\"ingress\",reason=\"syn-own\"} 7\n",
            "onevip_lease_margin_seconds_bucket{le=\"0.15\"} 0\n",
            "onevip_lease_margin_seconds_bucket{le=\"0.2\"} 1\n",
            "onevip_lease_margin_seconds_bucket{le=\"+Inf\"} 1\n",
            "onevip_lease_margin_seconds_sum 0.18\n",
        ] {
            assert!(page.contains(line), "{line} in {page}");
        }
    }
}
