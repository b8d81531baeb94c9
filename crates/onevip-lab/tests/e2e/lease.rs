//! A hung node cannot keep anybody: the kernel part stops claiming by itself when its daemon no longer renews the lease,
//! and goes on holding.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use onevip_core::Reason;
use onevip_lab::{Lab, LabFault};

use crate::common::{
    Mode, Session, VIP, Watch, client_of, in_every_mode, landed, owner, pings, verdicts, wait, words,
};

in_every_mode!(a_daemon_that_is_stopped_or_killed_claims_nothing_any_more);

/// The lease at the default beat: 4 × 50 ms.
const LEASE: Duration = Duration::from_millis(200);

fn a_daemon_that_is_stopped_or_killed_claims_nothing_any_more(mode: Mode) {
    let lab = mode.lab("e2e-lease", 2, 20);
    // The client's first address is the one that asks by ARP, so its owner is the one to suffer.
    let client = lab.clients()[0];
    let (victim, other) = (owner(&lab, client), 3 - owner(&lab, client));
    let mut session = Session::open(&lab, client);
    assert_eq!(session.host, format!("unix{victim}"));
    let resets = Watch::resets(&lab);
    for fault in [LabFault::FreezeOnevip(victim), LabFault::KillOnevip(victim)] {
        let lapsed_before = fallen_silent(&lab, &fault, victim, client);
        assert!(session.echoes(), "{fault}: a session stays");
        assert!(pings(&lab, client_of(&lab, other)), "{fault}: the other node's clients notice nothing");
        lab.heal(None).unwrap();
        wait("the lease to live again", || pings(&lab, client));
        assert_eq!(landed(&lab, client), format!("unix{victim}"), "{fault} healed");
        assert!(verdicts(&lab, victim, Reason::SynLapsed) > lapsed_before);
    }
    assert!(session.echoes());
    assert_eq!(resets.seen(), []);
}

/// Brings the fault about and waits for its consequences: no ARP answer, no echo, no connection. Returns how many SYNs
/// had met a lapsed lease before.
fn fallen_silent(lab: &Lab, fault: &LabFault, victim: u8, client: IpAddr) -> u64 {
    let before = verdicts(lab, victim, Reason::SynLapsed);
    let words = words(lab, victim);
    lab.fault(fault).unwrap();
    let stopped = Instant::now();
    let left = words.lease_deadline_ns(0).saturating_sub(onevip_bpf::boot_time_ns());
    assert!(left <= LEASE.as_nanos() as u64, "{fault}: {left} ns of lease left");
    wait("the lease to run out", || words.lease_deadline_ns(0) < onevip_bpf::boot_time_ns());
    println!("{fault}: silent after {:?}", stopped.elapsed());
    assert_eq!(lab.who_has("client", VIP, LEASE).unwrap(), []);
    assert!(!pings(lab, client));
    let vip = SocketAddr::from((VIP, 22));
    let connected =
        lab.inside("client", || TcpStream::connect_timeout(&vip, Duration::from_secs(1))).unwrap();
    assert_eq!(
        connected.unwrap_err().kind(),
        std::io::ErrorKind::TimedOut,
        "{fault}: silence, not a refusal"
    );
    before
}
