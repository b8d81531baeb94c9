//! A lab with clients at work, and what they see: brought into order, watched, and brought into order again.

pub mod samples;
pub mod watchers;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use self::samples::ProbeSamples;
use crate::lab::{Lab, Options};
use crate::load::{
    InteractiveUser, SessionLog, Sessions, SynProber, TcpConnection, TcpConnector, connections,
};
use crate::plan::Host;
use crate::process::poll_until;

/// A cluster that is not in order by now will not come to order by itself.
const ORDER_WITHIN: Duration = Duration::from_secs(20);
/// How long the healed nodes have to take back what was theirs; then it is served as it is.
const HOME_WITHIN: Duration = Duration::from_secs(6);
/// How often what the clients saw is collected.
const LOOK: Duration = Duration::from_millis(10);

/// A lab, and everything that goes on in it. (In the order in which it has to end.)
pub struct Testbed {
    probers: Vec<SynProber>,
    connectors: Vec<TcpConnector>,
    /// Connections that carry data, one from each client address.
    pub sessions: Sessions,
    /// People with `ssh`, one on each node.
    pub users: Vec<InteractiveUser>,
    /// The probes of late.
    pub samples: ProbeSamples,
    /// All connections since the beginning.
    pub connections: Vec<TcpConnection>,
    /// Who serves whom when all is well.
    pub home: BTreeMap<Ipv4Addr, u8>,
    hosts: Vec<Host>,
    /// The lab.
    pub lab: Lab,
}

impl Testbed {
    /// Builds a lab, and sets the clients of these hosts to work.
    ///
    /// # Errors
    /// When something does not start, or the cluster does not serve everybody.
    pub fn set_up(options: Options, hosts: &[Host]) -> Result<Self> {
        Self::on(Lab::up(options.echo())?, hosts)
    }

    /// Sets the clients of these hosts to work in a lab that runs, with its echo service.
    ///
    /// # Errors
    /// As [`Testbed::set_up`].
    pub fn on(lab: Lab, hosts: &[Host]) -> Result<Self> {
        let mut testbed = Self {
            probers: vec![],
            connectors: vec![],
            sessions: Sessions::start()?,
            users: vec![],
            samples: ProbeSamples::default(),
            connections: vec![],
            home: BTreeMap::new(),
            hosts: hosts.to_vec(),
            lab,
        };
        for &host in hosts {
            let clients = testbed.lab.plan().addresses4(host);
            testbed.probers.push(SynProber::start(&testbed.lab, host, &clients)?);
            testbed.connectors.push(TcpConnector::start(&testbed.lab, host, &clients)?);
        }
        testbed.wait(ORDER_WITHIN, "every client to be served", |testbed| testbed.served().is_some())?;
        testbed.home = testbed.served().context("served a moment ago")?;
        testbed.restore()?;
        Ok(testbed)
    }

    /// Takes the lab down.
    ///
    /// # Errors
    /// Names what could not be removed.
    pub fn take_down(self) -> Result<()> {
        let Self { probers, connectors, sessions, users, lab, .. } = self;
        drop((probers, connectors, sessions, users));
        lab.down()
    }

    /// Takes in what the clients have seen.
    pub fn look(&mut self) {
        for prober in &self.probers {
            prober.probes.try_iter().for_each(|probe| self.samples.note(probe));
        }
        for connector in &self.connectors {
            self.connections.extend(connector.connections.try_iter());
        }
    }

    /// Waits until it is known what became of every connection that has been begun.
    ///
    /// # Errors
    /// When the user interrupts, or a connector has stopped.
    pub fn settle_connections(&mut self) -> Result<()> {
        let begun: usize = self.connectors.iter().map(TcpConnector::begun).sum();
        let within = connections::LIMIT + connections::LIMIT / 2;
        let settled = self.watch(Instant::now() + within, |testbed| testbed.connections.len() >= begun)?;
        ensure!(settled, "of {begun} connections only {} have come to an end", self.connections.len());
        Ok(())
    }

    /// Who serves whom now, if everybody is served steadily.
    pub fn served(&self) -> Option<BTreeMap<Ipv4Addr, u8>> {
        let clients: usize = self.hosts.iter().map(|&host| self.lab.plan().addresses4(host).len()).sum();
        self.samples.servers(Instant::now()).filter(|servers| servers.len() == clients)
    }

