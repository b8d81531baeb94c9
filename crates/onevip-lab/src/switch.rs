//! What the switch does to frames while faults are in force: one nftables table in its namespace, replaced as a whole.
//!
//! Bridge hooks see every frame (ARP and IPv6 as well) and change nothing on the nodes, which cannot tell a lost frame
//! from one that was never sent. (`netem` would delay as well, but many kernels are built without it.)

use std::collections::BTreeSet;
use std::fmt::Write;
use std::process::Command;

use anyhow::{Context, Result};

use crate::fault::LabFault;
use crate::net::{BRIDGE, ip_batch};
use crate::netns::Entrance;
use crate::plan::{Host, Name};
use crate::process::feed;

/// Makes the switch treat frames and ports as `faults` say, whatever it did before.
///
/// # Errors
/// When `nft` or `ip` is missing or refuses.
pub fn apply(name: &Name, ports: &[u8], faults: &[LabFault]) -> Result<()> {
    let mut nft = Command::new("nft");
    Entrance::open(name, Host::Switch)?.apply(nft.args(["-f", "-"]));
    feed(&mut nft, &ruleset(faults)).context("the switch cannot be told what to drop (package nftables)")?;
    let up = |id: &u8| if faults.contains(&LabFault::Cut(*id)) { "down" } else { "up" };
    let mut batch: String =
        ports.iter().map(|id| format!("link set {} {}\n", Host::Node(*id), up(id))).collect();
    batch.push_str(snooping(faults.contains(&LabFault::Snoop)));
    ip_batch(name, Host::Switch, &batch)
}

/// The bridge honours its own querier after one response interval, by default 10 s: hence the short one (in 1/100 s).
fn snooping(on: bool) -> &'static str {
    const { assert!(BRIDGE.len() == 3) };
    if on {
        "link set br0 type bridge mcast_query_response_interval 10 mcast_snooping 1 mcast_querier 1\n"
    } else {
        "link set br0 type bridge mcast_querier 0 mcast_snooping 0\n"
    }
}

fn ruleset(faults: &[LabFault]) -> String {
    let (mut from, mut to, mut across) = (String::new(), String::new(), String::new());
    for fault in faults {
        match fault {
            LabFault::Mute(id) => drop_frames(&mut from, &format!("iifname \"unix{id}\"")),
            LabFault::Deaf(id) => drop_frames(&mut to, &format!("oifname \"unix{id}\"")),
            LabFault::Loss { percent, node } => {
                let dice = format!("numgen random mod 100 <= {}", percent - 1);
                drop_frames(&mut from, &format!("iifname \"unix{node}\" {dice}"));
                drop_frames(&mut to, &format!("oifname \"unix{node}\" {dice}"));
            }
            LabFault::Split(sides) => split(&mut across, &with_clients(sides)),
            LabFault::PowerOff(_)
            | LabFault::Freeze(_)
            | LabFault::FreezeOnevip(_)
            | LabFault::FreezeSshd(_) => {}
            LabFault::KillOnevip(_) | LabFault::Cut(_) | LabFault::Snoop => {}
            LabFault::NoInterface(_) | LabFault::OtherMac(_) => {}
            LabFault::KillSshd(_)
            | LabFault::SshdSlow(_)
            | LabFault::SshdMaxstartups(_)
            | LabFault::Nologin(_) => {}
            LabFault::ForkBomb(_) | LabFault::MemoryHog(_) | LabFault::CpuHog(_) | LabFault::DiskFull(_) => {}
        }
    }
    // Created first, so that deleting it never fails; all in one transaction.
    format!(
        "table bridge onevip_lab\n\
         delete table bridge onevip_lab\n\
         table bridge onevip_lab {{\n\
         chain from {{ type filter hook prerouting priority -300; policy accept;\n{from}}}\n\
         chain to {{ type filter hook postrouting priority 300; policy accept;\n{to}}}\n\
         chain across {{ type filter hook forward priority 0; policy accept;\n{across}}}\n\
         }}\n"
    )
}

fn drop_frames(chain: &mut String, condition: &str) {
    let _ = writeln!(chain, "{condition} drop");
}

fn split(chain: &mut String, sides: &[BTreeSet<Host>]) {
    let set = |side: &BTreeSet<Host>| side.iter().map(|h| format!("\"{h}\"")).collect::<Vec<_>>().join(", ");
    for (i, here) in sides.iter().enumerate() {
        for (_, there) in sides.iter().enumerate().filter(|(j, _)| *j != i) {
            drop_frames(chain, &format!("iifname {{ {} }} oifname {{ {} }}", set(here), set(there)));
        }
    }
}

fn with_clients(sides: &[BTreeSet<Host>]) -> Vec<BTreeSet<Host>> {
    let mut sides = sides.to_vec();
    for (index, client) in [Host::Client, Host::Client2].into_iter().enumerate() {
        if !sides.iter().any(|side| side.contains(&client)) {
            sides[index].insert(client);
        }
    }
    sides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_thrown_in_both_directions() {
        let rules = ruleset(&[LabFault::Loss { percent: 30, node: 2 }]);
        assert!(rules.contains("iifname \"unix2\" numgen random mod 100 <= 29 drop"), "{rules}");
        assert!(rules.contains("oifname \"unix2\" numgen random mod 100 <= 29 drop"), "{rules}");
    }

    #[test]
    fn each_side_of_a_split_gets_a_client() {
        let rules = ruleset(&["split unix1|unix2".parse().unwrap()]);
        let one_way = "iifname { \"unix1\", \"client\" } oifname { \"unix2\", \"client2\" } drop";
        let other_way = "iifname { \"unix2\", \"client2\" } oifname { \"unix1\", \"client\" } drop";
        assert!(rules.contains(one_way) && rules.contains(other_way), "{rules}");
    }

    #[test]
    fn a_client_that_is_named_stays_where_it_was_put() {
        let sides = with_clients(&[BTreeSet::from([Host::Node(1)]), BTreeSet::from([Host::Client])]);
        assert!(!sides[0].contains(&Host::Client) && sides[1].contains(&Host::Client2));
    }

    #[test]
    fn without_faults_nothing_is_dropped() {
        assert!(!ruleset(&[]).contains("drop"));
    }
}
