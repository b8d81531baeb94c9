//! Limits through the real programs: rows of the verdict table, and side by side with the rules of iptables that they
//! replace, in the kernel both, over the same packets.

#![allow(clippy::unwrap_used)]

mod common;

use common::frame::{self, ACK, SYN};
use common::host::{Host, SSH};
use common::table::*;
use common::{V, config, isolated};
use onevip_bpf::{Kernel, KernelConfig, boot_time_ns, test_run};
use onevip_core::Prefix;
use onevip_core::limit::{Limit, Refusal};
use onevip_core::verdict::Reason::*;
use onevip_core::{Answerer, Bucket, Flags, HashMode, Service, Transport};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3600);

fn limited(limit: Limit) -> KernelConfig {
    let mut config = config();
    config.vips[0].selector.services = vec![Service {
        transport: Transport::Tcp,
        ports: SSH..=SSH,
        mode: HashMode::SourceIp,
        answerer: Answerer::Bucket,
        limit: Some(limit),
    }];
    config
}

fn limit(burst: u8, window: Duration, counts_refused: bool) -> Limit {
    Limit {
        burst,
        window,
        counts_refused,
        refusal: Refusal::Drop,
        v4_prefix: 32,
        v6_prefix: 64,
        allow: Vec::new(),
    }
}

#[test]
fn a_source_that_opens_too_many_connections_is_refused() {
    for v6 in [false, true] {
        with_table_of(&limited(limit(2, HOUR, true)), v6, |t, _| {
            let syn = |client, port| frame::tcp(ip(v6, client), port, SSH, SYN);
            t.row("the first connection passes", MINE, &syn(HELD, 41000), SynOwn);
            t.row("another node's are not counted here", NONE, &syn(HELD, 41001), SynForeign);
            t.row("the second passes", MINE, &syn(HELD, 41001), SynOwn);
            t.row("the third is one too many", MINE, &syn(HELD, 41002), SynLimited);
            t.row("and so is every other", MINE, &syn(HELD, 41003), SynLimited);
            t.row("sessions go on", MINE, &frame::tcp(t.ip(HELD), PORT, SSH, ACK), TcpHeld);
            t.row("other ports are not limited", MINE, &frame::tcp(t.ip(HELD), 41000, 80, SYN), SynOwn);
            t.client(t.ip(STRANGER));
            let same_network = if v6 { SynLimited } else { SynOwn };
            t.row("a source is an address, of IPv6 a network", MINE, &syn(STRANGER, 41000), same_network);
            let network = if v6 { "2001:db8::/64" } else { "198.51.100.0/24" };
            t.client(t.ip(HELD));
            t.ban(&[(network, 600, 600)]);
            t.row("a ban comes first", MINE, &syn(HELD, 41004), Banned);
        });
    }
}

#[test]
fn those_that_are_allowed_are_not_counted() {
    for v6 in [false, true] {
        let network: Prefix = if v6 { "2001:db8:0:0:a0::/80" } else { "198.51.100.100/30" }.parse().unwrap();
        let rule = Limit { allow: vec![network], ..limit(1, HOUR, true) };
        with_table_of(&limited(rule), v6, |t, _| {
            t.known.allowed = vec![network];
            for port in 41000..41010 {
                let syn = frame::tcp(t.ip(HELD), port, SSH, SYN);
                t.row("whoever is allowed may come as often as it likes", MINE, &syn, SynOwn);
            }
        });
    }
}

