//! Other programs on the interface: ours come first, whoever else comes; and another onevip's, which are taken off when
//! it is dead and respected when it lives.

#![allow(clippy::unwrap_used)]

mod common;

use common::foreign::{self, EGRESS, INGRESS, NEXT, OK, PIPE, RECLASSIFY};
use common::host::{NODE, Wire, veth};
use common::{CLUSTER_MAC, V, VIP, bucket_of, config, frame, isolated, run, wait_until};
use nix::mount::{MsFlags, mount};
use onevip_bpf::{Accelerate, AttachPreference, Cause, Kernel, Neighbour, OpenOutcome, TcMode, boot_time_ns};
use onevip_core::{Flags, Reason};
use std::net::Ipv4Addr;
use std::path::Path;

const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 200);
const LIVES_NS: u64 = 600_000_000_000;

/// A kernel part on `node0` that claims the client's bucket until a moment of the boot-time clock.
fn open(dir: &Path, preference: AttachPreference) -> Kernel {
    let (mut kernel, origin) = Kernel::open(dir).unwrap();
    assert_eq!(origin, OpenOutcome::Fresh);
    kernel.set_attach_preference(preference);
    kernel.set_config(&config()).unwrap();
    kernel.words().set_flags(V, bucket_of(CLIENT), Flags::MINE);
    kernel.words().set_lease_deadline_ns(V, boot_time_ns() + LIVES_NS);
    kernel
}

fn ready(dir: &Path, preference: AttachPreference) -> Kernel {
    let mut kernel = open(dir, preference);
    kernel.attach(NODE, Accelerate::Off).unwrap();
    kernel
}

/// Whether a SYN is classified at ingress, and an ARP answer guarded at egress.
fn classifies_and_guards(kernel: &Kernel, case: &str) {
    let before = kernel.counters().unwrap();
    let wire = Wire::open();
    wire.send(&frame::tcp(CLIENT, 40000, 22, frame::SYN));
    wire.send(&frame::arp(1, frame::CLIENT_MAC, CLIENT, VIP));
    wait_until(&format!("{case}: a SYN is classified"), || {
        kernel.counters().unwrap().ingress_of(Reason::SynOwn) > before.ingress_of(Reason::SynOwn)
    });
    let mut answer = None;
    wait_until(&format!("{case}: an ARP answer is on the wire"), || {
        while let Some(seen) = wire.receive() {
            let is_answer = seen.len() >= 42 && seen[12..14] == [8, 6] && seen[20..22] == [0, 2];
            answer = answer.take().or(is_answer.then_some(seen));
        }
        answer.is_some()
    });
    assert_eq!(answer.unwrap()[22..28], CLUSTER_MAC, "{case}");
}

fn host() {
    veth();
    run(&format!("ip address add {VIP}/32 dev {NODE}"));
    run(&format!("ip address add 198.51.100.1/24 dev {NODE}"));
}

fn displaced(kernel: &mut Kernel) -> Vec<(&'static str, String)> {
    let repairs = kernel.ensure_attached().unwrap();
    let by = |cause: Cause| match cause {
        Cause::Displaced(Neighbour { name, .. }) => name,
        other => panic!("{other:?}"),
    };
    repairs.into_iter().map(|repair| (repair.what, by(repair.cause))).collect()
}

#[test]
fn a_program_that_is_put_before_ours_comes_after_them_at_the_next_look() {
    for (side, what) in [(INGRESS, "ingress program"), (EGRESS, "egress program")] {
        for answer in [OK, RECLASSIFY, PIPE, 99, NEXT] {
            isolated(|dir| {
                host();
                let mut kernel = ready(dir, AttachPreference::Auto);
                let program = foreign::load("cil_from_netdev", answer);
                let _link = foreign::put_first(&program, side);
                assert_eq!(displaced(&mut kernel), [(what, "cil_from_netdev".to_owned())]);
                assert_eq!(kernel.ensure_attached().unwrap(), []);
                classifies_and_guards(&kernel, &format!("{what}, {answer}"));
                // What is pinned is what is attached: the next daemon keeps it.
                drop(kernel);
                let (mut kernel, origin) = Kernel::open(dir).unwrap();
                assert_eq!(origin, OpenOutcome::Adopted);
                kernel.attach(NODE, Accelerate::Off).unwrap();
                assert_eq!(kernel.ensure_attached().unwrap(), []);
                classifies_and_guards(&kernel, "adopted");
            });
        }
    }
}

