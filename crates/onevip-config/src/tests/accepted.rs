//! What a file means.

use super::*;
use onevip_core::membership::Failback;
use onevip_core::{AddressOrder, Answerer, HashMode, Hasher, NodeId, Other, Ports, Slice, Transport};
use std::time::Duration;

#[test]
fn the_shipped_example_is_in_order() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/onevip.toml"));
    let (config, found) = Config::inspect(path);
    assert!(found.is_empty(), "{found}");
    assert_eq!(config.expect("no mistakes").nodes.len(), 4);
}

#[test]
fn the_defaults_that_the_shipped_example_shows_are_the_defaults() {
    let text = include_str!("../../../../packaging/onevip.toml");
    let plain = accepted(text);
    let not_defaults = ["control_group", "interface", "prefix"];
    let commented_in: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest)
                if rest.contains(" = ")
                    && !rest.starts_with(' ')
                    && !not_defaults.iter().any(|key| rest.starts_with(key)) =>
            {
                rest
            }
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    assert!(commented_in.contains("\nbeat = \"50ms\"") && commented_in.contains("\nweight = 100"));
    assert_eq!(accepted(&commented_in), plain);
}

#[test]
fn a_short_file_has_sensible_defaults() {
    let config = accepted(&file("", "", ""));
    assert_eq!(config.membership, Membership::Static);
    assert_eq!(config.beat, Duration::from_millis(50));
    assert_eq!(config.failback, Failback::Idle);
    assert_eq!(config.key_file, Path::new("/etc/onevip/key"));
    assert_eq!(config.control_group, None);
    let vip = &config.vips[0];
    assert_eq!(vip.hasher(), Hasher::DEFAULT);
    assert_eq!(vip.interface, None);
    assert_eq!(vip.nodes.len(), 2, "all nodes serve it");
    assert_eq!(vip.mac.to_string(), "01:00:5e:33:64:0a");
    assert_eq!((vip.delivery, vip.accelerate, vip.beat_port), (Delivery::Multicast, Acceleration::Off, 7077));
    assert_eq!(
        vip.services,
        [VipService {
            transport: Transport::Tcp,
            ports: 22..=22,
            hash: HashMode::SourceIp,
            answerer: Answerer::Bucket,
            check: None,
            limit: None,
            slices: 1,
        }]
    );
    assert_eq!(config.nodes[0].weight, 100);
}

#[test]
fn everything_that_can_be_said_is_understood() {
    let config = accepted(
        r#"
        cluster = "lab"
        membership = "living"
        beat = "100ms"
        failback = "manual"
        key_file = "/run/key"
        control_group = "adm"
        [[vip]]
        name = "gpu"
        addresses = ["198.51.100.10", "2001:db8::10"]
        interface = "eth1"
        nodes = ["gpu[01-02]"]
        weights = { GPU01 = 7 }
        hash = "source-net"
        prefix = { ipv4 = 24, ipv6 = 56 }
        seed = 0xffff_ffff
        mapping = "clusterip"
        address_order = "host"
        delivery = "flood"
        accelerate = "xdp-generic"
        beat_port = 7078
        service = [{ protocol = "udp", port = "60000-60999" }, { protocol = "tcp", port = "22" }]
        [[node]]
        name = "other"
        id = 64
        address = "198.51.100.13"
        [[node]]
        name = "gpu02"
        id = 2
        address = ["198.51.100.12", "2001:db8::12"]
        weight = 0
        [[node]]
        name = "gpu01"
        id = 1
        address = "2001:db8::11"
        "#,
    );
    assert_eq!((config.membership, config.failback), (Membership::Living, Failback::Manual));
    assert_eq!(config.control_group.as_deref(), Some("adm"));
    assert_eq!(config.nodes.iter().map(|node| node.id.get()).collect::<Vec<_>>(), [1, 2, 64], "by number");
    let vip = config.vip("gpu").expect("it is there");
    let hasher = Hasher {
        mode: HashMode::SourceNet { v4_prefix: 24, v6_prefix: 56 },
        seed: u32::MAX,
        order: AddressOrder::Host,
        blocks: Some(2),
    };
    assert_eq!(vip.hasher(), hasher);
    assert!(vip.mac.to_string().starts_with("02:6f:76:"));
    let services: Vec<String> = vip.services.iter().map(ToString::to_string).collect();
    assert_eq!(services, ["tcp 22", "udp 60000-60999"], "sorted");
    assert_eq!(config.nodes_of(vip).map(|node| node.name.as_str()).collect::<Vec<_>>(), ["gpu01", "gpu02"]);
    assert_eq!(
        (vip.weight_of(&config.nodes[0]), vip.weight_of(&config.nodes[1])),
        (7, 0),
        "own, and the node's"
    );
    assert_eq!(config.nodes[1].v6().map(|v6| v6.to_string()).as_deref(), Some("2001:db8::12"));
}

