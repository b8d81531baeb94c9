//! The rows of the verdict table for segments and packets that are rare but real: options, reused ports, crossing
//! opens, clients behind one address, congestion marks and urgent data, sessions that were idle for days.

#![allow(clippy::unwrap_used)]

mod common;

use common::frame::{self, ACK, FIN, RST, SYN};
use common::host::SSH;
use common::table::*;
use common::{VIP, vip_for};
use onevip_core::verdict::Reason::*;
use onevip_core::{Flow, Socket};
use std::net::IpAddr;

const ECE: u8 = 0x40;
const CWR: u8 = 0x80;
const URG: u8 = 0x20;
const PSH: u8 = 0x08;
const TCP: u8 = 6;
const DAY: u64 = 24 * 60 * 60;

/// A TCP segment to the VIP whose header carries options.
fn with_tcp_options(source: IpAddr, port: u16, flags: u8, options: &[u8]) -> Vec<u8> {
    assert_eq!(options.len() % 4, 0);
    let mut header = frame::tcp_header(port, SSH, flags, 1000, 2000);
    header[12] = ((20 + options.len()) as u8 / 4) << 4;
    header.extend(options);
    frame::to_vip(source, TCP, &header)
}

#[test]
fn options_of_ip() {
    with_table(false, |t, _| {
        let IpAddr::V4(client) = t.ip(HELD) else { unreachable!("the table is IPv4") };
        let with = |options: &[u8], port, flags| {
            let segment = frame::tcp_header(port, SSH, flags, 1000, 2000);
            let mut packet =
                frame::ipv4_fragment(client, VIP, TCP, 0, &[options, segment.as_slice()].concat());
            packet[0] = 0x40 | (5 + options.len() as u8 / 4);
            frame::ethernet(0x0800, &packet)
        };
        // Router alert (RFC 2113); record route with room for nine addresses, the longest there can be.
        let alert = [0x94, 4, 0, 0];
        let mut route = [0; 40];
        route[..3].copy_from_slice(&[7, 39, 4]);
        for (name, options) in [("short", &alert[..]), ("the longest", &route[..])] {
            t.row(&format!("a SYN behind {name} options"), MINE, &with(options, 41000, SYN), SynOwn);
            t.row(&format!("another's behind {name} options"), NONE, &with(options, 41000, SYN), SynForeign);
            t.row(&format!("a session behind {name} options"), GUESTS, &with(options, PORT, ACK), TcpHeld);
        }
        let mut cut = with(&route, 41000, SYN);
        cut.truncate(14 + 59);
        t.row("options that are cut short are malformed", MINE, &cut, Malformed);
    });
}

#[test]
fn options_of_tcp() {
    with_tables(|t, _| {
        // What Linux sends with a SYN: MSS, SACK permitted, timestamps, window scale. Then all the room there is.
        let usual = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
        t.row("a SYN with options", MINE, &with_tcp_options(t.ip(HELD), 41000, SYN, &usual), SynOwn);
        t.row("with as many as fit", MINE, &with_tcp_options(t.ip(HELD), 41000, SYN, &[1; 40]), SynOwn);
        t.row("a session's", GUESTS, &with_tcp_options(t.ip(HELD), PORT, ACK, &[1; 40]), TcpHeld);
        let mut opening = frame::tcp_header(41000, SSH, SYN, 1000, 0);
        opening.extend(b"SSH-2.0-early");
        let early = frame::to_vip(t.ip(HELD), TCP, &opening);
        t.row("a SYN that carries data already (TCP Fast Open) is a SYN", MINE, &early, SynOwn);
    });
}

#[test]
fn marks_and_urgent_data() {
    with_tables(|t, _| {
        let held = t.ip(HELD);
        let of = |port, flags| frame::tcp(held, port, SSH, flags);
        let rows = [
            ("a SYN that offers ECN is a SYN", NONE, of(41000, SYN | ECE | CWR), SynForeign),
            ("also in our bucket", MINE, of(41000, SYN | ECE | CWR), SynOwn),
            ("a session's congestion marks", GUESTS, of(PORT, ACK | ECE), TcpHeld),
            ("and their answer", GUESTS, of(PORT, ACK | CWR | PSH), TcpHeld),
            ("urgent data of a session", GUESTS, of(PORT, ACK | URG | PSH), TcpHeld),
            ("an urgent SYN opens as well", MINE, of(41000, SYN | URG), SynOwn),
            ("every flag but SYN and RST: no SYN", NONE, of(41000, !(SYN | RST)), TcpForeign),
            ("no flag at all: no SYN", NONE, of(41000, 0), TcpForeign),
        ];
        for (sentence, flags, frame, reason) in rows {
            t.row(sentence, flags, &frame, reason);
        }
        // The lowest two bits of the traffic class are marked on the way: "congestion experienced".
        let mut marked = of(PORT, ACK);
        if t.ip(HELD).is_ipv4() {
            marked[15] |= 3
        } else {
            marked[15] |= 0x30
        }
        t.row("a packet that a router has marked", GUESTS, &marked, TcpHeld);
    });
}

