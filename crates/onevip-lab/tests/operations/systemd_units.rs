//! The systemd units, as far as they can be tried without systemd: whether systemd understands them, their score, and a
//! daemon that has no more than they grant. (`make vms` tries them with it.)

use std::fs;
use std::process::Command;

use onevip_lab::process::{run, run_ok, spawn_background};
use onevip_lab::{Lab, wait_until};

use super::{PATIENCE, clients_of, json, lab, said, sit_down, stdout, types};

const UNIT: &str = include_str!("../../../../packaging/systemd/onevip.service");
const KERNEL: &str = include_str!("../../../../packaging/systemd/onevip-kernel.service");
const MOUNT: &str = include_str!("../../../../packaging/systemd/run-onevip-bpf.mount");

fn setting(unit: &'static str, key: &str) -> &'static str {
    let mut lines = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    lines.next().unwrap_or_else(|| panic!("the unit has no {key}"))
}

/// What systemd would stumble over, in all units together; warnings count.
#[test]
fn systemd_understands_the_units() {
    let dir = std::env::temp_dir().join(format!("onevip-units-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["verify", "--man=no"]);
    for (name, unit) in
        [("onevip.service", UNIT), ("onevip-kernel.service", KERNEL), ("run-onevip-bpf.mount", MOUNT)]
    {
        // It looks whether the program is there.
        fs::write(dir.join(name), unit.replace("/usr/local/sbin/onevip", "/bin/true")).unwrap();
        analyze.arg(dir.join(name));
    }
    let output = run(&mut analyze, PATIENCE).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains(dir.to_str().unwrap()), "{said}");
}

#[test]
fn the_unit_is_below_3_0_by_systemds_own_score() {
    let dir = std::env::temp_dir().join(format!("onevip-unit-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let unit = dir.join("onevip.service");
    fs::write(&unit, UNIT).unwrap();
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=true", "--no-pager", "--threshold=29"]).arg(&unit);
    let output = run(&mut analyze, PATIENCE).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    assert!(output.status.success(), "{}", stdout(&output));
}

/// Starts the daemon of a node as the unit does: the BPF file system mounted before, a world that cannot be written to
/// around it, and the unit's
/// capabilities, or some of them.
fn start_confined(lab: &Lab, node: u8, without: Option<&str>) -> i32 {
    let pins = lab.node(node).run_dir().join("bpf");
    fs::create_dir_all(&pins).unwrap();
    let host = format!("unix{node}");
    if run_ok(lab.command(&host, "findmnt").unwrap().arg("-n").arg(&pins), PATIENCE).is_err() {
        let mut mount = lab.command(&host, "mount").unwrap();
        mount.args(["-t", setting(MOUNT, "Type"), "-o", setting(MOUNT, "Options"), setting(MOUNT, "What")]);
        run_ok(mount.arg(&pins), PATIENCE).unwrap();
    }

    let granted = setting(UNIT, "CapabilityBoundingSet").split(' ').filter(|name| Some(*name) != without);
    let granted: Vec<String> = granted.map(|name| format!("+{}", &name.to_lowercase()[4..])).collect();
    let own = lab.dir().display().to_string();
    let world = format!(
        "mount --rbind {own} {own} && mount -o remount,bind,ro / && exec setpriv --bounding-set -all,{} --inh-caps -all \
         --no-new-privs -- \"$@\"",
        granted.join(",")
    );
    let program = lab.node(node).onevip_command("run").unwrap();
    let mut confined = lab.command(&format!("unix{node}"), "unshare").unwrap();
    confined.args(["--mount", "--propagation", "slave", "sh", "-c", &world, "sh"]);
    confined.arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        confined.env(name, value.unwrap_or_default());
    }
    let dir = lab.node(node).dir();
    let pid = spawn_background(&mut confined, &dir.join("onevip.log")).unwrap();
    fs::write(dir.join("onevip.pid"), format!("{pid}\n")).unwrap();
    pid
}

fn until_serves(lab: &Lab, node: u8) {
    let serves = || lab.node(node).claims().is_some_and(|claims| claims > 0);
    wait_until(PATIENCE, "it to serve", serves)
        .unwrap_or_else(|error| panic!("{error}\n{}", lab.node(node).onevip_log()));
}

#[test]
fn a_daemon_needs_no_more_than_the_unit_grants() {
    let lab = lab("opunit", 2);
    lab.node(2).stop_onevip();
    said(&lab, 2, "teardown", &[]);
    start_confined(&lab, 2, None);
    until_serves(&lab, 2);
    assert!(lab.node(2).onevip_log().contains("kernel part loaded"), "{}", lab.node(2).onevip_log());

    let client = clients_of(&lab, 2, 1)[0];
    let mut terminal = sit_down(&lab, 2, client);
    let sessions = json(&lab, 1, "who", &["--all-nodes", "root"]);
    assert_eq!(sessions.iter().filter(|session| session["node"] == "unix2").count(), 1, "{sessions:?}");
    let vip = format!("{}/32", lab.vip()[0]);
    lab.exec_ok("unix2", &["ip", "address", "delete", &vip, "dev", "eth0"]).unwrap();
    wait_until(PATIENCE, "the address to be back", || {
        lab.exec_ok("unix2", &["ip", "-o", "address", "show", "dev", "eth0"]).unwrap().contains(&vip)
    })
    .unwrap();
    said(&lab, 1, "drain", &["unix2"]);
    wait_until(PATIENCE, "unix2 to claim nothing", || lab.node(2).claims() == Some(0)).unwrap();
    said(&lab, 2, "undrain", &[]);
    types(&mut terminal, "all the while");

    // What it has pinned outlives it, and its mount namespace.
    lab.node(2).stop_onevip();
    types(&mut terminal, "without a daemon");
    start_confined(&lab, 2, None);
    wait_until(PATIENCE, "it to find what was pinned", || {
        lab.node(2).onevip_log().contains("kernel part adopted from an earlier daemon")
    })
    .unwrap();
    until_serves(&lab, 2);
    types(&mut terminal, "and with the next one");
    lab.node(2).stop_onevip();
    said(&lab, 2, "teardown", &[]);
}

#[test]
fn a_daemon_needs_what_the_unit_grants() {
    let lab = lab("opless", 2);
    for without in ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF", "CAP_PERFMON"] {
        lab.node(2).stop_onevip();
        said(&lab, 2, "teardown", &[]);
        let pid = start_confined(&lab, 2, Some(without));
        wait_until(PATIENCE, &format!("a daemon without {without} to give up"), || {
            !onevip_lab::process::is_alive(pid)
        })
        .unwrap();
    }
    said(&lab, 2, "teardown", &[]);
}
