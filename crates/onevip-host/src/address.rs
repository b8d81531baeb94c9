//! IP addresses of interfaces: what the kernel knows of them, how a VIP has to be, and how one is taken away alone.
//!
//! Linux keeps a VIP that is there already as it is, in whatever state. So a VIP is compared in everything that decides
//! whether this host answers for it, and whether it speaks as it of its own accord.

use super::netlink::{Netlink, dialogue, family, host_prefix};
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo,
};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

/// A lifetime without an end, in seconds (the kernel's `INFINITY_LIFE_TIME`).
const FOREVER: u32 = u32::MAX;

/// An IP address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Index of the interface.
    pub link: u32,
    /// The address.
    pub ip: IpAddr,
    /// Length of its prefix in bits.
    pub prefix_len: u8,
    /// How far it is good, as `ip address` names it.
    scope: AddressScope,
    flags: AddressFlags,
    /// For how many seconds it is yet a source of choice, and valid at all.
    preferred_s: u32,
    valid_s: u32,
    /// The other end, where the link is point to point.
    peer: Option<IpAddr>,
}

impl Address {
    /// An address with nothing special about it.
    pub fn new(link: u32, ip: IpAddr, prefix_len: u8) -> Self {
        let (scope, flags) = (AddressScope::Universe, AddressFlags::empty());
        Self { link, ip, prefix_len, scope, flags, preferred_s: FOREVER, valid_s: FOREVER, peer: None }
    }

    /// A VIP as it has to be on the interface of this index: /32 or /128, for ever, and never the source of the node's
    /// own traffic.
    ///
    /// For IPv4 that takes the scope `host`: the kernel answers ARP for such an address and speaks as it when spoken to,
    /// but never chooses it, wherever it comes in the interface's list (`inet_select_addr`). A preferred lifetime of 0 is
    /// not asked for there. For IPv6 it is deprecated from the start, and without duplicate address detection: every node
    /// has it.
    pub fn vip(link: u32, ip: IpAddr) -> Self {
        let plain = Self::new(link, ip, host_prefix(ip));
        match ip {
            IpAddr::V4(_) => Self { scope: AddressScope::Host, ..plain },
            IpAddr::V6(_) => Self { flags: AddressFlags::Nodad, preferred_s: 0, ..plain },
        }
    }

    /// Whether it is a VIP as it has to be.
    pub fn is_as_vip(&self) -> bool {
        let wanted = Self::vip(self.link, self.ip);
        let unusable = AddressFlags::Tentative | AddressFlags::Dadfailed | AddressFlags::Optimistic;
        let flags = self.ip.is_ipv4()
            || (self.flags.contains(AddressFlags::Nodad) && !self.flags.intersects(unusable));
        // The scope of an IPv6 address is the kernel's to say.
        let scope = self.ip.is_ipv6() || self.scope == wanted.scope;
        flags
            && scope
            && self.prefix_len == wanted.prefix_len
            && (self.preferred_s, self.valid_s) == (wanted.preferred_s, wanted.valid_s)
            && self.peer.is_none()
    }

    /// Whether duplicate address detection found it on another host.
    pub fn is_contested(&self) -> bool {
        self.flags.contains(AddressFlags::Dadfailed)
    }

    /// Its state in the words of `ip address`, without the address itself.
    pub fn state(&self) -> String {
        let mut words = format!("/{}", self.prefix_len);
        if self.ip.is_ipv4() {
            let scope = match self.scope {
                AddressScope::Universe => "global".to_owned(),
                scope => scope.to_string(),
            };
            words += &format!(" scope {scope}");
        }
        for (flag, word) in [
            (AddressFlags::Tentative, " tentative"),
            (AddressFlags::Dadfailed, " dadfailed"),
            (AddressFlags::Optimistic, " optimistic"),
        ] {
            if self.flags.contains(flag) {
                words += word;
            }
        }
        if self.ip.is_ipv6() && !self.flags.contains(AddressFlags::Nodad) {
            words += " with duplicate address detection";
        }
        if let Some(peer) = self.peer {
            words += &format!(" peer {peer}");
        }
        for (seconds, word) in [(self.preferred_s, "preferred_lft"), (self.valid_s, "valid_lft")] {
            match seconds {
                FOREVER => words += &format!(" {word} forever"),
                seconds => words += &format!(" {word} {seconds}sec"),
            }
        }
        words
    }

