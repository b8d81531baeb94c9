//! The verdict table where a VIP has services of its own: other ways of hashing, and what nobody serves is dropped.

#![allow(clippy::unwrap_used)]

mod common;

use common::frame::{self, ACK, SYN};
use common::host::SSH;
use common::table::*;
use common::{V, VIP, vip, vip_for};
use onevip_bpf::KernelConfig;
use onevip_core::verdict::Reason::*;
use onevip_core::{
    AddressOrder, Answerer, Bucket, HashMode, Hasher, Other, Ports, Selector, Service, Transport,
};
use std::net::{IpAddr, Ipv4Addr};

const DNS: u16 = 53;
const HTTP: u16 = 80;
const UNSERVED: u16 = 2222;

fn config(other: Other, services: Vec<Service>) -> KernelConfig {
    let mut vip = vip(Hasher::DEFAULT);
    vip.selector = Selector { services, other, ..vip.selector };
    KernelConfig { vips: vec![vip] }
}

fn service(transport: Transport, port: u16, mode: HashMode) -> Service {
    Service { transport, ports: port..=port, mode, answerer: Answerer::Bucket, limit: None }
}

/// Both families, with `other = "drop"`.
fn with_tables_that_drop(services: &[Service], test: impl Fn(&mut Table<'_>, bool) + Send + Sync) {
    for v6 in [false, true] {
        with_table_of(&config(Other::Drop, services.to_vec()), v6, |t, _| test(t, v6));
    }
}

#[test]
fn what_nobody_serves_is_dropped() {
    let ssh = service(Transport::Tcp, SSH, HashMode::SourceIp);
    let dns = service(Transport::Udp, DNS, HashMode::SourceIp);
    with_tables_that_drop(&[ssh, dns], |t, v6| {
        let held = t.ip(HELD);
        t.row("a SYN to a service passes", MINE, &frame::tcp(held, 41000, SSH, SYN), SynOwn);
        let syn = frame::tcp(held, 41000, UNSERVED, SYN);
        t.row("a SYN to another port is dropped", MINE, &syn, SynUnserved);
        t.row("by others it always was", NONE, &syn, SynForeign);
        t.row("UDP is another protocol", MINE, &frame::tcp(held, 41000, DNS, SYN), SynUnserved);
        t.row("a session goes on", MINE, &frame::tcp(held, PORT, SSH, ACK), TcpHeld);
        let orphan = frame::tcp(held, 41001, UNSERVED, ACK);
        t.row("an orphan of such a port is not reset", MINE, &orphan, TcpUnserved);
        t.row_again("however often it comes", 30, MINE, &orphan, TcpUnserved);
        t.row("and may still live elsewhere", MINE.with(ELSEWHERE), &orphan, TcpElsewhere);
        let orphan = frame::tcp(held, 41001, SSH, ACK);
        t.row_again("that of a service is", 30, MINE, &orphan, TcpOrphan);
        t.lease(false);
        t.row("a hung node asks for no service", MINE, &syn, SynLapsed);
        t.lease(true);

        let udp = |port| frame::packet(held, vip_for(held), 17, &frame::udp_datagram(5000, port, b"?"));
        t.row("a datagram to a service passes", MINE, &udp(DNS), UdpOwn);
        t.row("to another port it is dropped", MINE, &udp(SSH), UdpUnserved);
        t.row("by others it always was", NONE, &udp(SSH), UdpForeign);
        t.row(
            "other protocols are dropped",
            MINE,
            &frame::packet(held, vip_for(held), 47, &[0; 8]),
            OtherUnserved,
        );
        let echo = frame::icmp(if v6 { 128 } else { 8 }, 0, b"ping");
        let ping = frame::packet(held, vip_for(held), if v6 { 58 } else { 1 }, &echo);
        t.row("ping is a service to whoever looks for a fault", MINE, &ping, IcmpOwn);
    });
}

#[test]
fn a_held_connection_to_a_port_that_is_no_service_goes_on() {
    with_tables_that_drop(&[service(Transport::Tcp, HTTP, HashMode::SourceIp)], |t, _| {
        let held = t.ip(HELD);
        t.row("sshd was a service before a reload", MINE, &frame::tcp(held, PORT, SSH, ACK), TcpHeld);
        t.row("its sessions stay where they are", GUESTS, &frame::tcp(held, PORT, SSH, ACK), TcpHeld);
        t.row("nobody new gets in", MINE, &frame::tcp(held, 41000, SSH, SYN), SynUnserved);
    });
}

#[test]
fn fragments_of_what_nobody_serves_stay_pieces() {
    let dns = service(Transport::Udp, DNS, HashMode::SourceIpPort);
    with_table_of(&config(Other::Drop, vec![dns]), false, |t, _| {
        let IpAddr::V4(client) = t.ip(HELD) else { unreachable!("the table is of IPv4") };
        let fragment = |word, payload: &[u8]| {
            frame::ethernet(0x0800, &frame::ipv4_fragment(client, VIP, 17, word, payload))
        };
        let first = |port| fragment(0x2000, &frame::udp_datagram(5000, port, &[0; 24]));
        t.row("a first fragment meets the bucket of the source alone", MINE, &first(DNS), UdpOwn);
        t.row("it has a port, and that may be nobody's", MINE, &first(SSH), UdpUnserved);
        t.row("later ones meet the same bucket", MINE, &fragment(0x0003, &[0; 24]), FragmentOwn);
        t.row("and have none", NONE, &fragment(0x0003, &[0; 24]), FragmentForeign);
    });
}

#[test]
fn each_service_hashes_in_its_own_way() {
    let net = HashMode::SourceNet { v4_prefix: 20, v6_prefix: 52 };
    let services = vec![
        service(Transport::Tcp, SSH, HashMode::SourceIp),
        service(Transport::Tcp, HTTP, HashMode::SourceIpPort),
        service(Transport::Udp, DNS, HashMode::SourceIpPortDestPort),
        Service { ports: 8000..=8999, ..service(Transport::Tcp, 8000, net) },
    ];
    let config = config(Other::Owner, services);
    let selector = config.vips[0].selector.clone();
    for v6 in [false, true] {
        with_table_of(&config, v6, |t, _| {
            let client = t.ip(STRANGER);
            for (transport, port) in [
                (Transport::Tcp, SSH),
                (Transport::Tcp, HTTP),
                (Transport::Udp, DNS),
                (Transport::Tcp, 8000),
                (Transport::Tcp, 8999),
                (Transport::Tcp, 9000),
                (Transport::Udp, HTTP),
            ] {
                for source in [1024, 5000, 40_000] {
                    let bucket = selector.bucket(client, Some(Ports { transport, source, dest: port }));
                    let (frame, own, foreign) = match transport {
                        Transport::Tcp => (frame::tcp(client, source, port, SYN), SynOwn, SynForeign),
                        Transport::Udp => (
                            frame::packet(
                                client,
                                vip_for(client),
                                17,
                                &frame::udp_datagram(source, port, b"?"),
                            ),
                            UdpOwn,
                            UdpForeign,
                        ),
                    };
                    let name = format!("{transport:?} {source} to {port}");
                    t.in_bucket(bucket);
                    t.row(&name, MINE, &frame, own);
                    t.in_bucket(Bucket::new(bucket.get() ^ 1).unwrap());
                    t.row(&format!("{name} in another bucket"), MINE, &frame, foreign);
                }
            }
        });
    }
}

/// Services of two VIPs lie side by side in the kernel part, and must not be taken for each other's.
#[test]
fn a_service_of_one_vip_is_none_of_another() {
    const SECOND: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 11);
    let mut config = config(Other::Drop, vec![service(Transport::Tcp, SSH, HashMode::SourceIp)]);
    let mut second = vip(Hasher { order: AddressOrder::Host, ..Hasher::DEFAULT });
    second.addresses = vec![SECOND.into()];
    second.cluster_mac = [1, 0, 0x5e, 0x33, 0x64, 0x0b];
    let http = vec![service(Transport::Tcp, HTTP, HashMode::SourceIp)];
    second.selector = Selector { services: http, other: Other::Drop, ..second.selector };
    let bucket_there = second.selector.bucket(Ipv4Addr::new(198, 51, 100, STRANGER).into(), None);
    config.vips.push(second);
    with_table_of(&config, false, |t, _| {
        let IpAddr::V4(client) = t.ip(STRANGER) else { unreachable!("the table is of IPv4") };
        t.client(client.into());
        t.row("SSH at the first", MINE, &frame::tcp(client, 41000, SSH, SYN), SynOwn);
        t.row("HTTP at the first", MINE, &frame::tcp(client, 41000, HTTP, SYN), SynUnserved);
        t.known.kernel.words().set_flags(V + 1, bucket_there, MINE);
        let there = |port| {
            let header = frame::tcp_header(41000, port, SYN, 1, 0);
            frame::ethernet(0x0800, &frame::ipv4_fragment(client, SECOND, 6, 0, &header))
        };
        t.row("SSH at the second", NONE, &there(SSH), SynUnserved);
        t.row("HTTP at the second", NONE, &there(HTTP), SynOwn);
    });
}
