//! The settings of `[[vip]]` and what belongs to it.

use super::Agreement::{Cluster, Host};
use super::DefaultValue::{Otherwise, Required, Value};
use super::OnReload::{Living, Restart};
use super::ValueKind::{ByNode, List, Number, Ports, Table, Tables, Text, Time, Word};
use super::{SettingTable, WEIGHT_MAX, only_words, setting};
use crate::model::{Acceleration, Delivery, ServiceCheck};
use crate::words::{ANSWERERS, HashWord, REFUSED};
use onevip_core::limit::{BURST_MAX, Refusal, WINDOW_MAX};
use onevip_core::slice::SLICES_MAX;
use onevip_core::{AddressOrder, Mapping, Other, Transport};
use std::ops::RangeInclusive;
use std::time::Duration;

/// The window of a limit. Below, a client that tries again at once is hardly counted.
const WINDOW: RangeInclusive<Duration> = Duration::from_millis(100)..=WINDOW_MAX;

/// `[[vip]]`
pub static VIP: SettingTable = SettingTable {
    path: "vip",
    title: "[[vip]]",
    about: "An address that users connect to, or several, and who answers for it. There may be several `[[vip]]`.",
    example: "[[vip]]\nname = \"login\"\naddresses = [\"198.51.100.10\", \"2001:db8::10\"]\nnodes = [\"unix[1-4]\"]\n\
              weights = { unix3 = 50 }",
    settings: &[
        setting!("name": Text("1 to 63 of `a-z`, `0-9` and `-`"), Required, "\"unix1\"", Cluster, Restart,
            "Its name. Each VIP has its own."),
        setting!("addresses": List("IP addresses; at most 8 over all VIPs"), Required, "[\"198.51.100.10\"]", Cluster,
            Restart, "The shared addresses: of one family or of both."),
        setting!("interface": Text("the name or altname of an interface"),
            Otherwise("the interface that routes to the first address"), "\"eth0\"",
            Host("hosts name their interfaces differently"), Restart, "The interface that bears the addresses."),
        setting!("nodes": List("names of nodes, like `unix[1-4]`, `unix[1,3-5]`, `unix[01-16]` or `unix1,unix2`"),
            Otherwise("all nodes"), "[\"unix[1-4]\"]", Cluster, Living, "The nodes that serve the VIP. A node that is new here, or not here any more, restarts its daemon; with \
             `mapping = \"clusterip\"` all nodes do."),
        setting!("weights": ByNode(0..=WEIGHT_MAX), Value("{}"), "{ unix3 = 50 }", Cluster, Living,
            "Where a node weighs something else at this VIP than its own `weight`."),
        setting!("hash": Word(|| only_words(HashWord::WORDS)), Value("\"source-ip\""), "\"source-ip\"", Cluster, Restart,
            "What of a client selects its node. With `source-ip` a user always meets the same host."),
        setting!("prefix": Table(&VIP_PREFIX), Value("{ ipv4 = 32, ipv6 = 64 }"), "{ ipv4 = 24, ipv6 = 64 }", Cluster,
            Restart, "The networks that `source-net` takes together."),
        setting!("seed": Number(0..=u32::MAX), Value("0"), "0", Cluster, Restart,
            "The seed of the hash and of the table. Another seed deals all clients anew."),
        setting!("mapping": Word(|| only_words(Mapping::WORDS)), Value("\"balanced\""), "\"balanced\"", Cluster, Restart,
            "How shares are dealt to nodes. `balanced` deals by weight, and a change moves few clients. `clusterip` \
             chooses the node that CLUSTERIP, xt_cluster or nft jhash chose with the same seed; its nodes have the \
             numbers 1 to N. [Migration](migration.md) says more."),
        setting!("address_order": Word(|| only_words(AddressOrder::WORDS)), Value("\"memory\""), "\"memory\"", Cluster,
            Restart, "How addresses enter the hash. CLUSTERIP needs `host`, all else `memory`."),
        setting!("delivery": Word(|| only_words(Delivery::WORDS)), Value("\"multicast\""), "\"multicast\"", Cluster,
            Restart,
            "How a frame reaches every node: by a multicast MAC, or by a unicast MAC that switches flood. \
             [Network](network.md) says when to take which."),
        setting!("mac": Text("an Ethernet address: a group address exactly with `multicast`"),
            Otherwise("made from the first address"), "\"01:00:5e:33:64:0a\"", Cluster, Restart,
            "The MAC that all nodes share."),
        setting!("accelerate": Word(|| only_words(Acceleration::WORDS)), Value("\"off\""), "\"off\"",
            Host("it changes only how early a packet is dropped"), Restart,
            "Whether an XDP program drops other nodes' packets early: in the driver (`xdp`), or in the kernel's generic \
             path (`xdp-generic`). It may flap the link while it is attached."),
        setting!("beat_port": Number(1..=65535), Value("7077"), "7077", Cluster, Restart,
            "The UDP port of the VIP on which nodes hear each other. No UDP service can use it."),
        setting!("other": Word(|| only_words(Other::WORDS)), Value("\"owner\""), "", Cluster, Restart,
            "What becomes of packets that no service wants. `owner`: one node gets them, and its kernel refuses them. \
             `drop`: they disappear. Ping is always answered, and sessions go on."),
        setting!("service": Tables(&SERVICE), Otherwise("SSH: TCP port 22"), "", Cluster, Restart,
            "What is served there; at most 32 services over all VIPs."),
        setting!("source": Tables(&SOURCE), Otherwise("none"), "", Cluster, Restart,
            "Sources for which something else counts; at most 1024 over all VIPs."),
    ],
};

