//! The rows of the verdict table that only IPv6 has: neighbour discovery, extension headers, ICMPv6. (Those of TCP are
//! in `verdict_table.rs`, for both families.)

#![allow(clippy::unwrap_used)]

mod common;

use common::frame::{self, ACK, SYN};
use common::host::SSH;
use common::reference::kernel;
use common::table::*;
use common::{BEAT_PORT, CLUSTER_MAC, VIP6, isolated};
use onevip_bpf::test_run;
use onevip_core::verdict::Reason::*;
use std::net::{IpAddr, Ipv6Addr};

const STRANGER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x66];
const SOLICIT: u8 = 135;
const ADVERTISE: u8 = 136;
const SOURCE: u8 = 1;
const TARGET: u8 = 2;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 58;
const FRAGMENT: u8 = 44;
const OPTIONS: u8 = 60;

fn v6(client: u8) -> Ipv6Addr {
    let IpAddr::V6(v6) = ip(true, client) else { panic!("it was asked for") };
    v6
}

#[test]
fn neighbour_discovery() {
    with_table(true, |t, _| {
        t.client(v6(STRANGER).into());
        let group = frame::solicited_node(VIP6);
        let (all, router): (Ipv6Addr, Ipv6Addr) = ("ff02::1".parse().unwrap(), "fe80::1".parse().unwrap());
        let ask = frame::neighbour(SOLICIT, v6(STRANGER), group, VIP6, Some((SOURCE, frame::CLIENT_MAC)));
        t.row("the owner of the asker's bucket answers", MINE, &ask, NdAnswer);
        t.row("the others keep still", GUESTS, &ask, NdForeign);
        let probe = frame::neighbour(SOLICIT, v6(STRANGER), VIP6, VIP6, None);
        t.row("a unicast probe is answered by the owner", MINE, &probe, NdAnswer);
        t.row("and by nobody else", NONE, &probe, NdForeign);
        let mut tagged = frame::tagged(&ask, 0x8100, 0xe000);
        t.row("a priority tag changes nothing", MINE, &tagged, NdAnswer);
        tagged[15] = 5;
        t.row("another VLAN is its own device's business", MINE, &tagged, NotOurs);
        let message = &ask[54..];
        let behind = [frame::extension(ICMP, 2), message.to_vec()].concat();
        let hidden = frame::packet(v6(STRANGER).into(), group.into(), OPTIONS, &behind);
        t.row("options in front of a solicitation do not make every node answer", NONE, &hidden, NdForeign);
        let other = frame::neighbour(SOLICIT, v6(STRANGER), frame::solicited_node(router), router, None);
        t.row("a question about others is not ours", MINE, &other, NotOurs);

        let answer = frame::neighbour(ADVERTISE, router, VIP6, router, Some((TARGET, frame::CLIENT_MAC)));
        t.row("an advertisement to the VIP reaches every node", NONE, &answer, NdToVip);
        let announce = |mac| frame::neighbour(ADVERTISE, VIP6, all, VIP6, Some((TARGET, mac)));
        t.row("another node's announcement is no news", MINE, &announce(CLUSTER_MAC), NdEcho);
        t.row("somebody else who uses the VIP is not believed", MINE, &announce(STRANGER_MAC), NdStranger);
        let from_vip =
            |mac| frame::neighbour(SOLICIT, VIP6, frame::solicited_node(router), router, Some((SOURCE, mac)));
        t.row("a node may ask for this very host in the VIP's name", NONE, &from_vip(CLUSTER_MAC), NotOurs);
        t.row("a stranger may not", NONE, &from_vip(STRANGER_MAC), NdStranger);
        let mut routed = announce(STRANGER_MAC);
        routed[21] = 64;
        t.row("nobody beyond a router speaks for neighbours", NONE, &routed, NotOurs);
        let redirect = frame::neighbour(137, router, VIP6, router, None);
        t.row("a redirect reaches whoever uses that router", NONE, &redirect, NdToVip);
        let advertisement = frame::packet(router.into(), VIP6.into(), ICMP, &frame::icmp(134, 0, &[0; 8]));
        t.row("so does a router's advertisement", NONE, &advertisement, NdToVip);
        let to_all = frame::packet(router.into(), all.into(), ICMP, &frame::icmp(134, 0, &[0; 8]));
        t.row("to all hosts it is not ours", NONE, &to_all, NotOurs);
        let query = [vec![ICMP, 0, 5, 2, 0, 0, 1, 0], frame::icmp(130, 0, &[0; 16])].concat();
        t.row(
            "nor are multicast queries",
            NONE,
            &frame::packet(router.into(), all.into(), 0, &query),
            NotOurs,
        );

        t.client(Ipv6Addr::UNSPECIFIED.into());
        let detection = frame::neighbour(SOLICIT, Ipv6Addr::UNSPECIFIED, group, VIP6, None);
        t.row("duplicate detection from :: has one owner as well", MINE, &detection, NdAnswer);
        t.row("and one only", NONE, &detection, NdForeign);
        t.lease(false);
        t.row("nobody answers with a lapsed lease", MINE, &detection, NdForeign);
    });
}

