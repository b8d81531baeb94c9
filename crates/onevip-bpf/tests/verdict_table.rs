//! The verdict table of `docs/kernel.md`, a sentence per row, through the real programs and with real sockets.
//!
//! Each row goes through XDP, tc and the reference verdict, which must all agree with the row.

#![allow(clippy::unwrap_used)]

mod common;

use common::frame::{self, ACK, FIN, RST, SYN};
use common::host::SSH;
use common::reference::{flow, kernel};
use common::table::*;
use common::{BEAT_PORT, CLUSTER_MAC, V, VIP, isolated};
use onevip_bpf::{Kernel, boot_time_ns, test_run};
use onevip_core::verdict::Reason::{self, *};
use onevip_core::{Hasher, Socket};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

const NOBODY_LISTENS: u16 = 2222;
const STRANGER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x66];

fn v4(client: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, client)
}

#[test]
fn tcp_that_opens() {
    with_tables(|t, _| {
        let syn = frame::tcp(t.ip(HELD), 41000, SSH, SYN);
        t.row("a SYN of a claimed bucket passes", MINE, &syn, SynOwn);
        t.row("ELSEWHERE does not stop new connections", MINE.with(ELSEWHERE), &syn, SynOwn);
        t.row("a SYN of another node's bucket is dropped", NONE, &syn, SynForeign);
        t.row("guests do not make a bucket ours", GUESTS, &syn, SynForeign);
        t.row(
            "a SYN with RST opens nothing",
            NONE,
            &frame::tcp(t.ip(HELD), 41000, SSH, SYN | RST),
            TcpForeign,
        );
        t.row("a SYN-ACK opens nothing", NONE, &frame::tcp(t.ip(HELD), 41000, SSH, SYN | ACK), TcpForeign);
        t.lease(false);
        t.row("a SYN is dropped once the lease has run out", MINE, &syn, SynLapsed);
    });
}

#[test]
fn tcp_of_a_session() {
    with_tables_of_all_listeners(|t, host| {
        let data = frame::tcp(t.ip(HELD), PORT, SSH, ACK);
        t.row("a session of our bucket goes on", MINE, &data, TcpHeld);
        t.row("a session stays where it is when its bucket moves away", GUESTS, &data, TcpHeld);
        t.row("so it does while flows may be elsewhere", MINE.with(ELSEWHERE), &data, TcpHeld);
        t.row("without guests nobody looks for sockets: the fast path", NONE, &data, TcpForeign);
        t.syn_passed(Some(100));
        t.row("a SYN that passed lately is as good as guests", NONE, &data, TcpHeld);
        t.syn_passed(Some(121));
        t.row("after two minutes it is not", NONE, &data, TcpForeign);
        t.lease(false);
        t.row("a hung node holds what it has", MINE, &data, TcpHeld);
        t.row("a hung node resets no orphan", MINE, &frame::tcp(t.ip(HELD), 41001, SSH, ACK), TcpNotHere);
        t.lease(true);
        let orphan = frame::tcp(t.ip(HELD), 41001, NOBODY_LISTENS, ACK);
        t.row("the first segment of an orphan is only remembered", MINE, &orphan, TcpOrphanFirst);
        t.row_again("so is what follows at once", 1, MINE, &orphan, TcpOrphanFirst);
        t.row_again(
            "an orphan of our bucket that tries again is reset by the stack",
            30,
            MINE,
            &orphan,
            TcpOrphan,
        );
        t.row_again("but what came two minutes ago is forgotten", 121, MINE, &orphan, TcpOrphanFirst);
        t.row("an orphan may live elsewhere", MINE.with(ELSEWHERE), &orphan, TcpElsewhere);
        t.row_again("however often it comes", 30, MINE.with(ELSEWHERE), &orphan, TcpElsewhere);
        t.known.kernel.words().set_settled_ns(V, boot_time_ns() - 10_000_000_000);
        t.row_again("what came before a node returned says nothing", 30, MINE, &orphan, TcpOrphanFirst);
        t.known.kernel.words().set_settled_ns(V, boot_time_ns() - 60_000_000_000);
        t.row_again("what came after it does", 30, MINE, &orphan, TcpOrphan);
        let reset = frame::tcp(t.ip(HELD), 41001, NOBODY_LISTENS, RST);
        t.row_again("a reset is no try, and needs no answer", 30, MINE, &reset, TcpOrphanFirst);
        t.row("an orphan of another's bucket is never reset", GUESTS, &orphan, TcpNotHere);
        t.row("nor while its claimer is silent", WATCHED, &orphan, TcpNotHere);
        t.came_before(30, WATCHED, &orphan);
        t.row("but then its heir resets it at once", MINE, &orphan, TcpOrphan);
        t.came_before(30, GUESTS, &orphan);
        t.row("which it does not after what came in quieter times", MINE, &orphan, TcpOrphanFirst);
        let to_listener = frame::tcp(t.ip(HELD), 41001, SSH, ACK);
        t.row("an ACK without a valid cookie is an orphan", MINE, &to_listener, TcpOrphanFirst);
        t.row_again("also when it comes again", 30, MINE, &to_listener, TcpOrphan);
        t.row("also to a listener of another's bucket", GUESTS, &to_listener, TcpNotHere);

        let outward = t.ip(OUTWARD);
        let (_socket, port) = host.syn_sent(outward, 80);
        t.client(outward);
        t.known.sockets.insert(
            onevip_core::Flow {
                remote: outward,
                remote_port: 80,
                local: common::vip_for(outward),
                local_port: port,
            },
            Socket::Connected,
        );
        let answer = frame::tcp(t.ip(OUTWARD), 80, port, SYN | ACK);
        t.row("the answer to a connection that this node opens reaches it", GUESTS, &answer, TcpHeld);
    });
}

