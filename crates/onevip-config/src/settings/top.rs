//! The settings of the top level, and of the small tables beside `[[vip]]`.

use super::Agreement::{Cluster, Host};
use super::DefaultValue::{Otherwise, Required, Value};
use super::OnReload::{Living, LivingOthers, Restart, Taken};
use super::ValueKind::{List, Number, Table, Tables, Text, Time, Word};
use super::{CHECK, HEALTH, SettingTable, VIP, WEIGHT_MAX, only_words, setting};
use crate::model::{Membership, RemoteDrain};
use onevip_core::NODES_MAX;
use onevip_core::membership::Failback;
use std::time::Duration;

/// Between two beats. Faster than the scheduler's own hiccups (a loaded host is late by tens of milliseconds) a beat
/// proves nothing; slower than a second, a dead host is missed for longer than a user waits.
const BEAT: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(1);
/// How long a hook may run. None runs for no time at all.
const HOOK_TIMEOUT: std::ops::RangeInclusive<Duration> = Duration::from_nanos(1)..=Duration::from_secs(600);

/// The top level.
pub static TOP: SettingTable = SettingTable {
    path: "",
    title: "the top level",
    about: "These stand at the beginning of the file, before the first header in brackets.",
    example: "cluster = \"lab\"\nmembership = \"living\"\nbeat = \"50ms\"",
    settings: &[
        setting!("cluster": Text("1 to 63 of `a-z`, `0-9` and `-`"), Required, "\"lab\"", Cluster, Restart,
            "The name of the cluster. It separates clusters that share a LAN."),
        setting!("membership": Word(|| only_words(Membership::WORDS)), Value("\"static\""), "\"static\"", Cluster, Restart,
            "How nodes know who is alive. With `static`, all nodes count as alive, always. With `living`, nodes hear each \
             other's beats and take over from a node that falls silent."),
        // The kernel part knows a time that follows from it, and takes no new one while it works.
        setting!("beat": Time(BEAT), Value("\"50ms\""), "\"50ms\"", Cluster, Restart,
            "The time between two beats of a node. With living membership a silent node is replaced after 5 beats."),
        setting!("failback": Word(|| only_words(Failback::WORDS)), Value("\"idle\""), "\"idle\"", Cluster, Taken,
            "When a node that returns takes its share back. `idle` waits until the sessions in it have ended. `now` does \
             not wait. `manual` waits for `onevip rebalance`."),
        setting!("key_file": Text("an absolute path"), Value("\"/etc/onevip/key\""), "\"/etc/onevip/key\"",
            Host("where a host keeps the key is its own business"), Taken,
            "The file with the key that seals beats. It is read with living membership only."),
        setting!("control_group": Text("the name of one group"), Otherwise("root alone"), "\"adm\"",
            Host("who may command a host is its own business"), Restart,
            "The group whose members may use the control socket, besides root."),
        setting!("metrics": Table(&METRICS), Otherwise("off"), "{ listen = \"127.0.0.1:9108\" }",
            Host("who watches a host is its own business"), Restart, "Metrics for Prometheus."),
        setting!("hook": Tables(&HOOK), Otherwise("none"), "", Host("what a host runs is its own business"), Restart,
            "Commands that run when something happens; at most 64."),
        setting!("desk": Table(&SUPPORT), Otherwise("its defaults"), "{ names = [\"login.example.org\"] }",
            Host("it decides about no packet"), Taken, "What those who help users know and allow."),
        setting!("health": Table(&HEALTH), Otherwise("its defaults"), "{ sshd = \"banner\" }",
            Host("hosts may differ in what is healthy"), Taken, "What each node asks of itself."),
        setting!("check": Tables(&CHECK), Otherwise("none"), "", Host("hosts may differ in what is healthy"), Taken,
            "Commands of your own that say whether a node is well; at most 16."),
        setting!("bans": Table(&BANS), Otherwise("its defaults"), "{ never = [\"192.0.2.0/24\"] }", Cluster, Taken,
            "Whom no ban may touch."),
        setting!("vip": Tables(&VIP), Required, "", Cluster, Restart,
            "The addresses that users connect to. A file has at least one `[[vip]]`, and 8 addresses in all."),
        setting!("node": Tables(&NODE), Required, "", Cluster, LivingOthers,
            "The hosts of the cluster: at least one `[[node]]`, at most 64."),
    ],
};

