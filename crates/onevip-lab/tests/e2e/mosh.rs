//! mosh through the VIP: Debian's own `mosh`, whose client changes its address to those of other nodes' buckets.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use onevip_lab::ssh::Login;
use onevip_lab::{Lab, LabFault, Options, wait_until};

use crate::common::{must_be_root, onevip, predicted, status};
use crate::terminal::{GREETING, Terminal};
use serde_json::Value;

/// mosh waits for seconds between its attempts when nothing answers.
const PATIENCE: Duration = Duration::from_secs(40);
/// How many slices there are by default.
const SLICES: u16 = 16;

const SERVICE: &str =
    "[[vip.service]]\nprotocol = \"udp\"\nport = \"60000-60999\"\nowner = \"socket\"\n\n[[node]]";

/// Three living nodes that serve mosh.
fn lab(name: &str) -> Lab {
    must_be_root();
    let with_mosh = |text: String| text.replacen("[[node]]", SERVICE, 1);
    Lab::up(Options::test(name).nodes(3).clients(40).edit_config(with_mosh).unwrap()).unwrap()
}

fn wait(what: &str, condition: impl FnMut() -> bool) {
    wait_until(PATIENCE, what, condition).unwrap();
}

/// From now on the client speaks to the VIP from this address, as after moving to another network.
fn moves_to(lab: &Lab, address: IpAddr) {
    let (vip, from) = (lab.vip_for(address).to_string(), address.to_string());
    lab.exec_ok("client", &["ip", "route", "replace", &vip, "dev", "eth0", "src", &from]).unwrap();
}

/// Addresses of the client that belong to a node's buckets.
fn addresses_of(lab: &Lab, host: &str, v6: bool) -> Vec<IpAddr> {
    let all = if v6 { lab.clients6() } else { lab.clients() };
    all.into_iter().filter(|&client| predicted(lab, client) == host).collect()
}

/// Somebody in mosh.
struct Mosh {
    terminal: Terminal,
    typed: u32,
}

impl Mosh {
    /// Logs in from an address.
    fn open(lab: &Lab, from: IpAddr) -> Self {
        moves_to(lab, from);
        let login = Login::of(lab.name());
        let ssh = login.options().iter().fold("ssh".to_owned(), |mut words, option| {
            let _ = write!(words, " {option}");
            words
        });
        let mosh = format!(
            "stty rows 24 cols 80; exec mosh --no-init --ssh='{ssh}' {}@{} -- sh -c '{GREETING}; exec cat'",
            login.user,
            lab.vip_for(from)
        );
        let mut script = lab.command("client", "script").unwrap();
        // `script` gives it the terminal that it insists on.
        script.args(["-qec", &mosh, "/dev/null"]).env("LC_ALL", "C.UTF-8").env("TERM", "xterm");
        Self { terminal: Terminal::open(&mut script), typed: 0 }
    }

    /// Types a line and waits until the other end has answered it. mosh shows at once what is typed, as a guess; so what
    /// counts is the second copy, which `cat` makes, below it.
    fn goes_on(&mut self) {
        self.typed += 1;
        let word = format!("w{}w", self.typed);
        self.terminal.press(&format!("{word}\r"));
        self.terminal.until(&format!("the answer to {word}"), |shown| shown.matches(&word).count() >= 2);
    }
}

/// The UDP ports of the range that are bound on a node.
fn ports(lab: &Lab, node: u8) -> Vec<u16> {
    let listing = lab.exec_ok(&format!("unix{node}"), &["ss", "-Huln"]).unwrap();
    let local = listing.lines().filter_map(|line| line.split_whitespace().nth(3)?.rsplit_once(':'));
    let ports = local.filter_map(|(_, port)| port.parse().ok());
    ports.filter(|port| (60000..61000).contains(port)).collect()
}

#[test]
fn a_mosh_session_goes_on_wherever_its_client_moves() {
    let lab = lab("mosh");
    for v6 in [false, true] {
        let homes: BTreeMap<&str, Vec<IpAddr>> =
            ["unix1", "unix2", "unix3"].map(|host| (host, addresses_of(&lab, host, v6))).into();
        let mut mosh = Mosh::open(&lab, homes["unix1"][0]);
        assert_eq!(mosh.terminal.host, "unix1");
        mosh.goes_on();
        for address in [homes["unix2"][0], homes["unix3"][0], homes["unix2"][1]] {
            moves_to(&lab, address);
            mosh.goes_on();
        }
        assert!(ports(&lab, 2).is_empty(), "nobody else took part");
    }
}