#[test]
fn programs_that_were_there_first_come_after_ours() {
    isolated(|dir| {
        host();
        let program = foreign::load("beyla_http", OK);
        let _links = [INGRESS, EGRESS].map(|side| foreign::put_first(&program, side));
        let kernel = ready(dir, AttachPreference::Auto);
        classifies_and_guards(&kernel, "at the first start");
        drop(kernel);
        let _more = {
            let late = foreign::load("late", OK);
            [INGRESS, EGRESS].map(|side| foreign::put_first(&late, side))
        };
        let (mut kernel, _) = Kernel::open(dir).unwrap();
        kernel.attach(NODE, Accelerate::Off).unwrap();
        classifies_and_guards(&kernel, "at a later start");
        let told = displaced(&mut kernel);
        assert_eq!(told, [("egress program", "late".into()), ("ingress program", "late".into())]);
    });
}

#[test]
fn the_first_place_is_taken_back_under_traffic_without_a_packet_that_meets_no_program() {
    isolated(|dir| {
        host();
        let mut kernel = ready(dir, AttachPreference::Auto);
        let next = foreign::load("counts", NEXT);
        let wire = Wire::open();
        let syn = frame::tcp(CLIENT, 40000, 22, frame::SYN);
        let (rounds, each) = (8, 200);
        for _ in 0..rounds {
            let _link = foreign::put_first(&next, INGRESS);
            std::thread::scope(|scope| {
                let sender = scope.spawn(|| (0..each).for_each(|_| wire.send(&syn)));
                assert_eq!(displaced(&mut kernel).len(), 1);
                sender.join().unwrap();
            });
        }
        wait_until("every SYN has been classified, at least once", || {
            kernel.counters().unwrap().ingress_of(Reason::SynOwn) >= rounds * each
        });
    });
}

#[test]
fn whoever_takes_the_first_place_again_and_again_is_named_and_not_fought_for_ever() {
    isolated(|dir| {
        host();
        let mut kernel = ready(dir, AttachPreference::Auto);
        let program = foreign::load("other_first", OK);
        let mut link = foreign::put_first(&program, EGRESS);
        let mut rounds = 0;
        let error = loop {
            match kernel.ensure_attached() {
                Err(error) => break error.to_string(),
                Ok(repairs) => assert_eq!(repairs.len(), 1),
            }
            rounds += 1;
            assert!(rounds < 100);
            drop(link);
            link = foreign::put_first(&program, EGRESS);
        };
        assert!(error.contains("other_first (program ") && error.contains("again and again"), "{error}");
        drop(link);
        let _link = foreign::put_first(&program, EGRESS);
        let fought = foreign::chain_of(EGRESS);
        assert!(kernel.ensure_attached().is_err());
        assert_eq!(foreign::chain_of(EGRESS), fought, "not at every look");
        wait_until("ours is first again", || {
            let _ = kernel.ensure_attached();
            foreign::chain_of(EGRESS)[0] != fought[0]
        });
        classifies_and_guards(&kernel, "between two rounds");
    });
}

