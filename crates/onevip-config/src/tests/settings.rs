//! The table of settings: everything is held to it.
//!
//! [`SAMPLES`] has two values of each setting. So all of them are asked the same: is it read, does it enter the digest, does
//! `reload` take it?

use super::*;
use crate::settings::{Agreement, DefaultValue, OnReload, Setting, SettingTable, TABLES, ValueKind};
use std::collections::HashSet;

/// Two values of a setting, in a file where they make a difference.
struct Sample {
    /// Its table.
    table: &'static str,
    /// Its key.
    key: &'static str,
    /// What its table says besides.
    with: &'static str,
    /// One value; empty: the file does not say.
    one: &'static str,
    /// Another.
    other: &'static str,
}

macro_rules! samples {
    ($($table:literal { $($key:literal $([$with:literal])?: $one:literal / $other:literal)* })*) => {
        &[$($(Sample {
            table: $table, key: $key, with: concat!($($with)?), one: $one, other: $other,
        }),*),*]
    };
}

#[rustfmt::skip]
const SAMPLES: &[Sample] = samples! {
    "" {
        "cluster": r#""lab""# / r#""other""#
        "membership": r#""static""# / r#""living""#
        "beat": "" / r#""60ms""#
        "failback": "" / r#""manual""#
        "key_file": "" / r#""/run/key""#
        "control_group": "" / r#""adm""#
        "metrics": "" / r#"{ listen = "127.0.0.1:1" }"#
        "hook": "" / r#"[{ on = "node-out", command = "x" }]"#
        "desk": "" / r#"{ names = ["a"] }"#
        "health": "" / "{ fall = 3 }"
        "check": "" / r#"[{ name = "a", command = "true" }]"#
        "bans": "" / r#"{ never = ["10.0.0.0/8"] }"#
        "vip": "" / "[[vip]]\nname = \"b\"\naddresses = [\"198.51.100.20\"]"
        "node": "" / "[[node]]\nname = \"unix3\"\nid = 3\naddress = \"198.51.100.103\""
    }
    "metrics" { "listen": r#""127.0.0.1:1""# / r#""/run/x""# }
    "hook" {
        "on": r#""node-out""# / r#"["node-out", "state"]"#
        "command": r#""a""# / r#""b""#
        "timeout": "" / r#""1s""#
    }
    "desk" { "names": "" / r#""a""# "remote_drain": "" / r#""refuse""# }
    "health" {
        "sshd": "" / r#""kex""#
        "witness": "" / r#""off""#
        "address": "" / r#""127.0.0.1""#
        "port": "" / "2222"
        "interval": "" / r#""2s""#
        "timeout": "" / r#""2s""#
        "fall": "" / "3"
        "rise": "" / "3"
        "banner_every": "" / r#""1m""#
        "kex_every": "" / r#""1m 1s""#
        "nologin": "" / r#""ignore""#
        "scope": "" / r#""cgroup""#
        "memory_pressure": "" / "{ shed = 1 }"
        "memory_left": "" / "{ shed = 9 }"
        "cpu_pressure": "" / "{}"
        "io_pressure": "" / "{ out = 99 }"
        "processes_left": "" / "{ shed = 9 }"
        "files_left": "" / "{ shed = 9 }"
        "disk_left": "" / "{ shed = 9 }"
        "filesystems": "" / r#"["/", "/var"]"#
    }
    "health.thresholds" { "shed": "" / "7" "out": "" / "1" }
    "check" {
        "name": r#""a""# / r#""b""#
        "command": r#""a""# / r#""b""#
        "interval": "" / r#""1s""#
        "timeout": "" / r#""1s""#
        "fall": "" / "3"
        "rise": "" / "3"
        "effect": "" / r#""shed""#
    }
    "bans" { "never": "" / r#""10.0.0.0/8""# }
    "vip" {
        "name": r#""login""# / r#""b""#
        "addresses": r#""198.51.100.10""# / r#"["198.51.100.10", "2001:db8::10"]"#
        "interface": "" / r#""eth7""#
        "nodes": "" / r#""unix1""#
        "weights": "" / "{ unix2 = 7 }"
        "hash": "" / r#""source-ip-port""#
        "prefix"[r#"hash = "source-net""#]: "" / "{ ipv4 = 24 }"
        "seed": "" / "7"
        "mapping": "" / r#""clusterip""#
        "address_order"[r#"mapping = "clusterip""#]: "" / r#""host""#
        "delivery": "" / r#""flood""#
        "mac": "" / r#""01:00:5e:00:00:09""#
        "accelerate": "" / r#""xdp""#
        "beat_port": "" / "7078"
        "other": "" / r#""drop""#
        "service": "" / r#"[{ protocol = "tcp", port = 80 }]"#
        "source": "" / r#"[{ prefix = "10.0.0.0/8", pin = "unix1" }]"#
    }
    "vip.prefix" { "ipv4": "" / "24" "ipv6": "" / "56" }
    "vip.service" {
        "protocol": r#""tcp""# / r#""udp""#
        "port": "22" / r#""22-23""#
        "hash": "" / r#""source-ip-port""#
        "owner"["protocol = \"udp\"\nport = \"60000-60999\""]: "" / r#""socket""#
        "check": "" / r#""none""#
        "limit": "" / r#"{ burst = 2, window = "7s" }"#
        "slices"["protocol = \"udp\"\nport = \"60000-60999\"\nowner = \"socket\""]: "" / "32"
    }
    "vip.service.limit" {
        "burst": "2" / "3"
        "window": r#""7s""# / r#""8s""#
        "action": "" / r#""drop""#
        "refused": "" / r#""ignore""#
        "prefix": "" / "{ ipv6 = 48 }"
        "allow": "" / r#""10.0.0.0/8""#
    }
    "vip.service.limit.prefix" { "ipv4": "" / "24" "ipv6": "" / "56" }
    "vip.source" {
        "prefix"[r#"pin = "unix1""#]: r#""10.0.0.0/8""# / r#""10.0.0.0/9""#
        "hash"[r#"prefix = "10.0.0.0/8""#]: r#""source-ip-port""# / r#""source-ip-port-dest-port""#
        "pin"[r#"prefix = "10.0.0.0/8""#]: r#""unix1""# / r#""unix2""#
    }
    "node" {
        "name": r#""unix2""# / r#""unix3""#
        "id": "2" / "3"
        "address": r#""198.51.100.102""# / r#""198.51.100.103""#
        "weight": "" / "7"
    }
};

impl Sample {
    /// The file that says `value` of the setting.
    fn file(&self, membership: &str, value: &str) -> String {
        let line = match value {
            "" => String::new(),
            // A [[vip]] or a [[node]] of its own, at the end of the file.
            tables if tables.starts_with("[[") => tables.to_owned(),
            value => format!("{} = {value}", self.key),
        };
        let lines = |table: &str, base: &[&str]| {
            let own = if self.table == table { format!("{}\n{line}", self.with) } else { String::new() };
            let is_set = |key: &str| {
                own.lines().any(|line| line.split(" = ").next() == Some(key))
                    || (self.table, self.key) == (table, key)
            };
            let kept = base.iter().filter(|line| line.split(" = ").next().is_none_or(|key| !is_set(key)));
            kept.map(|line| format!("{line}\n")).collect::<String>() + &own + "\n"
        };
        let inline = |table: &str| format!("{{ {} }}", lines(table, &[]).trim());
        let membership = format!("membership = \"{membership}\"");
        let at_end = line.starts_with("[[");
        let mut text = if at_end {
            format!("cluster = \"lab\"\n{membership}\n")
        } else {
            lines("", &["cluster = \"lab\"", &membership])
        };
        text += "[[node]]\nname = \"unix1\"\nid = 1\naddress = \"198.51.100.101\"\n[[node]]\n";
        text += &lines("node", &["name = \"unix2\"", "id = 2", "address = \"198.51.100.102\""]);
        text += "[[vip]]\n";
        text += &lines("vip", &["name = \"login\"", "addresses = [\"198.51.100.10\"]"]);
        match self.table {
            "" | "node" | "vip" => {}
            "health.thresholds" => text += &format!("[health]\nmemory_left = {}\n", inline(self.table)),
            "vip.prefix" => text += &format!("hash = \"source-net\"\nprefix = {}\n", inline(self.table)),
            "vip.service.limit" | "vip.service.limit.prefix" => {
                text += "[[vip.service]]\nprotocol = \"tcp\"\nport = 22\n[vip.service.limit]\n";
                text += &lines("vip.service.limit", &["burst = 2", "window = \"7s\""]);
                if self.table == "vip.service.limit.prefix" {
                    text += &format!("prefix = {}\n", inline(self.table));
                }
            }
            "vip.service" => {
                text += &("[[vip.service]]\n".to_owned()
                    + &lines(self.table, &["protocol = \"tcp\"", "port = 22"]))
            }
            "hook" => {
                text +=
                    &("[[hook]]\n".to_owned() + &lines(self.table, &["on = \"node-out\"", "command = \"x\""]))
            }
            "check" => {
                text += &("[[check]]\n".to_owned() + &lines(self.table, &["name = \"x\"", "command = \"x\""]))
            }
            "vip.source" => text += &format!("[[vip.source]]\n{}", lines(self.table, &[])),
            table => text += &format!("[{table}]\n{}", lines(table, &[])),
        }
        if at_end { text + &line } else { text }
    }

    /// The two configurations. Only the value of this one setting is different.
    fn pair(&self, membership: &str) -> (Config, Config) {
        (accepted(&self.file(membership, self.one)), accepted(&self.file(membership, self.other)))
    }
}

/// Every setting with its table.
fn all() -> impl Iterator<Item = (&'static SettingTable, &'static Setting)> {
    TABLES.iter().flat_map(|table| table.settings.iter().map(|setting| (*table, setting)))
}

/// Every setting with its sample.
fn sampled() -> impl Iterator<Item = (&'static Setting, &'static Sample, String)> {
    all().map(|(table, setting)| {
        let name = format!("{} {}", table.title, setting.name);
        let fits = |sample: &&Sample| (sample.table, sample.key) == (table.path, setting.name);
        let sample = SAMPLES.iter().find(fits);
        (setting, sample.unwrap_or_else(|| panic!("SAMPLES has nothing for {name}")), name)
    })
}

#[test]
fn every_setting_is_read() {
    for (_, sample, name) in sampled() {
        let (one, other) = sample.pair("living");
        assert_ne!(one, other, "{name} makes no difference");
    }
    assert_eq!(SAMPLES.len(), all().count(), "a sample of no setting");
}

#[test]
fn what_all_nodes_must_agree_on_enters_the_digest_and_nothing_else_does() {
    for (setting, sample, name) in sampled() {
        let (one, other) = sample.pair("living");
        match setting.agreement {
            Agreement::Cluster => assert_ne!(one.digest(), other.digest(), "{name} is not in the digest"),
            Agreement::Host(_) => assert_eq!(one.digest(), other.digest(), "{name} is in the digest"),
        }
    }
}

#[test]
fn reload_takes_what_the_table_says() {
    // What `reload` decides elsewhere, or passes over, and the table calls by what it takes to have an effect.
    const BY_THE_DAEMON: &str = "[[vip]] interface"; // It compares the interfaces that are found.
    const PASSED_OVER: &str = "[[vip.service]] check"; // No health check is made anew.
    const PASSED_OVER_WHEN_STATIC: &[&str] = &["[[vip]] nodes", "[[vip]] weights"];
    for (setting, sample, name) in sampled() {
        let taken = |membership: &str| {
            let (one, other) = sample.pair(membership);
            one.reload(&other, "unix1", false).is_ok()
        };
        let says = (taken("living"), taken("static"));
        let expected = match setting.reload {
            OnReload::Taken => (true, true),
            OnReload::Living | OnReload::LivingOthers => {
                (true, PASSED_OVER_WHEN_STATIC.contains(&name.as_str()))
            }
            OnReload::Restart => {
                let yes = name == BY_THE_DAEMON || name == PASSED_OVER;
                (yes, yes)
            }
        };
        assert_eq!(says, expected, "{name}: taken with living membership, and with a fixed set of nodes");
        if setting.reload == OnReload::LivingOthers && !sample.one.is_empty() {
            let (one, other) = sample.pair("living");
            assert_eq!(
                one.reload(&other, "unix2", false),
                Err(RestartNeeded::OwnNode),
                "{name} of this node"
            );
        }
    }
}

#[test]
fn reload_says_what_is_taken_and_what_takes_a_restart() {
    let living = "membership = \"living\"";
    let old = accepted(&file(living, "", ""));
    let reload =
        |top: &str, vip: &str, end: &str| old.reload(&accepted(&file(top, vip, end)), "unix1", false);
    assert_eq!(reload(living, "", ""), Ok(vec![]));
    assert_eq!(old.reload(&old, "unix1", true), Err(RestartNeeded::Vips), "the routes lead elsewhere");
    let more = format!(
        "{living}\nfailback = \"now\"\nkey_file = \"/k\"\nbans = {{ never = \"10.0.0.0/8\" }}\nhealth = {{ fall = 3 }}"
    );
    let heavier = node(1, "weight = 7") + &node(2, "");
    let said =
        ["failback", "nodes or weights", "place of the key file", "health checks", "who is never banned"];
    assert_eq!(reload(&more, "", &heavier), Ok(said.to_vec()));
    assert_eq!(
        reload("cluster = \"b\"\ncontrol_group = \"adm\"", "", ""),
        Err(RestartNeeded::Cluster),
        "the first"
    );
    let watched = format!("{living}\nmetrics = {{ listen = \"127.0.0.1:1\" }}");
    let error = reload(&watched, "seed = 1", "").expect_err("both take a restart");
    assert_eq!(error.to_string(), "[metrics] or a [[hook]]");
    let vips = reload(living, "seed = 1", "").expect_err("the kernel part has it");
    assert_eq!(vips.to_string(), "an address, interface, hash, port or the set of VIPs of this node");
    let other_vip = "[[vip]]\nname = \"b\"\naddresses = [\"198.51.100.20\"]\nnodes = \"unix2\"";
    assert_eq!(reload(living, "", other_vip), Ok(vec![]), "this node does not serve it");
}

#[test]
fn defaults_are_what_the_table_says() {
    for (setting, sample, name) in sampled() {
        let absent = sample.file("living", "");
        match setting.default {
            // Every file of a sample has a [[vip]] and a [[node]]; other tests take them away.
            DefaultValue::Required if setting.name == "vip" || setting.name == "node" => {}
            DefaultValue::Required => {
                let (config, found) = Config::inspect_text("f", absent);
                let missing = format!("has no `{}`", setting.name);
                assert!(
                    config.is_none() && found.iter().all(|one| one.reason.contains(&missing)),
                    "{name}: {found}"
                );
            }
            // It says one of the two.
            DefaultValue::Otherwise(_) if sample.table == "vip.source" => {}
            DefaultValue::Otherwise(_) => drop(accepted(&absent)),
            DefaultValue::Value(value) => {
                assert_eq!(accepted(&sample.file("living", value)), accepted(&absent), "{name} = {value}");
            }
        }
    }
}

#[test]
fn values_out_of_range_and_words_that_there_are_not_are_refused() {
    for (setting, sample, name) in sampled() {
        let wrong: Vec<String> = match &setting.kind {
            ValueKind::Number(range) => {
                let below = range.start().checked_sub(1).map_or(-1, i64::from);
                vec![below.to_string(), (i64::from(*range.end()) + 1).to_string(), "\"x\"".to_owned()]
            }
            ValueKind::Time(range) => {
                let below = range.start().as_nanos() - 1;
                vec![
                    format!("\"{below}ns\""),
                    format!("\"{}ns\"", range.end().as_nanos() + 1),
                    "7".to_owned(),
                ]
            }
            ValueKind::ByNode(range) => vec![format!("{{ unix1 = {} }}", range.end() + 1)],
            ValueKind::Word(_) => vec!["\"nonsense\"".to_owned()],
            _ => vec!["7.5".to_owned()],
        };
        for value in wrong {
            let text = sample.file("living", &value);
            assert!(Config::inspect_text("f", text).0.is_none(), "{name} = {value} is accepted");
        }
    }
}

#[test]
fn the_shipped_example_has_every_setting_with_its_default() {
    let text = include_str!("../../../../packaging/onevip.toml");
    let shown = shown(text);
    for (table, setting) in all() {
        let values: Vec<&str> = shown
            .iter()
            .filter(|(path, key, _)| *path == table.path && *key == setting.name)
            .map(|(.., value)| value.as_str())
            .collect();
        let name = format!("{} {}", table.title, setting.name);
        assert!(!values.is_empty(), "packaging/onevip.toml does not show {name}");
        if let DefaultValue::Value(default) = setting.default {
            let found = values.contains(&default);
            assert!(
                found,
                "packaging/onevip.toml does not show the default of {name}, {default}, but {values:?}"
            );
        }
    }
    let known: HashSet<_> = all().map(|(table, setting)| (table.path, setting.name)).collect();
    for (path, key, _) in &shown {
        assert!(known.contains(&(path.as_str(), key.as_str())), "there is no {key} in [{path}]");
    }
}

/// What a file sets, commented out or not: table, key and value. Tables that it has count as keys of the one above.
fn shown(text: &str) -> Vec<(String, String, String)> {
    let (mut table, mut all) = (String::new(), Vec::new());
    let is_word = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || "0123456789_.".contains(c))
    };
    for line in text.lines().map(|line| line.trim_start_matches(['#', ' '])) {
        let header = line.split_once('#').map_or(line, |(before, _)| before).trim();
        let header = header.strip_prefix('[').and_then(|line| line.strip_suffix(']'));
        let header = header.map(|line| line.trim_matches(['[', ']'])).filter(|path| is_word(path));
        if let Some(path) = header {
            table = path.to_owned();
            let (above, key) = path.rsplit_once('.').unwrap_or(("", path));
            all.push((above.to_owned(), key.to_owned(), String::new()));
        } else if let Some((key, rest)) = line.split_once(" = ").filter(|(key, _)| is_word(key)) {
            let value = value_of(rest);
            let inner = match (table.as_str(), key) {
                ("health", _) => "health.thresholds".to_owned(),
                (table, key) => format!("{table}.{key}"),
            };
            // A key before the first header stands at the top.
            if let Some(inside) = value.strip_prefix('{').and_then(|value| value.strip_suffix('}'))
                && key != "weights"
            {
                let pairs = inside.split(',').filter_map(|pair| pair.split_once('='));
                all.extend(
                    pairs.map(|(key, value)| (inner.clone(), key.trim().to_owned(), value.trim().to_owned())),
                );
            }
            all.push((table.clone(), key.to_owned(), value));
        }
    }
    all
}

/// The value at the beginning of a line, without the comment behind it.
fn value_of(line: &str) -> String {
    let (mut quoted, mut depth) = (false, 0);
    let mut end = line.len();
    for (at, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth -= 1,
            '#' | ' ' if !quoted && depth == 0 => {
                end = at;
                break;
            }
            _ => {}
        }
    }
    line[..end].to_owned()
}

#[test]
fn the_page_is_made_of_the_table() {
    let committed = include_str!("../../../../docs/configuration.md");
    let remedy = "cargo run -p onevip-config --example configuration > docs/configuration.md";
    assert!(committed == reference(), "docs/configuration.md is not what the table says; run: {remedy}");
}

#[test]
fn the_examples_of_the_page_are_right() {
    let nodes: String = (1..=4).map(|id| node(id, "")).collect();
    for table in TABLES.iter().filter(|table| !table.example.is_empty()) {
        let (example, cluster) = (table.example, "cluster = \"lab\"\n");
        let vip = "[[vip]]\nname = \"login\"\naddresses = [\"198.51.100.10\"]\n";
        let text = match table.path {
            "" => format!("{example}\n{vip}{nodes}"),
            "vip" | "vip.prefix" => format!("{cluster}{example}\n{nodes}"),
            "node" => format!("{cluster}{vip}{example}\n"),
            _ => format!("{cluster}{vip}{example}\n{nodes}"),
        };
        let (config, found) = Config::inspect_text("f", &*text);
        assert!(config.is_some() && found.is_empty(), "{found}\n{text}");
    }
}

#[test]
fn settings_are_in_the_table_once_and_described() {
    let mut seen = HashSet::new();
    for (table, setting) in all() {
        assert!(seen.insert((table.path, setting.name)), "{} {} is there twice", table.title, setting.name);
        assert!(
            setting.about.ends_with('.') && !setting.about.contains('|'),
            "{}: {}",
            setting.name,
            setting.about
        );
    }
}