/// `prefix = { … }` of a VIP.
pub static VIP_PREFIX: SettingTable = SettingTable {
    path: "vip.prefix",
    title: "`prefix`",
    about: "How many leading bits of an address make a network, for `hash = \"source-net\"`.",
    example: "[[vip]]\nname = \"login\"\naddresses = [\"198.51.100.10\"]\nhash = \"source-net\"\n\
              prefix = { ipv4 = 24, ipv6 = 56 }",
    settings: &[
        setting!("ipv4": Number(1..=32), Value("32"), "24", Cluster, Restart, "Bits of an IPv4 address."),
        setting!("ipv6": Number(1..=128), Value("64"), "64", Cluster, Restart, "Bits of an IPv6 address."),
    ],
};

/// `[[vip.service]]`
pub static SERVICE: SettingTable = SettingTable {
    path: "vip.service",
    title: "[[vip.service]]",
    about: "What the VIP above it serves. There may be several. Without any, the VIP serves SSH.",
    example: "[[vip.service]]\nprotocol = \"tcp\"\nport = 22\n\n[[vip.service]]           # mosh\nprotocol = \"udp\"\n\
              port = \"60000-60999\"\nowner = \"socket\"",
    settings: &[
        setting!("protocol": Word(|| only_words(Transport::WORDS)), Required, "\"tcp\"", Cluster, Restart, "The protocol."),
        setting!("port": Ports, Required, "22", Cluster, Restart, "A port, or a range of ports: `\"60000-60999\"`."),
        setting!("hash": Word(|| only_words(HashWord::WORDS)), Otherwise("the VIP's"), "\"source-ip\"", Cluster, Restart,
            "What of a client selects its node here."),
        setting!("owner": Word(|| only_words(ANSWERERS)), Value("\"bucket\""), "", Cluster, Restart,
            "Who answers. `bucket`: the node that the hash selects. `socket`, with UDP only: the node that has a socket \
             on the port."),
        setting!("check": Word(|| only_words(ServiceCheck::WORDS)),
            Otherwise("`sshd` on port 22, or else on the first TCP service"), "\"sshd\"",
            Host("hosts may differ in what is healthy"), Restart,
            "Whether this is the sshd that `[health]` asks."),
        setting!("limit": Table(&LIMIT), Otherwise("no limit"), "{ burst = 2, window = \"7s\" }", Cluster, Restart,
            "How many connections a source may open."),
        setting!("slices": Number(1..=SLICES_MAX as u32),
            Otherwise("16, or 32 or 64 where node numbers go that far"), "16", Cluster, Restart,
            "With `owner = \"socket\"`: into how many parts the ports are dealt. It is a power of two, not below any \
             node's number."),
    ],
};

/// `[vip.service.limit]`
pub static LIMIT: SettingTable = SettingTable {
    path: "vip.service.limit",
    title: "[vip.service.limit]",
    about: "How many connections a source may open at the service above it; TCP only, and at most 8 limits in all. \
            [Bans and limits](limits.md) says more.",
    example: "[[vip.service]]\nprotocol = \"tcp\"\nport = 22\n  [vip.service.limit]\n  burst = 2\n  window = \"7s\"",
    settings: &[
        setting!("burst": Number(1..=BURST_MAX as u32), Required, "2", Cluster, Restart,
            "So many connections are let in ..."),
        setting!("window": Time(WINDOW), Required, "\"7s\"", Cluster, Restart, "... in any time of this length."),
        setting!("action": Word(|| only_words(Refusal::WORDS)), Value("\"icmp-port-unreachable\""),
            "\"icmp-port-unreachable\"", Cluster, Restart, "What the next one gets."),
        setting!("refused": Word(|| only_words(REFUSED)), Value("\"count\""), "\"count\"", Cluster, Restart,
            "Whether a refused attempt counts as well. With `count`, whoever goes on trying stays out."),
        setting!("prefix": Table(&LIMIT_PREFIX), Value("{ ipv4 = 32, ipv6 = 64 }"), "{ ipv4 = 24, ipv6 = 64 }", Cluster,
            Restart, "What makes a source."),
        setting!("allow": List("networks or addresses"), Value("[]"), "[\"192.0.2.0/24\"]", Cluster, Restart,
            "Who is not counted."),
    ],
};

/// `prefix = { … }` of a limit.
pub static LIMIT_PREFIX: SettingTable = SettingTable {
    path: "vip.service.limit.prefix",
    title: "`prefix`",
    about: "How many leading bits of an address make a source, for a limit.",
    example: "",
    settings: &[
        setting!("ipv4": Number(1..=32), Value("32"), "24", Cluster, Restart, "Bits of an IPv4 address."),
        setting!("ipv6": Number(1..=128), Value("64"), "64", Cluster, Restart, "Bits of an IPv6 address."),
    ],
};

/// `[[vip.source]]`
pub static SOURCE: SettingTable = SettingTable {
    path: "vip.source",
    title: "[[vip.source]]",
    about: "Sources for which something else counts at the VIP above it: the longest prefix that contains an address. Each \
            says either `hash` or `pin`.",
    example: "[[vip.source]]\nprefix = \"10.8.0.0/16\"\nhash = \"source-ip-port\"\n\n[[vip.source]]\n\
              prefix = \"198.51.100.77\"\npin = \"unix3\"",
    settings: &[
        setting!("prefix": Text("a network or an address"), Required, "{ ipv4 = 24, ipv6 = 64 }", Cluster, Restart,
            "Which sources."),
        setting!("hash": Word(|| only_words(HashWord::WORDS)), Otherwise("the VIP's"), "\"source-ip\"", Cluster, Restart,
            "What of these clients selects their node: for a VPN or NAT that would otherwise meet one host."),
        setting!("pin": Text("the name of a node of the VIP"), Otherwise("nobody"), "\"unix3\"", Cluster, Restart,
            "The node that these clients meet, as long as it serves."),
    ],
};
