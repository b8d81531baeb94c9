//! Attaching to real interfaces: the programs work there, outlive the process, and come back when taken away.

#![allow(clippy::unwrap_used)]

mod common;

use common::host::{NODE, Wire, veth};
use common::{
    BEAT_PORT, CLUSTER_MAC, V, VIP, VIP6, bucket_of, config, flags, frame, isolated, run, wait_until,
};
use onevip_bpf::{Accelerate, AttachPreference, Kernel, OpenOutcome, TcMode, boot_time_ns};
use onevip_core::{Flags, Reason, checksum};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::{Command, Stdio};

const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 200);

/// A kernel part in force on `node0` that claims the client's bucket.
fn ready(dir: &Path, preference: AttachPreference, accelerate: Accelerate) -> Kernel {
    let (mut kernel, origin) = Kernel::open(dir).unwrap();
    assert_eq!(origin, OpenOutcome::Fresh);
    kernel.set_attach_preference(preference);
    claim(&mut kernel);
    let mode = kernel.attach(NODE, accelerate).unwrap();
    assert_eq!(mode.tc, if preference == AttachPreference::Clsact { TcMode::Clsact } else { TcMode::Tcx });
    assert_eq!(mode.xdp, accelerate);
    kernel
}

fn claim(kernel: &mut Kernel) {
    kernel.set_config(&config()).unwrap();
    kernel.words().set_flags(V, bucket_of(CLIENT), Flags::MINE);
    kernel.words().set_lease_deadline_ns(common::V, boot_time_ns() + 600_000_000_000);
}

fn ways() -> [(AttachPreference, Accelerate); 4] {
    [
        (AttachPreference::Auto, Accelerate::Off),
        (AttachPreference::Clsact, Accelerate::Off),
        (AttachPreference::Auto, Accelerate::Xdp),
        (AttachPreference::Clsact, Accelerate::XdpGeneric),
    ]
}

/// Sends a SYN of a claimed and one of a foreign bucket and checks that each is classified.
fn classifies(kernel: &Kernel, accelerate: Accelerate) {
    let before = kernel.counters().unwrap();
    let foreign = (1..=254)
        .map(|last| Ipv4Addr::new(198, 51, 100, last))
        .find(|client| bucket_of(*client) != bucket_of(CLIENT))
        .unwrap();
    let wire = Wire::open();
    wire.send(&frame::tcp(CLIENT, 40000, 22, frame::SYN));
    wire.send(&frame::tcp(foreign, 40000, 22, frame::SYN));
    wait_until("both SYNs are counted", || {
        let now = kernel.counters().unwrap();
        let foreign_by_xdp = now.xdp_of(Reason::SynForeign) - before.xdp_of(Reason::SynForeign);
        now.ingress_of(Reason::SynOwn) == before.ingress_of(Reason::SynOwn) + 1
            && now.of(Reason::SynForeign) == before.of(Reason::SynForeign) + 1
            && foreign_by_xdp == u64::from(accelerate != Accelerate::Off)
    });
}

#[test]
fn every_way_of_attaching_classifies_packets_outlives_its_process_and_leaves_no_trace() {
    for (preference, accelerate) in ways() {
        isolated(|dir| {
            veth();
            let before = run(&format!("tc qdisc show dev {NODE}"));
            let kernel = ready(dir, preference, accelerate);
            classifies(&kernel, accelerate);

            drop(kernel);
            let view = Kernel::open_pinned(dir).unwrap();
            assert_eq!(view.config(), Some(config()));
            assert_eq!(view.damage(), None);
            assert_eq!(view.attachments().unwrap().len(), 1);
            let counted = view.counters().unwrap().of(Reason::SynOwn);
            Wire::open().send(&frame::tcp(CLIENT, 40001, 22, frame::SYN));
            wait_until("a SYN is counted without a daemon", || {
                view.counters().unwrap().of(Reason::SynOwn) == counted + 1
            });

            let (mut kernel, origin) = Kernel::open(dir).unwrap();
            assert_eq!(origin, OpenOutcome::Adopted);
            assert!(kernel.words().flags(V, bucket_of(CLIENT)).has(Flags::MINE));
            kernel.set_attach_preference(preference);
            kernel.attach(NODE, accelerate).unwrap();
            assert_eq!(kernel.ensure_attached().unwrap(), []);
            classifies(&kernel, accelerate);

            Kernel::detach_and_unpin(dir).unwrap();
            let left: Vec<_> =
                std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.file_name()).collect();
            assert!(left.iter().all(|name| name.to_string_lossy().ends_with(".debug")), "{left:?}");
            assert_eq!(run(&format!("tc qdisc show dev {NODE}")), before);
            assert!(!run(&format!("bpftool net show dev {NODE}")).contains("onevip"));
            Kernel::detach_and_unpin(dir).unwrap();
        });
    }
}