    /// Whether `ip` lies in this address's network.
    pub fn network_contains(&self, ip: IpAddr) -> bool {
        let shift = |width: u8| u32::from(width.saturating_sub(self.prefix_len));
        match (self.ip, ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (a.to_bits() ^ b.to_bits()).checked_shr(shift(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                (a.to_bits() ^ b.to_bits()).checked_shr(shift(128)).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// What the kernel tells of an address. It calls that of this end IFA_LOCAL where the other end has one of its own.
    pub(super) fn read(message: &AddressMessage) -> Option<Self> {
        let (mut local, mut end, mut flags, mut lifetime) = (None, None, None, None);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Address(ip) => end = Some(*ip),
                AddressAttribute::Flags(all) => flags = Some(*all),
                AddressAttribute::CacheInfo(info) => lifetime = Some((info.ifa_preferred, info.ifa_valid)),
                _ => {}
            }
        }
        let ip = local.or(end)?;
        let (preferred_s, valid_s) = lifetime.unwrap_or((FOREVER, FOREVER));
        Some(Self {
            scope: message.header.scope,
            flags: flags.unwrap_or(AddressFlags::from_bits_retain(message.header.flags.bits().into())),
            preferred_s,
            valid_s,
            peer: end.filter(|end| *end != ip),
            ..Self::new(message.header.index, ip, message.header.prefix_len)
        })
    }

    fn message(&self) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.family = family(self.ip);
        message.header.prefix_len = self.prefix_len;
        message.header.scope = self.scope;
        message.header.index = self.link;
        message.attributes.push(AddressAttribute::Local(self.ip));
        message.attributes.push(AddressAttribute::Address(self.peer.unwrap_or(self.ip)));
        message
    }
}

impl Netlink {
    /// All addresses of all interfaces, both families.
    ///
    /// # Errors
    /// The kernel's answer where it is one.
    pub fn addresses(&mut self) -> io::Result<Vec<Address>> {
        let replies = dialogue(
            &self.0,
            RouteNetlinkMessage::GetAddress(AddressMessage::default()),
            NLM_F_REQUEST | NLM_F_DUMP,
        )?;
        Ok(replies
            .into_iter()
            .filter_map(|reply| match reply {
                RouteNetlinkMessage::NewAddress(message) => Address::read(&message),
                _ => None,
            })
            .collect())
    }

    /// Adds an address to its interface.
    ///
    /// # Errors
    /// The kernel's answer; [`io::ErrorKind::AlreadyExists`] when the interface has that address already.
    pub fn add_address(&mut self, address: &Address) -> io::Result<()> {
        let mut message = address.message();
        message.attributes.push(AddressAttribute::Flags(address.flags));
        let mut lifetime = CacheInfo::default();
        (lifetime.ifa_preferred, lifetime.ifa_valid) = (address.preferred_s, address.valid_s);
        message.attributes.push(AddressAttribute::CacheInfo(lifetime));
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        dialogue(&self.0, RouteNetlinkMessage::NewAddress(message), flags).map(drop)
    }

    /// Takes an address from its interface, which has this name, and no other along with it. Quiet when it is gone.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn remove_address(&mut self, interface: &str, address: &Address) -> io::Result<()> {
        let _promoted = address.ip.is_ipv4().then(|| Promotion::begin(interface));
        let message = RouteNetlinkMessage::DelAddress(address.message());
        match dialogue(&self.0, message, NLM_F_REQUEST | NLM_F_ACK) {
            Err(error) if error.kind() != io::ErrorKind::AddrNotAvailable => Err(error),
            _ => Ok(()),
        }
    }
}

/// With the first IPv4 address of a network the kernel removes all others of it, the node's own as well, unless the
/// interface is set to promote them. It is, while this lives.
struct Promotion {
    setting: PathBuf,
    before: Option<String>,
}

impl Promotion {
    fn begin(interface: &str) -> Self {
        let setting = PathBuf::from(format!("/proc/sys/net/ipv4/conf/{interface}/promote_secondaries"));
        let before = fs::read_to_string(&setting).ok().filter(|value| value.trim() == "0");
        // Where that is refused, nothing can be done about it here.
        let before = before.filter(|_| fs::write(&setting, "1").is_ok());
        Self { setting, before }
    }
}

impl Drop for Promotion {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = fs::write(&self.setting, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_differs_from_a_vip_is_none() {
        for ip in ["198.51.100.10", "2001:db8::10"] {
            let vip = Address::vip(2, ip.parse().unwrap());
            assert!(vip.is_as_vip());
            let wrong = [
                Address { prefix_len: 24, ..vip },
                Address { valid_s: 3600, ..vip },
                Address { preferred_s: 3600, ..vip },
                Address { peer: Some("192.0.2.1".parse().unwrap()), ..vip },
            ];
            assert!(wrong.iter().all(|wrong| !wrong.is_as_vip()), "{ip}");
        }
        let v4 = Address::vip(2, "198.51.100.10".parse().unwrap());
        assert!(!Address { scope: AddressScope::Universe, ..v4 }.is_as_vip());
        let v6 = Address::vip(2, "2001:db8::10".parse().unwrap());
        for flag in [AddressFlags::Tentative, AddressFlags::Dadfailed, AddressFlags::Optimistic] {
            assert!(!Address { flags: AddressFlags::Nodad | flag, ..v6 }.is_as_vip(), "{flag:?}");
        }
        assert!(!Address { flags: AddressFlags::empty(), ..v6 }.is_as_vip());
        assert!(Address { flags: AddressFlags::Nodad | AddressFlags::Deprecated, ..v6 }.is_as_vip());
    }

    #[test]
    fn a_state_reads_as_ip_address_writes_it() {
        let plain = Address::new(2, "198.51.100.10".parse().unwrap(), 24);
        assert_eq!(plain.state(), "/24 scope global preferred_lft forever valid_lft forever");
        let v6 = Address::new(2, "2001:db8::10".parse().unwrap(), 64);
        let failed = Address { flags: AddressFlags::Nodad | AddressFlags::Dadfailed, valid_s: 60, ..v6 };
        assert_eq!(failed.state(), "/64 dadfailed preferred_lft forever valid_lft 60sec");
    }
}