#[test]
fn a_filter_that_is_put_before_ours_comes_after_them_at_the_next_look() {
    isolated(|dir| {
        host();
        onevip_bpf::ensure_bpffs(Path::new("/mnt/other")).unwrap();
        foreign::pin(&foreign::load("their_filter", OK), "/mnt/other/theirs");
        let mut kernel = ready(dir, AttachPreference::Clsact);
        for round in ["first", "second"] {
            for (side, what) in [("ingress", "ingress program"), ("egress", "egress program")] {
                // Of several filters of one preference the newest is asked first.
                let theirs = "protocol all pref 1 bpf direct-action object-pinned /mnt/other/theirs";
                run(&format!("tc filter add dev {NODE} {side} {theirs}"));
                let told = displaced(&mut kernel);
                assert_eq!(told.len(), 1, "{told:?}");
                assert_eq!(told[0].0, what);
            }
            assert_eq!(kernel.ensure_attached().unwrap(), []);
            classifies_and_guards(&kernel, round);
        }
        Kernel::detach_and_unpin(dir).unwrap();
        let left = run(&format!("tc filter show dev {NODE} ingress"));
        assert!(!left.contains("onevip") && left.contains("theirs"), "{left}");
    });
}

#[test]
fn where_others_use_tcx_a_filter_would_come_too_late_so_we_do_as_well() {
    isolated(|dir| {
        host();
        let mut kernel = ready(dir, AttachPreference::Clsact);
        let _link = foreign::put_first(&foreign::load("cil_to_netdev", OK), EGRESS);
        assert_eq!(displaced(&mut kernel)[0].1, "cil_to_netdev");
        assert_eq!(kernel.ensure_attached().unwrap(), []);
        classifies_and_guards(&kernel, "moved to tcx");
        assert_eq!(kernel.attached().next().unwrap().1.tc, TcMode::Tcx);
        drop(kernel);
        let (mut kernel, _) = Kernel::open(dir).unwrap();
        kernel.set_attach_preference(AttachPreference::Clsact);
        assert_eq!(kernel.attach(NODE, Accelerate::Off).unwrap().tc, TcMode::Tcx, "from the start");
    });
}

/// Puts the pins of a kernel part out of sight, as a second mount over the run directory does.
fn hide(dir: &Path) {
    mount(Some("bpf"), dir, Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
}

fn ways() -> [(AttachPreference, Accelerate); 4] {
    [
        (AttachPreference::Auto, Accelerate::Off),
        (AttachPreference::Clsact, Accelerate::Off),
        (AttachPreference::Auto, Accelerate::Xdp),
        (AttachPreference::Clsact, Accelerate::XdpGeneric),
    ]
}

#[test]
fn programs_of_a_dead_onevip_whose_pins_are_out_of_sight_are_taken_off() {
    for (preference, accelerate) in ways() {
        for (new_preference, new_accelerate) in [ways()[0], ways()[1], ways()[2]] {
            isolated(|dir| {
                host();
                let mut old = open(dir, preference);
                old.attach(NODE, accelerate).unwrap();
                let lease = boot_time_ns() + 100_000_000;
                old.words().set_lease_deadline_ns(V, lease);
                drop(old);
                hide(dir);
                let case =
                    format!("{preference:?} {accelerate:?}, then {new_preference:?} {new_accelerate:?}");
                let mut kernel = open(dir, new_preference);
                kernel.attach(NODE, new_accelerate).unwrap();
                assert!(boot_time_ns() >= lease, "{case}: a lease is waited for");
                classifies_and_guards(&kernel, &case);
                assert!(
                    kernel.words().flags(V, bucket_of(VIP)).has(Flags::GUESTS),
                    "{case}: sessions live on"
                );
                let told = kernel.ensure_attached().unwrap();
                assert_eq!(told.len(), 1, "{case}: {told:?}");
                assert_eq!(told[0].cause, Cause::LeftBehind);
                assert_eq!(kernel.ensure_attached().unwrap(), []);
            });
        }
    }
}

#[test]
fn the_interface_of_an_onevip_that_lives_is_refused() {
    for (preference, accelerate) in ways() {
        isolated(|dir| {
            host();
            let mut living = open(dir, preference);
            living.attach(NODE, accelerate).unwrap();
            hide(dir);
            let error = open(dir, preference).attach(NODE, Accelerate::Off).unwrap_err().to_string();
            assert!(error.starts_with("another onevip (") && error.contains(NODE), "{error}");
            classifies_and_guards(&living, &format!("{preference:?} {accelerate:?}"));
        });
    }
}
