//! Several nodes that are ill at once: somebody always serves.

use onevip_lab::LabFault;

use super::*;

#[test]
fn when_all_are_ill_all_serve() {
    let mut testbed = testbed(options("all"));
    for node in 1..=3 {
        testbed.lab.fault(&LabFault::Nologin(node)).unwrap();
    }
    for node in 1..=3 {
        until_state(&testbed.lab, node, "nologin", "out");
    }
    let home = testbed.home.clone();
    until(&mut testbed, "everybody to be served from home", |testbed| testbed.served() == Some(home.clone()));
    nobody_lost_a_session(&mut testbed);
}

#[test]
fn the_least_ill_go_on() {
    let mut testbed = testbed(options("least"));
    testbed.lab.fault(&LabFault::KillSshd(1)).unwrap();
    testbed.lab.fault(&LabFault::Nologin(2)).unwrap();
    testbed.lab.fault(&LabFault::DiskFull(3)).unwrap();
    until_served(&mut testbed, |node| node == 3);
    testbed.lab.fault(&LabFault::KillSshd(3)).unwrap();
    until_served(&mut testbed, |node| node == 2);
    nobody_lost_a_session(&mut testbed);
}
