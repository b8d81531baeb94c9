//! The wires: namespaces, veth pairs, addresses, and the bridge they are plugged into.
//!
//! Everything exists inside the lab's own namespaces; the machine's interfaces are never touched. Links are made with
//! `ip -batch`, one process per namespace, which keeps `up` fast.

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use nix::net::if_::if_nametoindex;

use crate::netns::{self, sysctl};
use crate::plan::{Host, LabPlan, Name};
use crate::process::{feed, run_ok};

/// The bridge in the switch's namespace.
pub const BRIDGE: &str = "br0";
/// The one interface of every station.
pub const INTERFACE: &str = "eth0";

/// Long for an `ip` call, even on a machine that is very busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes the switch: a bridge that floods like a plain one (no snooping, no spanning tree).
///
/// # Errors
/// When a namespace of that name exists, or the kernel has no bridges.
pub fn create_switch(name: &Name) -> Result<()> {
    add_netns(name, &[Host::Switch])?;
    netns::inside(name, Host::Switch, || -> Result<()> {
        // Ports need no addresses; the bridge gets a link-local one, without which it could be no MLD querier.
        sysctl("ipv6/conf/default/disable_ipv6", "1")?;
        settle()?;
        // Frames are only forwarded here: no detour through the IP rules of whatever firewall is loaded.
        let _ = sysctl("bridge/bridge-nf-call-iptables", "0");
        let _ = sysctl("bridge/bridge-nf-call-ip6tables", "0");
        let _ = sysctl("bridge/bridge-nf-call-arptables", "0");
        Ok(())
    })??;
    let mac = LabPlan::mac(Host::Switch);
    ip_batch(
        name,
        Host::Switch,
        &format!(
            "link add {BRIDGE} address {mac} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
             link set {BRIDGE} up\n"
        ),
    )?;
    netns::inside(name, Host::Switch, || sysctl(&format!("ipv6/conf/{BRIDGE}/disable_ipv6"), "0"))?
}

/// Makes stations (nodes or clients) with their addresses and plugs them into the switch.
///
/// # Errors
/// When a namespace or port of that name exists.
pub fn create_stations(plan: &LabPlan, stations: &[Host]) -> Result<()> {
    let name = &plan.name;
    add_netns(name, stations)?;
    for &host in stations {
        netns::inside(name, host, settle)??;
    }
    plug(plan, stations)
}

/// Plugs stations that have no interface into the switch: one each, with the host's addresses.
///
/// # Errors
/// When a port of that name exists.
pub fn plug(plan: &LabPlan, stations: &[Host]) -> Result<()> {
    let name = &plan.name;
    let mut ports = String::new();
    for &host in stations {
        let (netns, mac) = (name.netns(host), LabPlan::mac(host));
        let _ =
            writeln!(ports, "link add {host} type veth peer name {INTERFACE} address {mac} netns {netns}");
        let _ = writeln!(ports, "link set {host} master {BRIDGE} up");
    }
    ip_batch(name, Host::Switch, &ports)?;
    for &host in stations {
        ip_batch(name, host, &addresses(plan, host))?;
    }
    Ok(())
}

fn addresses(plan: &LabPlan, host: Host) -> String {
    let mut batch = String::from("link set lo up\n");
    for address in plan.addresses4(host) {
        let _ = writeln!(batch, "addr add {address}/24 brd + dev {INTERFACE}");
    }
    for address in plan.addresses6(host) {
        let _ = writeln!(batch, "addr add {address}/64 dev {INTERFACE} nodad");
    }
    let _ = writeln!(batch, "link set {INTERFACE} up");
    batch
}

/// The same start for every lab: a new namespace copies some settings of the machine it is on. No forwarding, no
/// opinion about ARP or source addresses; no waiting for duplicate addresses, no routers to look for.
fn settle() -> Result<()> {
    sysctl("ipv4/ip_forward", "0")?;
    for group in ["all", "default"] {
        for setting in ["rp_filter", "arp_ignore", "arp_announce", "arp_filter"] {
            sysctl(&format!("ipv4/conf/{group}/{setting}"), "0")?;
        }
        for setting in ["accept_dad", "accept_ra", "router_solicitations"] {
            sysctl(&format!("ipv6/conf/{group}/{setting}"), "0")?;
        }
    }
    Ok(())
}

fn add_netns(name: &Name, hosts: &[Host]) -> Result<()> {
    let batch: String = hosts.iter().map(|&host| format!("netns add {}\n", name.netns(host))).collect();
    feed(Command::new("ip").args(["-batch", "-"]), &batch)
}

/// Removes a host's namespace, and with it its interfaces and its port on the switch. One that is gone is no error.
///
/// # Errors
/// When it stays.
pub fn remove_netns(name: &Name, host: Host) -> Result<()> {
    if !netns::netns_path(name, host).exists() {
        return Ok(());
    }
    run_ok(Command::new("ip").args(["netns", "del", &name.netns(host)]), PATIENCE)?;
    Ok(())
}

/// Takes a host's port off the switch, and with it the host's interface. That of a namespace that is gone may be gone
/// as well, or may not: connections that were open when their processes died keep a namespace alive for minutes.
///
/// # Errors
/// When the port stays.
pub fn unplug(name: &Name, host: Host) -> Result<()> {
    for port in [host.to_string(), second_port(host)] {
        if has_port(name, &port)?
            && let Err(error) = ip_batch(name, Host::Switch, &format!("link del {port}\n"))
        {
            // It may have gone by itself between the look and the command.
            ensure!(!has_port(name, &port)?, "{error:#}");
        }
    }
    Ok(())
}

/// The switch's port for the second interface of a host, if it has one.
pub fn second_port(host: Host) -> String {
    format!("{host}-b")
}

/// Whether the switch has a port for this host.
///
/// # Errors
/// When there is no switch.
pub fn is_plugged(name: &Name, host: Host) -> Result<bool> {
    has_port(name, &host.to_string())
}

/// Whether the switch has a port of this name.
///
/// # Errors
/// When there is no switch.
pub fn has_port(name: &Name, port: &str) -> Result<bool> {
    netns::inside(name, Host::Switch, || if_nametoindex(port).is_ok())
}

/// Runs `ip` commands, one a line, in a host's namespace; the first that fails ends the batch.
///
/// # Errors
/// With the line and what `ip` said about it.
pub fn ip_batch(name: &Name, host: Host, batch: &str) -> Result<()> {
    feed(Command::new("ip").args(["-n", &name.netns(host), "-batch", "-"]), batch)
}