#[test]
fn tcp_that_is_half_open() {
    with_tables_of_all_listeners(|t, _| {
        t.client(t.ip(HALF_OPEN));
        let Some(Socket::Request { sent_isn }) = t.known.sockets.get(&flow(t.ip(HALF_OPEN), PORT)).copied()
        else {
            panic!("there is a half-open socket");
        };
        let client = t.ip(HALF_OPEN);
        let acks =
            |flags, ack: u32| frame::to_vip(client, 6, &frame::tcp_header(PORT, SSH, flags, 7_000_001, ack));
        let right = sent_isn.wrapping_add(1);
        t.row("the ACK of our SYN-ACK completes the handshake", MINE, &acks(ACK, right), TcpHalfOpen);
        t.row("also after the bucket has moved", GUESTS, &acks(ACK, right), TcpHalfOpen);
        let stale = acks(ACK, sent_isn.wrapping_add(77));
        t.row(
            "an ACK of somebody else's SYN-ACK is kept from a stale socket",
            GUESTS,
            &stale,
            TcpHalfOpenStale,
        );
        t.row("even in our bucket: its answer would be a reset that fits", MINE, &stale, TcpHalfOpenStale);
        t.row("a RST provokes no answer", GUESTS, &acks(RST, 5), TcpHalfOpen);
        t.row("a segment without ACK completes nothing", GUESTS, &acks(FIN, right), TcpHalfOpenStale);
    });
}

#[test]
fn tcp_in_time_wait() {
    with_tables_of_all_listeners(|t, _| {
        t.client(t.ip(WAITING));
        let (data, fin) =
            (frame::tcp(t.ip(WAITING), PORT, SSH, ACK), frame::tcp(t.ip(WAITING), PORT, SSH, FIN | ACK));
        t.row("TIME_WAIT answers in our own bucket", MINE, &data, TcpTimeWait);
        t.row(
            "elsewhere it keeps still: the client may have reused its port",
            GUESTS,
            &data,
            TcpTimeWaitForeign,
        );
        t.row("but acknowledges a repeated FIN", GUESTS, &fin, TcpTimeWait);
        t.lease(false);
        t.row("a lapsed lease is nobody's bucket", MINE, &data, TcpTimeWaitForeign);
    });
}

