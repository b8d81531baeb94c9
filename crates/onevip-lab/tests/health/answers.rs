//! A node that lets clients in, and whose answers never leave, or whose stack never sees them.

use super::*;

/// A route to nowhere for the way back, as with a default route on another interface, and a strict look at it.
const STRICT: [&str; 6] = [
    "ip link add other type veth peer name other-end",
    "ip link set other up",
    "ip link set other-end up",
    "ip route replace 203.0.113.0/24 dev other",
    "sysctl -qw net.ipv4.conf.all.rp_filter=1",
    "sysctl -qw net.ipv4.conf.eth0.rp_filter=1",
];

fn on(lab: &Lab, host: &str, lines: &[&str]) {
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        lab.exec_ok(host, &words).unwrap();
    }
}

/// Under this fault of node 2, which `ask` provokes answers of, everybody is served elsewhere, and it comes back.
fn a_mute_node_goes_out_and_comes_back(mut testbed: Testbed, fault: &[&str], cure: &[&str], words: &str) {
    on(&testbed.lab, "unix2", fault);
    until(&mut testbed, "node 2 to find itself mute", |testbed| {
        // Neighbours know the VIP for long: whoever asks anew is what this is about.
        on(&testbed.lab, "client", &["ip neigh flush dev eth0"]);
        let clients = testbed.lab.plan().addresses4(Host::Client);
        reached(&testbed.lab, &clients.into_iter().map(IpAddr::V4).collect::<Vec<_>>());
        checked_now(&testbed.lab, 2)["state"] == "out"
    });
    let found = checked_now(&testbed.lab, 2);
    assert!(found["finding"].as_str().unwrap().contains(words), "{found}");
    until_served(&mut testbed, |node| node != 2);
    nobody_lost_a_session(&mut testbed);
    on(&testbed.lab, "unix2", cure);
    until_back(&mut testbed, 2);
    assert_ne!(checked_now(&testbed.lab, 2)["state"], "out");
    nobody_lost_a_session(&mut testbed);
}

/// What the check found, which says nothing as long as nothing was wrong.
fn checked_now(lab: &Lab, node: u8) -> Value {
    let health = health(lab, node);
    let checks = health["checks"].as_array().unwrap();
    checks.iter().find(|one| one["name"] == "answers").cloned().unwrap_or_default()
}

#[test]
fn a_node_told_to_ignore_arp_goes_out() {
    let (fault, cure) =
        (["sysctl -qw net.ipv4.conf.eth0.arp_ignore=8"], ["sysctl -qw net.ipv4.conf.eth0.arp_ignore=0"]);
    a_mute_node_goes_out_and_comes_back(testbed(options("arpign")), &fault, &cure, "ARP requests");
}

#[test]
fn a_node_whose_filter_drops_arp_goes_out() {
    let fault = ["nft add table arp mute { chain in { type filter hook input priority 0; policy drop; }; }"];
    a_mute_node_goes_out_and_comes_back(
        testbed(options("arpnft")),
        &fault,
        &["nft delete table arp mute"],
        "ARP requests",
    );
}

#[test]
fn a_node_whose_filter_drops_syns_of_clients_goes_out() {
    let fault = ["nft add table inet mute { chain in { type filter hook input priority 0; policy accept; \
         iifname \"eth0\" tcp flags & (syn|ack) == syn drop; }; }"];
    a_mute_node_goes_out_and_comes_back(
        testbed(options("synnft")),
        &fault,
        &["nft delete table inet mute"],
        "SYNs of on-link clients",
    );
}

/// `client2` is a router, and `client` has addresses beyond it.
fn lead_through_a_router(lab: &Lab) -> Vec<IpAddr> {
    let far: Vec<Ipv4Addr> = (1..=24).map(|last| Ipv4Addr::new(203, 0, 113, last)).collect();
    let (router, near) = (lab.plan().addresses4(Host::Client2)[0], lab.plan().addresses4(Host::Client)[0]);
    on(
        lab,
        "client2",
        &["sysctl -qw net.ipv4.ip_forward=1", "sysctl -qw net.ipv4.conf.all.send_redirects=0"],
    );
    on(lab, "client2", &["sysctl -qw net.ipv4.conf.eth0.send_redirects=0"]);
    on(lab, "client2", &[&format!("ip route add 203.0.113.0/24 via {near}")]);
    for far in &far {
        on(lab, "client", &[&format!("ip addr add {far}/32 dev eth0")]);
    }
    on(lab, "client", &[&format!("ip route replace {} via {router}", lab.vip()[0])]);
    for node in lab.nodes() {
        on(lab, &node.name(), &[&format!("ip route add 203.0.113.0/24 via {router}")]);
    }
    far.into_iter().map(IpAddr::V4).collect()
}

/// How many of these reach SSH within a second each, all at once.
fn reached(lab: &Lab, far: &[IpAddr]) -> usize {
    let target = std::net::SocketAddr::new(lab.vip()[0], 22);
    std::thread::scope(|scope| {
        let call = |from: &IpAddr| {
            let from = *from;
            let dial = move || onevip_lab::dial::connect_within(from, target, Duration::from_secs(1)).is_ok();
            scope.spawn(move || lab.inside("client", dial).unwrap())
        };
        let calls: Vec<_> = far.iter().map(call).collect();
        calls.into_iter().map(|call| call.join().unwrap()).filter(|reached| *reached).count()
    })
}

#[test]
fn a_node_whose_way_back_to_routed_clients_is_another_goes_out() {
    let lab = Lab::up(options("routed")).unwrap();
    let far = lead_through_a_router(&lab);
    wait_until(PATIENCE, "all to be reached", || reached(&lab, &far) == far.len()).unwrap();
    on(&lab, "unix2", &STRICT);
    assert!(reached(&lab, &far) < far.len(), "clients of node 2 are lost at first");
    wait_until(PATIENCE, "node 2 to find itself mute", || {
        reached(&lab, &far);
        checked_now(&lab, 2)["state"] == "out"
    })
    .unwrap();
    let found = checked_now(&lab, 2)["finding"].to_string();
    assert!(found.contains("SYNs of routed clients"), "{found}");
    wait_until(PATIENCE, "all to be reached elsewhere", || reached(&lab, &far) == far.len()).unwrap();
    let router = lab.plan().addresses4(Host::Client2)[0];
    on(&lab, "unix2", &[&format!("ip route replace 203.0.113.0/24 via {router}")]);
    wait_until(PATIENCE, "node 2 to serve again", || {
        reached(&lab, &far) == far.len() && lab.node(2).claims().is_some_and(|claims| claims > 0)
    })
    .unwrap();
    assert_ne!(checked_now(&lab, 2)["state"], "out");
}
