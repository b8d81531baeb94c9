//! The ways from a client to a node that benchmarks compare: straight to the node's own address, through the VIP, and
//! through HAProxy, in one lab and to the same services.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::lab::{Lab, Options};
use crate::load::{bulk, echo};
use crate::plan::{Host, Plan, vip4};
use crate::process::{is_alive, spawn_background, tail, wait_until};

/// One way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the address of the node that serves the client.
    Direct,
    /// To the VIP.
    Onevip,
    /// To HAProxy, on a host of its own (`client2`) on the same switch.
    Haproxy,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Direct, Self::Onevip, Self::Haproxy];

    /// In words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Onevip => "onevip",
            Self::Haproxy => "HAProxy",
        }
    }
}

/// A lab in which all ways are open.
pub struct Ways {
    /// The lab.
    pub lab: Lab,
    /// Who serves whom.
    homes: BTreeMap<Ipv4Addr, u8>,
}

impl Ways {
    /// Builds the lab and starts the services and HAProxy.
    ///
    /// # Errors
    /// When something does not start, or a client is not served.
    pub fn open(name: &str, nodes: usize, clients: usize) -> Result<Self> {
        let lab = Lab::up(Options::new(name).nodes(nodes).clients(clients).echo())?;
        for id in lab.plan().node_ids() {
            bulk::start(lab.name(), id)?;
        }
        start_haproxy(&lab, Pace::Default)?;
        let clients = lab.plan().addresses4(Host::Client);
        let homes = lab.inside("client", || {
            clients.into_iter().map(|client| Ok((client, served_by(client)?))).collect::<Result<_>>()
        })??;
        Ok(Self { lab, homes })
    }

    /// The clients.
    pub fn clients(&self) -> Vec<Ipv4Addr> {
        self.homes.keys().copied().collect()
    }

    /// Where a client goes by this way.
    pub fn target(&self, way: Way, client: Ipv4Addr) -> Ipv4Addr {
        match way {
            Way::Direct => {
                let home = self.homes.get(&client).copied().unwrap_or(1);
                self.lab.plan().addresses4(Host::Node(home))[0]
            }
            Way::Onevip => vip4(),
            Way::Haproxy => self.lab.plan().addresses4(Host::Client2)[0],
        }
    }
}

/// Asks through the VIP which node serves a client.
fn served_by(client: Ipv4Addr) -> Result<u8> {
    let mut stream = bulk::open(client, SocketAddrV4::new(vip4(), echo::PORT))
        .with_context(|| format!("{client} is not served"))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut greeting = [0];
    stream.read_exact(&mut greeting).with_context(|| format!("{client} is not greeted"))?;
    Ok(greeting[0])
}

/// Starts HAProxy in TCP mode in front of all nodes, and waits until it listens.
///
/// # Errors
/// When it is not installed or ends at once: then with what it said.
pub fn start_haproxy(lab: &Lab, pace: Pace) -> Result<i32> {
    let (config, log) = (lab.dir().join("haproxy.cfg"), lab.dir().join("haproxy.log"));
    std::fs::write(&config, haproxy_config(lab.plan(), pace))?;
    let mut haproxy = Command::new("haproxy");
    lab.enter("client2", haproxy.arg("-db").arg("-f").arg(&config))?;
    let pid = spawn_background(&mut haproxy, &log).context("is haproxy installed?")?;
    let own = lab.plan().addresses4(Host::Client2)[0];
    let listens = || std::net::TcpStream::connect((own, echo::PORT)).is_ok();
    wait_until(Duration::from_secs(10), "HAProxy to listen", || {
        !is_alive(pid) || lab.inside("client2", listens).unwrap_or(false)
    })?;
    if !is_alive(pid) {
        bail!("HAProxy ended at once:\n{}", tail(Path::new(&log), 10));
    }
    Ok(pid)
}

/// As its manual advises for TCP. The source decides, as it does with onevip.
pub fn haproxy_config(plan: &Plan, pace: Pace) -> String {
    let own = plan.addresses4(Host::Client2)[0];
    let (connect, checks) = match pace {
        Pace::Default => ("5s", ""),
        Pace::Fast => ("500ms", "  timeout check 200ms\n  default-server inter 200ms fall 2 rise 2\n"),
    };
    let mut text = format!(
        "global\n  maxconn 4000\n\
         defaults\n  mode tcp\n  option redispatch\n  timeout connect {connect}\n  timeout client 1h\n  \
         timeout server 1h\n{checks}"
    );
    for port in [echo::PORT, 22, bulk::PORT] {
        text +=
            &format!("listen port{port}\n  bind {own}:{port}\n  balance source\n  hash-type consistent\n");
        // An sshd that is stopped still accepts connections: only its banner shows that it lives.
        if port == 22 {
            text += "  option tcp-check\n  tcp-check expect rstring ^SSH-2\n";
        }
        for id in plan.node_ids() {
            text += &format!("  server unix{id} {}:{port} check\n", plan.addresses4(Host::Node(id))[0]);
        }
    }
    text
}

/// How soon HAProxy notices that a server is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Checks every 2 s, down after 3 that failed, as it does when nothing is said.
    Default,
    /// Checks every 0.2 s, down after 2.
    Fast,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn haproxy_knows_every_node_and_every_service() {
        let text = haproxy_config(&Plan::new("x", 3, 1, false).unwrap(), Pace::Default);
        assert_eq!(text.matches("server unix").count(), 9);
        assert!(text.contains("server unix3 198.51.100.13:22 check"), "{text}");
        assert_eq!(text.matches("tcp-check expect").count(), 1);
        assert!(!text.contains("inter "), "{text}");
    }
}
