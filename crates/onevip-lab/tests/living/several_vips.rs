//! Several VIPs on one cluster, each with its own nodes and its own state; and sources that are pinned to a node.

use std::collections::BTreeSet;
use std::net::IpAddr;

use onevip_lab::process::{run, run_ok, wait_until};
use onevip_lab::{Lab, LabFault, Options};

use super::PATIENCE;

const LOGIN: usize = 0;
const GPU: usize = 1;
const GPU_ADDRESS: &str = "198.51.100.9";

fn up(name: &str, edit: impl FnOnce(String) -> String) -> Lab {
    let lab = Lab::up(Options::test(name).nodes(3).clients(24).edit_config(edit).unwrap()).unwrap();
    lab.wait_serving(PATIENCE).unwrap();
    lab
}

/// How many buckets of a VIP a node claims; 0 where it is not served.
fn claims(lab: &Lab, node: u8, vip: usize) -> u64 {
    let status = lab.node(node).onevip_status();
    status.ok().and_then(|status| status["vips"][vip]["claims"].as_u64()).unwrap_or(0)
}

fn until(what: &str, condition: impl FnMut() -> bool) {
    wait_until(PATIENCE * 2, what, condition).unwrap();
}

fn command(lab: &Lab, node: u8, words: &[&str]) -> String {
    let mut command = lab.node(node).onevip_command(words[0]).unwrap();
    run_ok(command.args(&words[1..]), PATIENCE).unwrap()
}

