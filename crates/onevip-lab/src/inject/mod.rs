//! Bringing faults about, and healing them.
//!
//! The faults in force are a list in the lab's directory. What concerns the switch is applied from that whole list
//! each time; what concerns processes is done once, here.

mod degrade;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::fault::LabFault;
use crate::lab::{Lab, lock};
use crate::net::{INTERFACE, ip_batch};
use crate::plan::{Host, LabPlan};
use crate::process::{is_alive, signal, wait_until};
use crate::{cgroup, cleanup, net, ssh, switch};

impl Lab {
    /// The faults in force.
    pub fn faults(&self) -> Vec<LabFault> {
        let text = fs::read(self.faults_path()).unwrap_or_default();
        let words: Vec<String> = serde_json::from_slice(&text).unwrap_or_default();
        words.iter().filter_map(|w| w.parse().ok()).collect()
    }

    /// Brings a fault about; it is in force when this returns. One of the same kind on the same node is replaced.
    ///
    /// # Errors
    /// When the lab has no such node, the node is powered off, or the kernel lacks what the fault needs.
    pub fn fault(&self, fault: &LabFault) -> Result<()> {
        let _lock = lock(self.name())?;
        let mut faults = self.faults();
        self.check(fault, &faults)?;
        // A node that boots has its interface as it should be.
        let boots_away = |other: &LabFault| {
            other.is_of_processes() || matches!(other, LabFault::NoInterface(_) | LabFault::OtherMac(_))
        };
        let off = |other: &LabFault| matches!(fault, LabFault::PowerOff(_)) && boots_away(other);
        faults.retain(|other| !(fault.replaces(other) || other.node() == fault.node() && off(other)));
        faults.push(fault.clone());
        match *fault {
            LabFault::PowerOff(id) => self.power_off(id)?,
            LabFault::Freeze(id) => cgroup::freeze(self.name(), Host::Node(id), true)?,
            LabFault::FreezeOnevip(id) => stop_process(self.onevip_of(id)?)?,
            LabFault::FreezeSshd(id) => stop_process(self.sshd_of(id)?)?,
            LabFault::KillOnevip(id) => kill_process(self.onevip_of(id)?)?,
            LabFault::KillSshd(id) => kill_process(self.sshd_of(id)?)?,
            LabFault::SshdSlow(_)
            | LabFault::SshdMaxstartups(_)
            | LabFault::Nologin(_)
            | LabFault::DiskFull(_) => {
                degrade::begin(self, fault)?;
            }
            LabFault::ForkBomb(_) | LabFault::MemoryHog(_) | LabFault::CpuHog(_) => {
                degrade::begin(self, fault)?
            }
            LabFault::Cut(_) | LabFault::Mute(_) | LabFault::Deaf(_) => self.apply_to_switch(&faults)?,
            LabFault::NoInterface(id) => {
                ip_batch(self.name(), Host::Node(id), &format!("link del {INTERFACE}\n"))?;
            }
            LabFault::OtherMac(id) => self.set_mac(id, &LabPlan::other_mac(Host::Node(id)))?,
            LabFault::Loss { .. } | LabFault::Split(_) | LabFault::Snoop => self.apply_to_switch(&faults)?,
        }
        self.write_faults(&faults)
    }

    /// Heals the faults that `target` means (a node's name, `split`, `snoop`), or all of them; returns those healed.
    /// The node is in order again when this returns: services that had to be started are ready.
    ///
    /// # Errors
    /// When a part does not come back.
    pub fn heal(&self, target: Option<&str>) -> Result<Vec<LabFault>> {
        let _lock = lock(self.name())?;
        if let Some(target) = target.filter(|t| !["split", "snoop"].contains(t)) {
            self.plan().host(target)?;
        }
        let meant = |fault: &LabFault| target.is_none_or(|target| fault.is_meant_by(target));
        let (healed, mut left): (Vec<LabFault>, Vec<LabFault>) = self.faults().into_iter().partition(meant);
        // The wires first, so that what starts finds the network as it will be. A port that is off has no rules to
        // obey until it is back.
        self.apply_to_switch(&left)?;
        for fault in &healed {
            self.heal_processes(fault, &left)?;
        }
        left.retain(|fault| !healed.contains(fault));
        self.write_faults(&left)?;
        Ok(healed)
    }

