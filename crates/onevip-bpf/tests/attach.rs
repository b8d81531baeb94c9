//! Attaching to real interfaces: the programs work there, outlive the process, and come back when taken away.

mod common;

use common::{CLUSTER_MAC, V, VIP, bucket_of, config, flags, frame, isolated, run, wait_until};
use onevip_bpf::{Accelerate, AttachPreference, Kernel, Origin, TcMode, boot_time_ns};
use onevip_core::{Flags, Reason};
use std::net::Ipv4Addr;
use std::path::Path;

const NODE: &str = "node0";
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 200);

/// A veth pair: `node0` is the service interface, `wire0` is where the test sends and listens.
fn veth() {
    run(&format!("ip link add {NODE} type veth peer name wire0"));
    run(&format!("ip link set {NODE} up"));
    run("ip link set wire0 up");
}

/// A kernel part in force on `node0` that claims the client's bucket.
fn ready(dir: &Path, preference: AttachPreference, accelerate: Accelerate) -> Kernel {
    let (mut kernel, origin) = Kernel::open(dir).unwrap();
    assert_eq!(origin, Origin::Fresh);
    kernel.set_attach_preference(preference);
    claim(&mut kernel);
    let mode = kernel.attach(NODE, accelerate).unwrap();
    assert_eq!(mode.tc, if preference == AttachPreference::Clsact { TcMode::Clsact } else { TcMode::Tcx });
    assert_eq!(mode.xdp, accelerate);
    kernel
}

fn claim(kernel: &mut Kernel) {
    kernel.set_config(&config()).unwrap();
    kernel.set_flags(V, bucket_of(CLIENT), Flags::MINE);
    kernel.set_lease_deadline_ns(boot_time_ns() + 600_000_000_000);
}

/// Puts a frame onto the wire, towards the node.
struct Wire(std::os::fd::OwnedFd);

impl Wire {
    fn open() -> Self {
        use std::os::fd::{AsRawFd, FromRawFd};
        let all = i32::from(0x0003u16.to_be());
        // SAFETY: plain system call without pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK, all) };
        assert!(fd >= 0);
        // SAFETY: the descriptor is new.
        let socket = unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) };
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: 0x0003u16.to_be(),
            sll_ifindex: nix::net::if_::if_nametoindex("wire0").unwrap() as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: the address is alive and as long as said.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                std::ptr::from_ref(&address).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        assert_eq!(bound, 0);
        Self(socket)
    }

    fn send(&self, frame: &[u8]) {
        assert_eq!(nix::unistd::write(&self.0, frame).unwrap(), frame.len());
    }

    /// The next frame that came from the node, if any is there.
    fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = [0u8; 2048];
        nix::unistd::read(&self.0, &mut buffer).ok().map(|len| buffer[..len].to_vec())
    }
}

fn ways() -> [(AttachPreference, Accelerate); 4] {
    [
        (AttachPreference::Auto, Accelerate::Off),
        (AttachPreference::Clsact, Accelerate::Off),
        (AttachPreference::Auto, Accelerate::Xdp),
        (AttachPreference::Clsact, Accelerate::XdpGeneric),
    ]
}

/// Sends a SYN of a claimed and one of a foreign bucket and checks that each is judged.
fn judges(kernel: &Kernel, accelerate: Accelerate) {
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
fn every_way_of_attaching_judges_packets_outlives_its_process_and_leaves_no_trace() {
    for (preference, accelerate) in ways() {
        isolated(|dir| {
            veth();
            let before = run(&format!("tc qdisc show dev {NODE}"));
            let kernel = ready(dir, preference, accelerate);
            judges(&kernel, accelerate);

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
            assert_eq!(origin, Origin::Adopted);
            assert!(kernel.flags(V, bucket_of(CLIENT)).has(Flags::MINE));
            kernel.set_attach_preference(preference);
            kernel.attach(NODE, accelerate).unwrap();
            assert_eq!(kernel.ensure_attached().unwrap(), []);
            judges(&kernel, accelerate);

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
            judges(&kernel, accelerate);
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
            judges(&kernel, accelerate);
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
                assert_eq!(origin, Origin::Upgraded, "round {round}");
                next.set_attach_preference(preference);
                std::thread::scope(|scope| {
                    let sender = scope.spawn(|| (0..200).for_each(|_| wire.send(&syn)));
                    next.attach(NODE, accelerate).unwrap();
                    sender.join().unwrap();
                });
                kernel = next;
            }
            wait_until("every SYN has been judged", || {
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
        judges(&kernel, Accelerate::Off);
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
        kernel.set_flags(V, bucket, flags(&[Flags::GUESTS, Flags::ELSEWHERE]));
        let view = Kernel::open_pinned(dir).unwrap();
        assert_eq!(view.flags(V, bucket), flags(&[Flags::GUESTS, Flags::ELSEWHERE]));
        assert_eq!(view.lease_deadline_ns(), kernel.lease_deadline_ns());
    });
}
