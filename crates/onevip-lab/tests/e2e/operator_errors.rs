//! What users and accidents get wrong: each is refused with words that say what to do, and nothing breaks by it.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use onevip_lab::process::{run, run_ok};
use onevip_lab::{Lab, daemon};

use crate::common::{
    Mode, PATIENCE, Session, Watch, bpf, client_of, complaint, in_every_mode, kill_daemon, landed, onevip,
    status, wait,
};

in_every_mode!(damaged_maps_are_rebuilt_without_touching_sessions);

/// A lab of one node on which nothing runs yet.
fn one_node(name: &str) -> Lab {
    Lab::up(Mode::Tcx.options(name, 1, 3).no_onevip()).unwrap()
}

fn addresses(lab: &Lab, host: &str) -> String {
    lab.exec_ok(host, &["ip", "-br", "addr"]).unwrap()
}

#[test]
fn a_second_daemon_is_refused() {
    let lab = Mode::Tcx.lab("e2e-second", 1, 3);
    let pid = lab.node(1).onevip().unwrap();
    let said = complaint(&lab, 1, &["run"]);
    assert!(said.contains(&format!("another onevip (pid {pid}) already runs here")), "{said}");
    assert!(said.contains("stop it first"), "{said}");
    assert_eq!(lab.node(1).onevip(), Some(pid));
    assert_eq!(landed(&lab, lab.clients()[0]), "unix1");
}

