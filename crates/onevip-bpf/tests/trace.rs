//! Watching decisions, and asking about packets that never were: what is told, what is bounded, and that nothing stays.

#![allow(clippy::unwrap_used)]

mod common;

use common::frame::{self, ACK, SYN};
use common::host::SSH;
use common::reference::kernel;
use common::{V, VIP, bucket_of, isolated};
use onevip_bpf::{
    Accelerate, Explainer, Kernel, Trace, TraceFilter, TracedBy, Tracer, boot_time_ns, test_run,
};
use onevip_core::{Flags, Reason};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 7, 0, 0, 0, 1);
const ENOUGH: u32 = 1000;

fn attached(dir: &Path) -> Kernel {
    let mut kernel = kernel(dir);
    kernel.attach("lo", Accelerate::Off).unwrap();
    kernel
}

/// Through XDP and tc, as on a host that has both.
fn arrives(kernel: &Kernel, frame: &[u8]) {
    let [ingress, _, xdp] = kernel.program_fds();
    if test_run(xdp, frame, 1).unwrap().returned == 2 {
        test_run(ingress, frame, 1).unwrap();
    }
}

fn syn(from: impl Into<IpAddr>) -> Vec<u8> {
    frame::tcp(from, 40_000, SSH, SYN)
}

fn seen(tracer: &mut Tracer) -> Vec<(TracedBy, Reason)> {
    all(tracer).into_iter().map(|trace| (trace.by, trace.reason)).collect()
}

fn all(tracer: &mut Tracer) -> Vec<Trace> {
    std::iter::from_fn(|| tracer.next()).collect()
}

#[test]
fn every_decision_is_told_once_with_the_frame_it_is_about() {
    isolated(|dir| {
        let kernel = attached(dir);
        kernel.words().set_flags(V, bucket_of(CLIENT), Flags::MINE);
        let mut tracer = Tracer::begin(dir, None, ENOUGH).unwrap();
        let before = boot_time_ns();
        arrives(&kernel, &syn(CLIENT));
        arrives(&kernel, &frame::tcp(OTHER, 40_000, SSH, ACK));
        arrives(&kernel, &frame::packet(OTHER.into(), CLIENT.into(), 6, &[0; 20]));
        let told = all(&mut tracer);
        let [own, foreign] = told.as_slice() else { panic!("{told:#?}") };
        assert_eq!((own.by, own.reason), (TracedBy::Ingress, Reason::SynOwn));
        assert_eq!(own.frame, syn(CLIENT));
        assert_eq!(own.length, own.frame.len());
        assert!((before..boot_time_ns()).contains(&own.time_ns));
        assert_eq!((foreign.by, foreign.reason), (TracedBy::Xdp, Reason::TcpForeign));
        assert_eq!(foreign.frame, frame::tcp(OTHER, 40_000, SSH, ACK));
        // Without XDP in front, the authority tells of both.
        test_run(kernel.program_fds()[0], &foreign.frame, 1).unwrap();
        assert_eq!(seen(&mut tracer), [(TracedBy::Ingress, Reason::TcpForeign)]);
        let long = frame::to_vip(OTHER, 17, &frame::udp_datagram(9, 9, &[7; 1000]));
        arrives(&kernel, &long);
        let told = all(&mut tracer);
        assert_eq!((told[0].length, &told[0].frame[..]), (long.len(), &long[..192]));
        assert_eq!(tracer.lost(), 0);
    });
}

#[test]
fn a_prefix_chooses_by_source_and_by_the_client_that_an_error_is_about() {
    isolated(|dir| {
        let kernel = attached(dir);
        let count = |filter: (&str, u8), frame: &[u8]| {
            let filter = TraceFilter { prefix: filter.0.parse().unwrap(), bits: filter.1 };
            let mut tracer = Tracer::begin(dir, Some(filter), ENOUGH).unwrap();
            arrives(&kernel, frame);
            seen(&mut tracer).len()
        };
        for (filter, hits) in [
            (("203.0.113.7", 32), 1),
            (("203.0.113.0", 24), 1),
            (("203.0.113.99", 24), 1),
            (("203.0.113.8", 32), 0),
            (("0.0.0.0", 0), 1),
            (("::", 0), 0),
        ] {
            assert_eq!(count(filter, &syn(CLIENT)), hits, "{filter:?}");
            assert_eq!(count(filter, &frame::arp(1, frame::CLIENT_MAC, CLIENT, VIP)), hits, "{filter:?}");
            let tagged = frame::tagged(&frame::tagged(&syn(CLIENT), 0x88a8, 0), 0x8100, 0);
            assert_eq!(count(filter, &tagged), hits, "{filter:?}");
        }
        for (filter, hits) in [(("2001:db8:0:7::", 64), 1), (("2001:db8:0:8::", 64), 0), (("::", 0), 1)] {
            assert_eq!(count(filter, &syn(CLIENT6)), hits, "{filter:?}");
        }
        // A router complains about what the VIP sent to the client.
        let quoted = frame::ipv4_fragment(VIP, CLIENT, 6, 0, &frame::tcp_header(SSH, 40_000, ACK, 1, 1));
        let error = frame::to_vip(OTHER, 1, &frame::icmp(3, 4, &quoted));
        assert_eq!(count(("203.0.113.7", 32), &error), 1);
        assert_eq!(count(("203.0.113.8", 32), &error), 0);
    });
}

