//! An `sshd` that does not answer.

use std::time::Duration;

use onevip_lab::LabFault;

use super::*;

#[test]
fn a_killed_sshds_users_are_served_elsewhere() {
    it_goes_out_and_comes_back(testbed(options("kill")), &LabFault::KillSshd(2), "sshd");
}

#[test]
fn a_frozen_sshds_users_are_served_elsewhere() {
    it_goes_out_and_comes_back(testbed(options("freeze")), &LabFault::FreezeSshd(2), "sshd");
}

#[test]
fn a_frozen_sshd_is_known_by_its_queue_before_anybody_has_waited_in_vain() {
    // Patient enough that no question and no client's waiting can be what is noticed within this test.
    let slow = "[health]\ntimeout = \"20s\"\ninterval = \"2s\"\n";
    let mut testbed = testbed(options("queue").edit_config(|text| text.replace("[health]\n", slow)).unwrap());
    until_state(&testbed.lab, 2, "sshd", "well");
    let client = client_of(&testbed, 2);
    testbed.lab.fault(&LabFault::FreezeSshd(2)).unwrap();
    let _waits = connect(&testbed.lab, client);
    until_served(&mut testbed, |node| node != 2);
    let found = checked(&testbed.lab, 2, "sshd");
    assert!(found["finding"].as_str().unwrap().starts_with("takes nobody from its queue ("), "{found}");
    testbed.lab.heal(None).unwrap();
    until_back(&mut testbed, 2);
    nobody_lost_a_session(&mut testbed);
}

#[test]
fn a_full_sshds_users_are_served_elsewhere() {
    it_goes_out_and_comes_back(testbed(options("full")), &LabFault::SshdMaxstartups(2), "sshd");
}

#[test]
fn a_slow_sshd_is_noticed_by_the_first_user_who_waits() {
    let mut testbed = testbed(options("slow"));
    let client = client_of(&testbed, 2);
    testbed.lab.fault(&LabFault::SshdSlow(2)).unwrap();
    let _waits = connect(&testbed.lab, client);
    until_served(&mut testbed, |node| node != 2);
    let found = checked(&testbed.lab, 2, "sshd");
    assert!(found["state"] == "out", "{found}");
    nobody_lost_a_session(&mut testbed);
    testbed.lab.heal(None).unwrap();
    until_back(&mut testbed, 2);
    nobody_lost_a_session(&mut testbed);
}

#[test]
fn a_restart_of_sshd_moves_nobody() {
    let mut testbed = testbed(options("again"));
    for _ in 0..3 {
        testbed.lab.fault(&LabFault::KillSshd(2)).unwrap();
        testbed.lab.heal(None).unwrap();
        testbed.watch(std::time::Instant::now() + Duration::from_millis(1500), |_| false).unwrap();
    }
    let log = testbed.lab.node(2).onevip_log();
    assert!(!log.contains("sshd:"), "{log}");
    until(&mut testbed, "everybody to be at home", |testbed| {
        testbed.served().is_some_and(|served| served == testbed.home)
    });
}

#[test]
fn an_sshd_that_is_reached_by_ipv6_alone_is_examined_too() {
    let v6 = onevip_lab::plan::vip6();
    let edit = |text: String| {
        let lines = text.lines().map(|line| match line.starts_with("addresses = ") {
            true => format!("addresses = [\"{v6}\"]\n"),
            false => format!("{line}\n"),
        });
        lines.collect()
    };
    let lab = Lab::up(options("six").edit_config(edit).unwrap()).unwrap();
    until_state(&lab, 2, "sshd", "well");
    lab.fault(&LabFault::KillSshd(2)).unwrap();
    until_state(&lab, 2, "sshd", "out");
    wait_until(PATIENCE, "unix2 to claim nothing", || lab.node(2).claims() == Some(0)).unwrap();
    lab.heal(None).unwrap();
    until_state(&lab, 2, "sshd", "well");
    wait_until(PATIENCE, "unix2 to serve", || lab.node(2).claims().is_some_and(|claims| claims > 0)).unwrap();
}
