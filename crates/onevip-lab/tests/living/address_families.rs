//! Living membership by IPv6 alone and by both families at once: it hears, replaces, holds and moves as it does by IPv4.

use std::io::Write;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};

use onevip_lab::plan::{v6, vip4, vip6};
use onevip_lab::{Lab, LabFault, Options, wait_until};

use super::PATIENCE;

/// A lab of three living nodes with this text of the configuration replaced.
pub fn lab(name: &str, replaced: &[(String, &str)]) -> Lab {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests build network namespaces: run them as root (make test)"
    );
    let edit = |text: String| {
        replaced.iter().fold(text, |text, (from, to)| {
            assert!(text.contains(from.as_str()), "{from} is not in {text}");
            text.replace(from.as_str(), to)
        })
    };
    Lab::up(Options::test(name).nodes(3).clients(24).edit_config(edit).unwrap()).unwrap()
}

/// The host on which a login lands; none when it does not succeed.
pub fn landed(lab: &Lab, from: IpAddr) -> Option<String> {
    let output = lab.ssh(Some(from), "hostname").unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The host that `onevip where` names.
fn predicted(lab: &Lab, client: IpAddr) -> String {
    let mut command = lab.node(1).onevip_command("where").unwrap();
    let output = command.args(["--json", &client.to_string()]).output().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["node"].as_str().unwrap().to_owned()
}

/// An address of the client for which `onevip where` names this host.
pub fn client_of(clients: &[IpAddr], lab: &Lab, host: &str) -> IpAddr {
    *clients.iter().find(|&&client| predicted(lab, client) == host).unwrap()
}

fn wait(what: &str, condition: impl FnMut() -> bool) {
    wait_until(PATIENCE, what, condition).unwrap();
}

/// A session with `cat` at its other end.
pub struct Session(Child);

impl Session {
    /// Logs in from this address.
    pub fn open(lab: &Lab, from: IpAddr) -> Self {
        let mut command: Command = lab.ssh_command(lab.vip_for(from), Some(from)).unwrap();
        let session = command.arg("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut session = Self(session);
        session.echoes();
        session
    }

    /// Types a line and waits until it comes back.
    pub fn echoes(&mut self) {
        use std::io::Read;
        self.0.stdin.as_mut().unwrap().write_all(b"still there?\n").unwrap();
        let mut line = [0; 13];
        self.0.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
        assert_eq!(&line, b"still there?\n");
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until a node of three claims its third again. Nobody may log in meanwhile: a bucket with a session stays where it
/// is.
pub fn takes_its_share(lab: &Lab, node: u8) {
    wait("it to take its share", || lab.node(node).claims().is_some_and(|claims| claims >= 341));
}

/// One node loses its power: its clients land elsewhere, the others' sessions go on, and it takes its share again.
fn a_dead_node_is_replaced(lab: &Lab, families: &[Vec<IpAddr>]) {
    let of_unix2: Vec<IpAddr> = families.iter().map(|clients| client_of(clients, lab, "unix2")).collect();
    let of_unix1: Vec<IpAddr> = families.iter().map(|clients| client_of(clients, lab, "unix1")).collect();
    for &client in &of_unix2 {
        assert_eq!(landed(lab, client).as_deref(), Some("unix2"), "{client}");
    }
    let mut sessions: Vec<Session> = of_unix1.iter().map(|&client| Session::open(lab, client)).collect();
    lab.fault(&LabFault::PowerOff(2)).unwrap();
    for &client in &of_unix2 {
        wait("somebody else to serve", || landed(lab, client).is_some_and(|host| host != "unix2"));
    }
    sessions.iter_mut().for_each(Session::echoes);
    let gone = |node: u8| {
        let status = lab.node(node).onevip_status().unwrap();
        let nodes = status["vips"][0]["nodes"].as_array().unwrap().clone();
        nodes.iter().any(|node| node["name"] == "unix2" && node["peer"]["kernel_gone"] == true)
    };
    wait("its kernel to count as gone", || gone(1) && gone(3));
    lab.heal(None).unwrap();
    takes_its_share(lab, 2);
    for &client in &of_unix2 {
        assert_eq!(landed(lab, client).as_deref(), Some("unix2"), "{client}");
    }
    sessions.iter_mut().for_each(Session::echoes);
}

#[test]
fn a_dead_node_is_replaced_in_a_cluster_that_has_ipv6_alone() {
    let v4_of = |node: u8| format!("\"198.51.100.1{node}\", ");
    let replaced = [(format!("\"{}\", ", vip4()), ""), (v4_of(1), ""), (v4_of(2), ""), (v4_of(3), "")];
    let lab = lab("v6-only", &replaced);
    assert_eq!(lab.vip(), [IpAddr::from(vip6())]);
    assert_eq!(lab.cluster_mac(), "33:33:00:00:00:10");
    a_dead_node_is_replaced(&lab, &[lab.clients6()]);
}

#[test]
fn a_dead_node_is_replaced_for_both_families_at_once() {
    let lab = lab("dual", &[]);
    a_dead_node_is_replaced(&lab, &[lab.clients(), lab.clients6()]);
}

/// A node whose file gives no IPv6 address beats from the one that its interface has, or from the link's own.
#[test]
fn nodes_without_an_ipv6_address_in_the_file_beat_from_the_links_own() {
    let v6_of = |node: u8| format!(", \"{}\"]\n", v6(10 + node));
    let replaced = [(v6_of(1), "]\n"), (v6_of(2), "]\n"), (v6_of(3), "]\n")];
    let lab = lab("v6-local", &replaced);
    let status = lab.node(1).onevip_status().unwrap();
    assert!(status["vips"][0]["membership"]["beats_received"].as_u64().unwrap() > 0);
    let clients = lab.clients6();
    for host in ["unix1", "unix2", "unix3"] {
        assert_eq!(landed(&lab, client_of(&clients, &lab, host)).as_deref(), Some(host));
    }
    wait("no family to be missed", || missing(&lab, 1) == [None, None]);
}

/// The family by which a node does not hear the others, one by one.
pub fn missing(lab: &Lab, node: u8) -> [Option<String>; 2] {
    let status = lab.node(node).onevip_status().unwrap();
    let nodes = status["vips"][0]["nodes"].as_array().unwrap().clone();
    let peers = nodes.iter().filter(|other| other["peer"].is_object());
    let mut families =
        peers.map(|peer| peer["peer"]["missing_families"][0].as_str().map(str::to_owned)).collect::<Vec<_>>();
    families.resize(2, None);
    families.try_into().unwrap()
}

/// Something on the way to one node withholds IPv6 to the cluster MAC, as a snooping switch may: the node says so by name,
/// and leaves its share to those that hear both families.
#[test]
fn a_family_that_is_withheld_is_named_and_not_served_blindly() {
    let lab = lab("v6-deaf", &[]);
    let client = client_of(&lab.clients6(), &lab, "unix2");
    let rules = format!(
        "table bridge withhold {{ chain to {{ type filter hook postrouting priority 301; \
         oifname \"unix2\" ip6 daddr {} drop; }}; }}",
        vip6()
    );
    lab.exec_ok("switch", &["nft", &format!("add {rules}")]).unwrap();
    wait("the node to miss a family", || missing(&lab, 2) == [Some("IPv6".into()), Some("IPv6".into())]);
    wait("it to say so", || lab.node(2).onevip_log().contains("but not by IPv6"));
    wait("it to leave its share to others", || lab.node(2).claims() == Some(0));
    let page = lab.node(2).onevip_command("status").unwrap().output().unwrap();
    let page = String::from_utf8_lossy(&page.stdout).into_owned();
    assert!(page.contains("no beat reaches it by IPv6") && page.contains("not heard by IPv6"), "{page}");
    wait("its clients to be served", || landed(&lab, client).is_some_and(|host| host != "unix2"));

    lab.exec_ok("switch", &["nft", "delete table bridge withhold"]).unwrap();
    takes_its_share(&lab, 2);
    assert_eq!(landed(&lab, client).as_deref(), Some("unix2"));
}
