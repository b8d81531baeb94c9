//! The interfaces that bear the VIPs, as they are now.
//!
//! Nothing about an interface is constant: while the daemon runs it may be deleted and made anew with another index
//! (`netplan apply`, a VLAN or bond that is created again), get another MAC (a bond that fails over, a bridge that loses a
//! port), go down, or lose its addresses. The warden hears of it over netlink and lets its [`Follower`] look. Threads that
//! may wait find what is true now in [`Interfaces`]; the beat loop and the prober are told. What stays is the name: the one
//! in the file, else that of the interface that was found when the daemon began.

use super::beat_loop::Command;
use super::ears::Ears;
use super::living;
use super::mailbox::Mailbox;
use super::plan::{Plan, is_link_local};
use super::prober::Question;
use super::wire::Route;
use anyhow::Context;
use onevip_config::Acceleration;
use onevip_core::MacAddr;
use onevip_host::Stage;
use onevip_host::netlink::{Address, Link, Netlink};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is true now of each VIP's interface, by index of the VIP.
#[derive(Debug)]
pub struct Interfaces(Mutex<Vec<Interface>>);

/// The interface of one VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Interface {
    index: u32,
    mac: Option<[u8; 6]>,
    /// The ways of beats and letters; none with fixed nodes.
    routes: Vec<Route>,
    /// Why it cannot be used, if so.
    trouble: Option<String>,
}

impl Interfaces {
    /// As the plan found them.
    ///
    /// # Errors
    /// With living membership: a node without an address of its own to beat from.
    pub fn of(plan: &Plan, living: bool) -> anyhow::Result<Self> {
        let interface = |vip| {
            let routes = if living { living::routes(plan, vip)? } else { Vec::new() };
            Ok(Interface { index: vip.link.index, mac: vip.link.mac, routes, trouble: trouble(&vip.link) })
        };
        Ok(Self(Mutex::new(plan.vips.iter().map(interface).collect::<anyhow::Result<_>>()?)))
    }

    /// Why a VIP's interface cannot be used now; `None` where it can.
    pub fn trouble(&self, vip: usize) -> Option<String> {
        self.lock().get(vip)?.trouble.clone()
    }

    /// The ways of a VIP's beats and letters.
    pub fn routes(&self, vip: usize) -> Vec<Route> {
        self.lock().get(vip).map_or_else(Vec::new, |interface| interface.routes.clone())
    }

    /// The own MAC of the interface with this index, if it bears a VIP.
    pub fn mac_of(&self, index: u32) -> Option<[u8; 6]> {
        self.lock().iter().find(|interface| interface.index == index)?.mac
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Interface>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why frames cannot pass an interface, in words; `None` when they can, as far as this host knows.
pub fn trouble(link: &Link) -> Option<String> {
    let name = &link.name;
    match link {
        Link { mac: None, .. } => Some(format!("interface {name} has no Ethernet address")),
        Link { up: false, .. } => Some(format!("interface {name} is down")),
        Link { carrier: false, .. } => Some(format!("interface {name} has no carrier")),
        _ => None,
    }
}

/// The words for an interface that is missing.
pub fn not_there(name: &str) -> String {
    format!("interface {name} is not there")
}

/// Finds out how the interfaces are, and tells whoever depends on it.
pub struct Follower {
    plan: Plan,
    seats: Vec<Seat>,
    living: bool,
    interfaces: Arc<Interfaces>,
    beat_loop: Mailbox<Command>,
    prober: Mailbox<Question>,
    /// What the prober asks with.
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
        beat_loop: Mailbox<Command>,
        prober: Mailbox<Question>,
    ) -> Self {
        let seat = |vip: &super::plan::VipPlan| Seat {
            name: vip.vip.interface.clone().unwrap_or_else(|| vip.link.name.clone()),
            there: true,
            attached: Some((vip.link.index, vip.link.name.clone())),
            had: [false; 2],
            lacks: [false; 2],
        };
        let seats = plan.vips.iter().map(seat).collect();
        let asks = asks(&plan, |_| true);
        Self { plan, seats, living, interfaces, beat_loop, prober, asks }
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
    pub fn stages(&self) -> Vec<Stage> {
        let stage = |vip: usize| {
            let (seat, mut stage) = (&self.seats[vip], self.plan.vips[vip].stage());
            stage.addresses.retain(|address| !seat.lacks[usize::from(address.is_ipv6())]);
            seat.attached.is_some().then_some(stage)
        };
        self.there().filter_map(stage).collect()
    }

    /// Tells everybody what is different; to be called when programs and addresses are in their places.
    pub fn publish(&mut self) {
        for vip in 0..self.seats.len() {
            let before = self.interfaces.lock()[vip].clone();
            let now = self.interface(vip, &before);
            if now == before {
                continue;
            }
            log(&self.seats[vip].name, &before, &now);
            if now.routes != before.routes {
                let ears = Box::new(Ears::new(&self.plan.vips[vip].link.name));
                self.beat_loop.send(Command::Routes { vip, routes: now.routes.clone(), ears });
            }
            self.interfaces.lock()[vip] = now;
        }
        let asks = asks(&self.plan, |vip| self.is_usable(vip));
        if asks != self.asks {
            self.asks.clone_from(&asks);
            self.prober.send(Question::Interfaces(asks));
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
            match living::routes(&self.plan, plan) {
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

/// Each interface once, with the addresses in whose name the prober asks there.
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

    #[test]
    fn what_is_wrong_with_an_interface_is_named() {
        let link = Link {
            index: 2,
            name: "eth0".into(),
            altnames: Vec::new(),
            mac: Some([2; 6]),
            up: true,
            carrier: true,
            kind: None,
            speaks_arp: true,
            master: None,
        };
        assert_eq!(trouble(&link), None);
        let off = Link { carrier: false, ..link.clone() };
        assert_eq!(trouble(&off).as_deref(), Some("interface eth0 has no carrier"));
        assert_eq!(trouble(&Link { up: false, ..off }).as_deref(), Some("interface eth0 is down"));
    }
}