#[test]
fn counts_are_listed_and_those_of_another_node_taken_over() {
    isolated(|dir| {
        let (mut kernel, _) = Kernel::open(dir).unwrap();
        let rule = limit(3, HOUR, true);
        kernel.set_config(&limited(rule.clone())).unwrap();
        let sources = kernel.sources();
        for (text, stamps) in [("192.0.2.1", 3u64), ("2001:db8:1:2::/64", 2)] {
            let (source, now) = (text.parse::<Prefix>().unwrap(), boot_time_ns() / 1_000_000);
            // Two of them within one millisecond.
            let early: Vec<u64> = (0..stamps).map(|number| now - 1000 + number / 2).collect();
            sources.merge(1, &source, &early, 5).unwrap();
            sources.merge(1, &source, &early, 1).unwrap();
            let all = sources.list(&[&rule]).unwrap();
            let found = all.iter().find(|counted| counted.source == source).unwrap();
            assert_eq!(
                (&found.stamps_ms, found.refused, found.limit),
                (&early, 6, 1),
                "nothing is counted twice"
            );
            kernel.words().set_lease_deadline_ns(common::V, boot_time_ns() + 600_000_000_000);
            Bucket::all().for_each(|bucket| kernel.words().set_flags(V, bucket, Flags::MINE));
            let [ingress, ..] = kernel.program_fds();
            let syn =
                |port| test_run(ingress, &frame::tcp(source.address(), port, SSH, SYN), 1).unwrap().returned;
            let passed = (0..5).filter(|number| syn(42000 + number) == u32::MAX).count() as u64;
            assert_eq!(passed, 3 - stamps, "{text}: the program found what was taken over");
        }
    });
}

/// One packet after another, at times that both see alike: iptables in this namespace,
/// `--update --seconds 2 --hitcount 2` and `--set`, as in the classic rule with its seven seconds; and the program, by test run.
#[test]
fn it_refuses_exactly_what_the_classic_rules_of_iptables_refuse() {
    const WINDOW: Duration = Duration::from_secs(2);
    isolated(|dir| {
        let host = Host::new();
        let client = Ipv4Addr::new(198, 51, 100, 77);
        let rules = "-m recent --name onevip --rsource";
        common::run("iptables -N PASSED");
        for rule in [
            format!(
                "-A INPUT -p tcp --syn --dport {SSH} {rules} --update --seconds 2 --hitcount 2 -j REJECT"
            ),
            format!("-A INPUT -p tcp --syn --dport {SSH} {rules} --set -j PASSED"),
            // Nothing is opened: only the rules are of interest.
            "-A PASSED -j DROP".to_owned(),
        ] {
            common::run(&format!("iptables {rule}"));
        }
        let passed = || {
            let list = common::run("iptables -L PASSED -v -x -n");
            let line = list.lines().nth(2).unwrap().to_owned();
            line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
        };
        let (mut kernel, _) = Kernel::open(dir).unwrap();
        kernel.set_config(&limited(limit(2, WINDOW, true))).unwrap();
        kernel.words().set_lease_deadline_ns(common::V, boot_time_ns() + 600_000_000_000);
        Bucket::all().for_each(|bucket| kernel.words().set_flags(V, bucket, Flags::MINE));
        let [ingress, ..] = kernel.program_fds();
        // Milliseconds between one SYN and the next: bursts, waits just short of the window and beyond it, and a client
        // that goes on trying, whom `--update` keeps out because it notes refused attempts as well.
        let gaps =
            [0, 300, 300, 2600, 200, 1500, 1500, 1500, 1500, 2600, 100, 1600, 800, 2700, 2300, 2300, 400];
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let begin = Instant::now();
        let mut due = Duration::ZERO;
        for (number, gap) in gaps.into_iter().enumerate() {
            due += Duration::from_millis(gap);
            // Both clocks tick alone; the sequence says when.
            std::thread::sleep(due.saturating_sub(begin.elapsed()));
            let before = passed();
            let port = 43000 + number as u16;
            let syn =
                frame::to_vip(client, 6, &frame::tcp_with_checksum(client.into(), port, SSH, SYN, 1, 0));
            host.deliver(&syn);
            let refused = || common::run("iptables -L INPUT -v -x -n");
            let mut answered = false;
            common::wait_until("iptables has counted the packet", || {
                answered = passed() > before;
                answered || seen(&refused()) > number as u64
            });
            theirs.push(answered);
            ours.push(test_run(ingress, &syn, 1).unwrap().returned == u32::MAX);
        }
        assert_eq!(ours, theirs, "true: passed");
        assert!(ours.contains(&true) && ours.contains(&false));
    });
}

/// How many packets either of the two rules has seen: those of the first that it refused, and those of the second.
fn seen(list: &str) -> u64 {
    list.lines().skip(2).filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok()).sum()
}
