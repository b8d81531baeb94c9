//! Effects: what came in to open something and what left for it is counted by address and kind of client; sessions are
//! not.

#![allow(clippy::unwrap_used)]

mod common;

use common::frame::{self, ACK, RST, SYN};
use common::host::SSH;
use common::{CLUSTER_MAC, V, VIP, VIP6, config, isolated};
use onevip_bpf::{ClientKind, Effects, Kernel, boot_time_ns, test_run};
use onevip_core::{Bucket, Flags};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ROUTED4: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
const NEAR4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 77);
const NEAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77);
const ROUTED6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 7));

/// A node that claims everything, and knows its networks.
fn node(test: impl FnOnce(&Kernel) + Send) {
    isolated(|dir| {
        let (mut kernel, _) = Kernel::open(dir).unwrap();
        let mut config = config();
        // Whatever came before may be reset at once.
        config.vips[0].orphan_wait_ms = 0;
        kernel.set_config(&config).unwrap();
        kernel.words().set_lease_deadline_ns(V, boot_time_ns() + 600_000_000_000);
        Bucket::all().for_each(|bucket| kernel.words().set_flags(V, bucket, Flags::MINE));
        let networks = ["198.51.100.0/24", "2001:db8::/64", "fe80::/64"].map(|text| text.parse().unwrap());
        assert_eq!(kernel.effects().set_on_link(&networks), 0);
        test(&kernel);
    });
}

fn comes(kernel: &Kernel, frame: &[u8]) {
    test_run(kernel.program_fds()[0], frame, 1).unwrap();
}

fn leaves(kernel: &Kernel, frame: &[u8]) {
    test_run(kernel.program_fds()[1], frame, 1).unwrap();
}

/// Index of the VIP's address of this family in the configuration.
fn index(vip: IpAddr) -> usize {
    config().vips[0].addresses.iter().position(|address| *address == vip).unwrap()
}

fn counted(kernel: &Kernel, vip: IpAddr, kind: ClientKind) -> Effects {
    kernel.effects().read().unwrap().of(index(vip), kind)
}

#[test]
fn syns_and_their_answers_are_counted_by_family_and_kind() {
    node(|kernel| {
        let clients = [
            (IpAddr::V4(VIP), IpAddr::V4(NEAR4), ClientKind::OnLink),
            (IpAddr::V4(VIP), ROUTED4, ClientKind::Routed),
            (IpAddr::V6(VIP6), IpAddr::V6(NEAR6), ClientKind::OnLink),
            (IpAddr::V6(VIP6), "fe80::7".parse().unwrap(), ClientKind::OnLink),
            (IpAddr::V6(VIP6), ROUTED6, ClientKind::Routed),
        ];
        for (vip, client, kind) in clients {
            let before = counted(kernel, vip, kind);
            let leave = |flags| {
                leaves(kernel, &frame::packet(vip, client, 6, &frame::tcp_header(SSH, 41000, flags, 1, 2)));
            };
            comes(kernel, &frame::tcp(client, 41000, SSH, SYN));
            comes(kernel, &frame::tagged(&frame::tcp(client, 41000, SSH, SYN), 0x8100, 0));
            leave(SYN | ACK);
            leave(RST | ACK);
            leave(RST);
            (0..5).for_each(|_| leave(ACK));
            leave(SYN);
            let wanted = Effects {
                syns: before.syns + 2,
                syn_acks: before.syn_acks + 1,
                resets: before.resets + 2,
                ..before
            };
            assert_eq!(counted(kernel, vip, kind), wanted, "{client}");
            let newest = kernel.effects().read().unwrap().newest(index(vip), kind, vip);
            assert_eq!(newest, Some(client));
        }
    });
}

#[test]
fn only_the_port_of_the_service_is_evidence() {
    node(|kernel| {
        kernel.effects().set_port(index(VIP.into()), SSH);
        let leave = |port| {
            leaves(
                kernel,
                &frame::packet(VIP.into(), NEAR4.into(), 6, &frame::tcp_header(port, 41000, SYN | ACK, 1, 2)),
            );
        };
        comes(kernel, &frame::tcp(NEAR4, 41000, 445, SYN));
        leave(445);
        assert_eq!(counted(kernel, VIP.into(), ClientKind::OnLink), Effects::default());
        comes(kernel, &frame::tcp(NEAR4, 41000, SSH, SYN));
        leave(SSH);
        let wanted = Effects { syns: 1, syn_acks: 1, ..Effects::default() };
        assert_eq!(counted(kernel, VIP.into(), ClientKind::OnLink), wanted);
    });
}

#[test]
fn what_is_not_let_in_and_what_others_send_is_not_counted() {
    node(|kernel| {
        Bucket::all().for_each(|bucket| kernel.words().set_flags(V, bucket, Flags::NONE));
        let other = Ipv4Addr::new(198, 51, 100, 11);
        comes(kernel, &frame::tcp(IpAddr::V4(NEAR4), 41000, SSH, SYN));
        comes(kernel, &frame::arp(1, [2; 6], NEAR4, VIP));
        let header = frame::tcp_header(SSH, 41000, SYN | ACK, 1, 2);
        leaves(kernel, &frame::packet(other.into(), NEAR4.into(), 6, &header));
        leaves(kernel, &frame::arp(2, [2; 6], other, NEAR4));
        for vip in [IpAddr::V4(VIP), IpAddr::V6(VIP6)] {
            for kind in ClientKind::ALL {
                assert_eq!(counted(kernel, vip, kind), Effects::default());
            }
        }
    });
}

#[test]
fn questions_of_neighbours_and_their_answers_are_counted() {
    node(|kernel| {
        comes(kernel, &frame::arp(1, [2; 6], NEAR4, VIP));
        leaves(kernel, &frame::arp(2, CLUSTER_MAC, VIP, NEAR4));
        leaves(kernel, &frame::arp(2, [2; 6], VIP, NEAR4));
        leaves(kernel, &frame::arp(2, CLUSTER_MAC, VIP, VIP));
        let four = counted(kernel, VIP.into(), ClientKind::OnLink);
        assert_eq!(
            four,
            Effects { questions: 1, answers: 2, ..Effects::default() },
            "nobody asked for the last"
        );

        let ask = frame::neighbour(135, NEAR6, frame::solicited_node(VIP6), VIP6, Some((1, [2; 6])));
        comes(kernel, &ask);
        let nobody = Ipv6Addr::UNSPECIFIED;
        // Whose answer goes to all, unsolicited.
        comes(kernel, &frame::neighbour(135, nobody, frame::solicited_node(VIP6), VIP6, None));
        let mut answer = frame::neighbour(136, VIP6, NEAR6, VIP6, Some((2, CLUSTER_MAC)));
        let flags = 14 + 40 + 4;
        leaves(kernel, &answer);
        answer[flags] |= 0x40;
        leaves(kernel, &answer);
        let six = counted(kernel, VIP6.into(), ClientKind::OnLink);
        assert_eq!(
            six,
            Effects { questions: 1, answers: 1, ..Effects::default() },
            "only solicited ones count"
        );
    });
}

#[test]
fn an_orphan_is_counted_when_it_is_let_in_to_be_reset() {
    node(|kernel| {
        let orphan = frame::tcp(ROUTED4, 41001, SSH, ACK);
        comes(kernel, &orphan);
        assert_eq!(
            counted(kernel, VIP.into(), ClientKind::Routed).orphans,
            0,
            "the first is only remembered"
        );
        comes(kernel, &orphan);
        assert_eq!(counted(kernel, VIP.into(), ClientKind::Routed).orphans, 1);
    });
}
