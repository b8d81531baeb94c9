//! The settings of `[health]` and `[[check]]`.

use super::Agreement::Host;
use super::DefaultValue::{Otherwise, Required, Value};
use super::OnReload::Taken;
use super::ValueKind::{List, Number, Text, Thresholds, Time, Word};
use super::{Agreement, SettingTable, only_words, setting};
use crate::health::{Effect, HostScope, NologinCheck, SshdCheck, Worse};
use crate::words::SWITCH;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Between two questions, and how long an answer may take.
const PACE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
/// So many answers in a row.
const IN_A_ROW: RangeInclusive<u32> = 1..=100;
const OWN: Agreement = Host("hosts may differ in what is healthy");

/// `[health]`
pub static HEALTH: SettingTable = SettingTable {
    path: "health",
    title: "[health]",
    about: "What each node asks of itself. An ill node gets no new users while another one feels better; its sessions stay. \
            [Health](health.md) says more.",
    example: "[health]\nsshd = \"kex\"\nmemory_left = { shed = 10, out = 5 }\ncpu_pressure = {}    # never",
    settings: &[
        setting!("sshd": Word(|| only_words(SshdCheck::WORDS)), Value("\"banner\""), "\"banner\"", OWN, Taken,
            "What is asked of sshd. `banner`: it answers connections. `kex`: it also completes a key exchange, once in a \
             while. `off`: nothing."),
        setting!("witness": Word(|| only_words(SWITCH)), Value("\"on\""), "", OWN, Taken,
            "Whether the node watches how other nodes' clients are served, and says so. It needs living membership."),
        setting!("address": Text("an IP address"), Otherwise("the first VIP with SSH"), "\"198.51.100.11\"", OWN, Taken,
            "Where sshd is asked."),
        setting!("port": Number(1..=65535), Otherwise("the port of that VIP"), "22", OWN, Taken,
            "The port on which sshd is asked."),
        setting!("interval": Time(PACE), Value("\"1s\""), "\"1s\"", OWN, Taken, "The time between two questions."),
        setting!("timeout": Time(PACE), Value("\"1s\""), "\"10s\"", OWN, Taken,
            "An answer that takes longer is a bad answer."),
        setting!("fall": Number(IN_A_ROW), Value("2"), "2", OWN, Taken,
            "So many bad answers in a row make the node ill."),
        setting!("rise": Number(IN_A_ROW), Value("2"), "2", OWN, Taken,
            "So many good answers in a row make it well again."),
        setting!("banner_every": Time(PACE), Value("\"5m\""), "\"5m\"", OWN, Taken,
            "How often an sshd that nobody connects to is asked for its banner. Each time leaves a line in its log."),
        setting!("kex_every": Time(PACE), Value("\"60s\""), "", OWN, Taken,
            "With `sshd = \"kex\"`: how often a key exchange is made. Each time leaves a line in the log of sshd."),
        setting!("nologin": Word(|| only_words(NologinCheck::WORDS)), Value("\"drain\""), "\"drain\"", OWN, Taken,
            "Whether `/etc/nologin` and `/run/nologin` send new users to other nodes (`drain`), or not (`ignore`)."),
        setting!("scope": Word(|| only_words(HostScope::WORDS)), Value("\"host\""), "\"host\"", OWN, Taken,
            "Whose memory and processes are looked at: those of the machine (`host`), or those of the control group that \
             the daemon runs in (`cgroup`, for containers)."),
        setting!("memory_pressure": Thresholds(Worse::Upwards), Value("{ shed = 20, out = 60 }"),
            "{ shed = 20, out = 60 }", OWN, Taken, "The share of 3 s in which all work waited for memory."),
        setting!("memory_left": Thresholds(Worse::Downwards), Value("{ shed = 5, out = 2 }"), "{ shed = 5, out = 2 }",
            OWN, Taken, "The memory that is left."),
        setting!("cpu_pressure": Thresholds(Worse::Upwards), Value("{ shed = 90 }"), "{ shed = 90 }", OWN, Taken,
            "The share of 30 s in which some work waited for a processor."),
        setting!("io_pressure": Thresholds(Worse::Upwards), Value("{ shed = 80 }"), "{ shed = 80 }", OWN, Taken,
            "The share of 30 s in which all work waited for disks."),
        setting!("processes_left": Thresholds(Worse::Downwards), Value("{ shed = 10, out = 3 }"),
            "{ shed = 10, out = 3 }", OWN, Taken,
            "The processes that can still be made, of what the limits allow. The node is also out when none can be made."),
        setting!("files_left": Thresholds(Worse::Downwards), Value("{ shed = 10, out = 3 }"), "{ shed = 10, out = 3 }",
            OWN, Taken, "The open files that are left, of what the kernel allows."),
        setting!("disk_left": Thresholds(Worse::Downwards), Value("{ shed = 3, out = 1 }"), "{ shed = 3, out = 1 }",
            OWN, Taken, "The room or the inodes that are left on a file system. The node is also out when it is read-only."),
        setting!("filesystems": List("absolute paths"), Value("[\"/\"]"), "[\"/\"]", OWN, Taken,
            "The file systems that are looked at."),
    ],
};

/// What `memory_left = { … }` and its like hold.
pub static THRESHOLDS: SettingTable = SettingTable {
    path: "health.thresholds",
    title: "thresholds",
    about: "What `memory_pressure`, `memory_left`, `cpu_pressure`, `io_pressure`, `processes_left`, `files_left` and \
            `disk_left` hold. Figures are percent. `{}` turns one off.",
    example: "",
    settings: &[
        setting!("shed": Number(0..=100), Otherwise("never"), "20", OWN, Taken,
            "From here on the weight of the node goes down, step by step."),
        setting!("out": Number(0..=100), Otherwise("never"), "60", OWN, Taken,
            "From here on the node gets no new users while another one feels better."),
    ],
};

/// `[[check]]`
pub static CHECK: SettingTable = SettingTable {
    path: "check",
    title: "[[check]]",
    about: "What you ask besides. There may be several, at most 16. [Health](health.md) says more.",
    example: "[[check]]\nname = \"home\"\ncommand = \"timeout 2 test -d /home/admin\"\neffect = \"shed\"",
    settings: &[
        setting!("name": Text("1 to 63 of `a-z`, `0-9` and `-`"), Required, "\"unix1\"", OWN, Taken,
            "Its name. Each check has its own."),
        setting!("command": Text("a command for `/bin/sh`"), Required, "\"/usr/local/bin/page-me\"", OWN, Taken,
            "The node is well when this ends with exit code 0. Its first line of output is shown."),
        setting!("interval": Time(PACE), Value("\"10s\""), "\"1s\"", OWN, Taken, "The time between two runs."),
        setting!("timeout": Time(PACE), Value("\"5s\""), "\"10s\"", OWN, Taken,
            "A run that takes longer is killed, with all that it has started. That is a bad answer."),
        setting!("fall": Number(IN_A_ROW), Value("2"), "2", OWN, Taken,
            "So many bad answers in a row make the node ill."),
        setting!("rise": Number(IN_A_ROW), Value("2"), "2", OWN, Taken,
            "So many good answers in a row make it well again."),
        setting!("effect": Word(|| only_words(Effect::WORDS)), Value("\"out\""), "\"out\"", OWN, Taken,
            "What a bad answer does. `out`: no new users while another node feels better. `shed`: the weight of the node \
             goes down, step by step."),
    ],
};
