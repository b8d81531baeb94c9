//! `onevip teardown` leaves a host exactly as it was, however the daemon ended and whatever the administrator had there
//! (but for a VIP of their own: see `addresses`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use onevip_lab::{Host, Lab, netns};

use crate::common::{
    CLUSTER_MAC, Mode, VIP, bpf, complaint, in_every_mode, kill_daemon, onevip, status, wait,
};

in_every_mode!(teardown_restores_the_host_exactly);

fn teardown_restores_the_host_exactly(mode: Mode) {
    let lab = Lab::up(mode.options("e2e-down", 1, 3).no_onevip()).unwrap();
    // The daemon makes its run directory itself.
    fs::remove_dir(lab.node(1).run_dir()).unwrap();
    comes_and_goes(&lab, |lab| lab.node(1).stop_onevip());
    comes_and_goes(&lab, |lab| kill_daemon(lab, 1));
    // What an administrator had set up, and what other programs did, is left alone.
    netns::inside(lab.name(), Host::Node(1), || netns::sysctl("ipv4/conf/eth0/arp_announce", "1"))
        .unwrap()
        .unwrap();
    for words in [
        "ip maddr add 01:00:5e:00:00:77 dev eth0",
        "ip addr add 198.51.100.200/24 dev eth0",
        "tc qdisc add dev eth0 clsact",
        "tc filter add dev eth0 ingress prio 7 protocol ip bpf bytecode 1,6_0_0_0",
    ] {
        let words: Vec<String> = words.split(' ').map(|word| word.replace('_', " ")).collect();
        lab.exec_ok("unix1", &words.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    }
    comes_and_goes(&lab, |lab| lab.node(1).stop_onevip());
    // Even the cluster MAC, when it was there first. (Not the VIP: see `addresses`.)
    lab.exec_ok("unix1", &["ip", "maddr", "add", CLUSTER_MAC, "dev", "eth0"]).unwrap();
    comes_and_goes(&lab, |lab| kill_daemon(lab, 1));
}

#[test]
fn a_changed_interface_leaves_nothing_behind_on_the_old_one() {
    let lab = Lab::up(Mode::Tcx.options("e2e-moved", 1, 3).no_onevip()).unwrap();
    for words in [
        "ip link add eth1 type veth peer name far1",
        "ip link set far1 up",
        "ip link set eth1 up",
        "ip addr add 198.51.100.211/24 dev eth1",
    ] {
        lab.exec_ok("unix1", &words.split(' ').collect::<Vec<_>>()).unwrap();
    }
    let on = |interface: &str| {
        let show = |words: &[&str]| lab.exec_ok("unix1", words).unwrap();
        let address = show(&["ip", "addr", "show", "dev", interface]).contains(&format!("{VIP}/32"));
        let mac = show(&["ip", "maddr", "show", "dev", interface]).contains(CLUSTER_MAC);
        let said = status(&lab, 1).to_string();
        (address, mac, said.contains(&format!("\"interface\":\"{interface}\",\"mode\"")))
    };
    lab.node(1).start_onevip().unwrap();
    assert_eq!((on("eth0"), on("eth1")), ((true, true, true), (false, false, false)));
    lab.node(1).stop_onevip();
    let text = fs::read_to_string(lab.node(1).config()).unwrap();
    lab.write_config(&text.replace("interface = \"eth0\"", "interface = \"eth1\"")).unwrap();
    lab.node(1).start_onevip().unwrap();
    assert_eq!((on("eth0"), on("eth1")), ((false, false, false), (true, true, true)));
}

/// The daemon runs, ends as `end` has it, and is torn down, twice; the host is compared with what it was.
fn comes_and_goes(lab: &Lab, end: impl Fn(&Lab)) {
    let before = snapshot(lab);
    lab.node(1).start_onevip().unwrap();
    assert_ne!(snapshot(lab), before);
    let objects = objects(&lab.node(1).run_dir().join("bpf"));
    assert!(objects.len() >= 9, "six maps and three programs at least: {objects:?}");
    assert!(complaint(lab, 1, &["teardown"]).contains("already runs here"));
    end(lab);
    for said in ["removed the kernel part", "nothing to remove"] {
        let output = onevip(lab, 1, &["teardown"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains(said), "{output:?}");
    }
    let after = snapshot(lab);
    let all = before.keys().chain(after.keys()).collect::<std::collections::BTreeSet<_>>();
    for what in all {
        assert_eq!(after.get(what), before.get(what), "{what}");
    }
    // The kernel frees them a moment after their last user is gone.
    wait("programs, maps and links to be gone", || !objects.iter().any(|&(kind, id)| bpf::exists(kind, id)));
}

/// Every object that is pinned in a directory.
fn objects(pins: &Path) -> Vec<(bpf::Kind, u32)> {
    let entries = fs::read_dir(pins).unwrap().flatten();
    let kind = |name: &str| match name.split_once('_') {
        None | Some(("last", _)) => bpf::Kind::Map,
        Some(("program" | "clsact" | "qdisc", _)) => bpf::Kind::Program,
        Some(_) => bpf::Kind::Link,
    };
    let pins = entries.filter(|entry| !entry.file_name().to_string_lossy().contains('.'));
    pins.map(|entry| (kind(&entry.file_name().to_string_lossy()), bpf::id(&entry.path()).unwrap())).collect()
}

/// Everything about a host that onevip could leave a mark on, in words.
fn snapshot(lab: &Lab) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    for words in [
        "ip -d addr",
        "ip -d link",
        "ip maddr",
        "ip rule",
        "ip route show table all",
        "tc qdisc",
        "tc filter show dev eth0 ingress",
        "tc filter show dev eth0 egress",
    ] {
        let output = lab.exec("unix1", &words.split(' ').collect::<Vec<_>>()).unwrap();
        seen.insert(words.to_owned(), String::from_utf8_lossy(&output.stdout).into_owned());
    }
    seen.extend(lab.inside("unix1", || sysctls(Path::new("/proc/sys/net"))).unwrap());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let here = lab.node(1).dir().display().to_string();
    // The number of a mount may change, its place may not.
    let places = mounts.lines().filter(|line| line.contains(&here)).filter_map(|line| line.split(' ').nth(4));
    seen.insert("mounts".into(), places.collect::<Vec<_>>().join("\n"));
    seen.insert("run directory".into(), lab.node(1).run_dir().exists().to_string());
    seen
}

/// The settings of all interfaces and of the stack. Some, of IPv6, cannot be read before they are set.
fn sysctls(dir: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path());
    let (dirs, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let read = |path: &std::path::PathBuf| {
        let text = fs::read_to_string(path).unwrap_or_default();
        // Counters of the whole machine, and the state of a random generator, are no settings.
        let lives = ["nf_conntrack_count", "tcp_fastopen_key", "entries"].iter().any(|n| path.ends_with(n));
        (!lives).then(|| (path.display().to_string(), text))
    };
    files.iter().filter_map(read).chain(dirs.iter().flat_map(|dir| sysctls(dir))).collect()
}
