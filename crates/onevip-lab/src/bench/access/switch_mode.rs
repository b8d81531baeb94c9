//! What the switch does with frames to a node's own MAC: carry them to that node, or to everybody.
//!
//! A frame to the VIP reaches every host on the switch. On one machine all of them take and drop it on the same
//! processors, which a cluster of real hosts does not do. To tell that apart from what onevip itself costs, frames to
//! a node's own address can be made to travel in the same way: a switch that does not learn where nodes are floods.
//! Everybody else then drops them for their MAC, before anything looks into them.

use anyhow::{Context, Result};

use crate::lab::Lab;
use crate::net::{BRIDGE, INTERFACE, ip_batch};
use crate::plan::{Host, LabPlan};
use crate::process::feed;

/// How frames to a node's own MAC are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchMode {
    /// To the port where the node is.
    Switched,
    /// To every port.
    Flooded,
}

/// Tells the switch. It learns again by the first frame that a node sends.
///
/// # Errors
/// When `ip` refuses.
pub fn set(lab: &Lab, switch_mode: SwitchMode) -> Result<()> {
    let nodes: Vec<u8> = lab.plan().node_ids().collect();
    ip_batch(lab.name(), Host::Switch, &batch(&nodes, switch_mode))
}

fn batch(nodes: &[u8], switch_mode: SwitchMode) -> String {
    let ports = nodes.iter().map(|&id| Host::Node(id));
    match switch_mode {
        SwitchMode::Switched => {
            let learn = ports.map(|port| format!("link set {port} type bridge_slave learning on\n"));
            learn.collect::<String>() + &format!("link set {BRIDGE} promisc off\n")
        }
        // Multicast frames go up to the bridge itself as well; with `promisc` so do these.
        SwitchMode::Flooded => {
            let forget = ports.map(|port| {
                format!(
                    "link set {port} type bridge_slave learning off\nlink set {port} type bridge_slave fdb_flush\n"
                )
            });
            forget.collect::<String>() + &format!("link set {BRIDGE} promisc on\n")
        }
    }
}

/// Makes those who are no nodes drop at once what a real one of them would never see: a switch has no IP stack that looks
/// at everybody's frames, and the card of HAProxy's host passes on no frames to other hosts' addresses, nor to groups that
/// nobody has joined there. (A veth passes on everything, and looking for a route takes as long as many a program.)
///
/// # Errors
/// When `nft` is missing or refuses.
pub fn filter_like_hardware(lab: &Lab) -> Result<()> {
    let of_card = format!(
        "ether daddr {} drop\nether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00 ether daddr != {} drop",
        lab.cluster_mac(),
        LabPlan::mac(Host::Client2)
    );
    for (host, device, rules) in [("switch", BRIDGE, "drop"), ("client2", INTERFACE, &of_card)] {
        let table = format!(
            "table netdev bench {{\nchain up {{ type filter hook ingress device \"{device}\" priority 0;\n{rules}\n}}\n}}\n"
        );
        feed(lab.command(host, "nft")?.args(["-f", "-"]), &table)
            .with_context(|| format!("{host} cannot be kept from looking at frames"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_that_floods_has_forgotten_every_node_and_one_that_switches_learns() {
        let flooded = batch(&[1, 2], SwitchMode::Flooded);
        for id in [1, 2] {
            let off = flooded.find(&format!("link set unix{id} type bridge_slave learning off")).unwrap();
            let flush = flooded.find(&format!("link set unix{id} type bridge_slave fdb_flush")).unwrap();
            assert!(off < flush, "what it forgets it must not learn again:\n{flooded}");
        }
        let switched = batch(&[1, 2], SwitchMode::Switched);
        assert_eq!(switched.matches("learning on").count(), 2);
        assert!(flooded.contains("br0 promisc on") && switched.contains("br0 promisc off"));
    }
}