#[test]
fn tcp_with_a_syn_cookie() {
    with_tables_of_all_listeners(|t, host| {
        common::host::sysctl("net/ipv4/tcp_syncookies", "2");
        let cookie = host.half_open(t.ip(COOKIE), PORT);
        assert_eq!(common::host::state_of(t.ip(COOKIE), PORT), None, "a cookie leaves no socket");
        t.client(t.ip(COOKIE));
        t.known.sockets.insert(flow(t.ip(COOKIE), PORT), Socket::Listener { cookie_valid: true });
        let client = t.ip(COOKIE);
        let acks = |flags, ack: u32| {
            let header = frame::tcp_header(PORT, SSH, flags, common::host::CLIENT_ISN + 1, ack);
            frame::to_vip(client, 6, &header)
        };
        let right = cookie.wrapping_add(1);
        t.row("the ACK of our cookie passes", MINE, &acks(ACK, right), TcpCookie);
        t.row(
            "also after the bucket has moved: only we can complete it",
            GUESTS,
            &acks(ACK, right),
            TcpCookie,
        );
        t.known.sockets.clear();
        t.row("a wrong cookie does not", GUESTS, &acks(ACK, right ^ 0x5a5a), TcpNotHere);
        t.row("nor does its RST", GUESTS, &acks(RST | ACK, right), TcpNotHere);
    });
}

#[test]
fn arp() {
    with_table(false, |t, _| {
        t.client(v4(STRANGER).into());
        let ask = frame::arp(1, frame::CLIENT_MAC, v4(STRANGER), VIP);
        t.row("the owner of the asker's bucket answers", MINE, &ask, ArpAnswer);
        t.row("the others keep still", GUESTS, &ask, ArpForeign);
        let answer = frame::arp(2, frame::CLIENT_MAC, v4(STRANGER), VIP);
        t.row("an answer to the VIP reaches every node", NONE, &answer, ArpToVip);
        let announce = frame::arp(1, CLUSTER_MAC, VIP, VIP);
        t.row("another node's announcement is no news", MINE, &announce, ArpEcho);
        let stranger = frame::arp(2, STRANGER_MAC, VIP, v4(STRANGER));
        t.row("somebody else who uses the VIP is counted and not believed", MINE, &stranger, ArpStranger);
        let other = frame::arp(1, frame::CLIENT_MAC, v4(STRANGER), Ipv4Addr::new(198, 51, 100, 1));
        t.row("ARP about others is not ours", MINE, &other, NotOurs);
        t.row("nor is ARP that is cut short", MINE, &ask[..41], NotOurs);
        let mut reverse = ask.clone();
        reverse[21] = 3;
        t.row("nor is RARP", MINE, &reverse, NotOurs);
        t.client(Ipv4Addr::UNSPECIFIED.into());
        let probe = frame::arp(1, frame::CLIENT_MAC, Ipv4Addr::UNSPECIFIED, VIP);
        t.row("a probe from 0.0.0.0 has one owner as well", MINE, &probe, ArpAnswer);
        t.lease(false);
        t.row("nobody answers with a lapsed lease", MINE, &probe, ArpForeign);
    });
}

#[test]
fn icmp() {
    with_table(false, |t, _| {
        t.client(v4(STRANGER).into());
        let echo = frame::to_vip(v4(STRANGER), 1, &frame::icmp(8, 0, b"payload"));
        t.row("the owner answers a ping", MINE, &echo, IcmpOwn);
        t.row("the others do not", GUESTS, &echo, IcmpForeign);
        let quoting = |kind, quoted: Vec<u8>| frame::to_vip(v4(STRANGER), 1, &frame::icmp(kind, 4, &quoted));
        let sent = |client, port| {
            frame::ipv4_fragment(VIP, client, 6, 0, &frame::tcp_header(SSH, port, ACK, 1, 1)[..8])
        };
        let about = |client, port| quoting(3, sent(client, port));
        t.row(
            "a path MTU error finds the session, whoever owns the router's bucket",
            NONE,
            &about(v4(HELD), PORT),
            IcmpErrorOwn,
        );
        t.row("an error about a half-open connection, too", NONE, &about(v4(HALF_OPEN), PORT), IcmpErrorOwn);
        t.row(
            "an error about another node's session is not ours",
            MINE,
            &about(v4(HELD), 41002),
            IcmpErrorForeign,
        );
        let udp =
            quoting(3, frame::ipv4_fragment(VIP, v4(STRANGER), 17, 0, &frame::udp_datagram(53, 9, &[])));
        t.row("an error about a datagram belongs to its receiver's bucket", MINE, &udp, IcmpErrorOwn);
        t.row("and to no other", NONE, &udp, IcmpErrorForeign);
        let mine = quoting(11, frame::ipv4_fragment(v4(STRANGER), VIP, 6, 0, &[0; 8]));
        t.row("an error that quotes what we did not send is plain ICMP", MINE, &mine, IcmpOwn);
        let short = quoting(3, sent(v4(HELD), PORT)[..27].to_vec());
        t.row("so is one that quotes too little", NONE, &short, IcmpForeign);
        let cut = frame::to_vip(v4(STRANGER), 1, &[8, 0, 0]);
        t.row("ICMP without its header is malformed", MINE, &cut, Malformed);
    });
}

