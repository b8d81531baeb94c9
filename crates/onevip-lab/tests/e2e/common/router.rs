//! `client2` as a router between `client` and the VIP.

use std::net::IpAddr;

use onevip_lab::{Host, Lab, netns};

/// The address of a host in a family.
pub fn address_of(lab: &Lab, host: Host, v6: bool) -> IpAddr {
    if v6 { lab.plan().addresses6(host)[0].into() } else { lab.plan().addresses4(host)[0].into() }
}

/// Sets kernel parameters of a host, by their paths below `net`.
pub fn set(lab: &Lab, host: Host, settings: &'static [(&str, &str)]) {
    let all = move || settings.iter().try_for_each(|(key, value)| netns::sysctl(key, value));
    netns::inside(lab.name(), host, all).unwrap().unwrap();
}

/// What `ip` does on a host.
pub fn ip(lab: &Lab, host: &str, words: &str) {
    let words: Vec<&str> = std::iter::once("ip").chain(words.split(' ')).collect();
    lab.exec_ok(host, &words).unwrap();
}

/// Lets `client2` forward, and everybody believe in the detour: a redirect would spoil it.
pub fn become_router(lab: &Lab) {
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
    set(lab, Host::Client2, forward);
    for host in lab.plan().node_ids().map(Host::Node).chain([Host::Client]) {
        set(lab, host, believe);
    }
}

/// The way between the VIP and a new address of `client` leads through the router, in both directions. What the router
/// passes on to `client` is at most `mtu` bytes long.
pub fn lead_through(lab: &Lab, far: IpAddr, mtu: Option<u32>) {
    let (router, near) =
        (address_of(lab, Host::Client2, far.is_ipv6()), address_of(lab, Host::Client, far.is_ipv6()));
    let vip = lab.vip_for(far);
    let nodad = if far.is_ipv6() { " nodad" } else { "" };
    let mtu = mtu.map_or(String::new(), |mtu| format!(" mtu lock {mtu}"));
    ip(lab, "client", &format!("addr add {far} dev eth0{nodad}"));
    ip(lab, "client", &format!("route replace {vip} via {router}"));
    ip(lab, "client2", &format!("route add {far} via {near}{mtu}"));
    for node in lab.nodes() {
        ip(lab, &node.name(), &format!("route add {far} via {router}"));
    }
}