#[test]
fn who_is_not_root_is_told_so() {
    let lab = Mode::Tcx.lab("e2e-root", 1, 3);
    // Where everybody can reach them: the lab's directory is root's alone.
    let dir = std::env::temp_dir().join(format!("onevip-e2e-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let (program, file) = (dir.join("onevip"), dir.join("onevip.toml"));
    // Not copied by this process: while its descriptor for writing is inherited by what another test starts, nobody can
    // run the copy.
    run_ok(Command::new("cp").arg(daemon::program().unwrap()).arg(&program), PATIENCE).unwrap();
    fs::copy(lab.node(1).config(), &file).unwrap();
    let run_dir = lab.node(1).run_dir();
    let as_nobody = |subcommand: &str| {
        let mut command = Command::new(&program);
        command.arg(subcommand).arg("--config").arg(&file).arg("--run-dir").arg(&run_dir);
        run(command.args(["--node", "unix1"]).uid(65534).gid(65534), PATIENCE)
    };
    let outputs = ["run", "teardown", "status"].map(as_nobody);
    fs::remove_dir_all(&dir).unwrap();
    for (output, wanted) in outputs.into_iter().zip([
        "run it with sudo",
        "run it with sudo",
        "you may not talk to the onevip daemon",
    ]) {
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(wanted), "{said}");
    }
}

/// Other nodes of the cluster that already serve the VIP are no strangers, nor is an address that is here already.
#[test]
fn a_node_that_joins_a_running_cluster_takes_nobody_for_a_stranger() {
    let lab = Mode::Tcx.lab("e2e-joins", 2, 20);
    lab.node(2).stop_onevip();
    assert!(onevip(&lab, 2, &["teardown"]).status.success());
    assert!(!addresses(&lab, "unix2").contains("198.51.100.10/"));
    lab.node(2).start_onevip().unwrap();
    assert_eq!(landed(&lab, client_of(&lab, 2)), "unix2");
}

#[test]
fn pins_of_somebody_else_are_left_alone() {
    let lab = one_node("e2e-foreign");
    let pins = lab.node(1).run_dir().join("bpf");
    onevip_bpf::ensure_bpffs(&pins).unwrap();
    fs::create_dir(pins.join("theirs")).unwrap();
    let said = complaint(&lab, 1, &["run"]);
    assert!(said.contains("theirs"), "{said}");
    assert!(pins.join("theirs").exists());
    assert!(!addresses(&lab, "unix1").contains("198.51.100.10/"));
    fs::remove_dir(pins.join("theirs")).unwrap();
    lab.node(1).start_onevip().unwrap();
}

#[test]
fn a_bad_file_changes_nothing() {
    let lab = Mode::Tcx.lab("e2e-file", 1, 3);
    let mut session = Session::open(&lab, lab.clients()[0]);
    let file = lab.dir().join("onevip.toml");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, good.replace("membership", "membershop")).unwrap();
    let output = onevip(&lab, 1, &["run"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("membershop"));
    assert_eq!(landed(&lab, lab.clients()[1]), "unix1", "the running daemon goes on");
    kill_daemon(&lab, 1);
    assert_eq!(onevip(&lab, 1, &["run"]).status.code(), Some(2));
    assert!(session.echoes(), "and so do the sessions without one");
    fs::write(&file, good).unwrap();
    lab.node(1).start_onevip().unwrap();
    assert_eq!(landed(&lab, lab.clients()[1]), "unix1");
}

#[test]
fn status_tells_with_and_without_the_daemon() {
    let lab = Mode::Tcx.lab("e2e-status", 2, 20);
    let _session = Session::open(&lab, client_of(&lab, 1));
    wait("the scan to find the session", || status(&lab, 1)["vips"][0]["sessions"] == 1);
    let with = status(&lab, 1);
    assert_eq!(with["daemon"]["pid"], lab.node(1).onevip().unwrap());
    assert_eq!(with["lease"]["live"], true);
    kill_daemon(&lab, 1);
    wait("the lease to run out", || status(&lab, 1)["lease"]["live"] == false);
    let without = status(&lab, 1);
    assert!(without["daemon"].is_null());
    assert!(without["lease"]["left_ms"].as_i64().unwrap() <= 0);
    for same in ["cluster", "node", "node_id", "config_digest", "attached"] {
        assert_eq!(without[same], with[same], "{same}");
    }
    for same in
        ["addresses", "cluster_mac", "interface", "claims", "guests", "elsewhere", "sessions", "nodes"]
    {
        assert_eq!(without["vips"][0][same], with["vips"][0][same], "{same}");
    }
    assert_eq!(with["vips"][0]["claims"], 512);
    let page = String::from_utf8(onevip(&lab, 1, &["status"]).stdout).unwrap();
    assert!(page.contains("not running") && page.contains("sessions held by the kernel part: 1"), "{page}");

    lab.node(2).stop_onevip();
    assert!(onevip(&lab, 2, &["teardown"]).status.success());
    let said = complaint(&lab, 2, &["status"]);
    assert!(said.contains("does not run on this host and left nothing behind"), "{said}");
}

/// Something that happens to what is pinned in a directory.
type Damage = fn(&Path);

fn damaged_maps_are_rebuilt_without_touching_sessions(mode: Mode) {
    let lab = mode.lab("e2e-damage", 2, 20);
    let client = client_of(&lab, 1);
    let mut session = Session::open(&lab, client);
    let resets = Watch::resets(&lab);
    let pins = lab.node(1).run_dir().join("bpf");
    let damages: [(&str, Damage); 4] = [
        ("flags of VIP 7, bucket 0", spoil_flags),
        ("lease runs for another", |pins| {
            bpf::write_element(&pins.join("lease"), 0, &u64::MAX.to_ne_bytes())
        }),
        ("config has a wrong checksum", flip_a_bit),
        ("last_syn missing", |pins| fs::remove_file(pins.join("last_syn")).unwrap()),
    ];
    for (why, damage) in damages {
        kill_daemon(&lab, 1);
        let said = lab.node(1).onevip_log().len();
        damage(&pins);
        lab.node(1).start_onevip().unwrap();
        let wanted = format!("kernel part rebuilt: {why}");
        wait(&wanted, || lab.node(1).onevip_log()[said..].contains(&wanted));
        assert!(session.echoes(), "{why}");
        assert_eq!(landed(&lab, client), "unix1", "{why}");
        assert_eq!(landed(&lab, client_of(&lab, 2)), "unix2", "{why}");
    }
    assert_eq!(resets.seen(), []);
}

/// In a word of a VIP that is not in use.
fn spoil_flags(pins: &Path) {
    let path = pins.join("flags");
    let mut words = bpf::read_element(&path, 0, bpf::value_size(&path));
    words[7 * 1024 * 4..][..4].fill(0xff);
    bpf::write_element(&path, 0, &words);
}

/// In both halves of the configuration, in the seed of a VIP that is not in use.
fn flip_a_bit(pins: &Path) {
    let path = pins.join("config");
    let mut value = bpf::read_element(&path, 0, bpf::value_size(&path));
    let half = (value.len() - 16) / 2;
    for end in [value.len() - half, value.len()] {
        value[end - 12] ^= 1;
    }
    bpf::write_element(&path, 0, &value);
}
