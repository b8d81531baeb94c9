//! A host that runs out of something, or is about to go down.

use onevip_lab::LabFault;
use onevip_lab::lease_slack::{self, SlackHistogram};
use onevip_lab::process::run_ok;

use super::*;

#[test]
fn nologin_sends_new_users_elsewhere_until_it_goes() {
    it_goes_out_and_comes_back(testbed(options("nologin")), &LabFault::Nologin(2), "nologin");
}

#[test]
fn a_fork_bomb_on_one_node_is_no_affair_of_the_others() {
    goes_out_and_beats_on("forks", &LabFault::ForkBomb(2), "processes");
}

#[test]
fn a_memory_hog_on_one_node_is_no_affair_of_the_others() {
    goes_out_and_beats_on("memory", &LabFault::MemoryHog(2), "memory");
}

/// Beside all that is said of every illness: no daemon ever renewed its lease when that had run out.
fn goes_out_and_beats_on(name: &str, fault: &LabFault, check: &str) {
    let testbed = testbed(options(name).edit_config(lease_slack::with_metrics).unwrap());
    let read = |lab: &Lab| -> Vec<SlackHistogram> {
        (1..=3).map(|id| SlackHistogram::read(lab, id).unwrap()).collect()
    };
    let before = read(&testbed.lab);
    let testbed = it_goes_out_and_comes_back(testbed, fault, check);
    for (node, (now, before)) in (1..).zip(read(&testbed.lab).iter().zip(&before)) {
        let since = now.since(before);
        assert!(since.renewals() > 20, "unix{node}: {since:?}");
        assert_eq!(since.too_late(), 0, "unix{node}: {since:?}");
    }
}

#[test]
fn a_full_disk_sends_new_users_elsewhere() {
    it_goes_out_and_comes_back(testbed(options("disk")), &LabFault::DiskFull(2), "disk /");
}

#[test]
fn a_busy_host_sheds_load_in_steps() {
    let edit = |text: String| text.replace("[health]\n", "[health]\ncpu_pressure = { shed = 10 }\n");
    let mut testbed = testbed(options("busy").edit_config(edit).unwrap());
    // The others may be slow as well: it is one machine. So only this node's own weight is looked at.
    testbed.lab.fault(&LabFault::CpuHog(2)).unwrap();
    let percent = |testbed: &Testbed| health(&testbed.lab, 2)["weight_percent"].as_u64().unwrap();
    for step in [50, 25, 10] {
        until(&mut testbed, "the next step down", |testbed| percent(testbed) <= step);
    }
    assert_eq!(checked(&testbed.lab, 2, "cpu pressure")["state"], "shed");
    assert_eq!(health(&testbed.lab, 2)["illness"], 0, "it serves as well as it can");
    nobody_lost_a_session(&mut testbed);
}

#[test]
fn nologin_never_undoes_an_administrators_drain() {
    let lab = Lab::up(options("drain")).unwrap();
    run_ok(&mut lab.node(2).onevip_command("drain").unwrap(), PATIENCE).unwrap();
    wait_until(PATIENCE, "unix2 to claim nothing", || lab.node(2).claims() == Some(0)).unwrap();
    lab.fault(&LabFault::Nologin(2)).unwrap();
    until_state(&lab, 2, "nologin", "out");
    lab.heal(None).unwrap();
    until_state(&lab, 2, "nologin", "well");
    let status = lab.node(2).onevip_status().unwrap();
    assert_eq!(status["vips"][0]["membership"]["state"], "draining");
    assert_eq!(status["vips"][0]["claims"], 0);
}

#[test]
fn a_command_of_the_administrators_decides_too() {
    let options = options("command");
    let flag = format!("/run/onevip-lab/{}/sick-$(hostname)", options.name);
    let check = format!(
        "\n[[check]]\nname = \"home\"\ncommand = \"test ! -e {flag} || {{ echo the home directories are gone; false; }}\"\n\
         interval = \"300ms\"\n"
    );
    let mut testbed = testbed(options.edit_config(|text| text + &check).unwrap());
    std::fs::write(testbed.lab.dir().join("sick-unix2"), "").unwrap();
    until_served(&mut testbed, |node| node != 2);
    let found = checked(&testbed.lab, 2, "check home");
    assert_eq!(found["finding"], "the home directories are gone", "{found}");
    std::fs::remove_file(testbed.lab.dir().join("sick-unix2")).unwrap();
    until_back(&mut testbed, 2);
    nobody_lost_a_session(&mut testbed);
}

#[test]
fn checks_change_with_a_reload() {
    let lab = Lab::up(options("reload")).unwrap();
    let path = lab.dir().join("onevip.toml");
    let before = std::fs::read_to_string(&path).unwrap();
    lab.fault(&LabFault::Nologin(2)).unwrap();
    until_state(&lab, 2, "nologin", "out");
    let check = "\n[[check]]\nname = \"new\"\ncommand = \"echo here\"\ninterval = \"300ms\"\n";
    lab.write_config(&(before.replace("[health]\n", "[health]\nnologin = \"ignore\"\n") + check)).unwrap();
    let said = run_ok(&mut lab.node(2).onevip_command("reload").unwrap(), PATIENCE).unwrap();
    assert!(said.contains("health checks"), "{said}");
    wait_until(PATIENCE, "unix2 to be well", || health(&lab, 2)["illness"] == 0).unwrap();
    wait_until(PATIENCE, "unix2 to serve", || lab.node(2).claims().is_some_and(|claims| claims > 0)).unwrap();
    until_state(&lab, 2, "check new", "well");
}
