//! Conversations with the kernel over netlink: links, addresses, routes, and notice when they change.
//!
//! Synchronous on purpose: the daemon has two threads with a poll loop each and no need for a runtime. `sockets.rs`
//! uses the same [`dialogue_each`] for socket dumps.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, Prop};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// A network interface of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Kernel's number of the interface.
    pub index: u32,
    /// Its name, at most 15 bytes.
    pub name: String,
    /// Its alternative names (`ip link property add … altname`).
    pub altnames: Vec<String>,
    /// Its own hardware address, where it has one of six bytes.
    pub mac: Option<[u8; 6]>,
    /// The longest packet that it carries in one piece, in bytes.
    pub mtu: Option<u32>,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether its driver reports a carrier; one that is down has none.
    pub carrier: bool,
    /// What kind of virtual interface it is, as `ip -d link` names it; none for a real one.
    pub kind: Option<String>,
    /// Whether hosts find each other on it by ARP: Ethernet, and not told otherwise.
    pub speaks_arp: bool,
    /// The bridge, bond or VRF that it belongs to.
    pub master: Option<u32>,
}

impl Link {
    /// Whether this is its name, be it the first one or an alternative one.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.altnames.iter().any(|alt| alt == name)
    }
}

/// A socket to ask and tell the kernel about the network of this namespace.
pub struct Netlink(pub(super) Socket);

impl Netlink {
    /// Opens the socket.
    ///
    /// # Errors
    /// The kernel's, where it refuses the socket.
    pub fn open() -> io::Result<Self> {
        Ok(Self(connected(NETLINK_ROUTE)?))
    }

    /// All interfaces.
    ///
    /// # Errors
    /// The kernel's answer where it is one.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let replies = dialogue(
            &self.0,
            RouteNetlinkMessage::GetLink(LinkMessage::default()),
            NLM_F_REQUEST | NLM_F_DUMP,
        )?;
        Ok(replies
            .into_iter()
            .filter_map(|reply| match reply {
                RouteNetlinkMessage::NewLink(message) => Some(link(message)),
                _ => None,
            })
            .collect())
    }

    /// The interface of this name, without a look at the others.
    ///
    /// # Errors
    /// The kernel's answer where it is one; [`io::ErrorKind::NotFound`] or `ENODEV` when there is none.
    pub fn link(&mut self, name: &str) -> io::Result<Link> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let replies = dialogue(&self.0, RouteNetlinkMessage::GetLink(message), NLM_F_REQUEST)?;
        let found = replies.into_iter().find_map(|reply| match reply {
            RouteNetlinkMessage::NewLink(message) => Some(link(message)),
            _ => None,
        });
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Adds a unicast MAC to those that the interface accepts beside its own (`bridge fdb add … self`). Once more counts
    /// as once.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn list_mac(&mut self, link: u32, mac: [u8; 6]) -> io::Result<()> {
        let message = RouteNetlinkMessage::NewNeighbour(further_mac(link, mac));
        // Exclusive, or the kernel would tell all who listen of a change each time.
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        match dialogue(&self.0, message, flags) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes it again; quiet when it is not there.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn unlist_mac(&mut self, link: u32, mac: [u8; 6]) -> io::Result<()> {
        let message = RouteNetlinkMessage::DelNeighbour(further_mac(link, mac));
        match dialogue(&self.0, message, NLM_F_REQUEST | NLM_F_ACK) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The MACs that the interface was told to accept beside its own.
    ///
    /// # Errors
    /// The kernel's answer where it is one.
    pub fn listed_macs(&mut self, link: u32) -> io::Result<Vec<[u8; 6]>> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = link;
        let request = RouteNetlinkMessage::GetNeighbour(message);
        let replies = dialogue(&self.0, request, NLM_F_REQUEST | NLM_F_DUMP)?;
        let listed = replies.into_iter().filter_map(|reply| match reply {
            RouteNetlinkMessage::NewNeighbour(message) if message.header.ifindex == link => {
                let own = message.header.flags.contains(NeighbourFlags::Own);
                own.then(|| link_layer_address(&message)).flatten()
            }
            _ => None,
        });
        Ok(listed.collect())
    }

    /// The addresses of hosts that this one has spoken to, and the index of the interface they are on: what the kernel's
    /// neighbour tables hold, both families. The gateway is among them on any host that uses one.
    ///
    /// # Errors
    /// The kernel's answer where it is one.
    pub fn neighbours(&mut self) -> io::Result<Vec<(u32, IpAddr)>> {
        let replies = dialogue(
            &self.0,
            RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()),
            NLM_F_REQUEST | NLM_F_DUMP,
        )?;
        let known = replies.into_iter().filter_map(|reply| match reply {
            RouteNetlinkMessage::NewNeighbour(message) => neighbour(&message),
            _ => None,
        });
        Ok(known.collect())
    }

    /// The index of the interface through which packets to `ip` leave; `None` when there is no route, or when the
    /// address is this host's own.
    ///
    /// # Errors
    /// The kernel's answer, other than that the network is unreachable.
    pub fn route_to(&mut self, ip: IpAddr) -> io::Result<Option<u32>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(ip);
        message.header.destination_prefix_length = host_prefix(ip);
        message.attributes.push(RouteAttribute::Destination(ip.into()));
        let replies = match dialogue(&self.0, RouteNetlinkMessage::GetRoute(message), NLM_F_REQUEST) {
            Err(error) if error.kind() == io::ErrorKind::NetworkUnreachable => return Ok(None),
            replies => replies?,
        };
        let route = replies.into_iter().find_map(|reply| match reply {
            RouteNetlinkMessage::NewRoute(route) => Some(route),
            _ => None,
        });
        Ok(route.filter(|route| route.header.kind != RouteType::Local).and_then(|route| {
            route.attributes.into_iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(index),
                _ => None,
            })
        }))
    }
}

