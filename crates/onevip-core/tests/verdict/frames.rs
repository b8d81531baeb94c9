//! Frames, and what they are read as.

use crate::{Node, flow};
use onevip_core::packet::{Place, Plain};
use onevip_core::verdict::Reason::*;
use onevip_core::{
    Action, Answerer, Flags, Flow, HashMode, Hasher, NodeId, Other, Packet, Selector, Service, Slice, Socket,
    Transport, VipView, judge,
};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 2, 3, 4, 5);
const CLUSTER_MAC: [u8; 6] = [1, 0, 0x5e, 0x33, 0x64, 0x0a];

fn vips() -> Vec<VipView> {
    vec![VipView {
        addresses: vec![Ipv4Addr::new(198, 51, 100, 10).into(), VIP6.into()],
        selector: Selector::uniform(Hasher::DEFAULT),
        beat_port: 7077,
        cluster_mac: CLUSTER_MAC,
    }]
}

/// An IPv4 frame to the VIP: Ethernet, a 20-byte header, then `payload`.
fn ipv4_frame(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![1, 0, 0x5e, 0x33, 0x64, 0x0a, 2, 0, 0, 0, 0, 9, 8, 0];
    let total = (20 + payload.len() as u16).to_be_bytes();
    let fragment = fragment.to_be_bytes();
    frame.extend([0x45, 0, total[0], total[1], 0, 0, fragment[0], fragment[1], 64, protocol, 0, 0]);
    frame.extend([198, 51, 100, 100, 198, 51, 100, 10]);
    frame.extend(payload);
    frame
}

fn tcp_header(flags: u8) -> Vec<u8> {
    let mut header = vec![0x9c, 0x40, 0, 22, 0, 0, 0, 1, 0, 0, 3, 0xe9, 0x50, flags, 0xff, 0xff];
    header.extend([0; 4]);
    header
}

#[test]
fn frames_are_read_as_what_they_are() {
    let vips = vips();
    let parse = |frame: &[u8]| Packet::parse(frame, &vips);
    let here = Place::new(0, Hasher::DEFAULT.bucket(flow().remote, 0, 0));

    assert_eq!(parse(&ipv4_frame(6, 0, &tcp_header(0x02))), Packet::TcpSyn(here));
    let expected = Packet::Tcp { place: here, flow: flow(), fin: false, rst: false, ack: Some(1001) };
    assert_eq!(parse(&ipv4_frame(6, 0, &tcp_header(0x10))), expected);
    assert_eq!(parse(&ipv4_frame(6, 0, &tcp_header(0x12))), expected, "a SYN-ACK opens nothing here");
    assert_eq!(parse(&ipv4_frame(6, 0, &tcp_header(0x02)[..19])), Packet::Malformed);
    assert_eq!(parse(&ipv4_frame(6, 1, &[])), Packet::Fragment(here));
    assert_eq!(parse(&ipv4_frame(17, 0, &[0, 9, 0x1b, 0xa5, 0, 8, 0, 0])), Packet::Beat { vip: 0 });
    let fragmented = parse(&ipv4_frame(17, 0x2000, &[0, 9, 0x1b, 0xa5, 0, 8, 0, 0]));
    assert_eq!(fragmented, Packet::Plain(Plain::Udp, here), "a fragment is never a beat");
    assert_eq!(parse(&ipv4_frame(1, 0, &[8, 0, 0, 0, 0, 0, 0, 0])), Packet::Plain(Plain::Icmp, here));

    let mut elsewhere = ipv4_frame(6, 0, &tcp_header(0x02));
    elsewhere[33] = 11;
    assert_eq!(parse(&elsewhere), Packet::NotOurs);
}

#[test]
fn an_icmp_error_is_read_by_what_it_quotes() {
    let mut quoted = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 198, 51, 100, 10, 198, 51, 100, 100];
    quoted.extend([0, 22, 0x9c, 0x40, 0, 0, 0, 1]);
    let message = [&[3, 4, 0, 0, 0, 0, 5, 0][..], &quoted].concat();
    let vips = vips();
    assert_eq!(
        Packet::parse(&ipv4_frame(1, 0, &message), &vips),
        Packet::IcmpErrorTcp { vip: 0, flow: flow() }
    );
    let cut = Packet::parse(&ipv4_frame(1, 0, &message[..message.len() - 1]), &vips);
    assert!(matches!(cut, Packet::Plain(Plain::Icmp, _)), "a quotation cut short says nothing: {cut:?}");
}

#[test]
fn a_priority_tag_is_skipped_and_another_vlan_is_not_ours() {
    let frame = ipv4_frame(6, 0, &tcp_header(0x02));
    let tagged = |tag: [u8; 4]| [&frame[..12], &tag, &frame[12..]].concat();
    let vips = vips();
    assert!(matches!(Packet::parse(&tagged([0x81, 0, 0xe0, 0]), &vips), Packet::TcpSyn(_)));
    assert_eq!(Packet::parse(&tagged([0x81, 0, 0, 5]), &vips), Packet::NotOurs);
}

