//! `onevip-lab status`: what a lab consists of and what of it runs, for people and for scripts.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Serialize;

use crate::lab::Lab;
use crate::lab::LabNode;
use crate::net::{BRIDGE, INTERFACE};
use crate::plan::Host;
use crate::ssh::Login;

/// The whole of it; its JSON form is an interface.
#[derive(Clone, Debug, Serialize)]
pub struct LabStatus {
    /// The lab's name.
    pub name: String,
    /// The VIP's addresses.
    pub vip: Vec<IpAddr>,
    /// The cluster MAC.
    pub cluster_mac: String,
    /// The bridge.
    pub switch: Switch,
    /// Every node, by number.
    pub nodes: Vec<NodeStatus>,
    /// The client with most addresses.
    pub client: ClientStatus,
    /// The client on a port of its own.
    pub client2: ClientStatus,
    /// How to log in.
    pub ssh: Login,
    /// The faults that are in force, in the words of `onevip-lab fault`.
    pub faults: Vec<String>,
}

/// Where the bridge is.
#[derive(Clone, Debug, Serialize)]
pub struct Switch {
    /// Its namespace, as `ip netns exec` takes it.
    pub netns: String,
    /// The bridge inside it.
    pub bridge: String,
}

/// One node.
#[derive(Clone, Debug, Serialize)]
pub struct NodeStatus {
    /// Its number.
    pub id: u8,
    /// Its hostname.
    pub name: String,
    /// Its own IPv4 address.
    pub address: IpAddr,
    /// Its own IPv6 address.
    pub address6: IpAddr,
    /// Its namespace.
    pub netns: String,
    /// Its configuration file.
    pub config: PathBuf,
    /// Its services.
    pub pids: Pids,
}

/// Process ids of services; none while one does not run.
#[derive(Clone, Debug, Serialize)]
pub struct Pids {
    /// The `sshd` that listens.
    pub sshd: Option<i32>,
    /// The daemon.
    pub onevip: Option<i32>,
}

/// A client.
#[derive(Clone, Debug, Serialize)]
pub struct ClientStatus {
    /// Its namespace.
    pub netns: String,
    /// Its one interface.
    pub interface: String,
    /// Its IPv4 addresses.
    pub addresses: Vec<IpAddr>,
    /// Its IPv6 addresses.
    pub addresses6: Vec<IpAddr>,
}

impl Lab {
    /// What the lab consists of and what of it runs.
    pub fn status(&self) -> LabStatus {
        let name = self.name();
        let client = |host| ClientStatus {
            netns: name.netns(host),
            interface: INTERFACE.into(),
            addresses: self.plan().addresses4(host).into_iter().map(IpAddr::from).collect(),
            addresses6: self.plan().addresses6(host).into_iter().map(IpAddr::from).collect(),
        };
        let node = |node: LabNode<'_>| NodeStatus {
            id: node.id,
            name: node.name(),
            address: node.address(),
            address6: self.plan().addresses6(Host::Node(node.id))[0].into(),
            netns: name.netns(Host::Node(node.id)),
            config: node.config(),
            pids: Pids { sshd: node.sshd(), onevip: node.onevip() },
        };
        LabStatus {
            name: name.to_string(),
            vip: self.vip().to_vec(),
            cluster_mac: self.cluster_mac().into(),
            switch: Switch { netns: name.netns(Host::Switch), bridge: BRIDGE.into() },
            nodes: self.nodes().map(node).collect(),
            client: client(Host::Client),
            client2: client(Host::Client2),
            ssh: Login::of(name),
            faults: self.faults().iter().map(ToString::to_string).collect(),
        }
    }
}

impl fmt::Display for LabStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vip: Vec<String> = self.vip.iter().map(ToString::to_string).collect();
        writeln!(f, "lab {}: VIP {} at {}", self.name, vip.join(" and "), self.cluster_mac)?;
        let pid = |pid: Option<i32>| pid.map_or("-".to_string(), |pid| pid.to_string());
        let head = ["host", "addresses", "namespace", "sshd", "onevip"];
        writeln!(f, "  {:<8} {:<29} {:<24} {:>8} {:>8}", head[0], head[1], head[2], head[3], head[4])?;
        for n in &self.nodes {
            let (sshd, onevip) = (pid(n.pids.sshd), pid(n.pids.onevip));
            let addresses = format!("{} {}", n.address, n.address6);
            writeln!(f, "  {:<8} {addresses:<29} {:<24} {sshd:>8} {onevip:>8}", n.name, n.netns)?;
        }
        for (name, client) in [("client", &self.client), ("client2", &self.client2)] {
            let range = |addresses: &[IpAddr]| match addresses {
                [first, .., last] => format!("{first} to {last}"),
                one => one.iter().map(ToString::to_string).collect(),
            };
            let (v4, v6) = (range(&client.addresses), range(&client.addresses6));
            writeln!(f, "  {name:<8} {v4}, {v6}, {}", client.netns)?;
        }
        writeln!(f, "  switch   bridge {} in {}", self.switch.bridge, self.switch.netns)?;
        match self.faults.as_slice() {
            [] => Ok(()),
            faults => writeln!(f, "  faults   {}", faults.join(", ")),
        }
    }
}
