//! Path MTU discovery works: a router's "packet too big" reaches the node that has the session, and no other, whoever
//! owns the router's own bucket.

use std::fs::{self, File};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use onevip_core::Reason;
use onevip_lab::process::run;
use onevip_lab::ssh::Login;
use onevip_lab::{Host, Lab};

use crate::common::router::{address_of, become_router, lead_through};
use crate::common::{Mode, PATIENCE, in_every_mode, owner, verdicts};

in_every_mode!(a_large_file_comes_through_a_router_with_a_smaller_mtu);

/// What the router's link beyond carries.
const MTU: u32 = 1300;
/// Many packets too big for it.
const SIZE: u64 = 4 << 20;

/// `client2` is the router, and `client` has an address beyond it as well, to which only the router knows the way.
fn a_large_file_comes_through_a_router_with_a_smaller_mtu(mode: Mode) {
    let lab = mode.lab("e2e-mtu", 3, 3);
    become_router(&lab);
    let file = lab.dir().join("thesis.tar");
    let mut bytes = Vec::new();
    File::open("/dev/urandom").unwrap().take(SIZE).read_to_end(&mut bytes).unwrap();
    fs::write(&file, &bytes).unwrap();
    for v6 in [false, true] {
        let router = address_of(&lab, Host::Client2, v6);
        let far = far_address(&lab, router);
        lead_through(&lab, far, Some(MTU));
        let holder = owner(&lab, far);
        let before: Vec<_> = (1..=3).map(|node| errors(&lab, node)).collect();

        let got = lab.dir().join("got");
        let (user, vip) = (Login::of(lab.name()).user, lab.vip_for(far));
        let host = if v6 { format!("[{vip}]") } else { vip.to_string() };
        let mut scp = lab.openssh("scp", None).unwrap();
        scp.arg("-q").args(["-o", &format!("BindAddress={far}")]);
        scp.arg(format!("{user}@{host}:{}", file.display())).arg(&got);
        let output = run(&mut scp, PATIENCE).unwrap();
        assert!(output.status.success(), "{far}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(fs::read(&got).unwrap() == bytes, "the file has changed on its way to {far}");

        for node in 1..=3 {
            let ((own, foreign), (own_before, foreign_before)) =
                (errors(&lab, node), before[usize::from(node) - 1]);
            assert_eq!(own > own_before, node == holder, "unix{node} of {far}, which unix{holder} holds");
            assert_eq!(foreign > foreign_before, node != holder, "unix{node} of {far}");
        }
    }
}

fn errors(lab: &Lab, node: u8) -> (u64, u64) {
    (verdicts(lab, node, Reason::IcmpErrorOwn), verdicts(lab, node, Reason::IcmpErrorForeign))
}

/// An address beyond the router, of another bucket's owner than the router's own.
pub fn far_address(lab: &Lab, router: IpAddr) -> IpAddr {
    let beyond = |last: u8| match router {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::new(203, 0, 113, last)),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, last.into()).into(),
    };
    (1..=254).map(beyond).find(|&far| owner(lab, far) != owner(lab, router)).unwrap()
}