/// An IPv6 frame with hop limit 255: Ethernet, the header, then `payload`.
fn ipv6_frame(source: Ipv6Addr, dest: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![1, 0, 0x5e, 0x33, 0x64, 0x0a, 2, 0, 0, 0, 0, 9, 0x86, 0xdd];
    let length = (payload.len() as u16).to_be_bytes();
    frame.extend([0x60, 0, 0, 0, length[0], length[1], next, 255]);
    frame.extend(source.octets());
    frame.extend(dest.octets());
    frame.extend(payload);
    frame
}

fn parse6(source: Ipv6Addr, dest: Ipv6Addr, next: u8, payload: &[u8]) -> Packet {
    Packet::parse(&ipv6_frame(source, dest, next, payload), &vips())
}

fn place6(client: Ipv6Addr) -> Place {
    Place::new(0, Hasher::DEFAULT.bucket(client.into(), 0, 0))
}

fn flow6() -> Flow {
    Flow { remote: CLIENT6.into(), remote_port: 40000, local: VIP6.into(), local_port: 22 }
}

#[test]
fn ipv6_is_read_like_ipv4() {
    let here = place6(CLIENT6);
    let to_vip = |next, payload: &[u8]| parse6(CLIENT6, VIP6, next, payload);
    assert_eq!(to_vip(6, &tcp_header(0x02)), Packet::TcpSyn(here));
    let expected = Packet::Tcp { place: here, flow: flow6(), fin: false, rst: false, ack: Some(1001) };
    assert_eq!(to_vip(6, &tcp_header(0x10)), expected);
    assert_eq!(to_vip(6, &tcp_header(0x02)[..19]), Packet::Malformed);
    assert_eq!(to_vip(17, &[0, 9, 0x1b, 0xa5, 0, 8, 0, 0]), Packet::Beat { vip: 0 });
    assert_eq!(to_vip(58, &[128, 0, 0, 0, 0, 0, 0, 0]), Packet::Plain(Plain::Icmp, here));
    assert_eq!(to_vip(58, &[128, 0, 0]), Packet::Malformed);
    assert_eq!(to_vip(59, &[]), Packet::Plain(Plain::Other, here));
    assert_eq!(parse6(CLIENT6, CLIENT6, 6, &tcp_header(0x02)), Packet::NotOurs);
    let mut frame = ipv6_frame(CLIENT6, VIP6, 6, &tcp_header(0x02));
    frame[14] = 0x40;
    assert_eq!(Packet::parse(&frame, &vips()), Packet::Malformed, "a header of another version");
}

#[test]
fn extension_headers_are_followed_up_to_a_bound() {
    let here = place6(CLIENT6);
    let chain = |headers: &[&[u8]]| {
        let rest = [headers.concat(), tcp_header(0x02)].concat();
        parse6(CLIENT6, VIP6, 60, &rest)
    };
    let (more, last) = ([60, 0, 1, 4, 0, 0, 0, 0], [6, 0, 1, 4, 0, 0, 0, 0]);
    assert_eq!(chain(&[&last]), Packet::TcpSyn(here));
    assert_eq!(chain(&[&more, &more, &more, &more, &more, &last]), Packet::TcpSyn(here), "six are read");
    assert_eq!(chain(&[&more, &more, &more, &more, &more, &more, &last]), Packet::Malformed, "seven are not");
    let long = |eights: u8| [&[6, eights - 1][..], &vec![0; usize::from(eights) * 8 - 2]].concat();
    assert_eq!(chain(&[&long(16)]), Packet::TcpSyn(here), "128 bytes are read");
    assert_eq!(chain(&[&long(17)]), Packet::Malformed, "more are not");
    assert_eq!(parse6(CLIENT6, VIP6, 60, &last[..7]), Packet::Malformed, "cut short");
    assert_eq!(parse6(CLIENT6, CLIENT6, 60, &last[..7]), Packet::NotOurs, "not addressed to us");

    let fragment = |word: u16| {
        let [high, low] = word.to_be_bytes();
        let beat = [&[17, 0, high, low, 0, 0, 0, 1][..], &[0, 9, 0x1b, 0xa5, 0, 8, 0, 0]].concat();
        parse6(CLIENT6, VIP6, 44, &beat)
    };
    assert_eq!(fragment(0), Packet::Beat { vip: 0 }, "a fragment alone is the whole");
    assert_eq!(fragment(1), Packet::Plain(Plain::Udp, here), "the first of several has no ports");
    assert_eq!(fragment(8), Packet::Fragment(here));
}

