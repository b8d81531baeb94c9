//! What others remove, by hand or as network managers do, is back at once; sessions do not notice.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use onevip_host::cluster_mac;
use onevip_host::netlink::Netlink;
use onevip_lab::net::ip_batch;
use onevip_lab::plan::{LabPlan, v6 as v6_of};
use onevip_lab::{Host, Lab};

use crate::common::{
    CLUSTER_MAC, Mode, Session, VIP, VIP6, Watch, bpf, client_of, client_of_each_family, in_every_mode,
    landed, pings, status, wait,
};

in_every_mode!(what_is_removed_by_hand_is_back_at_once, an_interface_made_anew_gets_everything_again);

/// What is promised is 100 ms; a busy machine may take its time before a test fails.
const LATE: Duration = Duration::from_secs(1);
const ROUNDS: usize = 5;

/// Something that can be removed, and how to see that it is back.
struct Part<'a> {
    name: String,
    remove: Box<dyn Fn() + 'a>,
    is_there: Box<dyn Fn() -> bool + 'a>,
}

fn what_is_removed_by_hand_is_back_at_once(mode: Mode) {
    let lab = mode.lab("e2e-back", 2, 20);
    let mut session = Session::open(&lab, client_of(&lab, 1));
    let resets = Watch::resets(&lab);
    let index = interface_index(&lab);
    let pins = lab.node(1).run_dir().join("bpf");
    let mut parts = vec![address(&lab, VIP.into()), address(&lab, VIP6.into()), mac(&lab)];
    match mode {
        Mode::Tcx => parts.extend(links(&pins, index, &["ingress", "egress"])),
        Mode::Clsact => parts.extend(filters(&lab)),
        Mode::Xdp => parts.extend(links(&pins, index, &["ingress", "egress", "xdp"])),
    }
    for part in &parts {
        let mut took: Vec<Duration> = (0..ROUNDS).map(|_| time_to_repair(part)).collect();
        took.sort();
        let (median, longest) = (took[ROUNDS / 2], took[ROUNDS - 1]);
        println!("{mode:?}: {} back after {median:?} (median), {longest:?} (longest)", part.name);
        assert!(longest < LATE, "{}: {took:?}", part.name);
        assert!(session.echoes(), "{}", part.name);
    }
    // Of all but the cluster MAC, which the kernel takes again without saying whether it was missing.
    let log = lab.node(1).onevip_log();
    assert!(log.matches("it is back").count() >= (parts.len() - 1) * ROUNDS, "{log}");
    assert_eq!(resets.seen(), []);
}

fn time_to_repair(part: &Part) -> Duration {
    assert!((part.is_there)(), "{} is not there to begin with", part.name);
    let start = Instant::now();
    (part.remove)();
    wait(&part.name, || (part.is_there)());
    start.elapsed()
}

fn interface_index(lab: &Lab) -> u32 {
    lab.inside("unix1", || nix::net::if_::if_nametoindex("eth0").unwrap()).unwrap()
}

fn address(lab: &Lab, vip: IpAddr) -> Part<'_> {
    let has_vip = move || Netlink::open().unwrap().addresses().unwrap().iter().any(|a| a.ip == vip);
    let prefix = format!("{vip}/{}", if vip.is_ipv4() { 32 } else { 128 });
    Part {
        name: format!("address {vip}"),
        remove: Box::new(move || {
            lab.exec_ok("unix1", &["ip", "addr", "del", &prefix, "dev", "eth0"]).unwrap();
        }),
        is_there: Box::new(move || lab.inside("unix1", has_vip).unwrap()),
    }
}

fn mac(lab: &Lab) -> Part<'_> {
    let joined = || cluster_mac::group::is_joined("eth0", [1, 0, 0x5e, 0x33, 0x64, 0x0a]).unwrap();
    Part {
        name: "cluster MAC".into(),
        remove: Box::new(|| {
            lab.exec_ok("unix1", &["ip", "maddr", "del", CLUSTER_MAC, "dev", "eth0"]).unwrap();
        }),
        is_there: Box::new(move || lab.inside("unix1", joined).unwrap()),
    }
}

