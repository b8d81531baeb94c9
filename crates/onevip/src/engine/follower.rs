//! Follows the interfaces that bear the VIPs, and tells whoever depends on them.
//!
//! What stays is the name: the one in the file, else that of the interface that was found when the daemon began.

use crate::base::beat_loop::BeatLoopHandle;
use crate::base::command::{Command, ProbeRequest};
use crate::base::interfaces::{self, Interface, Interfaces, not_there, trouble};
use crate::base::mailbox::Mailbox;
use crate::base::plan::{Plan, VipPlan, is_link_local};
use anyhow::Context;
use onevip_config::Acceleration;
use onevip_core::MacAddr;
use onevip_host::VipSetup;
use onevip_host::address::Address;
use onevip_host::link_activity::LinkActivity;
use onevip_host::netlink::{Link, Netlink};
use std::net::IpAddr;
use std::sync::Arc;

/// Finds out how the interfaces are, and tells whoever depends on it.
pub struct Follower {
    plan: Plan,
    seats: Vec<Seat>,
    living: bool,
    interfaces: Arc<Interfaces>,
    beat_loop: BeatLoopHandle,
    probe: Mailbox<ProbeRequest>,
    /// What the neighbour probe asks with.
    asks: Vec<(Link, Vec<IpAddr>)>,
}

/// How one VIP sits on its interface; what the interface is like stands in the plan.
struct Seat {
    /// By which name it is looked for.
    name: String,
    there: bool,
    /// Where the programs are attached: index and name.
    attached: Option<(u32, String)>,
    /// By family (IPv4, IPv6): it had an address of its own at some time, and lacks it since it was made anew. Without one
    /// this node could answer nobody, and the VIP would be the interface's first address.
    had: [bool; 2],
    lacks: [bool; 2],
}

impl Seat {
    /// What the interface has of its own now.
    fn note_own(&mut self, own: [bool; 2]) {
        for (family, own) in own.into_iter().enumerate() {
            self.had[family] |= own;
            self.lacks[family] &= !own;
        }
    }

    fn lacking(&self) -> Option<String> {
        let family = ["IPv4", "IPv6"].into_iter().zip(self.lacks).find(|(_, lacks)| *lacks)?.0;
        Some(format!("interface {} was made anew and has no {family} address of its own yet", self.name))
    }
}

impl Follower {
    /// Follows the interfaces of a plan from what `interfaces` says on, with the programs attached.
    pub fn new(
        plan: Plan,
        living: bool,
        interfaces: Arc<Interfaces>,
        beat_loop: BeatLoopHandle,
        probe: Mailbox<ProbeRequest>,
    ) -> Self {
        let seat = |vip: &VipPlan| Seat {
            name: vip.vip.interface.clone().unwrap_or_else(|| vip.link.name.clone()),
            there: true,
            attached: Some((vip.link.index, vip.link.name.clone())),
            had: [false; 2],
            lacks: [false; 2],
        };
        let seats = plan.vips.iter().map(seat).collect();
        let asks = asks(&plan, |_| true);
        Self { plan, seats, living, interfaces, beat_loop, probe, asks }
    }

    /// Looks at all interfaces; whether any has to be set up anew, in whole or in part. Nobody is told before
    /// [`Follower::publish`].
    ///
    /// # Errors
    /// The kernel does not list links or addresses.
    pub fn look(&mut self, netlink: &mut Netlink) -> anyhow::Result<bool> {
        let lacked = self.seats.iter().any(|seat| seat.lacks != [false; 2]);
        let links = netlink.links().context("cannot list the interfaces of this host")?;
        let present = netlink.addresses().context("cannot list the addresses of this host")?;
        for (vip, seat) in self.seats.iter_mut().enumerate() {
            let found = links.iter().find(|link| link.is_called(&seat.name));
            seat.there = found.is_some();
            let Some(link) = found else {
                seat.attached = None;
                continue;
            };
            if link.index != self.plan.vips[vip].link.index {
                tracing::warn!("interface {} was made anew (index {})", link.name, link.index);
                seat.lacks = seat.had;
            }
            self.plan.place(vip, link, &present);
            seat.note_own(own_families(&self.plan, link, &present));
        }
        Ok(lacked || !self.unattached().is_empty())
    }

    /// The interfaces that are there and to which the programs have yet to be attached; the index and name of each, and how
    /// packets are to be dropped early there.
    pub fn unattached(&self) -> Vec<(u32, String, Acceleration)> {
        let lacking = |(vip, seat): (usize, &Seat)| {
            let link = &self.plan.vips[vip].link;
            let is_there = seat.attached.as_ref() == Some(&(link.index, link.name.clone()));
            (seat.there && !is_there).then_some(link)
        };
        let mut links: Vec<&Link> = self.seats.iter().enumerate().filter_map(lacking).collect();
        links.dedup_by_key(|link| link.index);
        let accelerate = |name: &String| {
            self.plan.attachments().into_iter().find(|(known, _)| known == name).map(|(_, how)| how)
        };
        let wanted = links
            .into_iter()
            .map(|link| (link.index, link.name.clone(), accelerate(&link.name).unwrap_or(Acceleration::Off)));
        wanted.collect()
    }

    /// The programs are attached there now.
    pub fn attached(&mut self, index: u32, name: &str) {
        for (vip, seat) in self.seats.iter_mut().enumerate() {
            if seat.there && self.plan.vips[vip].link.index == index {
                seat.attached = Some((index, name.to_owned()));
            }
        }
    }