/// `[metrics]`
pub static METRICS: SettingTable = SettingTable {
    path: "metrics",
    title: "[metrics]",
    about: "Metrics for Prometheus, and the status as JSON. They can be read on this host alone: nothing there asks who \
            reads. Without this table, nothing listens.",
    example: "[metrics]\nlisten = \"127.0.0.1:9108\"",
    settings: &[
        setting!("listen": Text("a loopback address with a port, or the absolute path of a Unix socket"), Required,
        "\"127.0.0.1:9108\"", Host("who watches a host is its own business"), Restart, "Where metrics can be read."),
    ],
};

/// `[[hook]]`
pub static HOOK: SettingTable = SettingTable {
    path: "hook",
    title: "[[hook]]",
    about: "A command that runs when something happens. There may be several, at most 64.",
    example: "[[hook]]\non = [\"node-out\", \"node-heard\"]\ncommand = \"/usr/local/bin/page-me\"",
    settings: &[
        setting!("on": List("kinds of events, as `onevip watch --json` names them"), Required, "\"node-out\"",
            Host("what a host runs is its own business"), Restart, "Which events run the command."),
        setting!("command": Text("a command for `/bin/sh`"), Required, "\"/usr/local/bin/page-me\"",
            Host("what a host runs is its own business"), Restart, "What runs."),
        setting!("timeout": Time(HOOK_TIMEOUT), Value("\"10s\""), "\"10s\"",
            Host("what a host runs is its own business"), Restart, "The command is killed when it takes longer."),
    ],
};

/// `[desk]`
pub static SUPPORT: SettingTable = SettingTable {
    path: "desk",
    title: "[desk]",
    about: "What those who help users know and allow.",
    example: "[desk]\nnames = [\"login.example.org\"]\nremote_drain = \"allow\"",
    settings: &[
        setting!("names": List("hostnames"), Otherwise("none"), "[\"login.example.org\"]",
            Host("it decides about no packet"), Taken,
            "The names by which users know the VIPs, for `onevip doctor`. It finds by itself what the addresses resolve \
             to."),
        setting!("remote_drain": Word(|| only_words(RemoteDrain::WORDS)), Value("\"allow\""), "\"allow\"",
            Host("a host may refuse orders"), Taken, "Whether root on another node may drain this one."),
    ],
};

/// `[bans]`
pub static BANS: SettingTable = SettingTable {
    path: "bans",
    title: "[bans]",
    about: "Limits to what `onevip ban` may do. [Bans and limits](limits.md) says more.",
    example: "[bans]\nnever = [\"10.0.0.0/8\", \"2001:db8::/32\"]",
    settings: &[
        setting!("never": List("networks or addresses"), Otherwise("nobody"), "[\"192.0.2.0/24\"]", Cluster, Taken,
        "Whom no ban may touch, besides the nodes, the VIPs and the gateways."),
    ],
};

/// `[[node]]`
pub static NODE: SettingTable = SettingTable {
    path: "node",
    title: "[[node]]",
    about: "A host of the cluster. There is one `[[node]]` for each, at most 64.",
    example: "[[node]]\nname = \"unix1\"\nid = 1\naddress = [\"198.51.100.11\", \"2001:db8::11\"]",
    settings: &[
        setting!("name": Text("1 to 64 of `A-Z`, `a-z`, `0-9`, `.`, `-` and `_`"), Required, "\"unix1\"", Cluster,
            LivingOthers, "The hostname of the host, or the part of it before the first dot. Capitals do not matter."),
        setting!("id": Number(1..=NODES_MAX as u32), Required, "1", Cluster, LivingOthers,
            "The number of the node. Each has its own. Keep it for the life of the host."),
        setting!("address": List("at most one IPv4 and one IPv6 address"), Required,
            "\"198.51.100.11\"", Cluster, LivingOthers,
            "The host's own address, not the VIP. Give one of each family that the VIP has."),
        setting!("weight": Number(0..=WEIGHT_MAX), Value("100"), "100", Cluster, Living,
            "The share of the node, relative to the others' weights. With 0 it takes no new users."),
    ],
};
