//! A VIP that is on a node already, or that somebody changes there, is made exactly what it must be: the node answers for
//! it, never speaks as it of its own accord, and nothing of it is left after a teardown.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use onevip_host::address::Address;
use onevip_host::netlink::Netlink;
use onevip_lab::{Lab, netns};

use crate::common::router::ip;
use crate::common::{
    Mode, Session, VIP, VIP6, Watch, all_claim, client_of, client_of_each_family, kill_daemon, onevip, pings,
    wait,
};

/// States in which a VIP may be found, as `ip` brings them about.
const STATES: [&str; 10] = [
    "addr add 198.51.100.10/24 dev eth0",
    "addr add 198.51.100.10/32 dev eth0",
    "addr add 198.51.100.10/32 dev eth0 scope host valid_lft 3600 preferred_lft 3600",
    "addr add 198.51.100.10 peer 192.0.2.1 dev eth0",
    "addr add 198.51.100.10/32 dev lo",
    "addr add 2001:db8::10/64 dev eth0 nodad",
    "addr add 2001:db8::10/128 dev eth0 nodad",
    "addr add 2001:db8::10/128 dev eth0 nodad valid_lft 3600 preferred_lft 0",
    "addr add 2001:db8::10/128 dev eth0 preferred_lft 0",
    "addr add 2001:db8::10/128 dev lo nodad",
];

/// What somebody may do to it while the daemon runs.
const CHANGES: [&str; 5] = [
    "addr change 198.51.100.10/32 dev eth0 valid_lft 3600 preferred_lft 3600",
    "addr add 198.51.100.10/24 dev eth0",
    "addr add 198.51.100.10/32 dev lo",
    "addr change 2001:db8::10/128 dev eth0 valid_lft 3600 preferred_lft 3600",
    "addr add 2001:db8::10/128 dev lo nodad",
];

/// The addresses of a node that are a VIP's, with the names of their interfaces.
fn vips(lab: &Lab) -> Vec<(String, Address)> {
    lab.inside("unix1", || {
        let mut netlink = Netlink::open().unwrap();
        let links = netlink.links().unwrap();
        let name = |index| links.iter().find(|link| link.index == index).unwrap().name.clone();
        let vips = netlink
            .addresses()
            .unwrap()
            .into_iter()
            .filter(|known| [VIP.into(), IpAddr::from(VIP6)].contains(&known.ip));
        vips.map(|vip| (name(vip.link), vip)).collect()
    })
    .unwrap()
}

fn are_right(lab: &Lab) -> bool {
    let vips = vips(lab);
    vips.len() == 2 && vips.iter().all(|(interface, vip)| interface == "eth0" && vip.is_as_vip())
}

/// The address from which the node itself speaks to another one.
fn source_for(lab: &Lab, to: IpAddr) -> IpAddr {
    lab.inside("unix1", || {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect((to, 9)).unwrap();
        socket.local_addr().unwrap().ip()
    })
    .unwrap()
}

fn serves_and_speaks_as_itself(lab: &Lab) {
    for client in client_of_each_family(lab, 1) {
        wait("an answer", || pings(lab, client));
        assert_ne!(source_for(lab, client), lab.vip_for(client));
    }
}

fn has(lab: &Lab, address: &str) -> bool {
    lab.exec_ok("unix1", &["ip", "addr", "show", "dev", "eth0"]).unwrap().contains(address)
}

#[test]
fn a_vip_in_another_state_is_put_right_and_gone_after_teardown() {
    let lab = Lab::up(Mode::Tcx.options("e2e-states", 1, 3).no_onevip()).unwrap();
    for state in STATES {
        ip(&lab, "unix1", state);
        comes_right_and_goes(&lab, state);
    }
    // The node's own address comes after it, and would go along with it.
    ip(&lab, "unix1", "addr del 198.51.100.11/24 dev eth0");
    ip(&lab, "unix1", "addr add 198.51.100.10/24 dev eth0");
    ip(&lab, "unix1", "addr add 198.51.100.11/24 dev eth0");
    comes_right_and_goes(&lab, "before the node's own");
    fails_duplicate_detection(&lab);
    comes_right_and_goes(&lab, "dadfailed");
}