#[test]
fn udp_fragments_and_other_protocols() {
    with_table(false, |t, _| {
        t.client(v4(STRANGER).into());
        let udp = frame::to_vip(v4(STRANGER), 17, &frame::udp_datagram(5000, 53, b"?"));
        t.row("UDP goes by bucket", MINE, &udp, UdpOwn);
        t.row("UDP of others is dropped", GUESTS, &udp, UdpForeign);
        let beat = frame::to_vip(v4(STRANGER), 17, &frame::udp_datagram(5000, BEAT_PORT, b"beat"));
        t.row("a beat goes to the daemon, whoever owns the bucket", NONE, &beat, Beat);
        let fragment = |protocol, word| {
            frame::ethernet(0x0800, &frame::ipv4_fragment(v4(STRANGER), VIP, protocol, word, &[0; 24]))
        };
        t.row("a later fragment goes by bucket", MINE, &fragment(17, 0x2001), FragmentOwn);
        t.row("and to guests, whose datagrams it may complete", GUESTS, &fragment(6, 0x0001), FragmentOwn);
        t.row("but to nobody else", NONE, &fragment(17, 0x00b9), FragmentForeign);
        t.row("a first fragment of UDP goes the way of the rest", MINE, &fragment(17, 0x2000), UdpOwn);
        let mut first_beat = fragment(17, 0x2000);
        first_beat[36..38].copy_from_slice(&BEAT_PORT.to_be_bytes());
        t.row("a fragmented beat is none", NONE, &first_beat, UdpForeign);
        let gre = frame::to_vip(v4(STRANGER), 47, &[0; 8]);
        t.row("any other protocol goes by bucket", MINE, &gre, OtherOwn);
        t.row("and is dropped elsewhere", NONE, &gre, OtherForeign);
    });
}

#[test]
fn what_is_not_ours_and_what_cannot_be_read() {
    with_table(false, |t, _| {
        t.client(v4(STRANGER).into());
        let syn = frame::tcp(v4(STRANGER), 41000, SSH, SYN);
        let other = frame::ethernet(0x0800, &frame::ipv4_fragment(v4(STRANGER), v4(HELD), 6, 0, &[0; 20]));
        t.row("a packet to others passes uncounted", NONE, &other, NotOurs);
        t.row("so does what nobody knows", NONE, &frame::ethernet(0x88b5, &[0; 46]), NotOurs);
        let priority = frame::tagged(&syn, 0x8100, 0xe000);
        t.row("a priority tag changes nothing", MINE, &priority, SynOwn);
        let twice = frame::tagged(&priority, 0x88a8, 0x0000);
        t.row("nor do two", MINE, &twice, SynOwn);
        t.row("three are too many", MINE, &frame::tagged(&twice, 0x8100, 0), NotOurs);
        t.row("another VLAN is its own device's business", MINE, &frame::tagged(&syn, 0x8100, 5), NotOurs);
        t.row("a tag that is cut short is not ours", MINE, &priority[..16], NotOurs);
        // (Untagged, the kernel refuses to test a frame that short.)
        t.row("an IP header that is cut short is not ours", MINE, &priority[..37], NotOurs);
        t.row("TCP without its header is malformed", MINE, &syn[..53], Malformed);
        let mut bad = syn.clone();
        bad[14] = 0x44;
        t.row("an IP header shorter than it can be is malformed", MINE, &bad, Malformed);
        bad[14] = 0x4f;
        t.row("an IP header longer than the packet is malformed", MINE, &bad, Malformed);
        bad[14] = 0x65;
        t.row("a header of another version is malformed", MINE, &bad, Malformed);
        let mut bad = syn.clone();
        bad[46] = 0x40;
        t.row("a TCP header shorter than it can be is malformed", MINE, &bad, Malformed);
        let mut big = syn.clone();
        big[16..18].copy_from_slice(&[0, 0]);
        t.row("a total length of 0 is BIG TCP, not malformed", MINE, &big, SynOwn);
        t.row(
            "UDP without its header is malformed",
            MINE,
            &frame::to_vip(v4(STRANGER), 17, &[0; 7]),
            Malformed,
        );
    });
}

