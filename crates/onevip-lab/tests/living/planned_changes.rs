//! What a planned change costs: nothing.

use std::time::Instant;

use onevip_lab::process::run_ok;
use onevip_lab::testbed::Testbed;

use super::{PATIENCE, answered_twice, lost, testbed, until, until_served, until_they_go_on};

fn command(testbed: &Testbed, node: u8, subcommand: &str) -> String {
    run_ok(&mut testbed.lab.node(node).onevip_command(subcommand).unwrap(), PATIENCE).unwrap()
}

/// Since `from` nobody has noticed anything. Waits for the connections that are still open.
fn nobody_noticed(testbed: &mut Testbed, from: Instant) {
    until_they_go_on(testbed, |_| true);
    let end = Instant::now();
    testbed.settle_connections().unwrap();
    let own: Vec<_> =
        testbed.connections.iter().filter(|connection| (from..end).contains(&connection.begun)).collect();
    let failures: Vec<_> = own.iter().filter(|connection| connection.outcome.is_err()).collect();
    assert!(own.len() >= 20, "there were connections: {}", own.len());
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(lost(testbed, |_| true), []);
    assert!(testbed.users.iter().all(|user| user.log().lost.is_none()), "nor was any ssh session lost");
    assert_eq!(answered_twice(testbed, from), []);
}

#[test]
fn a_drain_and_its_end_cost_nobody_anything() {
    let mut testbed = testbed("drain");
    let from = Instant::now();
    command(&testbed, 2, "drain");
    until_served(&mut testbed, |node| node != 2);
    until_they_go_on(&mut testbed, |_| true);
    command(&testbed, 2, "undrain");
    until(&mut testbed, "unix2 to serve again", |testbed| {
        testbed.served().is_some_and(|served| served.values().any(|&node| node == 2))
    });
    nobody_noticed(&mut testbed, from);
}

#[test]
fn a_new_weight_costs_nobody_anything() {
    let mut testbed = testbed("reload");
    let path = testbed.lab.dir().join("onevip.toml");
    let before = std::fs::read_to_string(&path).unwrap();
    let from = Instant::now();
    testbed.lab.write_config(&before.replace("\nid = 2\n", "\nid = 2\nweight = 0\n")).unwrap();
    (1..=3).for_each(|node| drop(command(&testbed, node, "reload")));
    until(&mut testbed, "unix2 to claim nothing", |testbed| testbed.lab.node(2).claims() == Some(0));
    until_served(&mut testbed, |node| node != 2);
    nobody_noticed(&mut testbed, from);
}

#[test]
fn a_mistake_in_the_file_is_refused_and_changes_nothing() {
    let mut testbed = testbed("mistake");
    let path = testbed.lab.dir().join("onevip.toml");
    let before = std::fs::read_to_string(&path).unwrap();
    testbed.lab.write_config(&before.replace("membership", "memberschip")).unwrap();
    let mut reload = testbed.lab.node(1).onevip_command("reload").unwrap();
    let output = onevip_lab::process::run(&mut reload, PATIENCE).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("memberschip"), "{said}");
    until_served(&mut testbed, |_| true);
    until_they_go_on(&mut testbed, |_| true);
}

#[test]
fn restarting_every_daemon_one_by_one_costs_nobody_anything() {
    let mut testbed = testbed("rolling");
    let from = Instant::now();
    for node in 1..=3 {
        testbed.lab.node(node).stop_onevip();
        testbed.lab.node(node).start_onevip().unwrap();
        until(&mut testbed, "the daemon to serve", |testbed| {
            testbed.lab.node(node).claims().is_some_and(|claims| claims > 0) && testbed.served().is_some()
        });
    }
    nobody_noticed(&mut testbed, from);
}
