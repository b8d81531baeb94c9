//! Under a flood of SYNs that nobody means, users still log in: the kernel falls back to SYN cookies, and the ACK that
//! brings one back passes on the node that issued it.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};

use onevip_core::Reason;
use onevip_lab::load::segment::{Segment, flag};
use onevip_lab::wire::Tap;
use onevip_lab::{Host, Lab};

use crate::common::router::{address_of, ip, set};
use crate::common::{Mode, VIP, client_of, in_every_mode, landed, verdicts, wait};

in_every_mode!(users_log_in_during_a_syn_flood);

/// SYNs before the first login: more than the queues of all nodes take together, 128 each with OpenSSH's backlog.
const FIRST: u32 = 3000;
/// SYNs in all, at most; a test that hangs must not fill the world with them.
const MOST: u32 = 60_000;

fn users_log_in_during_a_syn_flood(mode: Mode) {
    let lab = mode.lab("e2e-flood", 3, 20);
    // What answers them goes to a host that forwards nothing, and so is lost: nobody resets, the queues stay full.
    let nowhere = address_of(&lab, Host::Client2, false);
    for node in lab.nodes() {
        ip(&lab, &node.name(), &format!("route add 10.0.0.0/8 via {nowhere}"));
        set(&lab, Host::Node(node.id), &[("ipv4/tcp_syncookies", "1")]);
    }
    let users = [1, 2, 3].map(|node| client_of(&lab, node));
    for user in users {
        assert!(crate::common::pings(&lab, user), "{user} knows where the VIP is");
    }
    let (flood, over) = (Flood::of(&lab), AtomicBool::new(false));
    flood.send(0..FIRST);
    for node in 1..=3 {
        wait("the flood to arrive", || verdicts(&lab, node, Reason::SynOwn) > u64::from(FIRST) / 4);
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let batches = (FIRST..MOST).step_by(100);
            batches
                .take_while(|_| !over.load(Ordering::Relaxed))
                .for_each(|from| flood.send(from..from + 100));
        });
        let story = std::panic::catch_unwind(|| {
            for (user, node) in users.into_iter().zip(1..) {
                let before = verdicts(&lab, node, Reason::TcpCookie);
                assert_eq!(landed(&lab, user), format!("unix{node}"));
                assert!(verdicts(&lab, node, Reason::TcpCookie) > before, "unix{node} used a cookie");
            }
        });
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = story {
            std::panic::resume_unwind(panic);
        }
    });
}

struct Flood {
    tap: Tap,
    to_mac: [u8; 6],
}

impl Flood {
    fn of(lab: &Lab) -> Self {
        let octets = lab.cluster_mac().split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap());
        let to_mac = octets.collect::<Vec<_>>().try_into().unwrap();
        Self { tap: lab.tap("client", "eth0").unwrap(), to_mac }
    }

    /// One SYN each from sources that never come again.
    fn send(&self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            let syn = Segment {
                from_mac: [2, 0, 0, 0, 0x66, 0x66],
                to_mac: self.to_mac,
                from: (Ipv4Addr::from_bits(0x0a00_0000 | number), 1024 + (number % 60_000) as u16),
                to: (VIP, 22),
                seq: number,
                ack: 0,
                flags: flag::SYN,
                data: 0,
            };
            self.tap.send(&syn.frame()).unwrap();
        }
    }
}