    /// Watches until a condition holds; false when it does not by the deadline.
    ///
    /// # Errors
    /// When the user interrupts.
    pub fn watch(&mut self, deadline: Instant, mut condition: impl FnMut(&mut Self) -> bool) -> Result<bool> {
        poll_until(deadline, LOOK, || {
            self.look();
            condition(self)
        })
    }

    fn wait(&mut self, within: Duration, what: &str, condition: impl FnMut(&mut Self) -> bool) -> Result<()> {
        if self.watch(Instant::now() + within, condition)? {
            return Ok(());
        }
        bail!(
            "waited {within:?} for {what}, in vain: {} clients are not",
            self.samples.unserved(Instant::now())
        )
    }

    /// Brings everything into order: everybody is served from home, where that can be had, by steady nodes; one
    /// session from every address, and one person with `ssh` on every node.
    ///
    /// # Errors
    /// When somebody is not served, or cannot log in.
    pub fn restore(&mut self) -> Result<()> {
        // What is elsewhere keeps its bucket busy there, and that from going home.
        let home = self.home.clone();
        let astray = |log: &SessionLog| log.lost.is_some() || home.get(&log.client) != Some(&log.node);
        self.sessions.close(astray);
        self.users.retain(|user| user.log().lost.is_none() && at_home(&home, user));
        let goes_home = Instant::now() + HOME_WITHIN;
        if !self.watch(goes_home, |testbed| testbed.served().is_some_and(|served| served == home))? {
            self.wait(ORDER_WITHIN, "every client to be served", |testbed| testbed.served().is_some())?;
            self.home = self.served().context("served a moment ago")?;
        }
        self.open_missing()?;
        let now = Instant::now();
        self.samples.cut_before(now - Duration::from_secs(1));
        while now.elapsed() < ORDER_WITHIN {
            let all_answer = |testbed: &mut Self| {
                let heard =
                    |log: &SessionLog| log.lost.is_none() && log.heard.back().is_some_and(|&at| at > now);
                testbed.sessions.glance().iter().all(heard) && testbed.served().is_some()
            };
            if self.watch(Instant::now() + Duration::from_secs(2), all_answer)? {
                return Ok(());
            }
            // What a host lost that is back already, its client only finds out when it tries again.
            self.sessions.close(|log| log.lost.is_some());
            self.open_missing()?;
        }
        let silent: Vec<_> =
            self.sessions.glance().into_iter().filter(|log| log.heard.back() < Some(&now)).collect();
        let served = if self.served().is_some() { "is" } else { "is not" };
        bail!(
            "waited {ORDER_WITHIN:?} in vain for every session to answer: {silent:?} are silent; every client {served} served"
        )
    }

    fn open_missing(&mut self) -> Result<()> {
        let open: Vec<Ipv4Addr> = self.sessions.glance().iter().map(|log| log.client).collect();
        for &host in &self.hosts {
            let mut missing = self.lab.plan().addresses4(host);
            missing.retain(|client| !open.contains(client));
            self.sessions.open(&self.lab, host, &missing)?;
        }
        for node in self.lab.plan().node_ids() {
            let name = Host::Node(node).to_string();
            if self.users.iter().any(|user| user.host == name) {
                continue;
            }
            let from = self.home.iter().find(|(_, home)| **home == node).map(|(client, _)| *client);
            if let Some(client) = from {
                self.users.push(InteractiveUser::log_in(&self.lab, client.into())?);
            }
        }
        Ok(())
    }

    /// The clients that a node serves when all is well.
    ///
    /// # Errors
    /// When there are none: then nothing could be measured.
    pub fn clients_of(&self, node: u8) -> Result<Vec<Ipv4Addr>> {
        let own: Vec<_> = self.home.iter().filter(|(_, home)| **home == node).map(|(c, _)| *c).collect();
        ensure!(!own.is_empty(), "unix{node} serves no client: {:?}", self.home);
        Ok(own)
    }
}

fn at_home(home: &BTreeMap<Ipv4Addr, u8>, user: &InteractiveUser) -> bool {
    let IpAddr::V4(client) = user.client else { return false };
    home.get(&client).is_some_and(|&node| Host::Node(node).to_string() == user.host)
}
