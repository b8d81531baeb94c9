//! The story of onevip, told live: `onevip-lab demo`.
//!
//! Everything that is printed was measured in the moment before; a claim that does not hold ends the demo with an
//! error. The steps are functions in the files beside this one; `screen.rs` is how it looks.

mod logins;
mod owner;
pub mod ping;
mod power;
mod screen;
mod trick;
mod upload;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::lab::{Lab, Options};
use crate::plan::Host;
use crate::testbed::Testbed;
use crate::{daemon, net};
use screen::{Ink, Screen};

/// The demo's lab.
const NAME: &str = "demo";
/// How many people log in.
const CLIENTS: usize = 60;

/// Tells the story with `nodes` hosts; `fast` leaves out the pauses for reading.
///
/// # Errors
/// When a claim does not hold, a part does not start, or another demo runs. The lab is removed in any case.
pub fn run(nodes: usize, fast: bool) -> Result<()> {
    ensure!(nodes >= 2, "the demo needs at least 2 nodes: with one there is nothing to share");
    let start = Instant::now();
    daemon::program()?;
    let lab = Lab::up(Options::new(NAME).nodes(nodes).clients(CLIENTS).no_onevip().echo())?;
    let mut screen = Screen::new(fast);
    introduce(&lab, &screen);
    screen.pause(Duration::from_millis(1500))?;

    trick::run(&lab, &mut screen)?;
    screen.pause(Duration::from_secs(2))?;
    owner::run(&lab, &mut screen)?;
    screen.pause(Duration::from_secs(2))?;
    let landed = logins::run(&lab, &mut screen)?;
    screen.pause(Duration::from_secs(2))?;
    upload::run(&lab, &mut screen, &landed)?;
    screen.pause(Duration::from_secs(2))?;
    let mut testbed = Testbed::on(lab, &[Host::Client])?;
    power::run(&mut testbed, &mut screen)?;

    testbed.take_down()?;
    screen.say("");
    let took = format!(
        "All of it measured just now, in {:.0} s; nothing is left of it.",
        start.elapsed().as_secs_f64()
    );
    screen.say(&screen.ink(Ink::Dim, &took));
    Ok(())
}

fn introduce(lab: &Lab, screen: &Screen) {
    let nodes = lab.plan().nodes;
    screen.title(
        "onevip: one address, every host hears every packet, exactly one answers",
        &[
            format!(
                "unix1 to unix{nodes}: network namespaces on one bridge ({}), each with a real sshd.",
                net::BRIDGE
            ),
            format!("{CLIENTS} client addresses. The address they all log in to: {}.", lab.vip()[0]),
        ],
    );
}
