//! A router that keeps to RFC 1812 3.3.2 and does not believe an answer that names a multicast MAC: with
//! `delivery = "flood"` there is nothing for it to refuse.

use std::net::IpAddr;

use onevip_lab::process::run;
use onevip_lab::ssh::Login;
use onevip_lab::{Host, Lab};

use crate::common::router::{address_of, become_router, lead_through};
use crate::common::{Mode, PATIENCE, all_claim, config, owner};
use crate::mtu::far_address;

/// What such a router drops: ARP messages and neighbour advertisements whose MAC is a group's.
const STRICT: &str = "add table netdev strict { \
    chain in { type filter hook ingress device \"eth0\" priority 0; policy accept; \
    ether type arp @nh,64,8 & 0x01 == 0x01 counter drop; \
    icmpv6 type nd-neighbor-advert @th,208,8 & 0x01 == 0x01 counter drop; }; }";

/// `client2` is the router, and `client` has an address beyond it. Returns the lab and that address.
fn behind_a_strict_router(name: &str, vip_lines: &str, v6: bool) -> (Lab, IpAddr) {
    let options = Mode::Tcx.options(name, 2, 3).config(config(name, 2, vip_lines));
    let lab = Lab::up(options).unwrap();
    all_claim(&lab);
    become_router(&lab);
    lab.exec_ok("client2", &["nft", STRICT]).unwrap();
    let router = address_of(&lab, Host::Client2, v6);
    let far = far_address(&lab, router);
    lead_through(&lab, far, None);
    (lab, far)
}

/// The host on which a login from beyond the router lands.
fn landed(lab: &Lab, far: IpAddr) -> Option<String> {
    let login = format!("{}@{}", Login::of(lab.name()).user, lab.vip_for(far));
    let mut ssh = lab.openssh("ssh", None).unwrap();
    ssh.args(["-o", &format!("BindAddress={far}"), "-o", "ConnectTimeout=5", &login, "hostname"]);
    let output = run(&mut ssh, PATIENCE).unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn refused(lab: &Lab) -> bool {
    let rules = lab.exec_ok("client2", &["nft", "list", "table", "netdev", "strict"]).unwrap();
    rules.lines().any(|line| line.contains("counter packets") && !line.contains("counter packets 0"))
}

#[test]
fn a_strict_router_refuses_multicast_answers_and_believes_flooded_ones() {
    for v6 in [false, true] {
        let (lab, far) = behind_a_strict_router(&format!("e2e-strict{}", u8::from(v6)), "", v6);
        assert_eq!(landed(&lab, far), None);
        assert!(refused(&lab));
        drop(lab);

        let name = format!("e2e-believes{}", u8::from(v6));
        let (lab, far) = behind_a_strict_router(&name, "delivery = \"flood\"", v6);
        assert_eq!(landed(&lab, far), Some(format!("unix{}", owner(&lab, far))));
        assert!(!refused(&lab));
    }
}
