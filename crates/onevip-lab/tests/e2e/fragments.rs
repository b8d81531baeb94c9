//! What was cut in pieces on its way is put together again by one node, and by the right one.

use std::net::{IpAddr, Ipv4Addr};

use onevip_core::Reason;
use onevip_lab::{Host, Lab};

use crate::common::router::{become_router, ip, lead_through, set};
use crate::common::{
    Mode, Session, Watch, bucket, client_of_each_family, in_every_mode, move_bucket, owner, take_over,
    verdicts, wait,
};

in_every_mode!(a_long_ping_is_answered_by_one_node, a_session_in_pieces_outlives_a_move_of_its_bucket);

/// More than any frame carries, less than what two neighbours may lose.
const LONG: &str = "4000";

fn a_long_ping_is_answered_by_one_node(mode: Mode) {
    let lab = mode.lab("e2e-long", 3, 20);
    for client in client_of_each_family(&lab, 2) {
        let count =
            |node| (verdicts(&lab, node, Reason::FragmentOwn), verdicts(&lab, node, Reason::FragmentForeign));
        let before: Vec<_> = (1..=3).map(count).collect();
        let vip = lab.vip_for(client).to_string();
        let words = ["ping", "-n", "-c3", "-i0.2", "-W5", "-s", LONG, "-I", &client.to_string(), &vip];
        let said = lab.exec_ok("client", &words).unwrap();
        assert!(said.contains("3 received") && !said.contains("DUP"), "{client}: {said}");
        for node in 1..=3 {
            let ((own, foreign), (own_before, foreign_before)) = (count(node), before[usize::from(node) - 1]);
            let pieces = (own - own_before, foreign - foreign_before);
            assert_eq!(pieces, if node == 2 { (6, 0) } else { (0, 6) }, "unix{node} of {client}");
        }
    }
}

/// An old client that forbids nothing to routers, and one of those that cuts its packets in pieces (IPv4 alone knows
/// such). The pieces carry no port, so only the bucket can say whose they are: its guests'.
fn a_session_in_pieces_outlives_a_move_of_its_bucket(mode: Mode) {
    let lab = mode.lab("e2e-pieces", 2, 3);
    become_router(&lab);
    set(&lab, Host::Client, &[("ipv4/ip_no_pmtu_disc", "1")]);
    let far = of_unix1(&lab);
    lead_through(&lab, far, None);
    ip(&lab, "client2", &format!("route add {} dev eth0 mtu lock 600", lab.vip_for(far)));

    let mut session = Session::open_beyond(&lab, far);
    assert_eq!(session.host, "unix1");
    assert!(session.echoes_within(20_000, crate::common::PATIENCE));
    let pieces = || verdicts(&lab, 1, Reason::FragmentOwn);
    assert!(pieces() > 20, "{}", pieces());

    let bucket = bucket(&lab, far);
    let (one, two) = (take_over(&lab, 1), take_over(&lab, 2));
    let resets = Watch::resets(&lab);
    move_bucket(bucket, &one, &two);
    let before = pieces();
    assert!(session.echoes_within(20_000, crate::common::PATIENCE));
    wait("pieces that reach the old owner", || pieces() > before + 20);
    assert_eq!(resets.seen(), []);
}

/// An address beyond the router that belongs to unix1.
fn of_unix1(lab: &Lab) -> IpAddr {
    let beyond = |last| IpAddr::from(Ipv4Addr::new(203, 0, 113, last));
    (1..=254).map(beyond).find(|&far| owner(lab, far) == 1).unwrap()
}