/// Links that are detached, as by `bpftool link detach`, or whose pin is removed, as by `rm`.
fn links<'a>(pins: &Path, index: u32, hooks: &[&str]) -> Vec<Part<'a>> {
    let pin = |hook: &&str| (hook.to_string(), pins.join(format!("{hook}_{index}")));
    let detached = |(hook, path): (String, PathBuf)| Part {
        name: format!("{hook} program"),
        remove: Box::new({
            let path = path.clone();
            move || bpf::detach_link(&path)
        }),
        is_there: Box::new(move || bpf::link_interface(&path).is_ok_and(|at| at == index)),
    };
    let unlinked = |(hook, path): (String, PathBuf)| Part {
        name: format!("pin of the {hook} program"),
        remove: Box::new({
            let path = path.clone();
            move || fs::remove_file(&path).unwrap()
        }),
        is_there: Box::new(move || bpf::link_interface(&path).is_ok_and(|at| at == index)),
    };
    hooks.iter().map(pin).map(detached).chain(hooks.iter().map(pin).map(unlinked)).collect()
}

fn filters(lab: &Lab) -> Vec<Part<'_>> {
    let shown = |side: &'static str| {
        move || {
            let filters = lab.exec_ok("unix1", &["tc", "filter", "show", "dev", "eth0", side]);
            filters.is_ok_and(|text| text.contains(&format!("onevip_{side}")))
        }
    };
    let of = |name: &str, words: &'static [&'static str], side: &'static str| Part {
        name: name.into(),
        // The kernel refuses to remove a qdisc of which somebody is just being told.
        remove: Box::new(move || wait("tc", || lab.exec("unix1", words).unwrap().status.success())),
        is_there: Box::new(shown(side)),
    };
    vec![
        of("ingress filter", &["tc", "filter", "del", "dev", "eth0", "ingress"], "ingress"),
        of("egress filter", &["tc", "filter", "del", "dev", "eth0", "egress"], "egress"),
        of("clsact qdisc", &["tc", "qdisc", "del", "dev", "eth0", "clsact"], "ingress"),
    ]
}

#[test]
fn a_link_that_was_down_comes_back_with_everything() {
    let lab = Mode::Tcx.lab("e2e-link", 2, 20);
    let client = client_of(&lab, 1);
    let mut session = Session::open(&lab, client);
    let resets = Watch::resets(&lab);
    lab.exec_ok("unix1", &["ip", "link", "set", "eth0", "down"]).unwrap();
    assert!(!pings(&lab, client));
    lab.exec_ok("unix1", &["ip", "link", "set", "eth0", "up"]).unwrap();
    wait("an answer", || pings(&lab, client));
    assert!(session.echoes());
    assert_eq!(landed(&lab, client), "unix1");
    assert_eq!(resets.seen(), []);
}

/// With fixed nodes, and the IPv6 address a while after the other one: each family is served when it can be.
fn an_interface_made_anew_gets_everything_again(mode: Mode) {
    let lab = mode.lab("e2e-anew", 2, 20);
    let ([v4, v6], old_index) = (client_of_each_family(&lab, 1), interface_index(&lab));
    let mut sessions = [v4, v6].map(|client| Session::open(&lab, client));
    let resets = Watch::resets(&lab);
    lab.exec_ok("unix1", &["ip", "link", "del", "eth0"]).unwrap();
    let (netns, mac) = (lab.name().netns(Host::Node(1)), LabPlan::mac(Host::Node(1)));
    let port = format!(
        "link add unix1 type veth peer name eth0 address {mac} netns {netns}\nlink set unix1 master br0 up\n"
    );
    ip_batch(lab.name(), Host::Switch, &port).unwrap();
    let station = format!("addr add {}/24 dev eth0\nlink set eth0 up\n", lab.node(1).address());
    ip_batch(lab.name(), Host::Node(1), &station).unwrap();
    assert_ne!(interface_index(&lab), old_index);
    wait("an answer", || pings(&lab, v4));
    assert!(sessions[0].echoes());
    assert_eq!(landed(&lab, v4), "unix1");
    ip_batch(lab.name(), Host::Node(1), &format!("addr add {}/64 dev eth0 nodad\n", v6_of(11))).unwrap();
    wait("an answer by IPv6", || pings(&lab, v6));
    assert!(sessions[1].echoes());
    assert_eq!(landed(&lab, v6), "unix1");
    let attached = &status(&lab, 1)["attached"];
    assert_eq!((attached.as_array().unwrap().len(), &attached[0]["interface"]), (1, &"eth0".into()));
    assert_eq!(resets.seen(), []);
}
