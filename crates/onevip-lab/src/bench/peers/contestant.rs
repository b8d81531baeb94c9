//! The systems that are compared: how each is set up, broken and mended.

use std::io::Read;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use super::PeerFault;
use super::keepalived::{self, VrrpPace};
use crate::bench::access::{IpFamily, haproxy};
use crate::dial::connect;
use crate::fault::LabFault;
use crate::lab::{Lab, Options};
use crate::plan::{Host, vip4};
use crate::process::{signal, wait_until};
use crate::service::echo;

/// Hosts of each.
pub const NODES: usize = 2;
/// The host that fails.
const VICTIM: u8 = 1;

/// Which system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerSystem {
    /// At its defaults.
    Onevip,
    /// Asking `sshd` as often as the others do when they are fast.
    OnevipFast,
    /// At its defaults.
    Keepalived,
    /// As fast as is sane, and checking `sshd`.
    KeepalivedFast,
    /// In TCP mode on a third host, checking at its default pace.
    Haproxy,
    /// The same, checking as often as is sane.
    HaproxyFast,
}

impl PeerSystem {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Onevip,
        Self::OnevipFast,
        Self::Keepalived,
        Self::KeepalivedFast,
        Self::Haproxy,
        Self::HaproxyFast,
    ];
    /// Who takes turns with whom. The slow ones are mostly waited for, so each of them has a lane of its own.
    pub const LANES: [&[Self]; 4] = [
        &[Self::Onevip, Self::OnevipFast],
        &[Self::KeepalivedFast, Self::HaproxyFast],
        &[Self::Keepalived],
        &[Self::Haproxy],
    ];

    /// In words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Onevip => "onevip",
            Self::OnevipFast => "onevip, fast",
            Self::Keepalived => "keepalived, default",
            Self::KeepalivedFast => "keepalived, fast",
            Self::Haproxy => "HAProxy, default",
            Self::HaproxyFast => "HAProxy, fast",
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Onevip => "o",
            Self::OnevipFast => "p",
            Self::Keepalived => "k",
            Self::KeepalivedFast => "f",
            Self::Haproxy => "h",
            Self::HaproxyFast => "g",
        }
    }

    fn pace(self) -> Option<VrrpPace> {
        match self {
            Self::Keepalived => Some(VrrpPace::Default),
            Self::KeepalivedFast => Some(VrrpPace::Fast),
            Self::Onevip | Self::OnevipFast | Self::Haproxy | Self::HaproxyFast => None,
        }
    }

    fn checks(self) -> Option<haproxy::CheckPace> {
        match self {
            Self::Haproxy => Some(haproxy::CheckPace::Default),
            Self::HaproxyFast => Some(haproxy::CheckPace::Fast),
            Self::Onevip | Self::OnevipFast | Self::Keepalived | Self::KeepalivedFast => None,
        }
    }

    /// The lab that it needs.
    fn options(self, options: Options) -> Result<Options> {
        match self {
            Self::Onevip => Ok(options),
            Self::OnevipFast => options.edit_config(|text| text.replacen("[health]\n", FAST, 1)),
            Self::Keepalived | Self::KeepalivedFast | Self::Haproxy | Self::HaproxyFast => {
                Ok(options.no_onevip())
            }
        }
    }
}

/// Five questions a second, of which two in a row have to fail, as by default. Beats stay as they are.
const FAST: &str = "[health]\ninterval = \"200ms\"\ntimeout = \"200ms\"\n";

/// A system in its lab.
pub struct Contestant {
    /// Which.
    pub kind: PeerSystem,
    /// Its lab.
    pub lab: Lab,
    haproxy: Option<i32>,
    clients: Vec<Ipv4Addr>,
}

impl Contestant {
    /// Builds its lab and waits until it serves.
    ///
    /// # Errors
    /// When something does not start, or nobody is served in the end.
    pub fn set_up(kind: PeerSystem, name: &str, clients: usize) -> Result<Self> {
        let options = Options::new(&format!("{name}-{}", kind.suffix())).nodes(NODES).clients(clients).echo();
        let lab = Lab::up(kind.options(options)?)?;
        let clients = lab.plan().addresses4(Host::Client);
        let mut contestant = Self { kind, lab, haproxy: None, clients };
        if let Some(pace) = kind.pace() {
            for id in contestant.lab.plan().node_ids() {
                keepalived::start(&contestant.lab, id, pace)?;
            }
        }
        if let Some(pace) = kind.checks() {
            contestant.haproxy = Some(haproxy::start(&contestant.lab, pace, &[IpFamily::V4])?);
        }
        contestant.settle(Duration::from_secs(20))?;
        Ok(contestant)
    }

    /// Takes its lab down.
    ///
    /// # Errors
    /// Names what could not be removed.
    pub fn take_down(self) -> Result<()> {
        self.lab.down()
    }

