//! Several services at one VIP, DNS beside SSH, each hashed in its own way, and nothing else; and a second VIP on a LAN of
//! its own.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use onevip_core::{Ports, Reason, Transport};
use onevip_lab::process::run;
use onevip_lab::{Host, Lab, Options};

use crate::common::{
    Mode, PATIENCE, VIP, VIP6, all_claim, config, in_every_mode, landed, must_be_root, onevip, pings,
    predicted, read_config, status, verdicts, wait,
};

in_every_mode!(dns_beside_ssh_and_nothing_else);

/// Strings of the large answer.
const STRINGS: usize = 12;

/// A name server that answers `who.test` with the name of its host, and `large.test` with more than fits a frame.
struct NameServer(Child);

impl NameServer {
    fn start(lab: &Lab, node: u8) -> Self {
        let mut command = Command::new("dnsmasq");
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--pid-file=",
        ]);
        command.args(["--user=root", "--group=root", "--edns-packet-max=4096"]);
        // Bound to the VIP, it answers from the VIP.
        command.args(["--bind-interfaces".to_owned(), format!("--listen-address={VIP},{VIP6}")]);
        command.arg(format!("--txt-record=who.test,unix{node}"));
        command
            .args((0..STRINGS).map(|i| format!("--txt-record=large.test,{}", format!("{i:02}").repeat(100))));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let host = format!("unix{node}");
        let server = Self(lab.spawn_in(&host, command).unwrap());
        wait("the name server to listen", || {
            let heard = lab.exec_ok(&host, &["ss", "-Hlun", "sport = :53"]).unwrap();
            heard.contains(&format!("{VIP}:53")) && heard.contains(&format!("[{VIP6}]:53"))
        });
        server
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The strings that a client gets for a question from this port, over UDP alone.
fn dig(lab: &Lab, client: IpAddr, port: u16, name: &str) -> Vec<String> {
    let (from, to) = (format!("{client}#{port}"), format!("@{}", lab.vip_for(client)));
    let options = ["dig", "+short", "+tries=1", "+time=8", "+notcp", "+ignore", "+bufsize=4096", "-b"];
    let words = [&options[..], &[&from, &to, name, "TXT"]].concat();
    let output = lab.exec_ok("client", &words).unwrap();
    output.lines().map(|line| line.trim_matches('"').to_owned()).collect()
}

