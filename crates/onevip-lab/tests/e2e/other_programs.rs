//! Other programs on the interface: whoever comes before ours comes after them at once; and two daemons on one interface,
//! of which one is dead, or refused.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use onevip_lab::process::{run, spawn_background};
use onevip_lab::{Lab, Options};

use crate::common::bpf::{self, Side};
use crate::common::{
    Mode, PATIENCE, all_claim, client_of, client_of_each_family, in_every_mode, kill_daemon, landed,
    must_be_root, onevip, pings, wait,
};

in_every_mode!(a_dead_daemon_under_another_run_directory_is_succeeded_and_a_living_one_respected);

/// What is promised is 100 ms; a busy machine may take its time before a test fails.
const LATE: Duration = Duration::from_secs(1);

#[test]
fn a_program_that_is_put_before_ours_keeps_nobody_from_logging_in() {
    let lab = Mode::Tcx.lab("e2e-first", 2, 20);
    let clients = client_of_each_family(&lab, 1);
    let mut theirs = Vec::new();
    for side in [Side::Ingress, Side::Egress] {
        let (start, ours) = lab
            .inside("unix1", || {
                let ours = bpf::first_on("eth0", side);
                theirs.push(bpf::put_first("cil_netdev", "eth0", side));
                (Instant::now(), ours)
            })
            .unwrap();
        wait("ours to be first again", || {
            lab.inside("unix1", || bpf::first_on("eth0", side) == ours).unwrap()
        });
        let took = start.elapsed();
        println!("first again at {side:?} after {took:?}");
        assert!(took < LATE, "{side:?}: {took:?}");
        // Clients that ask anew where the VIP is, as after a reboot.
        lab.exec_ok("client", &["ip", "neigh", "flush", "all"]).unwrap();
        for client in clients {
            assert_eq!(landed(&lab, client), "unix1");
        }
    }
    let log = lab.node(1).onevip_log();
    for what in ["ingress", "egress"] {
        let told = |line: &str| {
            line.contains("cil_netdev (program ") && line.contains(&format!("before the {what} program"))
        };
        assert!(log.lines().any(told), "{log}");
    }
}

#[test]
fn programs_that_were_there_before_the_daemon_keep_nobody_from_logging_in() {
    must_be_root();
    let lab = Lab::up(Options::test("e2e-there").nodes(2).clients(20).no_onevip()).unwrap();
    let _theirs = ["unix1", "unix2"].map(|node| {
        let put = || [Side::Ingress, Side::Egress].map(|side| bpf::put_first("beyla", "eth0", side));
        lab.inside(node, put).unwrap()
    });
    lab.start_onevip().unwrap();
    for client in [client_of_each_family(&lab, 1), client_of_each_family(&lab, 2)].concat() {
        assert_eq!(landed(&lab, client), format!("unix{}", crate::common::owner(&lab, client)));
    }
}

#[test]
fn a_node_whose_first_place_is_contested_says_so_and_takes_no_new_users() {
    must_be_root();
    let lab = Lab::up(Options::test("e2e-fight").nodes(2).clients(20)).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let fight = || {
                let mut theirs = None;
                while !over.load(Ordering::Relaxed) {
                    drop(theirs.replace(bpf::put_first("fighter", "eth0", Side::Egress)));
                    std::thread::sleep(Duration::from_millis(20));
                }
            };
            lab.inside("unix1", fight).unwrap();
        });
        // A failed wait must end the fight as well.
        let _over = OnDrop(&over);
        wait("the log to name it", || {
            let log = lab.node(1).onevip_log();
            log.lines().any(|line| line.contains("fighter (program ") && line.contains("again and again"))
        });
        wait("new users to go elsewhere", || lab.node(1).claims() == Some(0));
        wait("the doctor to name it", || {
            let found = String::from_utf8(onevip(&lab, 1, &["doctor", "--json"]).stdout).unwrap();
            found.contains("program-first") && found.contains("fighter (program ")
        });
        assert_eq!(landed(&lab, lab.clients()[0]), "unix2");
    });
    wait("ours to come first in the end", || {
        let found = String::from_utf8(onevip(&lab, 1, &["doctor", "--json"]).stdout).unwrap();
        !found.contains("program-first")
    });
}

/// Sets a flag at the end, whatever that is.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The daemon of a node under another run directory.
fn daemon_in(lab: &Lab, node: u8, run_dir: &Path) -> Command {
    let usual = lab.node(node).onevip_command("run").unwrap();
    let mut command = lab.command(&format!("unix{node}"), usual.get_program().to_str().unwrap()).unwrap();
    let old = lab.node(node).run_dir();
    command
        .args(usual.get_args().map(|word| if Path::new(word) == old { run_dir.as_os_str() } else { word }));
    for (name, value) in usual.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command
}

fn a_dead_daemon_under_another_run_directory_is_succeeded_and_a_living_one_respected(mode: Mode) {
    let lab = mode.lab("e2e-rundir", 2, 20);
    let client = client_of(&lab, 1);
    assert_eq!(landed(&lab, client), "unix1");
    let other: PathBuf = lab.node(1).dir().join("run2");
    let refused = run(&mut daemon_in(&lab, 1, &other), PATIENCE).unwrap();
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    let pid = lab.node(1).onevip().unwrap();
    assert!(!refused.status.success() && words.contains(&format!("another onevip (pid {pid})")), "{words}");
    assert_eq!(landed(&lab, client), "unix1", "the first serves as before");

    kill_daemon(&lab, 1);
    let log = lab.node(1).dir().join("run2.log");
    spawn_background(&mut daemon_in(&lab, 1, &other), &log).unwrap();
    // The lease of the first outlives it by a moment, in which it is still the one that answers.
    wait("the second to take the first one's programs off", || {
        std::fs::read_to_string(&log).unwrap_or_default().contains("another onevip, which runs no more")
    });
    wait("an answer", || pings(&lab, client));
    assert_eq!(landed(&lab, client), "unix1");
}

/// Takes its mount away again, which nobody else would.
struct Cover(PathBuf);

impl Drop for Cover {
    fn drop(&mut self) {
        // The pins of the second daemon are mounted in it.
        let _ = umount2(&self.0.join("bpf"), MntFlags::MNT_DETACH);
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_second_mount_over_the_run_directory_leaves_one_daemon() {
    let lab = Mode::Tcx.lab("e2e-cover", 2, 20);
    let client = client_of(&lab, 1);
    let run_dir = lab.node(1).run_dir();
    mount(Some("tmpfs"), &run_dir, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    let _cover = Cover(run_dir);
    let refused = run(&mut lab.node(1).onevip_command("run").unwrap(), PATIENCE).unwrap();
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("another onevip (pid "), "{words}");
    kill_daemon(&lab, 1);
    lab.node(1).start_onevip().unwrap();
    all_claim(&lab);
    assert_eq!(landed(&lab, client), "unix1");
}