#[test]
fn a_beat_reaches_the_daemon_whole_and_a_full_buffer_is_counted() {
    isolated(|dir: &Path| {
        let kernel: Kernel = kernel(dir);
        let payload: Vec<u8> = (0..700u32).map(|byte| byte as u8).collect();
        let beat = frame::to_vip(v4(STRANGER), 17, &frame::udp_datagram(5000, BEAT_PORT, &payload));
        let before = boot_time_ns();
        let [ingress, ..] = kernel.program_fds();
        test_run(ingress, &beat, 1).unwrap();
        let got = kernel.beats().unwrap().next().unwrap();
        assert_eq!((got.vip, got.address, got.length), (0, 0, beat.len() - 14));
        assert_eq!(got.datagram, beat[14..]);
        assert!((before..=boot_time_ns()).contains(&got.received_ns));
        assert_eq!(kernel.beats().unwrap().next(), None);

        let long = frame::to_vip(v4(STRANGER), 17, &frame::udp_datagram(5000, BEAT_PORT, &[7; 3000]));
        let [ingress, ..] = kernel.program_fds();
        test_run(ingress, &long, 1).unwrap();
        let got = kernel.beats().unwrap().next().unwrap();
        assert_eq!((got.length, got.datagram.len()), (long.len() - 14, 1600));

        let [ingress, ..] = kernel.program_fds();
        test_run(ingress, &beat, 1000).unwrap();
        let counters = kernel.counters().unwrap();
        assert!(counters.of(Reason::BeatLost) > 0);
        let arrived = std::iter::from_fn(|| kernel.beats().unwrap().next()).count() as u64;
        assert_eq!(arrived + counters.of(Reason::BeatLost), 1000);
        let [ingress, ..] = kernel.program_fds();
        test_run(ingress, &beat, 1).unwrap();
        assert!(kernel.beats().unwrap().next().is_some(), "there is room again");
    });
}

#[test]
fn hashing_by_ports_and_networks_chooses_the_bucket_that_the_core_chooses() {
    use onevip_core::{AddressOrder, HashMode};
    let modes = [
        HashMode::SourceIp,
        HashMode::SourceIpPort,
        HashMode::SourceIpPortDestPort,
        HashMode::SourceNet { v4_prefix: 24, v6_prefix: 64 },
        HashMode::SourceNet { v4_prefix: 0, v6_prefix: 0 },
        HashMode::SourceNet { v4_prefix: 32, v6_prefix: 77 },
    ];
    isolated(|dir: &Path| {
        let mut kernel = kernel(dir);
        for mode in modes {
            for order in [AddressOrder::Memory, AddressOrder::Host] {
                for blocks in [None, Some(3), Some(64)] {
                    let hasher = Hasher { mode, seed: 0x1234_5678, order, blocks };
                    let config = onevip_bpf::KernelConfig { vips: vec![common::vip(hasher)] };
                    kernel.set_config(&config).unwrap();
                    for number in 2..80u8 {
                        let last = number / 2;
                        let client: IpAddr = match number % 2 {
                            0 => Ipv4Addr::new(203, 0, 113, last).into(),
                            _ => Ipv6Addr::from_bits(u128::MAX / u128::from(number)).into(),
                        };
                        let port = 1000 + u16::from(last) * 777;
                        let bucket = hasher.bucket(client, port, SSH);
                        kernel.words().set_flags(V, bucket, MINE);
                        let [ingress, ..] = kernel.program_fds();
                        let run = test_run(ingress, &frame::tcp(client, port, SSH, SYN), 1).unwrap();
                        assert_eq!(run.returned, u32::MAX, "{hasher:?} {client}:{port}");
                        kernel.words().set_flags(V, bucket, NONE);
                        let [ingress, ..] = kernel.program_fds();
                        let run = test_run(ingress, &frame::tcp(client, port, SSH, SYN), 1).unwrap();
                        assert_eq!(run.returned, 2, "{hasher:?} {client}:{port}");
                    }
                }
            }
        }
    });
}
