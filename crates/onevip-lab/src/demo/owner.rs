//! The second step: the daemon starts everywhere, and one host answers.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result};

use super::ping::{self, PingReplies};
use super::screen::Screen;
use crate::lab::Lab;

/// How long after the first ARP answer a second one may still come.
const ARP_WINDOW: Duration = Duration::from_millis(500);

/// Runs the step; afterwards the daemon runs on every node.
pub fn run(lab: &Lab, screen: &mut Screen) -> Result<()> {
    screen.step("onevip: everybody has the address, every client has one owner");
    let everywhere: Vec<String> = lab.nodes().map(|node| node.name()).collect();
    screen.prompt("unix*", "onevip run");
    lab.start_onevip()?;
    screen.say(&format!("running on {}", everywhere.join(", ")));
    screen.pause(Duration::from_secs(1))?;

    let vip = vip4(lab)?;
    screen.say("");
    screen.prompt("client", &format!("who has {vip}?"));
    let answers = lab.who_has("client", vip, ARP_WINDOW)?;
    for answer in &answers {
        screen.quote(&format!("{vip} is at {}", answer.sender_mac), None);
    }
    let right = matches!(answers.as_slice(), [one] if one.sender_mac == lab.cluster_mac());
    screen.claim(right, "one ARP answer, and it names the cluster MAC")?;
    screen.pause(Duration::from_secs(1))?;

    screen.say("");
    let target = vip.to_string();
    screen.prompt("client", &ping::words(&target).join(" "));
    let replies = PingReplies::parse(&lab.exec_ok("client", &ping::words(&target))?);
    for line in &replies.lines {
        screen.quote(line, None);
    }
    screen.claim(replies.each_answered(1), "one answer to every request, no DUP!")
}

/// The VIP's IPv4 address.
fn vip4(lab: &Lab) -> Result<Ipv4Addr> {
    let v4 = lab.vip().iter().find_map(|vip| match vip {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    });
    v4.context("the VIP has no IPv4 address")
}
