//! What the end-to-end tests share: labs in every way of attaching, sessions that type, eyes on the wire, and a hand on
//! the words of a node's kernel part.
//!
//! Nothing here asserts what a story is about; it panics only where a story cannot go on.

pub mod bpf;
pub mod mapping;
pub mod router;
pub mod session;
pub mod watch;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Output;
use std::time::Duration;

use onevip_bpf::{Kernel, OpenOutcome, Words};
use onevip_config::Config;
use onevip_core::{Bucket, Flags, Reason};
use onevip_lab::process::run;
use onevip_lab::{Lab, Options, daemon, wait_until};

pub use session::Session;
pub use watch::{Segment, Watch};

/// Long for anything that these tests wait for, even on a machine that is very busy.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The VIP of every lab here, in both families.
pub const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
/// Its cluster MAC.
pub const CLUSTER_MAC: &str = "01:00:5e:33:64:0a";

/// The ways in which packets can reach the authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Tcx,
    Clsact,
    /// tcx behind native XDP.
    Xdp,
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Mode::Tcx => "tcx",
            Mode::Clsact => "clsact",
            Mode::Xdp => "xdp",
        }
    }

    /// Brings a lab up in which every node is attached this way, and makes sure that it is.
    pub fn lab(self, name: &str, nodes: usize, clients: usize) -> Lab {
        let lab = Lab::up(self.options(name, nodes, clients)).unwrap();
        all_claim(&lab);
        let attached = &status(&lab, 1)["attached"][0];
        let (tc, xdp) = (attached["mode"].as_str(), attached["xdp"].as_str());
        let wanted = match self {
            Mode::Tcx => (Some("tcx"), None),
            Mode::Clsact => (Some("clsact"), None),
            Mode::Xdp => (Some("tcx"), Some("xdp")),
        };
        assert_eq!((tc, xdp), wanted);
        lab
    }

    /// The options of such a lab.
    pub fn options(self, name: &str, nodes: usize, clients: usize) -> Options {
        must_be_root();
        daemon::must_be_fresh();
        let accelerate = if self == Mode::Xdp { "accelerate = \"xdp\"" } else { "" };
        let name = format!("{name}-{}", self.word());
        let options =
            Options::new(&name).nodes(nodes).clients(clients).config(config(&name, nodes, accelerate));
        if self == Mode::Clsact { options.env("ONEVIP_ATTACH", "clsact") } else { options }
    }
}

/// Makes a test of a story in each mode: `story::tcx`, `story::clsact`, `story::xdp`.
macro_rules! in_every_mode {
    ($($story:ident),+ $(,)?) => {
        $(mod $story {
            #[test]
            fn tcx() {
                super::$story(crate::common::Mode::Tcx);
            }

            #[test]
            fn clsact() {
                super::$story(crate::common::Mode::Clsact);
            }

            #[test]
            fn xdp() {
                super::$story(crate::common::Mode::Xdp);
            }
        })+
    };
}
pub(crate) use in_every_mode;

/// A configuration for `nodes` nodes with a fixed membership, with `vip_lines` in its `[[vip]]`.
pub fn config(name: &str, nodes: usize, vip_lines: &str) -> String {
    let list = if nodes == 1 { "unix1".into() } else { format!("unix[1-{nodes}]") };
    let node = |id| {
        let last = 10 + id;
        format!(
            "[[node]]\nname = \"unix{id}\"\nid = {id}\naddress = [\"198.51.100.{last}\", \"2001:db8::{last}\"]\n"
        )
    };
    let nodes: String = (1..=nodes).map(node).collect();
    format!(
        "cluster = \"{name}\"\nmembership = \"static\"\n\
         [[vip]]\nname = \"login\"\naddresses = [\"{VIP}\", \"{VIP6}\"]\ninterface = \"eth0\"\nnodes = [\"{list}\"]\n{vip_lines}\n\
         [[vip.service]]\nprotocol = \"tcp\"\nport = 22\n{nodes}"
    )
}

pub fn must_be_root() {
    let root = nix::unistd::geteuid().is_root();
    assert!(root, "these tests build network namespaces: run them as root (make test)");
}

/// Waits until every daemon claims what is its own: it answers commands a moment earlier.
pub fn all_claim(lab: &Lab) {
    for node in lab.nodes() {
        wait("a lease", || status(lab, node.id)["lease"]["live"] == true);
    }
}

/// The configuration of a lab, as its nodes read it.
pub fn read_config(lab: &Lab) -> Config {
    Config::load(&lab.node(1).config()).unwrap()
}

/// The bucket of a client under the default hash.
pub fn bucket(lab: &Lab, client: IpAddr) -> Bucket {
    read_config(lab).vips[0].hasher().bucket(client, 0, 0)
}

