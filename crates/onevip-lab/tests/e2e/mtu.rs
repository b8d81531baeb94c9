//! Path MTU discovery works: a router's "packet too big" reaches the node that has the session, and no other, whoever
//! owns the router's own bucket.

use std::fs::{self, File};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use onevip_core::Reason;
use onevip_lab::process::run;
use onevip_lab::ssh::Login;
use onevip_lab::{Host, Lab, netns};

use crate::common::{Mode, PATIENCE, in_every_mode, owner, verdicts};

in_every_mode!(a_large_file_comes_through_a_router_with_a_smaller_mtu);

/// What the router's link beyond carries.
const MTU: &str = "1300";
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
        lead_through(&lab, router, far);
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

pub fn address_of(lab: &Lab, host: Host, v6: bool) -> IpAddr {
    if v6 { lab.plan().addresses6(host)[0].into() } else { lab.plan().addresses4(host)[0].into() }
}

/// An address beyond the router, of another bucket's owner than the router's own.
pub fn far_address(lab: &Lab, router: IpAddr) -> IpAddr {
    let beyond = |last: u8| match router {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::new(203, 0, 113, last)),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, last.into()).into(),
    };
    (1..=254).map(beyond).find(|&far| owner(lab, far) != owner(lab, router)).unwrap()
}

/// Lets `client2` forward, and everybody believe in the detour: a redirect would spoil it.
pub fn become_router(lab: &Lab) {
    let set = |host, settings: &'static [(&str, &str)]| {
        let all = move || settings.iter().try_for_each(|(key, value)| netns::sysctl(key, value));
        netns::inside(lab.name(), host, all).unwrap().unwrap();
    };
    let forward = &[
        ("ipv4/ip_forward", "1"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/eth0/send_redirects", "0"),
        ("ipv6/conf/all/forwarding", "1"),
    ];
    let believe = &[
        ("ipv4/conf/all/accept_redirects", "0"),
        ("ipv4/conf/eth0/accept_redirects", "0"),
        ("ipv6/conf/eth0/accept_redirects", "0"),
    ];
    set(Host::Client2, forward);
    for host in lab.plan().node_ids().map(Host::Node).chain([Host::Client]) {
        set(host, believe);
    }
}

/// The way between the VIP and an address of `client` leads through the router, in both directions.
pub fn lead_through(lab: &Lab, router: IpAddr, far: IpAddr) {
    let near = address_of(lab, Host::Client, far.is_ipv6());
    let vip = lab.vip_for(far);
    let ip = |host: &str, words: &str| {
        let words: Vec<&str> = std::iter::once("ip").chain(words.split(' ')).collect();
        lab.exec_ok(host, &words).unwrap();
    };
    let nodad = if far.is_ipv6() { " nodad" } else { "" };
    ip("client", &format!("addr add {far} dev eth0{nodad}"));
    ip("client", &format!("route add {vip} via {router}"));
    ip("client2", &format!("route add {far} via {near} mtu lock {MTU}"));
    for node in lab.nodes() {
        ip(&node.name(), &format!("route add {far} via {router}"));
    }
}
