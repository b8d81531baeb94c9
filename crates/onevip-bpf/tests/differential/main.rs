//! The programs against the reference: 250,000 generated frames, well-formed, truncated and mutated, through XDP, tc
//! and the reference of onevip-core, with real sockets. tc agrees always, in action and reason; XDP drops exactly what
//! the reference drops.
//!
//! `ONEVIP_SEED=N` replays a run, `ONEVIP_PACKETS=N` changes its length. About half of the frames are IPv6.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod frames;
mod random;
mod world;

use common::host::{Host, SSH};
use common::reference::{Known, all_agree, tc_takes, views};
use common::{VIP, VIP6, isolated};
use frames::{generate, is_ipv6};
use onevip_bpf::{Accelerate, Explainer, Kernel};
use onevip_core::{Prefix, Reason};
use random::Random;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use world::{ALLOWED, ALLOWED6, Memory, World, ban, config, datagram_sockets, shake};

const PACKETS: u64 = 250_000;
/// Flags, lease and memory of SYNs change this often. Fewer than the ring buffer takes beats.
const BATCH: u64 = 250;
/// A new host is made this often: half-open sockets and TIME_WAIT do not live for ever.
const PACKETS_PER_HOST: u64 = 250_000;

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect(name))
}

#[test]
fn the_programs_agree_with_the_reference_on_any_frame() {
    let chosen = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = environment("ONEVIP_SEED").unwrap_or_else(chosen);
    let packets = environment("ONEVIP_PACKETS").unwrap_or(PACKETS);
    println!("replay with ONEVIP_SEED={seed}");
    let (mut random, mut seen, mut v6) = (Random(seed), BTreeMap::new(), 0);
    for start in (0..packets).step_by(PACKETS_PER_HOST as usize) {
        let end = packets.min(start + PACKETS_PER_HOST);
        isolated(|dir| compare(dir, seed, start..end, &mut random, &mut seen, &mut v6));
    }
    println!("{v6} frames of IPv6; {seen:?}");
    assert!(v6 >= packets * 2 / 5);
    for &reason in Reason::ALL {
        // A full buffer and a cookie are rows of the verdict table.
        if ![Reason::BeatLost, Reason::TcpCookie].contains(&reason) {
            assert!(
                seen.get(&reason).is_some_and(|&count| count >= packets / 10_000),
                "hardly any {reason:?}"
            );
        }
    }
}

/// Compares programs and reference on a host of their own.
fn compare(
    dir: &Path,
    seed: u64,
    packets: Range<u64>,
    random: &mut Random,
    seen: &mut BTreeMap<Reason, u64>,
    v6: &mut u64,
) {
    let mut host = Host::new();
    let (mut kernel, _) = Kernel::open(dir).unwrap();
    // Twice, so that it stands in either half once.
    for _ in 0..2 {
        kernel.set_config(&config()).unwrap();
        assert_eq!(kernel.config(), Some(config()), "read back as it was written");
    }
    kernel.attach("lo", Accelerate::Off).unwrap();
    let explainer = Explainer::open(dir).unwrap();
    let mut memory = Memory::open(dir);
    let views = views(&config());
    let world = World::make(&mut host);
    let mut bans_of_kernel = kernel.bans().unwrap();
    let allowed = vec![ALLOWED.parse::<Prefix>().unwrap(), ALLOWED6.parse().unwrap()];
    let mut counts = RefCell::default();
    let (_datagrams, bound) = datagram_sockets();
    for batch in packets.step_by(BATCH as usize) {
        let lease_live = shake(random, &kernel, &mut memory);
        let total_before: u64 = kernel.counters().unwrap().ingress.iter().sum();
        let mut ours = 0;
        let listeners = vec![(VIP.into(), SSH), (VIP6.into(), SSH)];
        let bans = ban(random, &world, &mut bans_of_kernel);
        let known = Known {
            kernel: &kernel,
            explainer: &explainer,
            lease_live,
            sockets: world.sockets(),
            listeners,
            bans,
            allowed: allowed.clone(),
            counts,
            datagram_ports: bound.clone(),
        };
        for number in batch..batch + BATCH {
            let frame = generate(random, &world);
            *v6 += u64::from(is_ipv6(&frame));
            let reason = all_agree(&known, &views, &frame)
                .unwrap_or_else(|error| panic!("ONEVIP_SEED={seed}, packet {number}: {error}"));
            *seen.entry(reason).or_default() += 1;
            ours += u64::from(reason != Reason::NotOurs && tc_takes(&frame));
        }
        counts = known.counts;
        let total: u64 = kernel.counters().unwrap().ingress.iter().sum();
        assert_eq!(total - total_before, ours, "ONEVIP_SEED={seed}: something was counted twice");
        while kernel.beats().unwrap().next().is_some() {}
    }
}
