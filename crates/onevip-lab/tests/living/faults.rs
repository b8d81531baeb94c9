//! What an unplanned loss costs: the sessions on the lost node, where it is lost, and nothing else.

use std::time::Instant;

use onevip_lab::LabFault;

use super::{answered_twice, lost, testbed, until, until_served, until_they_go_on};

#[test]
fn a_dead_nodes_clients_are_served_by_others_and_its_orphans_are_reset() {
    let mut testbed = testbed("dead");
    let start = Instant::now();
    testbed.lab.fault(&LabFault::PowerOff(2)).unwrap();
    until_served(&mut testbed, |node| node != 2);
    until(&mut testbed, "the orphans to be reset", |testbed| {
        testbed.sessions.glance().iter().filter(|log| log.node == 2).all(|log| log.lost.is_some())
    });
    let resets = lost(&testbed, |log| log.node == 2);
    assert!(!resets.is_empty() && resets.iter().all(|(.., how)| how.contains("reset")), "{resets:?}");
    assert_eq!(lost(&testbed, |log| log.node != 2), []);
    testbed.lab.heal(None).unwrap();
    until(&mut testbed, "unix2 to serve again", |testbed| {
        testbed.served().is_some_and(|served| served.values().any(|&node| node == 2))
    });
    until_they_go_on(&mut testbed, |log| log.node != 2);
    assert_eq!(answered_twice(&testbed, start), []);
}

/// A fault of node 2 comes and goes; sessions on the other nodes do not notice.
fn elsewhere_nobody_notices(name: &str, fault: &LabFault) {
    let mut testbed = testbed(name);
    testbed.lab.fault(fault).unwrap();
    until_served(&mut testbed, |node| node != 2);
    until_they_go_on(&mut testbed, |log| log.node != 2);
    testbed.lab.heal(None).unwrap();
    until(&mut testbed, "unix2 to claim again", |testbed| {
        testbed.lab.node(2).claims().is_some_and(|claims| claims > 0) && testbed.served().is_some()
    });
    until_they_go_on(&mut testbed, |log| log.node != 2);
    assert_eq!(lost(&testbed, |log| log.node != 2), []);
}

#[test]
fn a_cut_node_costs_nobody_elsewhere_anything() {
    elsewhere_nobody_notices("cut", &LabFault::Cut(2));
}

#[test]
fn a_mute_node_costs_nobody_elsewhere_anything() {
    elsewhere_nobody_notices("mute", &LabFault::Mute(2));
}

#[test]
fn a_deaf_node_costs_nobody_elsewhere_anything() {
    elsewhere_nobody_notices("deaf", &LabFault::Deaf(2));
}

/// A fault of node 2 that leaves its kernel alive: its clients are served by others, its sessions live through it.
fn its_sessions_live_through(name: &str, fault: &LabFault, never_pause: bool) {
    let mut testbed = testbed(name);
    let start = Instant::now();
    testbed.lab.fault(fault).unwrap();
    until_served(&mut testbed, |node| node != 2);
    until_they_go_on(&mut testbed, |log| never_pause || log.node != 2);
    testbed.lab.heal(None).unwrap();
    until_they_go_on(&mut testbed, |_| true);
    until(&mut testbed, "unix2 to serve again", |testbed| {
        testbed.served().is_some_and(|served| served.values().any(|&node| node == 2))
    });
    until_they_go_on(&mut testbed, |_| true);
    assert_eq!(lost(&testbed, |_| true), []);
    assert!(testbed.users.iter().all(|user| user.log().lost.is_none()), "nor is any ssh session");
    assert_eq!(answered_twice(&testbed, start), []);
}

#[test]
fn a_frozen_nodes_sessions_go_on_after_the_thaw() {
    its_sessions_live_through("frozen", &LabFault::Freeze(2), false);
}

#[test]
fn a_frozen_daemons_sessions_never_pause() {
    its_sessions_live_through("fdaemon", &LabFault::FreezeOnevip(2), true);
}

#[test]
fn a_killed_daemons_sessions_never_pause() {
    its_sessions_live_through("killed", &LabFault::KillOnevip(2), true);
}

#[test]
fn both_sides_of_a_split_serve_their_clients() {
    let mut testbed = onevip_lab::testbed::Testbed::set_up(
        onevip_lab::Options::test("split").nodes(4).clients(16),
        &[onevip_lab::Host::Client, onevip_lab::Host::Client2],
    )
    .unwrap();
    let left = testbed.lab.plan().addresses4(onevip_lab::Host::Client);
    let reachable = |log: &onevip_lab::load::SessionLog| left.contains(&log.client) == (log.node <= 2);
    testbed.lab.fault(&"split unix1,unix2|unix3,unix4".parse().unwrap()).unwrap();
    until(&mut testbed, "each side to serve its clients", |testbed| {
        let own_side = |(client, node): (&std::net::Ipv4Addr, &u8)| left.contains(client) == (*node <= 2);
        testbed.served().is_some_and(|served| served.iter().all(own_side))
    });
    until_they_go_on(&mut testbed, reachable);
    assert_eq!(lost(&testbed, reachable), []);
    testbed.lab.heal(None).unwrap();
    until_served(&mut testbed, |_| true);
    until_they_go_on(&mut testbed, reachable);
    assert_eq!(lost(&testbed, reachable), [], "what the other side took for orphans of the lost nodes lives");
}

#[test]
fn a_node_that_loses_a_third_of_its_frames_gives_its_share_away_and_keeps_its_sessions() {
    let mut testbed = testbed("lossy");
    let start = Instant::now();
    testbed.lab.fault(&LabFault::Loss { percent: 33, node: 2 }).unwrap();
    let out = |testbed: &mut onevip_lab::testbed::Testbed| testbed.lab.node(2).claims() == Some(0);
    until(&mut testbed, "unix2 to claim nothing", out);
    until_served(&mut testbed, |node| node != 2);
    assert!(super::status_page(&testbed, 2).contains("its link loses frames"));
    assert!(super::status_page(&testbed, 1).contains("of its beats are lost"));
    testbed.lab.heal(None).unwrap();
    until(&mut testbed, "unix2 to serve again", |testbed| {
        testbed.served().is_some_and(|served| served.values().any(|&node| node == 2))
    });
    until_they_go_on(&mut testbed, |_| true);
    assert_eq!(lost(&testbed, |_| true), []);
    assert_eq!(answered_twice(&testbed, start), []);
}

/// Nobody says a word on this LAN: whether the other is gone or the own cable is out, an idle host has to tell.
#[test]
fn the_last_of_two_nodes_serves_on_a_silent_lan() {
    use onevip_lab::{Lab, Options, wait_until};
    let lab = Lab::up(Options::test("silent").nodes(2).clients(2)).unwrap();
    // As any host of a LAN does, the node has spoken to somebody who is no node.
    let client = lab.clients()[0].to_string();
    lab.exec_ok("unix1", &["ping", "-c", "1", "-W", "2", &client]).unwrap();
    lab.fault(&LabFault::PowerOff(2)).unwrap();
    wait_until(super::PATIENCE, "unix1 to claim everything", || lab.node(1).claims() == Some(1024)).unwrap();
}