    fn heal_processes(&self, fault: &LabFault, left: &[LabFault]) -> Result<()> {
        match *fault {
            LabFault::PowerOff(id) => {
                self.boot(id)?;
                self.apply_to_switch(left)
            }
            LabFault::NoInterface(id) => {
                net::plug(self.plan(), &[Host::Node(id)])?;
                self.apply_to_switch(left)
            }
            LabFault::OtherMac(id) => self.set_mac(id, &LabPlan::mac(Host::Node(id))),
            LabFault::Freeze(id) => cgroup::freeze(self.name(), Host::Node(id), false),
            LabFault::FreezeOnevip(id) => {
                self.node(id).onevip().into_iter().for_each(|pid| signal(pid, Signal::SIGCONT));
                Ok(())
            }
            LabFault::FreezeSshd(id) => {
                self.node(id).sshd().into_iter().for_each(|pid| signal(pid, Signal::SIGCONT));
                Ok(())
            }
            LabFault::KillOnevip(id) if self.node(id).onevip().is_none() => {
                self.node(id).start_onevip().map(drop)
            }
            LabFault::KillSshd(id) if self.node(id).sshd().is_none() => {
                ssh::start_sshd(self.name(), id).map(drop)
            }
            LabFault::SshdSlow(_)
            | LabFault::SshdMaxstartups(_)
            | LabFault::Nologin(_)
            | LabFault::DiskFull(_) => degrade::end(self, fault),
            LabFault::ForkBomb(_) | LabFault::MemoryHog(_) | LabFault::CpuHog(_) => degrade::end(self, fault),
            LabFault::KillSshd(_) => Ok(()),
            LabFault::KillOnevip(_) | LabFault::Cut(_) | LabFault::Mute(_) | LabFault::Deaf(_) => Ok(()),
            LabFault::Loss { .. } | LabFault::Split(_) | LabFault::Snoop => Ok(()),
        }
    }

    fn check(&self, fault: &LabFault, in_force: &[LabFault]) -> Result<()> {
        let hosts = match fault {
            LabFault::Split(sides) => sides.iter().flatten().copied().collect(),
            _ => fault.node().map(Host::Node).into_iter().collect::<Vec<_>>(),
        };
        for host in hosts {
            self.plan().host(&host.to_string())?;
        }
        let off = fault.node().filter(|&id| in_force.contains(&LabFault::PowerOff(id)));
        ensure!(
            off.is_none(),
            "{} is powered off; heal it first",
            off.map_or(String::new(), |id| format!("unix{id}"))
        );
        Ok(())
    }

    /// First the link, so that no dying process and no closing socket gets a last word out; then the processes,
    /// mounts and the namespace with all its sockets.
    fn power_off(&self, id: u8) -> Result<()> {
        for port in [Host::Node(id).to_string(), net::second_port(Host::Node(id))] {
            if net::has_port(self.name(), &port)? {
                ip_batch(self.name(), Host::Switch, &format!("link set {port} down\n"))?;
            }
        }
        cleanup::remove_host(self.name(), Host::Node(id))?;
        net::unplug(self.name(), Host::Node(id))
    }

    fn apply_to_switch(&self, faults: &[LabFault]) -> Result<()> {
        let plugged = |id: &u8| net::is_plugged(self.name(), Host::Node(*id)).unwrap_or(false);
        let ports: Vec<u8> = self.plan().node_ids().filter(plugged).collect();
        switch::apply(self.name(), &ports, faults)
    }

    fn set_mac(&self, id: u8, mac: &str) -> Result<()> {
        ip_batch(self.name(), Host::Node(id), &format!("link set {INTERFACE} address {mac}\n"))
    }

    fn onevip_of(&self, id: u8) -> Result<i32> {
        self.node(id).onevip().with_context(|| format!("no onevip runs on unix{id} of lab {}", self.name()))
    }

    fn sshd_of(&self, id: u8) -> Result<i32> {
        self.node(id).sshd().with_context(|| format!("no sshd runs on unix{id} of lab {}", self.name()))
    }

    fn faults_path(&self) -> PathBuf {
        self.dir().join("faults.json")
    }

    fn write_faults(&self, faults: &[LabFault]) -> Result<()> {
        let words: Vec<String> = faults.iter().map(LabFault::to_string).collect();
        let path = self.faults_path();
        fs::write(&path, serde_json::to_vec(&words)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Stops a process; returns when each of its threads has stopped.
fn stop_process(pid: i32) -> Result<()> {
    signal(pid, Signal::SIGSTOP);
    wait_until(std::time::Duration::from_secs(5), &format!("process {pid} to stop"), || {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        threads
            .map(|t| fs::read_to_string(t.path().join("stat")).unwrap_or_default())
            .all(|stat| stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T')))
    })
}

fn kill_process(pid: i32) -> Result<()> {
    signal(pid, Signal::SIGKILL);
    wait_until(std::time::Duration::from_secs(5), &format!("process {pid} to end"), || !is_alive(pid))
}
