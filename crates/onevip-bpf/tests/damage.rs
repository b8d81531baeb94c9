//! Pins that cannot be trusted: damaged ones are rebuilt without touching anybody else's, foreign ones are refused.

#![allow(clippy::unwrap_used)]

mod common;

use aya::maps::{Array, Map, MapData};
use common::host::{NODE, Wire, veth};
use common::reference::{kernel, renew};
use common::{V, bucket_of, config, frame, isolated, run, wait_until};
use onevip_bpf::layout::{RawAddress, RawConfig, RawSettings, VIPS_MAX, WORDS};
use onevip_bpf::{Accelerate, Error, Kernel, OpenOutcome, boot_time_ns};
use onevip_core::{Flags, Reason};
use std::mem::{offset_of, size_of};
use std::net::Ipv4Addr;
use std::path::Path;

const CONFIG_BYTES: usize = size_of::<RawConfig>();
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 200);

/// A kernel part in force on `node0`, whose daemon is gone.
fn left_behind(dir: &Path) {
    veth();
    let mut kernel = kernel(dir);
    kernel.words().set_flags(V, bucket_of(CLIENT), Flags::MINE);
    kernel.attach(NODE, Accelerate::Off).unwrap();
}

fn word<T: aya::Pod>(dir: &Path, map: &str) -> Array<MapData, T> {
    Array::try_from(Map::Array(MapData::from_pin(dir.join(map)).unwrap())).unwrap()
}

/// One way of damaging a pin, and what the next daemon says about it.
struct Damage {
    what: &'static str,
    make: fn(&Path),
    why: &'static str,
}

const DAMAGES: &[Damage] = &[
    Damage {
        what: "a flag bit that has no meaning",
        make: |dir| {
            let mut words = [0; WORDS];
            words[1030] = 0x100;
            word::<[u32; WORDS]>(dir, "flags").set(0, words, 0).unwrap();
        },
        why: "flags of VIP 1, bucket 6 are 0x100",
    },
    Damage {
        what: "a lease for years",
        make: |dir| word::<[u64; VIPS_MAX]>(dir, "lease").set(0, [0, u64::MAX, 0, 0, 0, 0, 0, 0], 0).unwrap(),
        why: "lease runs for another",
    },
    Damage {
        what: "a configuration overwritten with garbage",
        make: |dir| word::<[u8; CONFIG_BYTES]>(dir, "config").set(0, [0xaa; CONFIG_BYTES], 0).unwrap(),
        why: "config begins with 0xaaaaaaaa",
    },
    Damage {
        what: "one changed byte of the configuration",
        make: |dir| {
            let mut map = word::<[u8; CONFIG_BYTES]>(dir, "config");
            let mut bytes = map.get(&0, 0).unwrap();
            // An address of the half in force.
            let half = offset_of!(RawConfig, halves) + usize::from(bytes[8]) * size_of::<RawSettings>();
            bytes[half + offset_of!(RawSettings, addresses) + offset_of!(RawAddress, words)] ^= 1;
            map.set(0, bytes, 0).unwrap();
        },
        why: "wrong checksum",
    },
    Damage {
        what: "a configuration of another layout",
        make: |dir| {
            let mut map = word::<[u8; CONFIG_BYTES]>(dir, "config");
            let mut bytes = map.get(&0, 0).unwrap();
            bytes[4] = 99;
            map.set(0, bytes, 0).unwrap();
        },
        why: "config has layout 99",
    },
    Damage {
        what: "a missing map",
        make: |dir| std::fs::remove_file(dir.join("last_syn")).unwrap(),
        why: "last_syn missing",
    },
    Damage {
        what: "a map of another size",
        make: |dir| {
            let path = dir.join("flags");
            std::fs::remove_file(&path).unwrap();
            let kind = "type array key 4 value 4 entries 16 name onevip_flags";
            run(&format!("bpftool map create {} {kind}", path.display()));
        },
        why: "flags has another layout",
    },
    Damage {
        what: "all maps unpinned under attached programs",
        make: |dir| {
            for pin in std::fs::read_dir(dir).unwrap() {
                let path = pin.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap();
                // Programs are pinned by this name, links with the number of an interface; what has a dot is the
                // kernel's.
                let number = name.rsplit_once('_').is_some_and(|(_, end)| end.parse::<u32>().is_ok());
                if !number && !name.starts_with("program_") && !name.contains('.') {
                    std::fs::remove_file(path).unwrap();
                }
            }
        },
        why: "their maps are not pinned",
    },
];