/// The host on which a login to this address lands, if it succeeds.
fn landed_at(lab: &Lab, vip: IpAddr, client: IpAddr) -> Option<String> {
    let mut ssh = lab.ssh_command(vip, Some(client)).unwrap();
    let output = run(ssh.arg("hostname"), PATIENCE).ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

fn landed(lab: &Lab, client: IpAddr) -> Option<String> {
    landed_at(lab, lab.vip_for(client), client)
}

/// Where some clients land at the second VIP.
fn gpu_hosts(lab: &Lab) -> BTreeSet<Option<String>> {
    lab.clients()
        .into_iter()
        .take(5)
        .map(|client| landed_at(lab, GPU_ADDRESS.parse().unwrap(), client))
        .collect()
}

/// `login` is served by all, `gpu` by the last two.
fn two_vips(name: &str) -> Lab {
    let gpu = format!(
        "\n[[vip]]\nname = \"gpu\"\naddresses = [\"{GPU_ADDRESS}\"]\ninterface = \"eth0\"\nnodes = [\"unix[2-3]\"]\n"
    );
    let lab = up(name, |text| text + &gpu);
    until("both VIPs to be served by all of theirs", || {
        let login: Vec<u64> = (1..=3).map(|node| claims(&lab, node, LOGIN)).collect();
        login.iter().sum::<u64>() == 1024
            && login.iter().all(|&claims| claims > 0)
            && (claims(&lab, 2, GPU), claims(&lab, 3, GPU)) == (512, 512)
    });
    lab
}

#[test]
fn two_vips_drain_and_fail_over_each_by_itself() {
    let lab = two_vips("svc-pools");
    let only = |host: &str| BTreeSet::from([Some(host.to_owned())]);

    assert!(
        command(&lab, 3, &["drain", "--vip", "gpu", "--wait", "--timeout", "20s"])
            .contains("no session of gpu")
    );
    assert_eq!((claims(&lab, 2, GPU), claims(&lab, 3, GPU)), (1024, 0));
    assert!(claims(&lab, 3, LOGIN) > 300, "it goes on serving the other");
    assert_eq!(gpu_hosts(&lab), only("unix2"));
    let last = run(lab.node(2).onevip_command("drain").unwrap().args(["--vip", "gpu"]), PATIENCE).unwrap();
    let why = String::from_utf8_lossy(&last.stderr).into_owned();
    assert!(!last.status.success() && why.contains("no other node serves gpu"), "{why}");
    let unknown = run(lab.node(1).onevip_command("drain").unwrap().args(["--vip", "gpu"]), PATIENCE).unwrap();
    let why = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(!unknown.status.success() && why.contains("it serves login"), "{why}");
    command(&lab, 3, &["undrain", "--vip", "gpu"]);
    until("unix3 to serve gpu again", || claims(&lab, 3, GPU) > 0);

    lab.fault(&LabFault::PowerOff(3)).unwrap();
    until("both VIPs to fail over", || {
        claims(&lab, 2, GPU) == 1024 && claims(&lab, 1, LOGIN) + claims(&lab, 2, LOGIN) == 1024
    });
    assert_eq!(gpu_hosts(&lab), only("unix2"));
    let login: BTreeSet<_> = lab.clients().into_iter().take(5).map(|client| landed(&lab, client)).collect();
    assert!(!login.contains(&None) && !login.contains(&Some("unix3".to_owned())), "{login:?}");
    lab.heal(None).unwrap();
    until("unix3 to serve both again", || claims(&lab, 3, GPU) > 0 && claims(&lab, 3, LOGIN) > 0);
}

/// The beats of one VIP that a node sends are lost: its lease of that VIP runs out, that of the other does not notice.
#[test]
fn a_vip_whose_lease_runs_out_does_not_silence_another() {
    let lab = two_vips("svc-lease");
    let mac = lab.node(2).mac();
    lab.exec_ok("switch", &["nft", "add table bridge svc"]).unwrap();
    lab.exec_ok("switch", &["nft", "add chain bridge svc way { type filter hook forward priority 0; }"])
        .unwrap();
    let mute =
        format!("add rule bridge svc way ether saddr {mac} ip daddr {GPU_ADDRESS} udp dport 7077 drop");
    lab.exec_ok("switch", &["nft", &mute]).unwrap();
    let lease =
        |vip: usize| lab.node(2).onevip_status().unwrap()["vips"][vip]["lease"]["live"].as_bool().unwrap();
    until("the lease of gpu to run out", || !lease(GPU));
    until("unix3 to stand in", || claims(&lab, 3, GPU) == 1024);
    assert!((0..20).all(|_| lease(LOGIN)), "that of login lives");
    assert!(claims(&lab, 2, LOGIN) > 300);
    let page = command(&lab, 2, &["status"]);
    assert!(page.contains("claims nothing of gpu"), "{page}");
    assert_eq!(gpu_hosts(&lab), BTreeSet::from([Some("unix3".to_owned())]));
}

#[test]
fn pinned_sources_meet_their_node_and_a_spread_network_meets_all() {
    let sources = "\
        [[vip.source]]\nprefix = \"198.51.100.104/29\"\npin = \"unix3\"\n\
        [[vip.source]]\nprefix = \"2001:db8::105\"\npin = \"unix3\"\n\
        [[vip.source]]\nprefix = \"198.51.100.112/28\"\nhash = \"source-ip-port\"\n\n";
    let lab =
        up("svc-pins", |text| text.replacen("  [[vip.service]]", &format!("{sources}  [[vip.service]]"), 1));
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let pinned = ["198.51.100.104", "198.51.100.106", "198.51.100.111", "2001:db8::105"].map(ip);
    let all_land = |on: &dyn Fn(&str) -> bool| {
        pinned.iter().all(|&client| landed(&lab, client).is_some_and(|host| on(&host)))
    };
    until("each node to have its share", || (1..=3).all(|node| claims(&lab, node, LOGIN) > 300));
    assert!(all_land(&|host| host == "unix3"));
    let said = command(&lab, 1, &["where", "198.51.100.106"]);
    assert!(said.contains("is pinned to unix3") && said.contains("→ unix3"), "{said}");
    let said = command(&lab, 1, &["where", "198.51.100.112"]);
    assert!(said.contains("depends on its port") && said.contains("198.51.100.112/28 hashes"), "{said}");

    let spread: BTreeSet<_> = (0..10).map(|_| landed(&lab, ip("198.51.100.112"))).collect();
    assert!(!spread.contains(&None) && spread.len() > 1, "one address, many nodes: {spread:?}");

    lab.fault(&LabFault::PowerOff(3)).unwrap();
    until("the pinned sources to be served elsewhere", || all_land(&|host| host != "unix3"));
    lab.heal(None).unwrap();
    until("unix3 to serve again", || claims(&lab, 3, LOGIN) > 0);
    until("the pinned sources to be back", || all_land(&|host| host == "unix3"));
}