fn comes_right_and_goes(lab: &Lab, state: &str) {
    assert!(!are_right(lab) && vips(lab).len() == 1, "{state}");
    lab.node(1).start_onevip().unwrap();
    all_claim(lab);
    assert!(are_right(lab), "{state}: {:?}", vips(lab));
    serves_and_speaks_as_itself(lab);
    let log = lab.node(1).onevip_log();
    assert!(log.contains("which was there as") && log.contains("teardown"), "{log}");
    lab.node(1).stop_onevip();
    let output = onevip(lab, 1, &["teardown"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("is not put back"), "{state}: {output:?}");
    assert_eq!(vips(lab), [], "{state}");
    assert!(has(lab, "198.51.100.11/24") && has(lab, "2001:db8::11/64"), "{state}");
}

/// Another host has the address while the node asks for it.
fn fails_duplicate_detection(lab: &Lab) {
    let asks = || netns::sysctl("ipv6/conf/eth0/accept_dad", "1");
    lab.inside("unix1", asks).unwrap().unwrap();
    ip(lab, "client2", "addr add 2001:db8::10/128 dev eth0 nodad");
    ip(lab, "unix1", "addr add 2001:db8::10/128 dev eth0");
    wait("duplicate detection to fail", || has(lab, "dadfailed"));
    ip(lab, "client2", "addr del 2001:db8::10/128 dev eth0");
}

#[test]
fn a_vip_that_is_changed_is_put_right_at_once_and_its_sessions_live() {
    let lab = Mode::Tcx.lab("e2e-changed", 2, 20);
    let mut sessions = client_of_each_family(&lab, 1).map(|client| Session::open(&lab, client));
    let resets = Watch::resets(&lab);
    for change in CHANGES {
        assert!(are_right(&lab), "before {change}: {:?}", vips(&lab));
        ip(&lab, "unix1", change);
        wait(&format!("what is as before: {change}"), || are_right(&lab));
        serves_and_speaks_as_itself(&lab);
        assert!(sessions.iter_mut().all(Session::echoes), "{change}");
    }
    let log = lab.node(1).onevip_log();
    assert!(log.matches("it is as it must be again").count() >= CHANGES.len(), "{log}");
    assert_eq!(resets.seen(), []);
}

/// As an earlier release had it: of scope global, in the journal.
#[test]
fn sessions_live_when_a_new_release_makes_an_old_address_right() {
    let lab = Mode::Tcx.lab("e2e-scope", 2, 20);
    let mut session = Session::open(&lab, client_of(&lab, 1));
    let resets = Watch::resets(&lab);
    kill_daemon(&lab, 1);
    ip(&lab, "unix1", "addr del 198.51.100.10/32 dev eth0");
    ip(&lab, "unix1", "addr add 198.51.100.10/32 dev eth0");
    assert!(session.echoes() && !are_right(&lab));
    let (_, longest) = session.while_typing(4000, |_| {
        lab.node(1).start_onevip().unwrap();
        wait("the right scope", || are_right(&lab));
    });
    println!("longest echo while the address was made right: {longest:?}");
    assert!(session.echoes());
    assert_eq!(resets.seen(), []);
    lab.node(1).stop_onevip();
    let said = String::from_utf8(onevip(&lab, 1, &["teardown"]).stdout).unwrap();
    assert!(said.contains("removed address 198.51.100.10 on eth0\n"), "{said}");
    assert_eq!(vips(&lab), []);
}

#[test]
fn a_node_whose_own_address_comes_after_the_vip_speaks_as_itself() {
    let lab = Mode::Tcx.lab("e2e-source", 2, 20);
    let client = client_of(&lab, 1);
    let mut session = Session::open(&lab, client);
    let own: IpAddr = Ipv4Addr::new(198, 51, 100, 11).into();
    // A renewal that flushes the address; a /32 of its own, as some providers have it.
    ip(&lab, "unix1", "addr del 198.51.100.11/24 dev eth0");
    ip(&lab, "unix1", "addr add 198.51.100.11/32 dev eth0");
    ip(&lab, "unix1", "route add 198.51.100.0/24 dev eth0");
    ip(&lab, "unix1", "route add default via 198.51.100.1 dev eth0 onlink");
    for to in [client, "203.0.113.9".parse().unwrap()] {
        assert_eq!(source_for(&lab, to), own, "to {to}");
    }
    assert!(session.echoes());
    // With no address of its own at all it does not borrow the VIP either.
    ip(&lab, "unix1", "addr del 198.51.100.11/32 dev eth0");
    ip(&lab, "unix1", "route replace 198.51.100.0/24 dev eth0");
    assert_ne!(source_for(&lab, client), IpAddr::from(VIP));
}

#[test]
fn a_host_that_may_not_answer_arp_is_refused() {
    let lab = Lab::up(Mode::Tcx.options("e2e-mute", 1, 3).no_onevip()).unwrap();
    for value in ["3", "8"] {
        lab.inside("unix1", || netns::sysctl("ipv4/conf/eth0/arp_ignore", value)).unwrap().unwrap();
        let said = lab.node(1).start_onevip().unwrap_err().to_string();
        let told = format!("net/ipv4/conf/eth0/arp_ignore = {value} keeps this host from answering ARP");
        assert!(said.contains(&told), "{said}");
        assert_eq!(vips(&lab), []);
    }
}