#[test]
fn services_have_a_hash_and_an_answerer_of_their_own() {
    let config = accepted(&file(
        "",
        r#"
        hash = "source-net"
        prefix = { ipv4 = 24, ipv6 = 56 }
        other = "drop"
        service = [
            { protocol = "tcp", port = 22 },
            { protocol = "tcp", port = 80, hash = "source-ip-port" },
            { protocol = "udp", port = "60000-60999", owner = "socket" },
        ]
        "#,
        "",
    ));
    let selector = config.vips[0].selector();
    assert_eq!(selector.other, Other::Drop);
    let service = |transport, port| selector.service(transport, port).expect("it is served");
    let net = HashMode::SourceNet { v4_prefix: 24, v6_prefix: 56 };
    assert_eq!(service(Transport::Tcp, 22).mode, net, "as the VIP");
    assert_eq!(service(Transport::Tcp, 80).mode, HashMode::SourceIpPort);
    let mosh = service(Transport::Udp, 60_500);
    assert_eq!((mosh.mode, mosh.answerer), (net, Answerer::Socket(Slice::WHOLE)));
    assert!(!selector.serves(Transport::Udp, 22) && !selector.serves(Transport::Tcp, 60_500));

    let by_service =
        "prefix = { ipv4 = 16 }\nservice = [{ protocol = \"tcp\", port = 22, hash = \"source-net\" }]";
    let config = accepted(&file("", by_service, ""));
    assert_eq!(config.vips[0].hash, HashMode::SourceIp);
    assert_eq!(config.vips[0].services[0].hash, HashMode::SourceNet { v4_prefix: 16, v6_prefix: 64 });
}

#[test]
fn sources_have_a_hash_or_a_node_of_their_own() {
    let config = accepted(&file(
        "",
        r#"
        hash = "source-ip"
        prefix = { ipv4 = 28 }
        source = [
            { prefix = "10.8.0.0/16", hash = "source-ip-port" },
            { prefix = "10.8.9.7", pin = "UNIX2" },
            { prefix = "10.9.0.0/16", hash = "source-net" },
        ]
        "#,
        "",
    ));
    let vip = &config.vips[0];
    let unix2 = NodeId::new(2).expect("in range");
    assert_eq!(vip.pinned().iter().collect::<Vec<_>>(), [unix2]);
    let selector = vip.selector();
    let ports = |source| Some(Ports { transport: Transport::Tcp, source, dest: 22 });
    let mode = |text: &str| selector.hasher_for(text.parse().expect("an address"), ports(1)).mode;
    assert_eq!(mode("10.8.1.1"), HashMode::SourceIpPort);
    assert_eq!(mode("10.8.9.7"), HashMode::SourceIp, "a pin hashes as the VIP does");
    assert_eq!(mode("10.9.1.1"), HashMode::SourceNet { v4_prefix: 28, v6_prefix: 64 });
    let pinned = selector.bucket("10.8.9.7".parse().expect("an address"), ports(1));
    assert_eq!(config.full_table(vip).owner(pinned), Some(unix2));
}