#[test]
fn what_no_service_wants_is_dropped_where_the_vip_says_so() {
    let dns = Service {
        transport: Transport::Udp,
        ports: 53..=53,
        mode: HashMode::SourceIpPort,
        answerer: Answerer::Bucket,
        limit: None,
    };
    let selector = Selector { services: vec![dns], other: Other::Drop, ..Selector::uniform(Hasher::DEFAULT) };
    let vips = [VipView { selector, ..vips()[0].clone() }];
    let node =
        Node { flags: Flags::MINE, lease: true, recent: false, waited: true, socket: Some(Socket::None) };
    let verdict = |protocol, fragment, payload: &[u8]| {
        let packet = Packet::parse(&ipv4_frame(protocol, fragment, payload), &vips);
        [judge(&packet, &node), judge(&packet, &Node { flags: Flags::NONE, socket: None, ..node })]
    };
    let udp = |dest: u8| [0x9c, 0x40, 0, dest, 0, 8, 0, 0];
    assert_eq!(verdict(17, 0, &udp(53)), [UdpOwn, UdpForeign]);
    assert_eq!(verdict(17, 0, &udp(54)), [UdpUnserved, UdpForeign]);
    assert_eq!(verdict(17, 0x2000, &udp(54)), [UdpUnserved, UdpForeign], "a first fragment has a port");
    assert_eq!(verdict(17, 0x0001, &udp(54)), [FragmentOwn, FragmentForeign], "a later one does not");
    assert_eq!(verdict(50, 0, &[0; 8]), [OtherUnserved, OtherForeign]);
    assert_eq!(verdict(1, 0, &[8, 0, 0, 0, 0, 0, 0, 0]), [IcmpOwn, IcmpForeign], "ping is always a service");
    let tcp = |flags: u8| [&[0x9c, 0x40, 0, 22, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags][..], &[0; 6]].concat();
    assert_eq!(verdict(6, 0, &tcp(0x02)), [SynUnserved, SynForeign]);
    assert_eq!(verdict(6, 0, &tcp(0x10)), [TcpUnserved, TcpForeign], "no reset");
    let held = Node { socket: Some(Socket::Connected), ..node };
    assert_eq!(judge(&Packet::parse(&ipv4_frame(6, 0, &tcp(0x10)), &vips), &held), TcpHeld);

    let at = |source: u16| match Packet::parse(
        &ipv4_frame(17, 0, &[&source.to_be_bytes()[..], &[0, 53, 0, 8, 0, 0]].concat()),
        &vips,
    ) {
        Packet::Plain(Plain::Udp, at) => at.bucket,
        other => panic!("{other:?}"),
    };
    assert_ne!(at(4000), at(4001), "the service hashes ports, although the VIP does not");
}

#[test]
fn the_port_of_a_service_by_socket_says_whose_it_is() {
    let slice = Slice::of(NodeId::new(3).unwrap(), 16).unwrap();
    let mosh = Service {
        transport: Transport::Udp,
        ports: 60000..=60999,
        mode: HashMode::SourceIp,
        answerer: Answerer::Socket(slice),
        limit: None,
    };
    let selector = Selector { services: vec![mosh], ..Selector::uniform(Hasher::DEFAULT) };
    let vips = [VipView { selector, ..vips()[0].clone() }];
    let parsed = |fragment, port: u16| {
        let datagram = [&[0x9c, 0x40][..], &port.to_be_bytes(), &[0, 8, 0, 0]].concat();
        Packet::parse(&ipv4_frame(17, fragment, &datagram), &vips)
    };
    assert!(
        matches!(parsed(0, 60002), Packet::BySocket { own_slice: true, flow } if flow.local_port == 60002)
    );
    assert!(matches!(parsed(0, 60018), Packet::BySocket { own_slice: true, .. }));
    assert!(matches!(parsed(0, 60003), Packet::BySocket { own_slice: false, .. }));
    assert!(matches!(parsed(0, 61026), Packet::Plain(Plain::Udp, _)), "beside the range");
    assert!(
        matches!(parsed(0x2000, 60002), Packet::Plain(Plain::Udp, _)),
        "later pieces have no port to go by"
    );
}

