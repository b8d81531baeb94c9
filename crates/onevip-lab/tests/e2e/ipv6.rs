//! What only IPv6 has: neighbour messages with checksums, and source addresses that the kernel chooses.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

use onevip_lab::neighbour::NdMessage;
use onevip_lab::plan::LabPlan;
use onevip_lab::{Host, Lab, netns};

use crate::common::{
    CLUSTER_MAC, Mode, VIP6, Watch, client_of_each_family, in_every_mode, kill_daemon, onevip, pings, wait,
};

in_every_mode!(no_neighbour_message_binds_the_vip_to_a_nodes_own_mac);

fn no_neighbour_message_binds_the_vip_to_a_nodes_own_mac(mode: Mode) {
    let lab = Lab::up(mode.options("e2e-nd", 2, 20).no_onevip()).unwrap();
    // Everything that the nodes send, from before the daemons start until one has been torn down.
    let watches = ["unix1", "unix2"].map(|port| Watch::neighbour_announcements(&lab, "switch", port));
    lab.start_onevip().unwrap();
    clients_ask(&lab);
    asks_with_the_vip_as_its_own(&lab, &watches[0]);
    announces_itself(&lab, &watches[0]);

    kill_daemon(&lab, 1);
    lab.node(1).start_onevip().unwrap();
    clients_ask(&lab);
    lab.node(1).stop_onevip();
    assert!(onevip(&lab, 1, &["teardown"]).status.success());

    let seen: Vec<NdMessage> = watches.into_iter().flat_map(Watch::seen).collect();
    let is_right = |m: &NdMessage| m.is_whole && m.link_address.as_deref() == Some(CLUSTER_MAC);
    let wrong: Vec<_> = seen.iter().filter(|message| !is_right(message)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen.iter().filter(|message| message.is_answer).count() >= 3, "{seen:#?}");
}

/// Clients forget where the VIP is and ask, an address of each node.
fn clients_ask(lab: &Lab) {
    for node in [1, 2] {
        let [_, client] = client_of_each_family(lab, node);
        lab.exec_ok("client", &["ip", "-6", "neigh", "flush", "dev", "eth0"]).unwrap();
        wait("an answer", || pings(lab, client));
    }
}

/// A node that has forgotten where a client is asks for it in the VIP's name, because it answers in that name. IPv4 has a
/// setting against that; IPv6 has none, so the guard must see to it.
fn asks_with_the_vip_as_its_own(lab: &Lab, watch: &Watch<NdMessage>) {
    let [_, client] = client_of_each_family(lab, 1);
    wait("a solicitation in the VIP's name", || {
        lab.exec_ok("unix1", &["ip", "-6", "neigh", "flush", "dev", "eth0"]).unwrap();
        let words = ["ping", "-n", "-c1", "-W1", "-I", &VIP6.to_string(), &client.to_string()];
        lab.exec("unix1", &words).unwrap();
        watch.so_far(|seen| seen.iter().any(|m| !m.is_answer && m.source == VIP6))
    });
}

/// A node whose kernel is told to announce its addresses when its MAC changes, even to what it was.
fn announces_itself(lab: &Lab, watch: &Watch<NdMessage>) {
    netns::inside(lab.name(), Host::Node(1), || netns::sysctl("ipv6/conf/eth0/ndisc_notify", "1"))
        .unwrap()
        .unwrap();
    wait("an announcement that nobody asked for", || {
        let mac = LabPlan::mac(Host::Node(1));
        lab.exec_ok("unix1", &["ip", "link", "set", "dev", "eth0", "address", &mac]).unwrap();
        watch.so_far(|seen| seen.iter().any(|m| m.is_answer && m.destination.is_multicast()))
    });
}

#[test]
fn the_vip_is_never_chosen_as_a_source() {
    let lab = Mode::Tcx.lab("e2e-source", 1, 3);
    let router = lab.plan().addresses6(Host::Client2)[0];
    lab.exec_ok("unix1", &["ip", "-6", "route", "add", "default", "via", &router.to_string()]).unwrap();
    let own: IpAddr = lab.plan().addresses6(Host::Node(1))[0].into();
    let chosen = |dest: Ipv6Addr| {
        let source = move || {
            let socket = UdpSocket::bind("[::]:0").unwrap();
            socket.connect(SocketAddr::from((dest, 9))).unwrap();
            socket.local_addr().unwrap().ip()
        };
        lab.inside("unix1", source).unwrap()
    };
    // On the link, next to the VIP, beyond the router, and where more of the address agrees with the VIP's.
    for dest in ["2001:db8::101", "2001:db8::1", "2001:db8:f::1", "2001:db8::10:1", "2620:fe::fe"] {
        assert_eq!(chosen(dest.parse().unwrap()), own, "to {dest}");
    }
    assert_eq!(chosen(VIP6), IpAddr::from(VIP6), "but to the VIP itself, on this very host");
}