#[test]
fn a_killed_daemon_leaves_everything_attached() {
    for (preference, accelerate) in ways() {
        isolated(|dir| {
            veth();
            let mut daemon = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "attaches_and_waits_to_be_killed", "--ignored", "--nocapture"])
                .env(
                    "ONEVIP_TEST_WAY",
                    ways().iter().position(|way| *way == (preference, accelerate)).unwrap().to_string(),
                )
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(daemon.stdout.take().unwrap()).lines();
            assert!(lines.any(|line| line.unwrap().contains("attached")), "the daemon came up");
            daemon.kill().unwrap();
            daemon.wait().unwrap();
            let view = Kernel::open_pinned(dir).unwrap();
            Wire::open().send(&frame::tcp(CLIENT, 40000, 22, frame::SYN));
            wait_until("a SYN is classified", || view.counters().unwrap().of(Reason::SynOwn) == 1);
        });
    }
}

#[test]
#[ignore = "the other half of a_killed_daemon_leaves_everything_attached, in whose namespaces it runs"]
fn attaches_and_waits_to_be_killed() {
    let way = std::env::var("ONEVIP_TEST_WAY").unwrap().parse::<usize>().unwrap();
    let (preference, accelerate) = ways()[way];
    let _kernel = ready(Path::new("/mnt/onevip"), preference, accelerate);
    println!("attached");
    std::thread::sleep(std::time::Duration::from_secs(60));
}

#[test]
fn headers_that_lie_scattered_in_memory_are_read() {
    isolated(|dir| {
        veth();
        for interface in [NODE, "wire0"] {
            run(&format!("ip link set {interface} mtu 9000"));
        }
        let kernel = ready(dir, AttachPreference::Auto, Accelerate::Off);
        let wire = Wire::open_scattering();
        let mut syn = frame::tcp(CLIENT, 40000, 22, frame::SYN);
        syn.resize(6000, 0);
        wire.send_scattered(&syn);
        let payload: Vec<u8> = (0..5000u32).map(|byte| byte as u8).collect();
        let beat = frame::to_vip(CLIENT, 17, &frame::udp_datagram(5000, BEAT_PORT, &payload));
        wire.send_scattered(&beat);
        let mut got = None;
        wait_until("the beat is there", || {
            got = kernel.beats().unwrap().next();
            got.is_some()
        });
        assert_eq!(got.unwrap().datagram, beat[14..14 + 1600]);
        assert_eq!(kernel.counters().unwrap().of(Reason::SynOwn), 1);
    });
}

#[test]
fn what_is_detached_by_hand_is_put_back() {
    for (preference, accelerate) in ways() {
        isolated(|dir| {
            veth();
            let mut kernel = ready(dir, preference, accelerate);
            if preference == AttachPreference::Clsact {
                run(&format!("tc qdisc del dev {NODE} clsact"));
            } else {
                for pin in std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path()) {
                    let name = pin.file_name().unwrap().to_string_lossy().into_owned();
                    if ["ingress_", "egress_", "xdp"].iter().any(|start| name.starts_with(start)) {
                        run(&format!("bpftool link detach pinned {}", pin.display()));
                    }
                }
            }
            let repairs = kernel.ensure_attached().unwrap();
            assert!(repairs.iter().any(|repair| repair.what == "ingress program"), "{repairs:?}");
            assert_eq!(kernel.ensure_attached().unwrap(), []);
            classifies(&kernel, accelerate);
        });
    }
}

#[test]
fn a_removed_pin_is_put_back() {
    isolated(|dir| {
        veth();
        let mut kernel = ready(dir, AttachPreference::Auto, Accelerate::Off);
        let ifindex = nix::net::if_::if_nametoindex(NODE).unwrap();
        let pin = dir.join(format!("ingress_{ifindex}"));
        std::fs::remove_file(&pin).unwrap();
        assert_eq!(kernel.ensure_attached().unwrap().len(), 1);
        assert!(pin.exists());
    });
}