#[test]
fn neighbour_discovery_is_read_by_whom_it_is_about() {
    let (group, all, router) = (
        "ff02::1:ff00:10".parse::<Ipv6Addr>().unwrap(),
        "ff02::1".parse::<Ipv6Addr>().unwrap(),
        "fe80::1".parse::<Ipv6Addr>().unwrap(),
    );
    let message = |kind: u8, target: Ipv6Addr, options: &[u8]| {
        [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), options].concat()
    };
    let link = |option: u8, mac: [u8; 6]| [&[option, 1][..], &mac].concat();
    let other_mac = [2, 0, 0, 0, 0, 7];
    let ask = |source, dest| parse6(source, dest, 58, &message(135, VIP6, &link(1, other_mac)));
    assert_eq!(ask(CLIENT6, group), Packet::NdSolicitation(place6(CLIENT6)), "to the group");
    assert_eq!(ask(CLIENT6, VIP6), Packet::NdSolicitation(place6(CLIENT6)), "a unicast probe");
    let anybody = Ipv6Addr::UNSPECIFIED;
    assert_eq!(ask(anybody, group), Packet::NdSolicitation(place6(anybody)), "duplicate detection");

    let say = |dest, target, options: &[u8]| parse6(router, dest, 58, &message(136, target, options));
    assert_eq!(say(VIP6, router, &link(2, other_mac)), Packet::NdToVip);
    assert_eq!(say(CLIENT6, router, &link(2, other_mac)), Packet::NotOurs);
    assert_eq!(say(all, VIP6, &link(2, CLUSTER_MAC)), Packet::NdEcho);
    assert_eq!(say(all, VIP6, &link(2, other_mac)), Packet::NdStranger);
    assert_eq!(
        say(all, VIP6, &[&[14, 1, 0, 0, 0, 0, 0, 0][..], &link(2, other_mac)].concat()),
        Packet::NdStranger
    );
    assert_eq!(say(all, VIP6, &[]), Packet::NdEcho, "it names no MAC, so it says nothing new");
    let redirect = message(137, router, &CLIENT6.octets());
    assert_eq!(parse6(router, VIP6, 58, &redirect), Packet::NdToVip);
    assert_eq!(parse6(router, all, 58, &message(134, router, &[])), Packet::NotOurs);

    let from_vip = |target, mac| parse6(VIP6, group, 58, &message(135, target, &link(1, mac)));
    assert_eq!(
        from_vip(CLIENT6, CLUSTER_MAC),
        Packet::NotOurs,
        "another node asks, and may be asking for us"
    );
    assert_eq!(from_vip(CLIENT6, other_mac), Packet::NdStranger);
    assert_eq!(from_vip(VIP6, CLUSTER_MAC), Packet::NdEcho);

    let mut routed = ipv6_frame(router, VIP6, 58, &message(136, VIP6, &link(2, other_mac)));
    routed[21] = 254;
    let here = place6(router);
    assert_eq!(Packet::parse(&routed, &vips()), Packet::Plain(Plain::Icmp, here), "from beyond a router");
}

#[test]
fn an_icmpv6_error_is_read_by_what_it_quotes() {
    let quote = |next: u8, payload: &[u8]| ipv6_frame(VIP6, CLIENT6, next, payload)[14..].to_vec();
    let error = |kind: u8, quoted: &[u8]| {
        let message = [&[kind, 0, 0, 0, 0, 0, 5, 0][..], quoted].concat();
        parse6("2001:db8::1".parse().unwrap(), VIP6, 58, &message)
    };
    let ports = [0, 22, 0x9c, 0x40, 0, 0, 0, 1];
    let about_us = Packet::IcmpErrorTcp { vip: 0, flow: flow6() };
    assert_eq!(error(2, &quote(6, &ports)), about_us, "packet too big");
    let fragment = [&[6, 0, 0, 1, 0, 0, 0, 1][..], &ports].concat();
    assert_eq!(error(2, &quote(44, &fragment)), about_us, "about a first fragment");
    let udp = error(1, &quote(17, &ports));
    let by_client = Hasher::DEFAULT.bucket(CLIENT6.into(), 40000, 22);
    assert_eq!(udp, Packet::IcmpErrorOther(Place::new(0, by_client)));
    let short = error(2, &quote(6, &ports)[..47]);
    assert!(matches!(short, Packet::Plain(Plain::Icmp, _)), "a quotation cut short says nothing: {short:?}");
    let echo = error(129, &quote(6, &ports));
    assert!(matches!(echo, Packet::Plain(Plain::Icmp, _)), "an answer is no error: {echo:?}");
}

proptest! {
    #[test]
    fn any_bytes_reach_a_verdict(frame in prop::collection::vec(any::<u8>(), 0..200), start in 0usize..3) {
        // Most of the frames begin like a real one, so that the deeper layers are reached.
        let frame = match start {
            0 => frame,
            1 => [ipv4_frame(6, 0, &[])[..14].to_vec(), frame].concat(),
            _ => [ipv6_frame(CLIENT6, VIP6, 60, &[])[..54].to_vec(), frame].concat(),
        };
        let node = Node { flags: Flags::NONE, lease: true, recent: false, waited: false, socket: Some(Socket::None) };
        let reason = judge(&Packet::parse(&frame, &vips()), &node);
        prop_assert!(reason.action() == Action::Drop || matches!(reason, NotOurs | ArpToVip | NdToVip | Beat));
    }
}