#[test]
fn icmpv6() {
    with_table(true, |t, _| {
        t.client(v6(STRANGER).into());
        let echo = frame::to_vip(v6(STRANGER), ICMP, &frame::icmp(128, 0, b"payload"));
        t.row("the owner answers a ping", MINE, &echo, IcmpOwn);
        t.row("the others do not", GUESTS, &echo, IcmpForeign);
        let quoting =
            |kind, quoted: Vec<u8>| frame::to_vip(v6(STRANGER), ICMP, &frame::icmp(kind, 0, &quoted));
        let ports = |port| frame::tcp_header(SSH, port, ACK, 1, 1)[..8].to_vec();
        let sent = |client, port| frame::ipv6(VIP6, v6(client), TCP, &ports(port));
        let about = |client, port| quoting(2, sent(client, port));
        let held = about(HELD, PORT);
        t.row(
            "packet too big finds the session, whoever owns the router's bucket",
            NONE,
            &held,
            IcmpErrorOwn,
        );
        t.row("an error about a half-open connection, too", NONE, &about(HALF_OPEN, PORT), IcmpErrorOwn);
        t.row("one about another node's session is not ours", MINE, &about(HELD, 41002), IcmpErrorForeign);
        let part = [frame::fragment_header(TCP, 1), ports(PORT)].concat();
        let part = quoting(2, frame::ipv6(VIP6, v6(HELD), FRAGMENT, &part));
        t.row("extension headers in the quotation are followed", NONE, &part, IcmpErrorOwn);
        let udp = quoting(1, frame::ipv6(VIP6, v6(STRANGER), UDP, &frame::udp_datagram(53, 9, &[])));
        t.row("an error about a datagram belongs to its receiver's bucket", MINE, &udp, IcmpErrorOwn);
        t.row("and to no other", NONE, &udp, IcmpErrorForeign);
        let others = quoting(3, frame::ipv6(v6(STRANGER), VIP6, TCP, &ports(PORT)));
        t.row("an error that quotes what we did not send is plain ICMP", MINE, &others, IcmpOwn);
        let short = quoting(2, sent(HELD, PORT)[..47].to_vec());
        t.row("so is one that quotes too little", NONE, &short, IcmpForeign);
        let cut = frame::to_vip(v6(STRANGER), ICMP, &[128, 0, 0]);
        t.row("ICMPv6 without its header is malformed", MINE, &cut, Malformed);
    });
}