/// A neighbour whose MAC is or was known.
fn neighbour(message: &NeighbourMessage) -> Option<(u32, IpAddr)> {
    use NeighbourState::{Delay, Permanent, Probe, Reachable, Stale};
    if !matches!(message.header.state, Reachable | Stale | Delay | Probe | Permanent) {
        return None;
    }
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(IpAddr::from(*v4)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(IpAddr::from(*v6)),
        _ => None,
    })?;
    Some((message.header.ifindex, address))
}

/// An entry of an interface's list of further MACs.
fn further_mac(link: u32, mac: [u8; 6]) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = link;
    message.header.state = NeighbourState::Permanent;
    message.header.flags = NeighbourFlags::Own;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
    message
}

fn link_layer_address(message: &NeighbourMessage) -> Option<[u8; 6]> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => bytes.as_slice().try_into().ok(),
        _ => None,
    })
}

/// Tells when links, addresses or tc filters of this namespace change.
pub struct LinkWatch(Socket);

impl LinkWatch {
    /// Subscribes.
    ///
    /// # Errors
    /// The kernel's, where it refuses the socket or a group.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        let groups =
            [libc::RTNLGRP_LINK, libc::RTNLGRP_IPV4_IFADDR, libc::RTNLGRP_IPV6_IFADDR, libc::RTNLGRP_TC];
        for group in groups {
            socket.add_membership(group)?;
        }
        Ok(Self(socket))
    }

    /// Reads away what has been told; true when something changed. What exactly is not of interest: the repair looks
    /// at everything anyway, and a flood of changes then costs one look.
    pub fn changed(&mut self) -> bool {
        let mut buffer = Vec::with_capacity(16 * 1024);
        let mut changed = false;
        loop {
            buffer.clear();
            match self.0.recv(&mut buffer, 0) {
                Ok(_) => changed = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return changed,
                // ENOBUFS: messages were lost, so something did change.
                Err(_) => return true,
            }
        }
    }
}

impl AsFd for LinkWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to the socket, which lives as long as the borrow.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}

/// A socket that talks to the kernel and nobody else.
pub(crate) fn connected(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// Sends `request` and collects what the kernel answers to it.
pub(super) fn dialogue<T>(socket: &Socket, request: T, flags: u16) -> io::Result<Vec<T>>
where
    T: NetlinkSerializable + NetlinkDeserializable,
{
    let mut replies = Vec::new();
    dialogue_each(socket, request, flags, |reply| replies.push(reply))?;
    Ok(replies)
}

/// Sends `request` and hands over what the kernel answers to it, one by one: a dump can be long.
pub(crate) fn dialogue_each<T>(
    socket: &Socket,
    request: T,
    flags: u16,
    mut take: impl FnMut(T),
) -> io::Result<()>
where
    T: NetlinkSerializable + NetlinkDeserializable,
{
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut packet = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let one_reply = flags & (NLM_F_DUMP | NLM_F_ACK) == 0;
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = &datagram[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<T>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            let length = (message.header.length as usize).next_multiple_of(4).max(16);
            rest = rest.get(length..).unwrap_or_default();
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(inner) => take(inner),
                _ => {}
            }
        }
        if one_reply {
            return Ok(());
        }
    }
}

fn link(message: LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        altnames: Vec::new(),
        mac: None,
        mtu: None,
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
        kind: None,
        speaks_arp: message.header.link_layer_type == LinkLayerType::Ether
            && !message.header.flags.contains(LinkFlags::Noarp),
        master: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok(),
            LinkAttribute::PropList(properties) => {
                link.altnames.extend(properties.into_iter().filter_map(|property| match property {
                    Prop::AltIfName(name) => Some(name),
                    _ => None,
                }));
            }
            LinkAttribute::LinkInfo(info) => link.kind = info.iter().find_map(kind),
            LinkAttribute::Mtu(bytes) => link.mtu = Some(bytes),
            LinkAttribute::Controller(master) => link.master = Some(master),
            _ => {}
        }
    }
    link
}

fn kind(info: &LinkInfo) -> Option<String> {
    if let LinkInfo::Kind(kind) = info { Some(kind.to_string()) } else { None }
}

pub(super) fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

pub(super) fn host_prefix(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_found_with_its_address() {
        let mut netlink = Netlink::open().unwrap();
        let links = netlink.links().unwrap();
        let lo = links.iter().find(|link| link.name == "lo").expect("every host has lo");
        let addresses = netlink.addresses().unwrap();
        let own = addresses.iter().find(|a| a.link == lo.index && a.ip.is_ipv4()).expect("lo has an address");
        assert!(own.network_contains("127.1.2.3".parse().unwrap()));
        assert!(!own.network_contains("128.0.0.1".parse().unwrap()));
        assert!(!own.network_contains("::1".parse().unwrap()));
        assert_eq!(
            netlink.route_to("127.0.0.1".parse().unwrap()).unwrap(),
            None,
            "own addresses have no way out"
        );
    }
}