#[test]
fn an_interface_made_anew_gets_its_programs_back() {
    for (preference, accelerate) in ways() {
        isolated(|dir| {
            veth();
            let mut kernel = ready(dir, preference, accelerate);
            run(&format!("ip link del {NODE}"));
            assert_eq!(kernel.ensure_attached().unwrap(), [], "nothing can be done without an interface");
            veth();
            assert!(!kernel.ensure_attached().unwrap().is_empty());
            assert_eq!(kernel.ensure_attached().unwrap(), []);
            classifies(&kernel, accelerate);
        });
    }
}

#[test]
fn the_guard_puts_the_cluster_mac_into_arp_that_names_the_vip_and_nothing_else() {
    for preference in [AttachPreference::Auto, AttachPreference::Clsact] {
        isolated(|dir| {
            veth();
            run(&format!("ip address add {VIP}/32 dev {NODE}"));
            run(&format!("ip address add 198.51.100.1/24 dev {NODE}"));
            let kernel = ready(dir, preference, Accelerate::Off);
            let wire = Wire::open();
            wire.send(&frame::arp(1, frame::CLIENT_MAC, CLIENT, VIP));
            wire.send(&frame::arp(1, frame::CLIENT_MAC, CLIENT, Ipv4Addr::new(198, 51, 100, 1)));
            let (mut about_vip, mut about_node) = (None, None);
            wait_until("both ARP answers are on the wire", || {
                while let Some(seen) = wire.receive() {
                    if seen.len() >= 42 && seen[12..14] == [8, 6] && seen[20..22] == [0, 2] {
                        let sender =
                            if seen[28..32] == VIP.octets() { &mut about_vip } else { &mut about_node };
                        *sender = Some(seen);
                    }
                }
                about_vip.is_some() && about_node.is_some()
            });
            let (about_vip, about_node) = (about_vip.unwrap(), about_node.unwrap());
            assert_eq!(about_vip[22..28], CLUSTER_MAC);
            assert_eq!(about_vip[6..12], about_node[6..12], "the Ethernet source stays the interface's own");
            assert_eq!(about_node[22..28], about_node[6..12]);
            assert_eq!(kernel.counters().unwrap().guard_rewrote, 1);
        });
    }
}

/// The neighbour message in a frame, when it is one of this kind: Ethernet source, IP source and destination, and the
/// message itself.
fn neighbour_message(frame: &[u8], kind: u8) -> Option<([u8; 6], Ipv6Addr, Ipv6Addr, Vec<u8>)> {
    if frame.len() < 78 || frame[12..14] != [0x86, 0xdd] || frame[20] != 58 || frame[54] != kind {
        return None;
    }
    let address = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
    Some((frame[6..12].try_into().unwrap(), address(22), address(38), frame[54..].to_vec()))
}