    /// Where its clients go.
    pub fn address(&self) -> Ipv4Addr {
        match self.kind {
            PeerSystem::Haproxy | PeerSystem::HaproxyFast => self.lab.plan().addresses4(Host::Client2)[0],
            PeerSystem::Onevip
            | PeerSystem::OnevipFast
            | PeerSystem::Keepalived
            | PeerSystem::KeepalivedFast => vip4(),
        }
    }

    /// The clients that the host serves which will fail.
    ///
    /// # Errors
    /// When there are none.
    pub fn affected(&self) -> Result<Vec<Ipv4Addr>> {
        let to = self.address();
        let mut affected = self.clients.clone();
        self.lab.inside("client", || affected.retain(|&client| greeted_by(client, to) == Some(VICTIM)))?;
        ensure!(!affected.is_empty(), "{}: no client is served by unix{VICTIM}", self.kind.word());
        affected.truncate(12);
        Ok(affected)
    }

    /// Breaks it.
    ///
    /// # Errors
    /// When that fails.
    pub fn inflict(&self, fault: PeerFault) -> Result<()> {
        match (fault, self.kind) {
            (PeerFault::PowerOff, _) => self.lab.fault(&LabFault::PowerOff(VICTIM)),
            (PeerFault::FreezeSshd, _) => self.lab.fault(&LabFault::FreezeSshd(VICTIM)),
            (PeerFault::FreezeDaemon, PeerSystem::Onevip | PeerSystem::OnevipFast) => {
                self.lab.fault(&LabFault::FreezeOnevip(VICTIM))
            }
            (PeerFault::FreezeDaemon, _) => {
                self.signal_daemon(Signal::SIGSTOP);
                Ok(())
            }
        }
    }

    /// Mends it.
    ///
    /// # Errors
    /// When a part does not come back.
    pub fn heal(&self, fault: PeerFault) -> Result<()> {
        self.lab.heal(None)?;
        match (fault, self.kind.pace()) {
            (PeerFault::PowerOff, Some(pace)) => keepalived::start(&self.lab, VICTIM, pace).map(drop),
            (PeerFault::FreezeDaemon, _) => {
                self.signal_daemon(Signal::SIGCONT);
                Ok(())
            }
            (PeerFault::PowerOff | PeerFault::FreezeSshd, _) => Ok(()),
        }
    }

    fn signal_daemon(&self, which: Signal) {
        let pids = match self.kind {
            PeerSystem::Haproxy | PeerSystem::HaproxyFast => self.haproxy.into_iter().collect(),
            PeerSystem::Keepalived | PeerSystem::KeepalivedFast => keepalived::pids(&self.lab, VICTIM),
            PeerSystem::Onevip | PeerSystem::OnevipFast => vec![],
        };
        pids.into_iter().for_each(|pid| signal(pid, which));
    }

    /// Waits until everybody is served, and somebody by the host that was broken.
    ///
    /// # Errors
    /// When that does not come to be.
    pub fn settle(&self, within: Duration) -> Result<()> {
        let to = self.address();
        let what = format!("{} to serve everybody, and some from unix{VICTIM}", self.kind.word());
        wait_until(within, &what, || {
            let asked = self.lab.inside("client", || {
                self.clients.iter().map(|&client| greeted_by(client, to)).collect::<Vec<_>>()
            });
            let Ok(greetings) = asked else { return false };
            // Greetings come from one port; HAProxy has an opinion about each.
            if self.haproxy.is_some() && !haproxy::sees_all(&self.lab, &[echo::PORT, 22]) {
                return false;
            }
            greetings.iter().all(Option::is_some) && greetings.contains(&Some(VICTIM))
        })
    }
}

/// The node that greets a client; none when that takes long.
pub fn greeted_by(client: Ipv4Addr, to: Ipv4Addr) -> Option<u8> {
    let mut stream = connect(client.into(), (to, echo::PORT).into()).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    let mut greeting = [0];
    stream.read_exact(&mut greeting).ok()?;
    Some(greeting[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_one_lane() {
        let mut lanes: Vec<PeerSystem> = PeerSystem::LANES.concat();
        assert_eq!(lanes.len(), PeerSystem::ALL.len());
        lanes.retain(|kind| !PeerSystem::ALL.contains(kind));
        assert!(lanes.is_empty());
    }

    #[test]
    fn only_the_fast_onevip_asks_sshd_more_often() {
        let text = |kind: PeerSystem| kind.options(Options::new("x").nodes(NODES)).unwrap().config;
        assert_eq!(text(PeerSystem::Onevip), None, "the defaults");
        let fast = text(PeerSystem::OnevipFast).unwrap();
        assert_eq!((fast.matches("200ms").count(), fast.matches("[health]").count()), (2, 1), "{fast}");
    }
}