#[test]
fn a_tuple_that_is_used_again() {
    with_tables(|t, _| {
        let again = |client, flags| frame::tcp(client, PORT, SSH, flags);
        t.row("a SYN on a session's own tuple goes by bucket", MINE, &again(t.ip(HELD), SYN), SynOwn);
        t.row("so its client may be served anew elsewhere", GUESTS, &again(t.ip(HELD), SYN), SynForeign);
        t.row("a session's RST reaches it", GUESTS, &again(t.ip(HELD), RST), TcpHeld);
        t.row("so does its FIN", GUESTS, &again(t.ip(HELD), FIN | ACK), TcpHeld);
        t.client(t.ip(WAITING));
        t.row("a SYN on a tuple in TIME_WAIT", MINE, &again(t.ip(WAITING), SYN), SynOwn);
        t.row("meets only the owner", GUESTS, &again(t.ip(WAITING), SYN), SynForeign);
        t.row("a RST may end our TIME_WAIT", MINE, &again(t.ip(WAITING), RST), TcpTimeWait);
        t.row("but no stale one", GUESTS, &again(t.ip(WAITING), RST), TcpTimeWaitForeign);
        t.client(t.ip(HALF_OPEN));
        t.row("a SYN sent again before its handshake ends", MINE, &again(t.ip(HALF_OPEN), SYN), SynOwn);
        t.row("is the next owner's after a move", GUESTS, &again(t.ip(HALF_OPEN), SYN), SynForeign);
    });
}

#[test]
fn both_sides_open_at_once() {
    with_tables(|t, host| {
        let outward = t.ip(OUTWARD);
        let (_socket, port) = host.syn_sent(outward, 80);
        t.client(outward);
        let crossing = Flow { remote: outward, remote_port: 80, local: vip_for(outward), local_port: port };
        t.known.sockets.insert(crossing, Socket::Connected);
        let of = |flags| frame::tcp(outward, 80, port, flags);
        t.row("a SYN that crosses ours goes by bucket like any", MINE, &of(SYN), SynOwn);
        t.row("so a node that holds nothing else stays out of it", GUESTS, &of(SYN), SynForeign);
        t.row("the SYN-ACK that follows reaches who opened", GUESTS, &of(SYN | ACK), TcpHeld);
        t.row("and the RST of who does not want it", GUESTS, &of(RST | ACK), TcpHeld);
    });
}

#[test]
fn clients_behind_one_address() {
    with_tables(|t, _| {
        let held = t.ip(HELD);
        let of = |port, flags| frame::tcp(held, port, SSH, flags);
        t.row("one of them has a session here", GUESTS, &of(PORT, ACK), TcpHeld);
        t.row("another's, whose bucket has moved, is elsewhere", GUESTS, &of(PORT + 1, ACK), TcpNotHere);
        t.row("a third one opens where the bucket is now", GUESTS, &of(PORT + 2, SYN), SynForeign);
        t.row("which may be here", MINE.with(GUESTS), &of(PORT + 2, SYN), SynOwn);
    });
}

#[test]
fn sessions_that_were_idle_for_days() {
    with_tables(|t, _| {
        let data = frame::tcp(t.ip(HELD), PORT, SSH, ACK);
        let boot = onevip_bpf::boot_time_ns() / 1_000_000_000;
        // As long as this host has been up, at most: the clock of the programs begins with it.
        for days in [1, 3, 30] {
            t.syn_passed(Some((days * DAY).min(boot - 1)));
            t.row(&format!("whose bucket is ours, after {days} days"), MINE, &data, TcpHeld);
            t.syn_passed(Some((days * DAY).min(boot - 1)));
            t.row(&format!("whose bucket has moved, after {days} days"), GUESTS, &data, TcpHeld);
        }
        let fragment = |client: IpAddr| match client {
            IpAddr::V4(v4) => frame::ethernet(0x0800, &frame::ipv4_fragment(v4, VIP, TCP, 1, &[0; 24])),
            IpAddr::V6(_) => {
                frame::to_vip(client, 44, &[frame::fragment_header(TCP, 8), vec![0; 24]].concat())
            }
        };
        t.row("and what routers have cut in pieces", GUESTS, &fragment(t.ip(HELD)), FragmentOwn);
    });
}