#[test]
fn the_guard_puts_the_cluster_mac_into_neighbour_messages_with_a_right_checksum() {
    const NODE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xc8);
    const NOBODY6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xbad);
    for preference in [AttachPreference::Auto, AttachPreference::Clsact] {
        isolated(|dir| {
            veth();
            run(&format!("ip address add {NODE6}/64 dev {NODE} nodad"));
            run(&format!("ip address add {VIP6}/128 dev {NODE} nodad preferred_lft 0"));
            let kernel = ready(dir, preference, Accelerate::Off);
            kernel.words().set_flags(V, bucket_of(CLIENT6), Flags::MINE);
            let wire = Wire::open();
            let whole = |found: &([u8; 6], Ipv6Addr, Ipv6Addr, Vec<u8>)| {
                let (_, source, dest, message) = found;
                assert_eq!(checksum::transport(IpAddr::from(*source), (*dest).into(), 58, message), 0);
            };
            let await_message = |what: &str, kind, target: Ipv6Addr, source: Option<Ipv6Addr>| {
                let mut found = None;
                wait_until(what, || {
                    while let Some(seen) = wire.receive() {
                        found = found.take().or(neighbour_message(&seen, kind).filter(
                            |(_, from, _, message)| {
                                message[8..24] == target.octets()
                                    && source.is_none_or(|source| source == *from)
                            },
                        ));
                    }
                    found.is_some()
                });
                let found = found.unwrap();
                whole(&found);
                found
            };

            let ask = |target: Ipv6Addr, dest: Ipv6Addr| {
                let mut ask = frame::neighbour(135, CLIENT6, dest, target, Some((1, frame::CLIENT_MAC)));
                ask[..6].copy_from_slice(&common::host::mac_of(NODE));
                wire.send(&ask);
                await_message("an advertisement", 136, target, None)
            };
            let (from, _, _, about_vip) = ask(VIP6, frame::solicited_node(VIP6));
            assert_eq!(about_vip[24..], [&[2, 1][..], &CLUSTER_MAC].concat());
            assert_ne!(from, CLUSTER_MAC, "the Ethernet source stays the interface's own");
            let (_, _, _, about_node) = ask(NODE6, frame::solicited_node(NODE6));
            assert_eq!(about_node[24..], [&[2, 1][..], &from].concat(), "the node's own address is its own");
            let (_, _, _, probed) = ask(VIP6, VIP6);
            assert_eq!(probed.len(), 24, "whoever asks the VIP itself knows its MAC, and is not told it");
            let rewritten = kernel.counters().unwrap().guard_rewrote;
            assert_eq!(rewritten, 1);

            // A connection from the VIP makes the stack ask for the other side in the VIP's name.
            let _socket = common::host::begin_connection(VIP6.into(), NOBODY6.into(), 80);
            let (from, _, _, message) = await_message("a solicitation", 135, NOBODY6, Some(VIP6));
            assert_eq!(message[24..26], [1, 1]);
            assert_eq!(message[26..32], CLUSTER_MAC);
            assert_ne!(from, CLUSTER_MAC);
            assert!(kernel.counters().unwrap().guard_rewrote > rewritten);
        });
    }
}

const ROUNDS: u64 = 8;

#[test]
fn programs_are_replaced_under_traffic_without_a_packet_that_meets_none() {
    for (preference, accelerate) in ways() {
        isolated(|dir| {
            veth();
            let mut kernel = ready(dir, preference, accelerate);
            let wire = Wire::open();
            let syn = frame::tcp(CLIENT, 40000, 22, frame::SYN);
            for round in 0..ROUNDS {
                for _ in 0..50 {
                    wire.send(&syn);
                }
                // To the next process, a pinned program that is not there is one of another version.
                std::fs::remove_file(dir.join("program_ingress")).unwrap();
                let (mut next, origin) = Kernel::open(dir).unwrap();
                assert_eq!(origin, OpenOutcome::Upgraded, "round {round}");
                next.set_attach_preference(preference);
                std::thread::scope(|scope| {
                    let sender = scope.spawn(|| (0..200).for_each(|_| wire.send(&syn)));
                    next.attach(NODE, accelerate).unwrap();
                    sender.join().unwrap();
                });
                kernel = next;
            }
            wait_until("every SYN has been classified", || {
                kernel.counters().unwrap().ingress_of(Reason::SynOwn) == ROUNDS * 250
            });
        });
    }
}

#[test]
fn programs_of_others_are_left_alone() {
    isolated(|dir| {
        veth();
        run(&format!("tc qdisc add dev {NODE} clsact"));
        let kernel = ready(dir, AttachPreference::Clsact, Accelerate::Off);
        // Any program will do for somebody else's, as long as it has its own preference.
        let program = dir.join("program_egress");
        let theirs = format!("pref 7 bpf direct-action object-pinned {}", program.display());
        run(&format!("tc filter add dev {NODE} ingress protocol all {theirs}"));
        classifies(&kernel, Accelerate::Off);
        Kernel::detach_and_unpin(dir).unwrap();
        let left = run(&format!("tc filter show dev {NODE} ingress"));
        assert!(left.contains("pref 7") && !left.contains("pref 1 "), "{left}");
    });
}

#[test]
fn flags_are_taken_over_and_may_be_read_by_everybody() {
    isolated(|dir| {
        veth();
        let kernel = ready(dir, AttachPreference::Auto, Accelerate::Off);
        let bucket = bucket_of(CLIENT);
        kernel.words().set_flags(V, bucket, flags(&[Flags::GUESTS, Flags::ELSEWHERE]));
        let view = Kernel::open_pinned(dir).unwrap();
        assert_eq!(view.flags(V, bucket), flags(&[Flags::GUESTS, Flags::ELSEWHERE]));
        assert_eq!(view.lease_deadline_ns(common::V), kernel.words().lease_deadline_ns(common::V));
    });
}
