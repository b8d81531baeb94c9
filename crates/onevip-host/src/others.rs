//! The interfaces beside those of the VIPs, kept from answering for them.
//!
//! Linux answers ARP for any of its addresses on any interface. One that is in the VIP's LAN as well (a second NIC, with
//! or without an address of its own) would so give away its own MAC, and clients would meet this host past the programs.
//! Which interfaces are in that LAN cannot be told, so all that speak ARP are set:
//!
//! - `arp_ignore=3`: no answer for addresses of scope `host`. The VIPs have that scope, and no other address but those of
//!   `lo` does: whatever else was answered still is.
//! - `arp_announce=2`: an answer to a client that leaves there does not make the kernel ask for the client in the VIP's
//!   name, with the MAC of that interface.
//! - `drop_unicast_in_l2_multicast=1`, both families: a frame to the cluster MAC that comes in there as well (a NIC that
//!   filters no groups, as veth and promiscuous ones) is not taken for another.
//!
//! Of IPv6 nothing else is needed: Linux answers solicitations only for addresses of the interface that they came by,
//! and asks only in the name of such.

use super::journal::{self, Change, Journal};
use super::netlink::{Link, Netlink};
use super::{Repair, VipSetup};
use anyhow::Context;
use onevip_core::MacAddr;

/// A setting of the other interfaces.
struct Setting {
    family: &'static str,
    name: &'static str,
    value: &'static str,
    /// Whether what is in force (by the interface's own value and that of `all`) will do.
    suffices: fn(own: u32, all: u32) -> bool,
    wanted: fn(&Wanted) -> bool,
}

/// What the VIPs of this host ask for.
struct Wanted {
    v4: bool,
    v6: bool,
    multicast: bool,
}

const SETTINGS: [Setting; 4] = [
    Setting {
        family: "ipv4",
        name: "arp_ignore",
        value: "3",
        // The greater value is in force. 1 and 2 ask for addresses of the interface itself, 8 answers nothing; 4 to 7 mean
        // nothing, and are as 0.
        suffices: |own, all| matches!(own.max(all), 1..=3 | 8),
        wanted: |wanted| wanted.v4,
    },
    Setting {
        family: "ipv4",
        name: "arp_announce",
        value: "2",
        suffices: |own, all| own.max(all) == 2,
        wanted: |wanted| wanted.v4,
    },
    Setting {
        family: "ipv4",
        name: "drop_unicast_in_l2_multicast",
        value: "1",
        suffices: |own, all| own.max(all) == 1,
        wanted: |wanted| wanted.v4 && wanted.multicast,
    },
    Setting {
        family: "ipv6",
        name: "drop_unicast_in_l2_multicast",
        value: "1",
        // Only the interface's own value is in force.
        suffices: |own, _| own == 1,
        wanted: |wanted| wanted.v6 && wanted.multicast,
    },
];

impl Setting {
    fn key(&self, interface: &str) -> String {
        format!("net/{}/conf/{interface}/{}", self.family, self.name)
    }

    /// Its value; none where the interface is gone, or does not speak the family.
    fn read(&self, interface: &str) -> Option<u32> {
        journal::read_sysctl(&self.key(interface))
    }

    /// Makes sure of it; true when it had been otherwise.
    fn ensure(&self, interface: &str, journal: &mut Journal) -> anyhow::Result<bool> {
        let (Some(own), Some(all)) = (self.read(interface), self.read("all")) else { return Ok(false) };
        if (self.suffices)(own, all) {
            return Ok(false);
        }
        match journal::set_sysctl(journal, &self.key(interface), self.value) {
            // It may have gone meanwhile.
            Err(_) if self.read(interface).is_none() => Ok(false),
            set => set,
        }
    }
}