#[test]
fn a_mosh_session_outlives_the_loss_of_another_node_and_the_drain_of_its_own() {
    let lab = lab("moshdrain");
    let [first, second, third] = ["unix1", "unix2", "unix3"].map(|host| addresses_of(&lab, host, false));
    let mut mosh = Mosh::open(&lab, first[0]);
    mosh.goes_on();
    moves_to(&lab, second[0]);
    mosh.goes_on();
    lab.fault(&LabFault::PowerOff(2)).unwrap();
    mosh.goes_on();
    lab.heal(None).unwrap();

    let mut drain = lab.node(1).onevip_command("drain").unwrap();
    assert!(drain.status().unwrap().success());
    wait("unix1 to claim nothing", || lab.node(1).claims() == Some(0));
    mosh.goes_on();
    moves_to(&lab, third[0]);
    mosh.goes_on();
    is_told_and_waited_for(&lab);
    // Whoever logs in now does so elsewhere, and at another port.
    let mut newcomer = Mosh::open(&lab, first[1]);
    assert_ne!(newcomer.terminal.host, "unix1");
    newcomer.goes_on();
    mosh.goes_on();
}

/// `onevip who` knows of the session on unix1, and a drain waits for it.
fn is_told_and_waited_for(lab: &Lab) {
    let who = onevip(lab, 1, &["who", "--json"]);
    let lines = String::from_utf8(who.stdout).unwrap();
    let sessions: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_mosh: Vec<&Value> = sessions.iter().filter(|s| s["program"] == "mosh-server").collect();
    assert_eq!(of_mosh.len(), 1, "{lines}");
    assert_eq!((&of_mosh[0]["user"], &of_mosh[0]["node"]), (&"root".into(), &"unix1".into()), "{lines}");
    wait("the status to count it", || status(lab, 1)["vips"][0]["sessions"].as_u64() >= Some(1));
    let waited = onevip(lab, 1, &["drain", "--wait", "--timeout", "1s"]);
    let said = String::from_utf8_lossy(&waited.stdout).into_owned();
    assert_eq!(waited.status.code(), Some(3), "{said}");
    assert!(said.contains("1 session left: root 1"), "{said}");
}

#[test]
fn no_two_nodes_use_the_same_port() {
    let lab = lab("moshport");
    let hosts = ["unix1", "unix2", "unix3"];
    let users: Vec<Mosh> = hosts
        .iter()
        .flat_map(|host| addresses_of(&lab, host, false).into_iter().take(2).collect::<Vec<_>>())
        .map(|from| Mosh::open(&lab, from))
        .collect();
    assert_eq!(users.len(), 6);
    for node in 1..=3u8 {
        let ports = ports(&lab, node);
        assert_eq!(ports.len(), 2, "{ports:?}");
        assert!(ports.iter().all(|port| port % SLICES == u16::from(node) - 1), "unix{node}: {ports:?}");
        refuses_foreign_ports_and_no_others(&lab, node);
    }
}

/// What a process on a node may bind. (`mosh-server` says why it cannot, and ends.)
fn refuses_foreign_ports_and_no_others(lab: &Lab, node: u8) {
    let host = format!("unix{node}");
    let foreign = 60400 / SLICES * SLICES + u16::from(node);
    let binds = |address: &str, port: u16| {
        let words = format!(
            "use Socket; use IO::Socket::IP; exit !IO::Socket::IP->new(LocalHost => '{address}', LocalPort => {port}, \
             Proto => 'udp', Type => SOCK_DGRAM, V6Only => 0)"
        );
        lab.exec(&host, &["perl", "-e", &words]).unwrap().status.success()
    };
    for address in ["0.0.0.0", "::", "198.51.100.10", "2001:db8::10", "::ffff:198.51.100.10"] {
        assert!(!binds(address, foreign), "{address} port {foreign} on {host}");
        assert!(binds(address, foreign - 1), "{address} port {} on {host} is its own", foreign - 1);
        assert!(binds(address, 61000 + u16::from(node)), "{address}: outside the range");
    }
    for address in ["127.0.0.1", &format!("198.51.100.1{node}")] {
        assert!(binds(address, foreign), "{address} is no address of the VIP");
    }
}
