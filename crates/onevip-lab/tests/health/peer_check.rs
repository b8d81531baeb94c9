//! A node that answers beats but not its clients, found out by its peers.

use std::time::Duration;

use onevip_lab::LabFault;
use onevip_lab::load::{BackgroundTraffic, BannerClients};

use super::*;

/// The node's own check of `sshd` is off: only others can find out.
fn unchecked(name: &str) -> Options {
    let edit = |text: String| text.replace("[health]\n", "[health]\nsshd = \"off\"\n");
    options(name).edit_config(edit).unwrap()
}

/// What a node says of another one in `status`.
fn peer(lab: &Lab, by: u8, of: u8) -> Value {
    let status = lab.node(by).onevip_status().unwrap();
    let nodes = status["vips"][0]["nodes"].as_array().unwrap();
    nodes.iter().find(|node| node["id"] == of).unwrap()["peer"].clone()
}

fn voters(lab: &Lab, by: u8, of: u8) -> usize {
    peer(lab, by, of)["voted_out_by"].as_array().unwrap().len()
}

fn until_witnessed(lab: &Lab) {
    let ids: Vec<u8> = lab.plan().node_ids().collect();
    let all = |lab: &Lab| {
        ids.iter()
            .all(|by| ids.iter().filter(|of| *of != by).all(|of| peer(lab, *by, *of)["witnessed"] == true))
    };
    wait_until(PATIENCE, "everybody to have a say about everybody", || all(lab)).unwrap();
}

#[test]
fn a_frozen_sshd_without_a_check_of_its_own_is_voted_out_by_its_peers() {
    let mut testbed = testbed(unchecked("peercheck"));
    until_witnessed(&testbed.lab);
    let _banner_clients = BannerClients::start(&testbed.lab).unwrap();
    testbed.lab.fault(&LabFault::FreezeSshd(2)).unwrap();
    until_served(&mut testbed, |node| node != 2);
    wait_until(PATIENCE, "both to be counted", || voters(&testbed.lab, 1, 2) == 2).unwrap();
    let suspicion = peer(&testbed.lab, 1, 2)["suspicion"].as_str().unwrap().to_owned();
    assert!(suspicion.contains("its banner did not come to us within 2s"), "{suspicion}");
    assert_eq!(health(&testbed.lab, 2)["illness"], 0, "it feels well itself");
    let status = testbed.lab.node(2).onevip_status().unwrap();
    let why = status["vips"][0]["membership"]["why_out"].as_str().unwrap().to_owned();
    assert!(why.contains("does not answer its clients (unix1, unix3)"), "{why}");
    nobody_lost_a_session(&mut testbed);
    testbed.lab.heal(None).unwrap();
    until_back(&mut testbed, 2);
    nobody_lost_a_session(&mut testbed);
    wait_until(PATIENCE, "nobody to be suspected", || voters(&testbed.lab, 3, 2) == 0).unwrap();
    let log = testbed.lab.node(1).onevip_log();
    for words in ["clients got no answer", "unix2 is voted out by", "unix2 answers us again"] {
        assert!(log.contains(words), "{words}: {log}");
    }
}

#[test]
fn the_other_one_of_two_suffices() {
    let mut testbed = testbed(unchecked("pair").nodes(2));
    until_witnessed(&testbed.lab);
    let _banner_clients = BannerClients::start(&testbed.lab).unwrap();
    testbed.lab.fault(&LabFault::FreezeSshd(2)).unwrap();
    until_served(&mut testbed, |node| node == 1);
    testbed.lab.heal(None).unwrap();
    until_back(&mut testbed, 2);
    nobody_lost_a_session(&mut testbed);
}

#[test]
fn with_every_sshd_frozen_all_go_on_serving() {
    let mut testbed = testbed(unchecked("allout"));
    until_witnessed(&testbed.lab);
    let _banner_clients = BannerClients::start(&testbed.lab).unwrap();
    for node in 1..=3 {
        testbed.lab.fault(&LabFault::FreezeSshd(node)).unwrap();
    }
    let all_out = |testbed: &mut Testbed| (1..=3).all(|of| voters(&testbed.lab, 1 + of % 3, of) == 2);
    until(&mut testbed, "all to be voted out", all_out);
    let all_serve = |testbed: &mut Testbed| {
        testbed.lab.nodes().all(|node| node.claims().is_some_and(|claims| claims > 0))
    };
    until(&mut testbed, "all to serve all the same", all_serve);
    until_served(&mut testbed, |_| true);
    testbed.lab.heal(None).unwrap();
    until(&mut testbed, "all to be trusted again", |testbed| {
        (1..=3).all(|of| voters(&testbed.lab, 1 + of % 3, of) == 0)
    });
    nobody_lost_a_session(&mut testbed);
}

#[test]
fn no_flood_and_no_client_that_never_answers_makes_a_false_witness() {
    let mut testbed = testbed(unchecked("false"));
    until_witnessed(&testbed.lab);
    let before: Vec<String> = testbed.lab.nodes().map(|node| node.sshd_log()).collect();
    let seed = 7;
    println!("seed {seed}");
    let background = BackgroundTraffic::start(&testbed.lab, seed).unwrap();
    let banner_clients = BannerClients::start(&testbed.lab).unwrap();
    let asked = |text: &str| text.matches("onevip").count() + text.matches("198.51.100.1").count();
    let enough = Instant::now() + Duration::from_secs(30);
    testbed.watch(enough, |_| false).unwrap();
    drop(background);
    for (node, before) in testbed.lab.nodes().zip(&before) {
        let (log, sshd) = (node.onevip_log(), node.sshd_log());
        for never in ["voted out", "clients got no answer"] {
            assert!(!log.contains(never), "{}: {log}", node.name());
        }
        assert!(asked(&sshd[before.len().min(sshd.len())..]) > 0, "it was doubted, and asked:\n{sshd}");
    }
    let unserved = banner_clients.attempts().iter().filter(|attempt| attempt.banner.is_none()).count();
    let all = banner_clients.attempts().len();
    assert!(all > 20 && unserved * 10 <= all, "{unserved} of {all} clients got no banner");
    nobody_lost_a_session(&mut testbed);
}