#[test]
fn a_host_finds_itself_by_full_or_short_name() {
    let config = accepted(&file("", "", ""));
    let id = |hostname: &str| config.node_of_host(hostname).map(|node| node.id.get());
    assert_eq!(id("unix2"), Ok(2));
    assert_eq!(id("UNIX2.example.org"), Ok(2));
    let error = id("mail.example.org").unwrap_err().to_string();
    assert!(
        error.contains("mail.example.org") && error.contains("unix[1-2]") && error.contains("--node"),
        "{error}"
    );
    assert_eq!(config.this_node(Some("unix1")).map(|node| node.id), Ok(NodeId::new(1).expect("in range")));
    let error = config.this_node(Some("unxi1")).unwrap_err().to_string();
    assert!(error.contains("did you mean --node unix1?"), "{error}");
}

#[test]
fn the_digest_tells_meanings_apart_and_spellings_not() {
    let digest = |top: &str, vip: &str, end: &str| accepted(&file(top, vip, end)).digest();
    let plain = digest("", "", "");
    assert_eq!(plain, digest("# a comment\nbeat = \"50000us\"", "seed = 0x0", ""));
    assert_eq!(plain, digest("", "", &(node(2, "weight = 100") + &node(1, ""))), "order does not count");
    let defaults = "other = \"owner\"\n[[vip.service]]\nprotocol = \"tcp\"\nport = 22\nhash = \"source-ip\"\nowner = \"bucket\"";
    assert_eq!(plain, digest("", defaults, ""), "defaults written out");
    assert_eq!(plain, digest("control_group = \"adm\"", "interface = \"eth7\"", ""), "a host's own choice");
    let different = [
        digest("beat = \"60ms\"", "", ""),
        digest("failback = \"now\"", "", ""),
        digest("membership = \"living\"", "", ""),
        digest("cluster = \"other\"", "", ""),
        digest("", "seed = 1", ""),
        digest("", "hash = \"source-ip-port\"", ""),
        digest("", "hash = \"source-net\"", ""),
        digest("", "mapping = \"clusterip\"", ""),
        digest("", "mapping = \"clusterip\"\naddress_order = \"host\"", ""),
        digest("", "delivery = \"flood\"", ""),
        digest("", "mac = \"01:00:5e:00:00:09\"", ""),
        digest("", "beat_port = 7078", ""),
        digest("", "nodes = \"unix1\"", ""),
        digest("", "addresses = [\"198.51.100.10\", \"198.51.100.20\"]", ""),
        digest("", "[[vip.service]]\nprotocol = \"udp\"\nport = 22", ""),
        digest("", "[[vip.service]]\nprotocol = \"tcp\"\nport = \"22-23\"", ""),
        digest("", "[[vip.service]]\nprotocol = \"tcp\"\nport = 22\nhash = \"source-ip-port\"", ""),
        digest("", "[[vip.service]]\nprotocol = \"udp\"\nport = 22\nowner = \"socket\"", ""),
        digest("", "other = \"drop\"", ""),
        digest("", "weights = { unix1 = 50 }", ""),
        digest("", "[[vip.source]]\nprefix = \"10.0.0.0/8\"\npin = \"unix1\"", ""),
        digest("", "[[vip.source]]\nprefix = \"10.0.0.0/8\"\npin = \"unix2\"", ""),
        digest("", "[[vip.source]]\nprefix = \"10.0.0.0/8\"\nhash = \"source-ip-port\"", ""),
        digest("", "[[vip.source]]\nprefix = \"10.0.0.0/9\"\nhash = \"source-ip-port\"", ""),
        digest("", "", &(node(1, "weight = 50") + &node(2, ""))),
        digest("", "", &node(1, "")),
        digest("", "", &(node(1, "") + &node(3, ""))),
    ];
    for (i, one) in different.iter().enumerate() {
        assert_ne!(*one, plain, "number {i}");
        assert!(!different[..i].contains(one), "number {i}");
    }
}

#[test]
fn the_digest_is_the_same_in_every_release_and_on_every_machine() {
    assert_eq!(accepted(&file("", "", "")).digest_hex(), "02fb5168f926a8b1");
    let everything = include_str!("../../tests/everything.toml");
    assert_eq!(accepted(everything).digest_hex(), "2e4acb87cf830d26");
}