#[test]
fn extension_headers_and_fragments() {
    with_table(true, |t, _| {
        t.client(v6(STRANGER).into());
        let syn = frame::tcp_header(41000, SSH, SYN, 1, 0);
        let chain = |lengths: &[u8]| {
            let headers = lengths.iter().enumerate().map(|(index, &eights)| {
                frame::extension(if index + 1 == lengths.len() { TCP } else { OPTIONS }, eights)
            });
            let payload = [headers.collect::<Vec<_>>().concat(), syn.clone()].concat();
            frame::to_vip(v6(STRANGER), OPTIONS, &payload)
        };
        t.row("six extension headers are followed", MINE, &chain(&[1, 1, 2, 1, 1, 1]), SynOwn);
        t.row("seven are malformed", MINE, &chain(&[1; 7]), Malformed);
        t.row("so are more than 128 bytes of them", MINE, &chain(&[8, 9]), Malformed);
        t.row("128 are not", NONE, &chain(&[8, 8]), SynForeign);
        let cut = frame::to_vip(v6(STRANGER), OPTIONS, &frame::extension(TCP, 2)[..8]);
        t.row("nor may they be cut short", MINE, &cut, Malformed);

        let fragment = |next, word, payload: &[u8]| {
            let payload = [frame::fragment_header(next, word), payload.to_vec()].concat();
            frame::to_vip(v6(STRANGER), FRAGMENT, &payload)
        };
        t.row("a later fragment goes by bucket", MINE, &fragment(UDP, 0x2001, &[0; 24]), FragmentOwn);
        t.row("and to guests, whose datagrams it may complete", GUESTS, &fragment(TCP, 8, &[]), FragmentOwn);
        t.row("but to nobody else", NONE, &fragment(OPTIONS, 8, &[7; 9]), FragmentForeign);
        let beat = frame::udp_datagram(5000, BEAT_PORT, b"beat");
        t.row("a fragmented beat is none", NONE, &fragment(UDP, 1, &beat), UdpForeign);
        t.row("a fragment that is the whole is nothing special", NONE, &fragment(UDP, 0, &beat), Beat);
        t.row("a first fragment of TCP is classified as TCP", MINE, &fragment(TCP, 1, &syn), SynOwn);
    });
}

#[test]
fn udp_other_protocols_and_what_cannot_be_read() {
    with_table(true, |t, _| {
        t.client(v6(STRANGER).into());
        let udp = frame::to_vip(v6(STRANGER), UDP, &frame::udp_datagram(5000, 53, b"?"));
        t.row("UDP goes by bucket", MINE, &udp, UdpOwn);
        t.row("UDP of others is dropped", GUESTS, &udp, UdpForeign);
        let beat = frame::to_vip(v6(STRANGER), UDP, &frame::udp_datagram(5000, BEAT_PORT, b"beat"));
        t.row("a beat goes to the daemon, whoever owns the bucket", NONE, &beat, Beat);
        let gre = frame::to_vip(v6(STRANGER), 47, &[0; 8]);
        t.row("any other protocol goes by bucket", MINE, &gre, OtherOwn);
        t.row("and is dropped elsewhere", NONE, &gre, OtherForeign);
        let other = frame::packet(v6(STRANGER).into(), v6(HELD).into(), TCP, &[0; 20]);
        t.row("a packet to others passes uncounted", NONE, &other, NotOurs);
        let syn = frame::tcp(v6(STRANGER), 41000, SSH, SYN);
        t.row("TCP without its header is malformed", MINE, &syn[..73], Malformed);
        let mut bad = syn.clone();
        bad[14] = 0x40;
        t.row("a header of another version is malformed", MINE, &bad, Malformed);
        let mut big = syn.clone();
        big[18..20].copy_from_slice(&[0, 0]);
        t.row("a payload length of 0 is BIG TCP, not malformed", MINE, &big, SynOwn);
    });
}

#[test]
fn a_beat_over_ipv6_reaches_the_daemon_whole() {
    isolated(|dir| {
        let kernel = kernel(dir);
        let beat = frame::to_vip(v6(STRANGER), UDP, &frame::udp_datagram(5000, BEAT_PORT, &[9; 600]));
        let [ingress, ..] = kernel.program_fds();
        test_run(ingress, &beat, 1).unwrap();
        let got = kernel.beats().unwrap().next().unwrap();
        assert_eq!((got.vip, got.address, got.length), (0, 1, beat.len() - 14));
        assert_eq!(got.datagram, beat[14..]);
    });
}