/// Keeps all other interfaces from answering for the VIPs of `setups`, and tells the log of each whose settings that
/// changed: an interface that was not set before, or one that somebody set otherwise since.
///
/// # Errors
/// The kernel refuses a setting.
pub fn ensure(setups: &[VipSetup], netlink: &mut Netlink, journal: &mut Journal) -> anyhow::Result<()> {
    let links = netlink.links().context("cannot list the interfaces of this host")?;
    let addresses = || setups.iter().flat_map(|setup| &setup.addresses);
    let wanted = Wanted {
        v4: addresses().any(|address| address.is_ipv4()),
        v6: addresses().any(|address| address.is_ipv6()),
        multicast: setups.iter().any(|setup| MacAddr(setup.cluster_mac).is_multicast()),
    };
    journal.forget(|change| of_a_gone_interface(change, &links))?;
    for link in links.iter().filter(|link| concerns(link, &links, setups)) {
        ensure_silent(&link.name, &wanted, journal)?;
    }
    Ok(())
}

fn ensure_silent(interface: &str, wanted: &Wanted, journal: &mut Journal) -> anyhow::Result<()> {
    let (mut new, mut again) = (Vec::new(), Vec::new());
    for setting in SETTINGS.iter().filter(|setting| (setting.wanted)(wanted)) {
        let key = setting.key(interface);
        let is_known = journal.has(&Change::Sysctl { key: key.clone(), before: String::new() });
        if setting.ensure(interface, journal)? {
            let list = if is_known { &mut again } else { &mut new };
            list.push(format!("{key} = {}", setting.value));
        }
    }
    if !new.is_empty() {
        let settings = new.join(", ");
        tracing::info!("{interface} is kept from answering for the VIPs, past the kernel part: {settings}");
    }
    for setting in again {
        tracing::warn!("{}", Repair::missing(format!("setting {setting}")).later());
    }
    Ok(())
}

/// Whether a change was made here, and is still needed.
pub fn needs(setups: &[VipSetup], change: &Change) -> bool {
    setting_of(change).is_some_and(|interface| setups.iter().all(|setup| setup.interface != interface))
}

/// Whether an interface could answer. The ports of a bridge or bond do not: what they receive is the bridge's.
fn concerns(link: &Link, links: &[Link], setups: &[VipSetup]) -> bool {
    let master = link.master.and_then(|index| links.iter().find(|master| master.index == index));
    let is_port = master.is_some_and(|master| master.kind.as_deref() != Some("vrf"));
    link.speaks_arp && !is_port && setups.iter().all(|setup| setup.interface != link.name)
}

/// The interface of which a change is one of these settings.
fn setting_of(change: &Change) -> Option<&str> {
    let Change::Sysctl { key, .. } = change else { return None };
    let (group, name) = key.rsplit_once('/')?;
    SETTINGS
        .iter()
        .filter(|setting| setting.name == name)
        .find_map(|setting| group.strip_prefix("net/")?.strip_prefix(setting.family)?.strip_prefix("/conf/"))
}

fn of_a_gone_interface(change: &Change, links: &[Link]) -> bool {
    setting_of(change).is_some_and(|interface| links.iter().all(|link| link.name != interface))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_force_already_is_left_alone() {
        let [ignore, announce, ..] = &SETTINGS;
        for (own, all, suffices) in [
            (0, 0, false),
            (1, 0, true),
            (0, 1, true),
            (0, 2, true),
            (3, 0, true),
            (8, 0, true),
            (4, 0, false),
        ] {
            assert_eq!((ignore.suffices)(own, all), suffices, "arp_ignore {own}, all {all}");
        }
        assert!((announce.suffices)(0, 2) && !(announce.suffices)(1, 1));
    }

    #[test]
    fn settings_are_known_by_their_key() {
        let change = |key: &str| Change::Sysctl { key: key.into(), before: "0".into() };
        assert_eq!(setting_of(&change("net/ipv4/conf/eth1.7/arp_ignore")), Some("eth1.7"));
        assert_eq!(setting_of(&change("net/ipv6/conf/eth1/drop_unicast_in_l2_multicast")), Some("eth1"));
        assert_eq!(setting_of(&change("net/ipv6/conf/eth1/arp_ignore")), None);
        assert_eq!(setting_of(&change("net/ipv4/conf/eth1/rp_filter")), None);
    }
}
