//! What a planned change costs: nothing.

use std::time::Instant;

use onevip_lab::bench::stage::Stage;
use onevip_lab::process::run_ok;

use super::{PATIENCE, answered_twice, lost, stage, until, until_served, until_they_go_on};

fn command(stage: &Stage, node: u8, subcommand: &str) -> String {
    run_ok(&mut stage.lab.node(node).onevip_command(subcommand).unwrap(), PATIENCE).unwrap()
}

/// Since `from` nobody has noticed anything. Waits for the calls that are still open.
fn nobody_noticed(stage: &mut Stage, from: Instant) {
    until_they_go_on(stage, |_| true);
    let end = Instant::now();
    stage.settle_calls().unwrap();
    let own: Vec<_> = stage.calls.iter().filter(|call| (from..end).contains(&call.begun)).collect();
    let failures: Vec<_> = own.iter().filter(|call| call.outcome.is_err()).collect();
    assert!(own.len() >= 20, "there were calls: {}", own.len());
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(lost(stage, |_| true), []);
    assert!(stage.typists.iter().all(|typist| typist.seen().lost.is_none()), "nor was any ssh session lost");
    assert_eq!(answered_twice(stage, from), []);
}

#[test]
fn a_drain_and_its_end_cost_nobody_anything() {
    let mut stage = stage("drain");
    let from = Instant::now();
    command(&stage, 2, "drain");
    until_served(&mut stage, |node| node != 2);
    until_they_go_on(&mut stage, |_| true);
    command(&stage, 2, "undrain");
    until(&mut stage, "unix2 to serve again", |stage| {
        stage.served().is_some_and(|served| served.values().any(|&node| node == 2))
    });
    nobody_noticed(&mut stage, from);
}

#[test]
fn a_new_weight_costs_nobody_anything() {
    let mut stage = stage("reload");
    let path = stage.lab.dir().join("onevip.toml");
    let before = std::fs::read_to_string(&path).unwrap();
    let from = Instant::now();
    stage.lab.write_config(&before.replace("\nid = 2\n", "\nid = 2\nweight = 0\n")).unwrap();
    (1..=3).for_each(|node| drop(command(&stage, node, "reload")));
    until(&mut stage, "unix2 to claim nothing", |stage| stage.lab.node(2).claims() == Some(0));
    until_served(&mut stage, |node| node != 2);
    nobody_noticed(&mut stage, from);
}

#[test]
fn a_mistake_in_the_file_is_refused_and_changes_nothing() {
    let mut stage = stage("mistake");
    let path = stage.lab.dir().join("onevip.toml");
    let before = std::fs::read_to_string(&path).unwrap();
    stage.lab.write_config(&before.replace("membership", "memberschip")).unwrap();
    let mut reload = stage.lab.node(1).onevip_command("reload").unwrap();
    let output = onevip_lab::process::run(&mut reload, PATIENCE).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("memberschip"), "{said}");
    until_served(&mut stage, |_| true);
    until_they_go_on(&mut stage, |_| true);
}

#[test]
fn restarting_every_daemon_one_by_one_costs_nobody_anything() {
    let mut stage = stage("rolling");
    let from = Instant::now();
    for node in 1..=3 {
        stage.lab.node(node).stop_onevip();
        stage.lab.node(node).start_onevip().unwrap();
        until(&mut stage, "the daemon to serve", |stage| {
            stage.lab.node(node).claims().is_some_and(|claims| claims > 0) && stage.served().is_some()
        });
    }
    nobody_noticed(&mut stage, from);
}
