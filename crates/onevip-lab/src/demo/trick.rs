//! The first step: the old trick without an owner. All hosts have the address and the multicast MAC, so all answer.

use std::time::Duration;

use anyhow::{Context, Result};

use super::ping::{self, PingReplies};
use super::screen::Screen;
use crate::lab::Lab;
use crate::net::INTERFACE;

/// Runs the step, and leaves every host as it was.
pub fn run(lab: &Lab, screen: &mut Screen) -> Result<()> {
    let vip = lab.vip()[0].to_string();
    screen.step("The old trick: everybody has the address, nobody owns it");
    screen.say(&format!(
        "Every host gets {vip} and listens to {}; the switch floods that to all.",
        lab.cluster_mac()
    ));
    screen.pause(Duration::from_secs(1))?;
    share(lab, &vip, "add")?;

    screen.prompt("client", &ping::words(&vip).join(" "));
    let replies = PingReplies::parse(&lab.exec_ok("client", &ping::words(&vip))?);
    for line in replies.lines.iter().take_while(|line| !line.contains("icmp_seq=3")) {
        screen.quote(line, Some("(DUP!)"));
    }
    screen.quote("…", None);
    let nodes = usize::from(lab.plan().nodes);
    if replies.each_answered(nodes) {
        screen.flaw(&format!(
            "{nodes} answers to every request. TCP would be torn apart by {nodes} kernels at once."
        ));
    } else {
        screen.claim(false, &format!("each of {nodes} hosts answers every ping: {:?}", replies.answers))?;
    }
    share(lab, &vip, "del")
}

/// Gives every host the address and the MAC, or takes both away. The client is told the MAC, for an ARP request would
/// be answered with the hosts' own ones.
fn share(lab: &Lab, vip: &str, verb: &str) -> Result<()> {
    let mac = lab.cluster_mac();
    for node in lab.nodes() {
        lab.exec_ok(&node.name(), &["ip", "addr", verb, &format!("{vip}/32"), "dev", INTERFACE])?;
        lab.exec_ok(&node.name(), &["ip", "maddr", verb, mac, "dev", INTERFACE])?;
    }
    let neighbour: &[&str] = match verb {
        "add" => &["ip", "neigh", "replace", vip, "lladdr", mac, "dev", INTERFACE, "nud", "permanent"],
        _ => &["ip", "neigh", "del", vip, "dev", INTERFACE],
    };
    lab.exec_ok("client", neighbour).context("the client cannot be told the MAC")?;
    Ok(())
}
