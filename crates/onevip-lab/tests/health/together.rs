//! Several nodes that are ill at once: somebody always serves.

use onevip_lab::Fault;

use super::*;

#[test]
fn when_all_are_ill_all_serve() {
    let mut stage = stage(options("all"));
    for node in 1..=3 {
        stage.lab.fault(&Fault::Nologin(node)).unwrap();
    }
    for node in 1..=3 {
        until_state(&stage.lab, node, "nologin", "out");
    }
    let home = stage.home.clone();
    until(&mut stage, "everybody to be served from home", |stage| stage.served() == Some(home.clone()));
    nobody_lost_a_session(&mut stage);
}

#[test]
fn the_least_ill_go_on() {
    let mut stage = stage(options("least"));
    stage.lab.fault(&Fault::KillSshd(1)).unwrap();
    stage.lab.fault(&Fault::Nologin(2)).unwrap();
    stage.lab.fault(&Fault::DiskFull(3)).unwrap();
    until_served(&mut stage, |node| node == 3);
    stage.lab.fault(&Fault::KillSshd(3)).unwrap();
    until_served(&mut stage, |node| node == 2);
    nobody_lost_a_session(&mut stage);
}