#[test]
fn what_is_too_much_is_counted_instead() {
    isolated(|dir| {
        let kernel = attached(dir);
        let mut tracer = Tracer::begin(dir, None, 10).unwrap();
        for _ in 0..100 {
            arrives(&kernel, &syn(CLIENT));
        }
        let told = seen(&mut tracer).len() as u64;
        // A window may end in between.
        assert!((10..=20).contains(&told), "{told}");
        assert_eq!(tracer.lost(), 100 - told);
        assert_eq!(tracer.lost(), 0);
        // Nor does a ring that nobody reads hold anybody up.
        let mut tracer = Tracer::begin(dir, None, u32::MAX).unwrap();
        for _ in 0..5000 {
            arrives(&kernel, &syn(CLIENT));
        }
        let told = seen(&mut tracer).len() as u64;
        assert!((1000..4000).contains(&told), "{told}");
        assert_eq!(tracer.lost(), 5000 - told);
    });
}

#[test]
fn nothing_is_told_when_the_tracer_has_gone_however_it_went() {
    isolated(|dir| {
        let kernel = attached(dir);
        arrives(&kernel, &syn(CLIENT));
        drop(Tracer::begin(dir, None, ENOUGH).unwrap());
        arrives(&kernel, &syn(CLIENT));
        let mut tracer = Tracer::begin(dir, None, ENOUGH).unwrap();
        assert_eq!(seen(&mut tracer), []);
        // One that is killed says no good-bye; its time runs out.
        tracer.run_out();
        arrives(&kernel, &syn(CLIENT));
        assert_eq!(seen(&mut tracer), []);
        assert!(!tracer.is_on(), "the first packet after its time wipes the word");
        assert!(tracer.renew());
        arrives(&kernel, &syn(CLIENT));
        assert_eq!(seen(&mut tracer).len(), 1);
        std::mem::forget(tracer);
        assert_eq!(kernel.config(), Some(common::config()), "tracing is no part of the configuration");
    });
}

/// A reload of the daemon writes the half that is not in force, which no longer says that somebody watches.
#[test]
fn a_new_configuration_blinds_the_tracer_only_until_it_renews() {
    isolated(|dir| {
        let mut kernel = attached(dir);
        let mut tracer = Tracer::begin(dir, None, ENOUGH).unwrap();
        kernel.set_config(&common::config()).unwrap();
        assert!(tracer.renew());
        arrives(&kernel, &syn(CLIENT));
        assert_eq!(seen(&mut tracer).len(), 1);
        drop(tracer);
        Kernel::detach_and_unpin(dir).unwrap();
        assert!(Tracer::begin(dir, None, ENOUGH).is_err());
    });
}

#[test]
fn an_explanation_leaves_no_trace() {
    isolated(|dir| {
        let kernel = attached(dir);
        let (words, bucket) = (kernel.words(), bucket_of(CLIENT));
        words.set_flags(V, bucket, Flags::MINE);
        let before = kernel.counters().unwrap();
        let explainer = Explainer::open(dir).unwrap();
        let mut tracer = Tracer::begin(dir, None, ENOUGH).unwrap();
        assert_eq!(explainer.ask(&syn(CLIENT)).unwrap(), Reason::SynOwn);
        assert_eq!(words.last_syn_ns(V, bucket), 0);
        // Asked as often as you like, an orphan stays at its first try.
        for _ in 0..3 {
            let orphan = frame::tcp(CLIENT, 40_000, SSH, ACK);
            assert_eq!(explainer.ask(&orphan).unwrap(), Reason::TcpOrphanFirst);
        }
        let orphans = onevip_bpf::layout::ORPHANS;
        let map = aya::maps::MapData::from_pin(dir.join("orphans")).unwrap();
        let map: aya::maps::Array<_, [u64; onevip_bpf::layout::ORPHANS]> =
            aya::maps::Array::try_from(aya::maps::Map::Array(map)).unwrap();
        assert_eq!(map.get(&0, 0).unwrap().iter().filter(|&&word| word == 0).count(), orphans);
        let beat = frame::to_vip(CLIENT, 17, &frame::udp_datagram(9, common::BEAT_PORT, b"beat"));
        assert_eq!(explainer.ask(&beat).unwrap(), Reason::Beat);
        assert!(kernel.beats().unwrap().next().is_none());
        assert_eq!(kernel.counters().unwrap(), before);
        assert_eq!(seen(&mut tracer), []);
        // It knows of everything that the authority knows.
        words.set_lease_deadline_ns(V, 0);
        assert_eq!(explainer.ask(&syn(CLIENT)).unwrap(), Reason::SynLapsed);
        words.set_flags(V, bucket, Flags::NONE);
        assert_eq!(explainer.ask(&syn(CLIENT)).unwrap(), Reason::SynForeign);
        // The check of peers notes the segments that are real, and no others.
        let noted = || common::run(&format!("bpftool map dump pinned {}", dir.join("witness").display()));
        let nothing = noted();
        words.set_flags(V, bucket, Flags::SAMPLED);
        assert_eq!(explainer.ask(&syn(CLIENT)).unwrap(), Reason::SynForeign);
        assert_eq!(noted(), nothing);
        test_run(kernel.program_fds()[0], &syn(CLIENT), 1).unwrap();
        assert_ne!(noted(), nothing);
    });
}
