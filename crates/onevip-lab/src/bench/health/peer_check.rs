//! What `onevip-lab bench health` measures of nodes that watch each other: a frozen `sshd` whose own check is off, and
//! that nothing which arrives besides users makes a healthy node look like one.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{HealthMeasurement, slack_of, slack_since};
use crate::lab::Lab;
use crate::lease_slack::SlackHistogram;
use crate::load::{BackgroundTraffic, BannerClients};
use crate::process::{run_ok, wait_until};
use crate::testbed::Testbed;
use crate::testbed::watchers::EventWatchers;

/// A frozen `sshd` that only others can find out.
pub const UNCHECKED: &str = "freeze-unchecked";
/// Floods and clients that never answer.
pub const BACKGROUND: &str = "nuisance";
/// Long for everything that a daemon is told.
const PATIENCE: Duration = Duration::from_secs(30);
/// Seed of the flood.
const SEED: u64 = 7;

/// Turns the nodes' own checks of `sshd` off, or on.
///
/// # Errors
/// When a daemon refuses the new configuration, or the nodes do not get a say about each other.
pub fn check_sshd(lab: &Lab, on: bool) -> Result<()> {
    let text = std::fs::read_to_string(lab.node(1).config())?;
    let off = "[health]\nsshd = \"off\"\n";
    let text = if on { text.replace(off, "[health]\n") } else { text.replace("[health]\n", off) };
    ensure!(on || text.contains(off), "the lab's configuration has no [health]");
    lab.write_config(&text)?;
    for node in lab.nodes() {
        run_ok(&mut node.onevip_command("reload")?, PATIENCE)?;
    }
    wait_until(PATIENCE, "the nodes to have a say about each other", || {
        lab.nodes().all(|node| node.onevip_status().is_ok_and(|status| has_a_say(&status)))
    })
}

fn has_a_say(status: &serde_json::Value) -> bool {
    let nodes = status["vips"][0]["nodes"].as_array();
    nodes.is_some_and(|nodes| {
        nodes.iter().all(|node| node["this"] == true || node["peer"]["witnessed"] == true)
    })
}

/// Lets everything arrive at once that could make a false suspicion, for so long. What must not be is that anybody is out.
///
/// # Errors
/// When it cannot be made.
pub fn background_traffic(
    testbed: &mut Testbed,
    banner_clients: &BannerClients,
    span: Duration,
) -> Result<HealthMeasurement> {
    let watchers = EventWatchers::start(&testbed.lab)?;
    let before = slack_of(&testbed.lab)?;
    let from = Instant::now();
    let background = BackgroundTraffic::start(&testbed.lab, SEED)?;
    testbed.watch(from + span, |_| false)?;
    drop(background);
    let until = Instant::now();
    let during = banner_clients.attempts();
    let during = during.iter().filter(|attempt| (from..=until).contains(&attempt.begun));
    let banners = during.fold((0, 0), |(all, none), v| (all + 1, none + usize::from(v.banner.is_none())));
    let lost = testbed.sessions.glance().iter().filter(|log| log.lost.is_some()).count();
    let outs = watchers.told(&["node-out", "lapsed", "kernel-gone", "suspect", "voted-out"]);
    let since = slack_since(&testbed.lab, &before)?;
    Ok(HealthMeasurement {
        fault: BACKGROUND.to_owned(),
        node: 0,
        moved: None,
        banners,
        lost,
        least_slack_ms: since.iter().map(SlackHistogram::least_ms).min().unwrap_or(0),
        too_late: since.iter().map(SlackHistogram::too_late).sum(),
        outs,
        back: None,
    })
}