    /// The names of the interfaces that are there.
    pub fn names(&self) -> Vec<&str> {
        self.there().map(|vip| self.plan.vips[vip].link.name.as_str()).collect()
    }

    /// What the VIPs need on the interfaces where the programs are.
    pub fn setups(&self) -> Vec<VipSetup> {
        let setup = |vip: usize| {
            let (seat, mut setup) = (&self.seats[vip], self.plan.vips[vip].setup());
            setup.addresses.retain(|address| !seat.lacks[usize::from(address.is_ipv6())]);
            seat.attached.is_some().then_some(setup)
        };
        self.there().filter_map(setup).collect()
    }

    /// Tells everybody what is different; to be called when programs and addresses are in their places.
    pub fn publish(&mut self) {
        for vip in 0..self.seats.len() {
            let Some(before) = self.interfaces.get(vip) else { continue };
            let now = self.interface(vip, &before);
            if now == before {
                continue;
            }
            log(&self.seats[vip].name, &before, &now);
            if now.routes != before.routes {
                let activity = Box::new(LinkActivity::new(&self.plan.vips[vip].link.name));
                self.beat_loop.send(Command::Routes { vip, routes: now.routes.clone(), activity });
            }
            self.interfaces.set(vip, now);
        }
        let asks = asks(&self.plan, |vip| self.is_usable(vip));
        if asks != self.asks {
            self.asks.clone_from(&asks);
            self.probe.send(ProbeRequest::Interfaces(asks));
        }
    }

    /// How a VIP's interface is now. The old ways of beats stay until there are new ones: nothing can be sent by them.
    fn interface(&self, vip: usize, before: &Interface) -> Interface {
        let (seat, plan) = (&self.seats[vip], &self.plan.vips[vip]);
        let mut now = Interface { index: plan.link.index, mac: plan.link.mac, ..before.clone() };
        now.trouble = if seat.there {
            seat.lacking().or_else(|| trouble(&plan.link))
        } else {
            Some(not_there(&seat.name))
        };
        if self.living && self.is_usable(vip) {
            match interfaces::routes(&self.plan, plan) {
                Ok(routes) => now.routes = routes,
                Err(error) => now.trouble = Some(format!("{error:#}")),
            }
        }
        now
    }

    fn there(&self) -> impl Iterator<Item = usize> {
        (0..self.seats.len()).filter(|vip| self.seats[*vip].there)
    }

    /// Whether frames may be sent on it; one that is down refuses them itself.
    fn is_usable(&self, vip: usize) -> bool {
        let seat = &self.seats[vip];
        seat.there && seat.attached.is_some() && seat.lacks == [false; 2]
    }
}

/// Each interface once, with the addresses in whose name the neighbour probe asks there.
fn asks(plan: &Plan, is_usable: impl Fn(usize) -> bool) -> Vec<(Link, Vec<IpAddr>)> {
    let mut asks: Vec<(Link, Vec<IpAddr>)> = Vec::new();
    for (_, vip) in plan.vips.iter().enumerate().filter(|(vip, _)| is_usable(*vip)) {
        if !asks.iter().any(|(link, _)| link.index == vip.link.index) {
            // Whether there is a carrier changes no socket.
            asks.push((Link { carrier: true, up: true, ..vip.link.clone() }, vip.own.clone()));
        }
    }
    asks
}

/// Whether the interface has an address of its own, by family; the link's own do not count: the kernel makes them itself.
fn own_families(plan: &Plan, link: &Link, present: &[Address]) -> [bool; 2] {
    let own = |is_family: fn(&IpAddr) -> bool| {
        let mut on_link = present.iter().filter(|known| known.link == link.index).map(|known| known.ip);
        on_link.any(|ip| is_family(&ip) && !is_link_local(&ip) && !plan.is_shared(ip))
    };
    [own(IpAddr::is_ipv4), own(IpAddr::is_ipv6)]
}

/// Says what changed, once.
fn log(name: &str, before: &Interface, now: &Interface) {
    let mac = |interface: &Interface| {
        interface.mac.map_or_else(|| "none".to_owned(), |mac| MacAddr(mac).to_string())
    };
    if before.mac != now.mac {
        tracing::warn!("interface {name} has another MAC: {} instead of {}", mac(now), mac(before));
    }
    match (&before.trouble, &now.trouble) {
        (before, Some(trouble)) if before.as_ref() != Some(trouble) => {
            tracing::warn!("{trouble}: until that is mended this node serves nobody there");
        }
        (Some(_), None) => tracing::info!("interface {name} is in order again"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_interface_had_before_it_was_made_anew_is_waited_for() {
        let mut seat =
            Seat { name: "eth0".into(), there: true, attached: None, had: [false; 2], lacks: [false; 2] };
        seat.note_own([true, false]);
        assert_eq!((seat.had, seat.lacking()), ([true, false], None));
        seat.note_own([false, false]);
        assert_eq!(seat.lacking(), None, "an address that goes is the administrator's business");
        seat.lacks = seat.had;
        let lacking = "interface eth0 was made anew and has no IPv4 address of its own yet";
        assert_eq!(seat.lacking().as_deref(), Some(lacking));
        seat.note_own([true, true]);
        assert_eq!((seat.had, seat.lacking()), ([true, true], None));
    }
}