/// The number of the node that owns a client's bucket.
pub fn owner(lab: &Lab, client: IpAddr) -> u8 {
    let config = read_config(lab);
    let vip = &config.vips[0];
    config.full_table(vip).owner(vip.hasher().bucket(client, 0, 0)).unwrap().get()
}

/// The first client that belongs to a node.
pub fn client_of(lab: &Lab, node: u8) -> IpAddr {
    let found = lab.clients().into_iter().find(|&client| owner(lab, client) == node);
    found.unwrap_or_else(|| panic!("no client of {} belongs to unix{node}", lab.name()))
}

/// The first client of each family that belongs to a node.
pub fn client_of_each_family(lab: &Lab, node: u8) -> [IpAddr; 2] {
    let found = lab.clients6().into_iter().find(|&client| owner(lab, client) == node);
    [client_of(lab, node), found.unwrap_or_else(|| panic!("no IPv6 client belongs to unix{node}"))]
}

/// What `onevip where` says.
pub fn predicted(lab: &Lab, client: IpAddr) -> String {
    let mut command = lab.node(1).onevip_command("where").unwrap();
    let output = run(command.args(["--json", &client.to_string()]), PATIENCE).unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["node"].as_str().unwrap().to_owned()
}

/// The host on which a client's login lands.
pub fn landed(lab: &Lab, client: IpAddr) -> String {
    let output = lab.ssh(Some(client), "hostname").unwrap();
    assert!(output.status.success(), "{client}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What `onevip SUBCOMMAND …` does on a node.
pub fn onevip(lab: &Lab, node: u8, words: &[&str]) -> Output {
    let (subcommand, arguments) = words.split_first().unwrap();
    let mut command = lab.node(node).onevip_command(subcommand).unwrap();
    run(command.args(arguments), PATIENCE).unwrap()
}

/// What `onevip SUBCOMMAND …` says when it fails, as it must.
pub fn complaint(lab: &Lab, node: u8, words: &[&str]) -> String {
    let output = onevip(lab, node, words);
    assert!(!output.status.success(), "`onevip {}` did not fail", words.join(" "));
    String::from_utf8(output.stderr).unwrap()
}

/// `onevip status --json` of a node.
pub fn status(lab: &Lab, node: u8) -> serde_json::Value {
    let output = onevip(lab, node, &["status", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// How often a node gave a packet a verdict for this reason, in the authority or, early, in XDP.
pub fn verdicts(lab: &Lab, node: u8, reason: Reason) -> u64 {
    let verdicts = &status(lab, node)["verdicts"];
    ["ingress", "xdp"].iter().map(|program| verdicts[program][reason.label()].as_u64().unwrap()).sum()
}

/// A grip on the words of a node's kernel part, beside the daemon, which writes only the words that change.
pub fn words(lab: &Lab, node: u8) -> Words {
    let (kernel, origin) = Kernel::open(&lab.node(node).run_dir().join("bpf")).unwrap();
    assert_eq!(origin, OpenOutcome::Adopted);
    kernel.words()
}

/// Gives a bucket from one node to another by hand, as living members do: released first, then claimed. The node that
/// gives it up may still hold sockets.
pub fn move_bucket(bucket: Bucket, from: &Words, to: &Words) {
    from.set_flags(0, bucket, Flags::GUESTS.with(Flags::ELSEWHERE));
    to.set_flags(0, bucket, Flags::MINE.with(Flags::GUESTS).with(Flags::ELSEWHERE));
}

/// Stops a node's daemon for good and keeps its lease alive by hand, so that nobody else writes its words.
pub fn take_over(lab: &Lab, node: u8) -> Words {
    let words = words(lab, node);
    kill_daemon(lab, node);
    words.set_lease_deadline_ns(0, onevip_bpf::boot_time_ns() + Duration::from_secs(600).as_nanos() as u64);
    words
}

/// `kill -9` of a node's daemon; returns once it is gone.
pub fn kill_daemon(lab: &Lab, node: u8) {
    let pid = lab.node(node).onevip().unwrap();
    onevip_lab::process::signal(pid, nix::sys::signal::Signal::SIGKILL);
    wait_until(PATIENCE, "the daemon's end", || !onevip_lab::process::is_alive(pid)).unwrap();
}

/// One echo request from a client's address to the VIP; true when it is answered within a second.
pub fn pings(lab: &Lab, client: IpAddr) -> bool {
    let words = ["ping", "-n", "-c1", "-W1", "-I", &client.to_string(), &lab.vip_for(client).to_string()];
    lab.exec("client", &words).unwrap().status.success()
}

/// Waits for a condition, with the lab's patience.
pub fn wait(what: &str, condition: impl FnMut() -> bool) {
    wait_until(PATIENCE, what, condition).unwrap();
}
