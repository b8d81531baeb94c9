//! The verdict table where a service is answered by whoever has the socket.

#![allow(clippy::unwrap_used)]

mod common;

use common::frame;
use common::table::*;
use common::{vip, vip_for};
use onevip_bpf::KernelConfig;
use onevip_core::verdict::Reason::*;
use onevip_core::{Answerer, HashMode, Hasher, NodeId, Selector, Service, Slice, Transport};
use std::net::{IpAddr, UdpSocket};

/// In the slice of node 3 of 16: bound here, free here; in another slice, though bound here; beside the range.
const BOUND: u16 = 60002;
const FREE: u16 = 60018;
const OTHERS: u16 = 60003;
const BESIDE: u16 = 61010;

fn config() -> KernelConfig {
    let mut vip = vip(Hasher::DEFAULT);
    let mosh = Service {
        transport: Transport::Udp,
        ports: 60000..=60999,
        mode: HashMode::SourceIp,
        answerer: Answerer::Socket(Slice::of(NodeId::new(3).unwrap(), 16).unwrap()),
        limit: None,
    };
    vip.selector = Selector { services: vec![mosh], ..vip.selector };
    KernelConfig { vips: vec![vip] }
}

fn datagram(from: IpAddr, port: u16) -> Vec<u8> {
    frame::packet(from, vip_for(from), 17, &frame::udp_datagram(5000, port, b"?"))
}

/// Both families, with sockets as a host has them: one on the VIP, one in another's slice from before it had any.
fn with_sockets(test: impl Fn(&mut Table<'_>, bool) + Send + Sync) {
    for v6 in [false, true] {
        with_table_of(&config(), v6, |t, _| {
            let vip = vip_for(t.ip(HELD));
            let any: IpAddr = if v6 { [0; 16].into() } else { [0; 4].into() };
            let _sockets = [(vip, BOUND), (any, OTHERS)].map(|address| UdpSocket::bind(address).unwrap());
            t.known.datagram_ports = vec![BOUND, OTHERS];
            test(t, v6);
        });
    }
}

#[test]
fn the_port_says_who_answers_and_no_bucket_does() {
    with_sockets(|t, _| {
        let (held, stranger) = (t.ip(HELD), t.ip(STRANGER));
        t.row("its socket is here", MINE, &datagram(held, BOUND), UdpHeld);
        t.row("whoever has the bucket", NONE, &datagram(held, BOUND), UdpHeld);
        t.row("and wherever it comes from", NONE, &datagram(stranger, BOUND), UdpHeld);
        t.lease(false);
        t.row("a hung node keeps its sessions", NONE, &datagram(held, BOUND), UdpHeld);
        t.lease(true);
        t.row("nobody is on that port of ours", MINE, &datagram(held, FREE), UdpNotHere);
        t.row("another node's port is its business", MINE, &datagram(held, OTHERS), UdpOtherSlice);
        t.row("beside the range the bucket decides", MINE, &datagram(held, BESIDE), UdpOwn);
        t.row("for and against", NONE, &datagram(held, BESIDE), UdpForeign);
        t.row(
            "TCP to such a port is no datagram",
            NONE,
            &frame::tcp(held, 5000, BOUND, frame::SYN),
            SynForeign,
        );
    });
}

#[test]
fn an_error_about_a_datagram_goes_to_the_node_that_sent_it() {
    with_sockets(|t, v6| {
        let (held, router) = (t.ip(HELD), t.ip(STRANGER));
        let error = |port| {
            let quoted = frame::packet(vip_for(held), held, 17, &frame::udp_datagram(port, 5000, b"!"));
            let too_big = frame::icmp(if v6 { 2 } else { 3 }, if v6 { 0 } else { 4 }, &quoted[14..]);
            frame::packet(router, vip_for(router), if v6 { 58 } else { 1 }, &too_big)
        };
        t.row("its socket is here", NONE, &error(BOUND), IcmpErrorOwn);
        t.row("nobody here has sent it", MINE, &error(FREE), IcmpErrorForeign);
        t.row("another node has", MINE, &error(OTHERS), IcmpErrorForeign);
        t.row("beside the range the bucket decides", MINE, &error(BESIDE), IcmpErrorOwn);
    });
}
