//! The paths from a client to a node that benchmarks compare: straight to the node's own address, through the VIP, and
//! through HAProxy, in one lab, to the same services, in both families.

pub mod haproxy;
pub mod switch_mode;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use self::switch_mode::SwitchMode;
use crate::dial::connect;
use crate::lab::{Lab, Options};
use crate::plan::{Host, LabPlan, vip4, vip6};
use crate::service::{bulk, echo};

/// One path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessPath {
    /// To the address of the node that serves the client.
    Direct,
    /// The same, while the switch carries every frame to every host, as it does with frames to the VIP.
    Flooded,
    /// To the VIP.
    Onevip,
    /// To HAProxy, on a host of its own (`client2`) on the same switch.
    Haproxy,
}

impl AccessPath {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Direct, Self::Flooded, Self::Onevip, Self::Haproxy];

    /// In words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Flooded => "direct, flooded",
            Self::Onevip => "onevip",
            Self::Haproxy => "HAProxy",
        }
    }

    /// What the switch has to do for it.
    fn switch_mode(self) -> SwitchMode {
        match self {
            Self::Flooded => SwitchMode::Flooded,
            Self::Direct | Self::Onevip | Self::Haproxy => SwitchMode::Switched,
        }
    }
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpFamily {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The VIP's address.
    pub fn vip(self) -> IpAddr {
        match self {
            Self::V4 => vip4().into(),
            Self::V6 => vip6().into(),
        }
    }

    /// All addresses of a host.
    pub fn addresses(self, plan: &LabPlan, host: Host) -> Vec<IpAddr> {
        match self {
            Self::V4 => plan.addresses4(host).into_iter().map(IpAddr::from).collect(),
            Self::V6 => plan.addresses6(host).into_iter().map(IpAddr::from).collect(),
        }
    }

    /// The main address of a host that has one.
    pub fn address(self, plan: &LabPlan, host: Host) -> IpAddr {
        self.addresses(plan, host)[0]
    }
}

/// The one that every kernel has and every namespace may choose; where nothing is lost it is as good as CUBIC. With BBR, which
/// some kernels are built to use, a flow's rate follows from how it measures the path, not from what that could carry.
const CONGESTION_CONTROL: (&str, &str) = ("/proc/sys/net/ipv4/tcp_congestion_control", "reno");

/// A lab in which all paths are open.
pub struct AccessPaths {
    /// The lab.
    pub lab: Lab,
    /// Who serves whom.
    homes: BTreeMap<IpAddr, u8>,
    switch_mode: SwitchMode,
}

impl AccessPaths {
    /// Builds the lab and starts the services and HAProxy.
    ///
    /// # Errors
    /// When something does not start, or a client is not served.
    pub fn open(name: &str, nodes: usize, clients: usize) -> Result<Self> {
        let lab = Lab::up(Options::new(name).nodes(nodes).clients(clients).echo())?;
        switch_mode::filter_like_hardware(&lab)?;
        for host in lab.plan().node_ids().map(Host::Node).chain([Host::Client, Host::Client2]) {
            lab.inside(&host.to_string(), || fs::write(CONGESTION_CONTROL.0, CONGESTION_CONTROL.1))?
                .context("cannot choose the congestion control")?;
        }
        for id in lab.plan().node_ids() {
            bulk::start(lab.name(), id)?;
        }
        haproxy::start(&lab, haproxy::CheckPace::Default, &IpFamily::ALL)?;
        let clients = IpFamily::ALL.into_iter().flat_map(|family| family.addresses(lab.plan(), Host::Client));
        let homes = lab.inside("client", || {
            clients.map(|client| Ok((client, served_by(client)?))).collect::<Result<_>>()
        })??;
        Ok(Self { lab, homes, switch_mode: SwitchMode::Switched })
    }

    /// The clients of a family.
    pub fn clients(&self, family: IpFamily) -> Vec<IpAddr> {
        self.homes.keys().copied().filter(|client| IpFamily::of(*client) == family).collect()
    }

    /// Makes the switch do what a path needs. To be called before each turn.
    ///
    /// # Errors
    /// When the switch cannot be told.
    pub fn prepare(&mut self, path: AccessPath) -> Result<()> {
        if self.switch_mode != path.switch_mode() {
            switch_mode::set(&self.lab, path.switch_mode())?;
            self.switch_mode = path.switch_mode();
        }
        Ok(())
    }

    /// Where a client goes by this path.
    pub fn target(&self, path: AccessPath, client: IpAddr) -> IpAddr {
        let family = IpFamily::of(client);
        match path {
            AccessPath::Direct | AccessPath::Flooded => {
                let home = self.homes.get(&client).copied().unwrap_or(1);
                family.address(self.lab.plan(), Host::Node(home))
            }
            AccessPath::Onevip => family.vip(),
            AccessPath::Haproxy => family.address(self.lab.plan(), Host::Client2),
        }
    }
}

/// Asks through the VIP which node serves a client.
fn served_by(client: IpAddr) -> Result<u8> {
    let mut stream = connect(client, (IpFamily::of(client).vip(), echo::PORT).into())
        .with_context(|| format!("{client} is not served"))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut greeting = [0];
    stream.read_exact(&mut greeting).with_context(|| format!("{client} is not greeted"))?;
    Ok(greeting[0])
}

/// `1 node`, `4 nodes`.
pub fn plural(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}
