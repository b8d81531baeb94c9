//! The last step: a host loses its power while everybody types, and comes back.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::screen::{Ink, Screen};
use crate::bench::failover::aim::FailoverAim;
use crate::bench::failover::measurement::{FailoverMeasurement, Scenario};
use crate::fault::LabFault;
use crate::plan::Host;
use crate::testbed::Testbed;

/// The host it happens to.
const VICTIM: u8 = 2;
/// How long the others, and then the host itself, have for taking over.
const WITHIN: Duration = Duration::from_secs(10);
/// How long the bars stand still before and after they move.
const STANDS: Duration = Duration::from_millis(700);
/// What is claimed to be at once, in seconds; the figure that is shown is the measured one.
const AT_ONCE: f64 = 1.0;

/// Runs the step.
pub fn run(testbed: &mut Testbed, screen: &mut Screen) -> Result<()> {
    screen.step("A host loses its power");
    let sessions = testbed.sessions.glance().len() + testbed.users.len();
    screen.say(&format!("{sessions} open sessions carry data, one person in ssh on every host among them;"));
    screen.say("every client knocks 50 times a second. Who answers them:");
    screen.say("");
    power_off(testbed, screen)?;
    screen.pause(Duration::from_millis(1500))?;
    power_on(testbed, screen)
}

fn power_off(testbed: &mut Testbed, screen: &mut Screen) -> Result<()> {
    let clients = testbed.clients_of(VICTIM)?;
    let name = Host::Node(VICTIM).to_string();
    screen.prompt(&name, &screen.ink(Ink::Bad, "(the power fails)"));
    screen.say("");
    draw(testbed, screen, Instant::now() + STANDS, |_| false)?;
    let from = Instant::now();
    testbed.lab.fault(&LabFault::PowerOff(VICTIM))?;
    draw(testbed, screen, from + WITHIN, |testbed| {
        let logs = testbed.sessions.glance();
        let is_over = logs.iter().filter(|log| log.node == VICTIM).all(|log| log.lost.is_some());
        is_over && from.elapsed() > STANDS && testbed.served().is_some()
    })?;
    let until = Instant::now();
    let own = |_, node| node == VICTIM;
    let nodes = [VICTIM];
    let scenario = Scenario {
        name: "",
        aim: FailoverAim::of_planned(),
        nodes: &nodes,
        own: &own,
        clients: &clients,
        from,
        until,
    };
    let measurement = FailoverMeasurement::measure(testbed, &scenario, 0);
    finish_chart(testbed, screen);
    screen.say("");

    let worst = measurement.gaps.values().copied().reduce(|a, b| Some(a?.max(b?))).flatten();
    screen.claim(
        worst.is_some_and(|gap| gap <= AT_ONCE) && testbed.served().is_some(),
        &format!("its {} clients are served by others, the last after {:.2} s", clients.len(), or_0(worst)),
    )?;
    let elsewhere = testbed.sessions.glance().iter().filter(|log| log.node != VICTIM).count();
    let typing = testbed.users.iter().filter(|user| user.host != name);
    let elsewhere = elsewhere + typing.count();
    screen.claim(
        measurement.sessions.lost_elsewhere.is_empty() && measurement.sessions.pause_elsewhere <= AT_ONCE,
        &format!(
            "the {elsewhere} sessions on other hosts go on: none lost, longest pause {:.2} s",
            measurement.sessions.pause_elsewhere
        ),
    )?;
    let slowest = measurement.sessions.resets.iter().copied().reduce(f64::max);
    screen.claim(
        measurement.sessions.hanging == 0 && slowest.is_some_and(|reset| reset <= AT_ONCE),
        &format!(
            "its own {} end {:.2} s after the next keystroke, instead of freezing for minutes",
            measurement.sessions.resets.len(),
            or_0(slowest)
        ),
    )
}

fn power_on(testbed: &mut Testbed, screen: &mut Screen) -> Result<()> {
    let name = Host::Node(VICTIM).to_string();
    screen.say("");
    screen.prompt(&name, "(boots) onevip run");
    screen.say("");
    let from = Instant::now();
    testbed.lab.heal(None)?;
    // The demo's lab began without daemons, so its nodes boot without one.
    testbed.lab.node(VICTIM).start_onevip()?;
    let is_back = |testbed: &Testbed| testbed.served().is_some_and(|served| served == testbed.home);
    draw(testbed, screen, from + WITHIN, is_back)?;
    draw(testbed, screen, Instant::now() + STANDS, |_| false)?;
    let until = Instant::now();
    testbed.settle_connections()?;
    let clients = testbed.clients_of(VICTIM)?;
    let nobody = |_, _| false;
    let nodes = [VICTIM];
    let scenario = Scenario {
        name: "",
        aim: FailoverAim::of_planned(),
        nodes: &nodes,
        own: &nobody,
        clients: &clients,
        from,
        until,
    };
    let mut measurement = FailoverMeasurement::measure(testbed, &scenario, 0);
    measurement.count_connections(&testbed.connections);
    finish_chart(testbed, screen);
    screen.say("");
    screen.claim(is_back(testbed), &format!("{name} serves its share again"))?;
    let (connections, failed, _) = measurement.connections;
    screen.claim(
        measurement.sessions.lost_elsewhere.is_empty() && failed == 0 && connections > 0,
        &format!(
            "that cost nobody anything: no session lost, {failed} of {connections} new connections failed"
        ),
    )
}

fn or_0(figure: Option<f64>) -> f64 {
    figure.unwrap_or(0.0)
}

/// Watches, with the bars moving, until a condition holds or the time is over.
fn draw(
    testbed: &mut Testbed,
    screen: &mut Screen,
    deadline: Instant,
    done: impl Fn(&Testbed) -> bool,
) -> Result<()> {
    let mut drawn = Instant::now();
    testbed.watch(deadline, |testbed| {
        if drawn.elapsed() > Duration::from_millis(50) {
            drawn = Instant::now();
            let counts = counts(testbed);
            screen.chart(&counts, testbed.home.len(), false);
        }
        done(testbed)
    })?;
    Ok(())
}

fn finish_chart(testbed: &Testbed, screen: &mut Screen) {
    screen.chart(&counts(testbed), testbed.home.len(), true);
}

/// How many clients each host serves now.
fn counts(testbed: &Testbed) -> Vec<(String, usize)> {
    let now = Instant::now();
    let servers: Vec<u8> =
        testbed.samples.clients().filter_map(|client| testbed.samples.server(client, now)).collect();
    let count = |id| servers.iter().filter(|&&server| server == id).count();
    testbed.lab.plan().node_ids().map(|id| (Host::Node(id).to_string(), count(id))).collect()
}