#[test]
fn damaged_pins_are_rebuilt_in_one_step_and_sessions_live_on() {
    for damage in DAMAGES {
        isolated(|dir| {
            left_behind(dir);
            (damage.make)(dir);
            let (mut kernel, origin) = Kernel::open(dir).unwrap();
            match &origin {
                OpenOutcome::Rebuilt { why } => assert!(why.contains(damage.why), "{}: {why}", damage.what),
                other => panic!("{}: {other:?}", damage.what),
            }
            let flags = kernel.words().flags(V, bucket_of(CLIENT));
            assert_eq!(
                flags,
                Flags::GUESTS,
                "{}: every session is looked for until a scan has run",
                damage.what
            );
            kernel.set_config(&config()).unwrap();
            kernel.words().set_flags(V, bucket_of(CLIENT), Flags::MINE);
            renew(&kernel);
            kernel.attach(NODE, Accelerate::Off).unwrap();
            Wire::open().send(&frame::tcp(CLIENT, 40000, 22, frame::SYN));
            wait_until("the new program counts in the new map", || {
                kernel.counters().unwrap().of(Reason::SynOwn) == 1
            });
            drop(kernel);
            assert_eq!(Kernel::open(dir).unwrap().1, OpenOutcome::Adopted, "{}", damage.what);
        });
    }
}

#[test]
fn nothing_changes_on_the_interface_before_the_caller_is_ready() {
    isolated(|dir| {
        left_behind(dir);
        word::<[u64; VIPS_MAX]>(dir, "lease").set(0, [0, u64::MAX, 0, 0, 0, 0, 0, 0], 0).unwrap();
        let before = run(&format!("bpftool net show dev {NODE}"));
        let (_kernel, _) = Kernel::open(dir).unwrap();
        assert_eq!(run(&format!("bpftool net show dev {NODE}")), before);
    });
}

#[test]
fn pins_of_others_are_refused_by_name_and_left_alone() {
    isolated(|dir| {
        let map = "type array key 4 value 4 entries 1 name theirs";
        for name in ["flags", "something"] {
            let path = dir.join(name);
            run(&format!("bpftool map create {} {map}", path.display()));
            let error = Kernel::open(dir).err().unwrap();
            assert!(matches!(error, Error::ForeignPin { .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains(&path.display().to_string()) && text.contains("move it away"), "{text}");
            assert!(path.exists());
            std::fs::remove_file(path).unwrap();
        }
        Kernel::open(dir).unwrap();
    });
}

#[test]
fn without_a_bpffs_the_message_says_how_to_get_one() {
    let error = Kernel::open(Path::new("/tmp")).err().unwrap().to_string();
    assert!(error.contains("mount -t bpf bpf /tmp"), "{error}");
}

#[test]
fn a_view_of_nothing_says_so() {
    isolated(|dir| {
        let error = Kernel::open_pinned(dir).err().unwrap().to_string();
        assert!(error.contains("onevip run"), "{error}");
    });
}

#[test]
fn an_unknown_interface_is_named_beside_those_there_are() {
    isolated(|dir| {
        veth();
        let error = kernel(dir).attach("eth7", Accelerate::Off).unwrap_err().to_string();
        assert!(error.contains("eth7") && error.contains(NODE), "{error}");
    });
}

#[test]
fn teardown_tolerates_half_missing_pins() {
    isolated(|dir| {
        left_behind(dir);
        std::fs::remove_file(dir.join("flags")).unwrap();
        std::fs::remove_file(dir.join("program_egress")).unwrap();
        Kernel::detach_and_unpin(dir).unwrap();
        assert!(!run(&format!("bpftool net show dev {NODE}")).contains("onevip"));
        Kernel::detach_and_unpin(Path::new("/mnt/nowhere")).unwrap();
    });
}

#[test]
fn a_lease_that_ran_out_long_ago_is_no_damage() {
    isolated(|dir| {
        left_behind(dir);
        word::<[u64; VIPS_MAX]>(dir, "lease").set(0, [boot_time_ns() / 2; VIPS_MAX], 0).unwrap();
        assert_eq!(Kernel::open(dir).unwrap().1, OpenOutcome::Adopted);
    });
}

#[test]
fn another_xdp_program_is_named_as_what_is_in_the_way() {
    isolated(|dir| {
        left_behind(dir);
        let program = dir.join("program_xdp");
        run(&format!("ip link set dev {NODE} xdp pinned {}", program.display()));
        let error = Kernel::open(dir).unwrap().0.attach(NODE, Accelerate::Xdp).unwrap_err().to_string();
        assert!(error.contains("another XDP program") && error.contains("xdp off"), "{error}");
    });
}
