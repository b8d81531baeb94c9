//! `delivery = "flood"`: a unicast cluster MAC that no switch ever learns, so that every switch floods it, also one that
//! snoops.

use std::fs::{self, File};
use std::net::IpAddr;
use std::process::{Child, Stdio};

use onevip_lab::netns::{self, sysctl};
use onevip_lab::plan::{v4, v6, vip6};
use onevip_lab::{Host, Lab, LabFault, Options, wait_until};

use super::PATIENCE;
use super::address_families::{client_of, landed, takes_its_share};

/// What the bridge learns while this lives.
struct Learning {
    monitor: Child,
    log: std::path::PathBuf,
}

impl Learning {
    fn of(lab: &Lab) -> Self {
        let log = lab.dir().join("fdb.log");
        let mut monitor = lab.command("switch", "bridge").unwrap();
        monitor.args(["monitor", "fdb"]).stdout(File::create(&log).unwrap()).stderr(Stdio::null());
        Self { monitor: monitor.spawn().unwrap(), log }
    }

    fn so_far(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Learning {
    fn drop(&mut self) {
        let _ = self.monitor.kill();
        let _ = self.monitor.wait();
    }
}

fn flooded(name: &str) -> Lab {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests build network namespaces: run them as root (make test)"
    );
    let flood =
        |text: String| text.replace("interface = \"eth0\"\n", "interface = \"eth0\"\ndelivery = \"flood\"\n");
    let options = Options::test(name).nodes(3).clients(24).no_onevip().edit_config(flood).unwrap();
    let lab = Lab::up(options).unwrap();
    assert!(lab.cluster_mac().starts_with("02:6f:76:"), "{}", lab.cluster_mac());
    lab
}

fn wait(what: &str, condition: impl FnMut() -> bool) {
    wait_until(PATIENCE, what, condition).unwrap();
}

/// How often a node gave a packet this verdict.
fn verdicts(lab: &Lab, node: u8, reason: &str) -> u64 {
    lab.node(node).onevip_status().unwrap()["verdicts"]["ingress"][reason].as_u64().unwrap()
}

/// A client of each node in each family.
fn one_client_of_each(lab: &Lab) -> Vec<(String, IpAddr)> {
    let families = [lab.clients(), lab.clients6()];
    let hosts = ["unix1", "unix2", "unix3"];
    families
        .iter()
        .flat_map(|clients| hosts.map(|host| (host.to_owned(), client_of(clients, lab, host))))
        .collect()
}

fn all_log_in(lab: &Lab, clients: &[(String, IpAddr)]) {
    for (host, client) in clients {
        assert_eq!(landed(lab, *client).as_ref(), Some(host), "{client}");
    }
}

/// One node loses its power, its clients land elsewhere, and it comes back.
fn unix2_fails_and_comes_back(lab: &Lab, clients: &[(String, IpAddr)]) {
    lab.fault(&LabFault::PowerOff(2)).unwrap();
    for (_, client) in clients.iter().filter(|(host, _)| host == "unix2") {
        wait("somebody else to serve", || landed(lab, *client).is_some_and(|host| host != "unix2"));
    }
    lab.heal(Some("unix2")).unwrap();
    // A lab that was built without daemons boots without.
    lab.node(2).start_onevip().unwrap();
    takes_its_share(lab, 2);
    // IPv6 solicitations are multicast, and a switch that snoops has to hear of a new listener first.
    for (host, client) in clients {
        wait("its clients to land where they did", || landed(lab, *client).as_ref() == Some(host));
    }
}

#[test]
fn a_flooded_mac_reaches_all_and_is_learned_by_nobody() {
    let lab = flooded("flood");
    let learning = Learning::of(&lab);
    lab.start_onevip().unwrap();
    let clients = one_client_of_each(&lab);
    all_log_in(&lab, &clients);

    // Every node hears what one of them answers.
    for vip in lab.vip() {
        let foreign = || [1, 2, 3].map(|node| verdicts(&lab, node, "icmp-foreign"));
        let before = foreign();
        let from = clients.iter().find(|(_, client)| client.is_ipv6() == vip.is_ipv6()).unwrap().1;
        let words = ["ping", "-n", "-c4", "-i0.2", "-W2", "-I", &from.to_string(), &vip.to_string()];
        let said = lab.exec_ok("client", &words).unwrap();
        assert!(said.contains("4 received") && !said.contains("DUP!"), "{said}");
        let heard = foreign().iter().zip(before).filter(|(now, before)| *now - before >= 4).count();
        assert_eq!(heard, 2, "all but the owner saw the requests for {vip}");
    }
    let known = lab.exec_ok("client", &["ip", "neigh", "show", "dev", "eth0"]).unwrap();
    for vip in lab.vip() {
        let entry = known.lines().find(|line| line.starts_with(&format!("{vip} "))).unwrap();
        assert!(entry.contains(lab.cluster_mac()), "{known}");
    }

    a_newcomer_is_told_that_the_address_is_taken(&lab);
    announces_itself(&lab, 1);
    unix2_fails_and_comes_back(&lab, &clients);

    // What teardown leaves.
    lab.node(3).stop_onevip();
    let listed = || lab.exec_ok("unix3", &["bridge", "fdb", "show", "dev", "eth0"]).unwrap();
    assert!(listed().contains(lab.cluster_mac()), "sessions outlive the daemon, and so must what they hear");
    assert!(lab.node(3).onevip_command("teardown").unwrap().status().unwrap().success());
    assert!(!listed().contains(lab.cluster_mac()), "{}", listed());
    for (_, client) in &clients {
        wait("the others to serve", || landed(&lab, *client).is_some_and(|host| host != "unix3"));
    }

    let learned = learning.so_far();
    assert!(learned.contains(&lab.node(2).mac()), "unix2 was booted while the bridge learned: {learned}");
    assert!(!learned.contains(lab.cluster_mac()), "{learned}");
    let table = lab.exec_ok("switch", &["bridge", "fdb", "show", "br", "br0"]).unwrap();
    assert!(lab.nodes().all(|node| table.contains(&node.mac())), "{table}");
    assert!(!table.contains(lab.cluster_mac()), "{table}");
}

/// Another host comes up with the IPv6 VIP: it asks, from nowhere, whether somebody has it.
fn a_newcomer_is_told_that_the_address_is_taken(lab: &Lab) {
    netns::inside(lab.name(), Host::Client2, || {
        sysctl("ipv6/conf/all/accept_dad", "1")?;
        sysctl("ipv6/conf/eth0/accept_dad", "1")
    })
    .unwrap()
    .unwrap();
    let vip = format!("{}/64", vip6());
    lab.exec_ok("client2", &["ip", "addr", "add", &vip, "dev", "eth0"]).unwrap();
    let taken = || lab.exec_ok("client2", &["ip", "-6", "addr", "show", "dev", "eth0"]).unwrap();
    wait("the newcomer to hear that it is taken", || taken().contains("dadfailed"));
    lab.exec_ok("client2", &["ip", "addr", "del", &vip, "dev", "eth0"]).unwrap();
}

/// A node whose kernel is told to announce its addresses when its link comes up.
fn announces_itself(lab: &Lab, node: u8) {
    netns::inside(lab.name(), Host::Node(node), || {
        sysctl("ipv4/conf/eth0/arp_notify", "1")?;
        sysctl("ipv6/conf/eth0/ndisc_notify", "1")
    })
    .unwrap()
    .unwrap();
    let tap = lab.tap("switch", &format!("unix{node}")).unwrap();
    let name = format!("unix{node}");
    for state in ["down", "up"] {
        lab.exec_ok(&name, &["ip", "link", "set", "eth0", state]).unwrap();
    }
    let vip: [u8; 4] = v4(10).octets();
    let deadline = std::time::Instant::now() + PATIENCE;
    let announced = std::iter::from_fn(|| tap.next(deadline).ok().flatten())
        .find(|frame| frame.get(12..14) == Some(&[8, 6]) && frame.get(28..32) == Some(&vip))
        .expect("a gratuitous announcement of the VIP");
    let mac: Vec<String> = announced[22..28].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(mac.join(":"), lab.cluster_mac());
    // Taking the link down took its own IPv6 address with it.
    let own = format!("{}/64", v6(10 + node));
    lab.exec_ok(&name, &["ip", "addr", "replace", &own, "dev", "eth0", "nodad"]).unwrap();
    takes_its_share(lab, node);
}

/// What [`a_snooping_switch_is_named_by_status_and_doctor`](../operations/doctor.rs) shows to fail with `multicast` works here.
#[test]
fn a_flooded_mac_passes_a_snooping_switch_with_a_querier() {
    let lab = flooded("floodsn");
    lab.start_onevip().unwrap();
    lab.fault(&LabFault::Snoop).unwrap();
    wait("the querier to take over", || withholds_multicast(&lab));
    let before: Vec<usize> = lab.nodes().map(|node| outs(&node.onevip_log())).collect();
    let clients = one_client_of_each(&lab);
    for (host, client) in &clients {
        // A switch that snoops on MLD hears of listeners when its querier asks, twice in its first minute.
        let within = std::time::Duration::from_secs(90);
        wait_until(within, "solicitations to pass", || landed(&lab, *client).as_ref() == Some(host)).unwrap();
    }
    for node in lab.nodes() {
        assert_eq!(node.onevip_status().unwrap()["vips"][0]["membership"]["hint"], serde_json::Value::Null);
    }
    let after: Vec<usize> = lab.nodes().map(|node| outs(&node.onevip_log())).collect();
    assert_eq!(before, after, "nobody was taken for dead");
    unix2_fails_and_comes_back(&lab, &clients);
}

fn outs(log: &str) -> usize {
    log.lines().filter(|line| line.contains(" is out")).count()
}

/// Whether the bridge withholds IP packets to a multicast MAC, so that the test is about something: `unix1` has an address
/// that `client2` believes to be at one.
fn withholds_multicast(lab: &Lab) -> bool {
    const MAC: &str = "01:00:5e:00:00:77";
    let address = v4(99).to_string();
    // Twice does no harm, and may be refused.
    let _ = lab.exec("unix1", &["ip", "addr", "add", &format!("{address}/32"), "dev", "eth0"]);
    let _ = lab.exec("unix1", &["ip", "maddr", "add", MAC, "dev", "eth0"]);
    lab.exec_ok("client2", &["ip", "neigh", "replace", &address, "lladdr", MAC, "dev", "eth0"]).unwrap();
    let tap = lab.tap("unix1", "eth0").unwrap();
    lab.exec("client2", &["ping", "-n", "-c1", "-W1", &address]).unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_millis(200);
    !tap.until(until).unwrap().iter().any(|frame| frame.starts_with(&[1, 0, 0x5e, 0, 0, 0x77]))
}

#[test]
fn a_switch_that_does_not_flood_is_named() {
    let lab = flooded("floodoff");
    lab.start_onevip().unwrap();
    let flood = |word: &str| {
        for node in lab.nodes() {
            let words = ["bridge", "link", "set", "dev", &node.name(), "flood", word];
            lab.exec_ok("switch", &words).unwrap();
        }
    };
    let hint = || {
        let status = lab.node(1).onevip_status().unwrap();
        status["vips"][0]["membership"]["hint"].as_str().unwrap_or_default().to_owned()
    };
    flood("off");
    wait("the status to name the switch", || hint().contains("does not flood"));
    let doctor = lab.node(1).onevip_command("doctor").unwrap().output().unwrap();
    let found = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(found.contains("[switch-does-not-flood]"), "{found}");
    flood("on");
    wait("the hint to go away", || hint().is_empty());
}