fn dns_beside_ssh_and_nothing_else(mode: Mode) {
    let options = mode.options("svc-dns", 3, 6);
    let early = if mode == Mode::Xdp { "accelerate = \"xdp\"\n" } else { "" };
    let lines = format!(
        "{early}other = \"drop\"\n[[vip.service]]\nprotocol = \"udp\"\nport = 53\nhash = \"source-ip-port\"\n"
    );
    let text = config(&options.name, 3, &lines);
    let lab = Lab::up(options.config(text)).unwrap();
    all_claim(&lab);
    let servers: Vec<NameServer> = (1..=3).map(|node| NameServer::start(&lab, node)).collect();
    let total = |reason| (1..=3).map(|node| verdicts(&lab, node, reason)).sum::<u64>();

    let config = read_config(&lab);
    let vip = &config.vips[0];
    let (table, selector) = (config.full_table(vip), vip.selector());
    let (before, mut asked) = (total(Reason::UdpOwn), 0);
    for client in [lab.clients()[0], lab.clients()[3], lab.clients6()[0], lab.clients6()[3]] {
        let mut hosts = BTreeSet::new();
        for port in (2000..2008).map(|port| port * 3) {
            let ports = Ports { transport: Transport::Udp, source: port, dest: 53 };
            let owner = table.owner(selector.bucket(client, Some(ports))).unwrap();
            let answer = dig(&lab, client, port, "who.test");
            assert_eq!(answer, [format!("unix{owner}")], "{client} port {port}");
            hosts.extend(answer);
            asked += 1;
        }
        assert!(hosts.len() > 1, "{client} is answered by several: {hosts:?}");
        let large = dig(&lab, client, 7000, "large.test");
        asked += 1;
        assert_eq!(large.len(), STRINGS, "{client}: in fragments, and whole");
        assert!(large.concat().len() > 1500);
    }
    assert_eq!(total(Reason::UdpOwn) - before, asked, "one node took each question");

    for client in [lab.clients()[1], lab.clients6()[1]] {
        assert_eq!(landed(&lab, client), predicted(&lab, client), "SSH is hashed by address");
        assert!(pings(&lab, client), "ping is a service");
        let to = |port| SocketAddr::new(lab.vip_for(client), port);
        let opened =
            lab.inside("client", || TcpStream::connect_timeout(&to(2222), Duration::from_secs(2))).unwrap();
        assert_eq!(opened.unwrap_err().kind(), std::io::ErrorKind::TimedOut, "no reset, nothing");
        let answer = lab.inside("client", || {
            let socket = UdpSocket::bind(SocketAddr::new(client, 0)).unwrap();
            socket.connect(to(5353)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            socket.send(b"anybody?").unwrap();
            socket.recv(&mut [0; 16])
        });
        assert_eq!(
            answer.unwrap().unwrap_err().kind(),
            std::io::ErrorKind::WouldBlock,
            "no ICMP error either"
        );
    }
    assert!(total(Reason::SynUnserved) >= 2 && total(Reason::UdpUnserved) >= 2);
    drop(servers);
}

const GPU: &str = "203.0.113.10";

/// A second LAN: a bridge of its own in the switch, to which some hosts are connected by `eth1`.
fn connect_second_lan(lab: &Lab) {
    let ip = |host: &str, words: &str| {
        let words: Vec<&str> = ["ip"].into_iter().chain(words.split(' ')).collect();
        lab.exec_ok(host, &words).unwrap();
    };
    ip("switch", "link add lan2 up type bridge mcast_snooping 0");
    for (host, addresses) in
        [(Host::Node(1), 1..2), (Host::Node(2), 2..3), (Host::Node(3), 3..4), (Host::Client, 101..107)]
    {
        let (name, netns) = (host.to_string(), lab.name().netns(host));
        ip("switch", &format!("link add {name}-2 up master lan2 type veth peer name eth1 netns {netns}"));
        ip(&name, "link set eth1 up");
        addresses.for_each(|last| ip(&name, &format!("address add 203.0.113.{last}/24 dev eth1")));
    }
}

/// VIP `login` of all nodes on `eth0`; VIP `gpu` of two of them on `eth1`, where unix3 weighs three times as much.
#[test]
fn a_second_vip_on_a_second_lan_has_its_own_nodes_weights_and_table() {
    must_be_root();
    let name = Options::test("svc-lans").name;
    let gpu = format!(
        "[[vip]]\nname = \"gpu\"\naddresses = [\"{GPU}\"]\ninterface = \"eth1\"\nnodes = [\"unix2\", \"unix3\"]\n\
         weights = {{ unix3 = 300 }}\nseed = 7\n"
    );
    let text = config(&name, 3, "") + &gpu;
    let lab = Lab::up(Options::new(&name).nodes(3).clients(6).config(text).no_onevip()).unwrap();
    connect_second_lan(&lab);
    lab.start_onevip().unwrap();
    let claims = |node: u8, vip: usize| status(&lab, node)["vips"][vip]["claims"].as_u64();
    assert_eq!([claims(1, 1), claims(2, 1), claims(3, 1)], [None, Some(256), Some(768)]);
    let login: u64 = (1..=3).map(|node| claims(node, 0).unwrap()).sum();
    assert_eq!(login, 1024);
    let mut hosts = BTreeSet::new();
    for last in 101..107 {
        let client = format!("203.0.113.{last}");
        let mut ssh = lab.ssh_command(GPU.parse().unwrap(), None).unwrap();
        let bound = format!("BindAddress={client}");
        // Both VIPs are the same hosts, with the same host keys.
        let alias = format!("HostKeyAlias={VIP}");
        let output = run(ssh.args(["-o", &bound, "-o", &alias, "hostname"]), PATIENCE).unwrap();
        assert!(output.status.success(), "{client}: {}", String::from_utf8_lossy(&output.stderr));
        let host = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        assert_eq!(foreseen(&lab, "gpu", &client), host, "{client}");
        hosts.insert(host);
    }
    assert!(hosts.contains("unix3") && !hosts.contains("unix1"), "{hosts:?}");
    for client in lab.clients().into_iter().take(3) {
        assert_eq!(landed(&lab, client), foreseen(&lab, "login", &client.to_string()), "the other VIP");
    }
}

/// What `onevip where` says of one VIP of several.
fn foreseen(lab: &Lab, vip: &str, client: &str) -> String {
    let said = onevip(lab, 1, &["where", "--json", "--vip", vip, client]);
    let answer: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    answer["node"].as_str().unwrap().to_owned()
}
