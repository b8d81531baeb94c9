//! The first promise: exactly one answers, and it is the one that `onevip where` names.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::common::{CLUSTER_MAC, Mode, VIP, VIP6, client_of_each_family, in_every_mode, landed, predicted};
use onevip_lab::Lab;
use onevip_lab::demo::ping::PingReplies;
use onevip_lab::neighbour::SolicitationKind;

in_every_mode!(
    one_node_answers_arp_solicitations_and_ping,
    every_client_lands_where_predicted,
    the_same_client_always_lands_on_the_same_host,
);

/// Echo requests from one address; what came back.
fn ping(lab: &Lab, client: IpAddr, requests: u32) -> PingReplies {
    let (from, to, count) = (client.to_string(), lab.vip_for(client).to_string(), requests.to_string());
    let words = ["ping", "-n", "-c", &count, "-i", "0.02", "-W", "2", "-I", &from, &to];
    PingReplies::parse(&String::from_utf8_lossy(&lab.exec("client", &words).unwrap().stdout))
}

fn one_node_answers_arp_solicitations_and_ping(mode: Mode) {
    let lab = mode.lab("e2e-one", 4, 60);
    // From both clients, which are in different buckets, and from every node's own point of view.
    for host in ["client", "client2"] {
        let answers = lab.who_has(host, VIP, Duration::from_millis(300)).unwrap();
        assert_eq!(answers.len(), 1, "{host}: {answers:#?}");
        assert_eq!(answers[0].sender_mac, CLUSTER_MAC);
        assert_ne!(answers[0].frame_source, CLUSTER_MAC, "a switch would learn the cluster MAC on one port");
        for ask in [SolicitationKind::Group, SolicitationKind::Probe, SolicitationKind::Duplicate] {
            one_node_answers_a_solicitation(&lab, host, ask);
        }
    }
    for client in (1..=4).flat_map(|node| client_of_each_family(&lab, node)) {
        let replies = ping(&lab, client, 5);
        assert!(replies.each_answered(1), "{client}: {:#?}", replies.lines);
    }
}

fn one_node_answers_a_solicitation(lab: &Lab, host: &str, ask: SolicitationKind) {
    let answers = lab.solicit(host, ask, VIP6, Duration::from_millis(300)).unwrap();
    let [answer] = answers.as_slice() else { panic!("{host}, {ask:?}: {answers:#?}") };
    assert!(answer.is_whole, "{answer:#?}");
    assert_ne!(answer.frame_source, CLUSTER_MAC);
    // Whoever asks the VIP itself knows its MAC already, and is not told.
    assert_eq!(
        answer.link_address.as_deref(),
        (ask != SolicitationKind::Probe).then_some(CLUSTER_MAC),
        "{ask:?}"
    );
    assert_eq!(answer.destination.is_multicast(), ask == SolicitationKind::Duplicate, "{answer:#?}");
}

fn every_client_lands_where_predicted(mode: Mode) {
    let lab = mode.lab("e2e-lands", 4, 8);
    let clients: Vec<IpAddr> = lab.clients().into_iter().chain(lab.clients6()).collect();
    let predictions: BTreeMap<IpAddr, String> =
        clients.iter().map(|&client| (client, predicted(&lab, client))).collect();
    let landings: BTreeMap<IpAddr, String> = std::thread::scope(|scope| {
        let log_in = |some: &[IpAddr]| some.iter().map(|&c| (c, landed(&lab, c))).collect::<Vec<_>>();
        let logins: Vec<_> = clients.chunks(4).map(|some| scope.spawn(move || log_in(some))).collect();
        logins.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(landings, predictions);
    // The clients' own addresses are what the servers log.
    for (client, host) in &landings {
        let saw = |log: &str| log.contains(&format!("Accepted publickey for root from {client} "));
        let hosts: Vec<String> = lab.nodes().filter(|n| saw(&n.sshd_log())).map(|n| n.name()).collect();
        assert_eq!(&hosts, std::slice::from_ref(host), "{client}");
    }
}

fn the_same_client_always_lands_on_the_same_host(mode: Mode) {
    let lab = mode.lab("e2e-same", 2, 20);
    for node in 1..=2 {
        for client in client_of_each_family(&lab, node) {
            for _ in 0..3 {
                assert_eq!(landed(&lab, client), format!("unix{node}"), "{client}");
            }
        }
    }
}
