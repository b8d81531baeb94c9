//! `[health]` and `[[check]]`.

use super::*;
use crate::health::{Effect, HealthSettings, HostScope, NologinCheck, SshdCheck, Thresholds};
use std::time::Duration;

#[test]
fn a_file_without_a_word_about_health_has_the_defaults() {
    let config = accepted(&file("", "", ""));
    assert_eq!(config.health, HealthSettings::default());
    assert_eq!((config.health.interval, config.health.fall), (Duration::from_secs(1), 2));
    assert!(config.checks.is_empty());
    assert_eq!(config, accepted(&file("", "", "[health]")), "an empty table says nothing");
}

#[test]
fn everything_can_be_said() {
    let health = "[health]\nsshd = \"off\"\naddress = \"127.0.0.1\"\nport = 2222\ninterval = \"2s\"\ntimeout = \"500ms\"\n\
                  fall = 3\nrise = 4\nbanner_every = \"1m\"\nnologin = \"ignore\"\nscope = \"cgroup\"\n\
                  memory_pressure = { shed = 1, out = 2 }\nmemory_left = { out = 1 }\ncpu_pressure = {}\n\
                  filesystems = [\"/\", \"/var\"]\n\
                  [[check]]\nname = \"home\"\ncommand = \"test -d /home/x\"\ninterval = \"30s\"\ntimeout = \"3s\"\neffect = \"shed\"";
    let config = accepted(&file("", "", health));
    let health = &config.health;
    assert_eq!(
        (health.sshd, health.nologin, health.scope),
        (SshdCheck::Off, NologinCheck::Ignore, HostScope::Cgroup)
    );
    assert_eq!((health.port, health.fall, health.rise), (Some(2222), 3, 4));
    assert_eq!(health.memory_pressure, Thresholds { shed: Some(1), out: Some(2) });
    assert_eq!(health.memory_left, Thresholds { shed: None, out: Some(1) });
    assert_eq!(health.cpu_pressure, Thresholds::default(), "{{}} turns it off");
    assert_eq!(health.io_pressure, HealthSettings::default().io_pressure);
    assert_eq!(health.filesystems.len(), 2);
    let check = &config.checks[0];
    assert_eq!((check.name.as_str(), check.effect, check.fall), ("home", Effect::Shed, 2));
    assert_eq!((check.interval, check.timeout), (Duration::from_secs(30), Duration::from_secs(3)));
}

#[test]
fn hosts_may_have_checks_of_their_own() {
    let with = accepted(&file("", "", "[health]\nfall = 9\n[[check]]\nname = \"x\"\ncommand = \"true\""));
    assert_eq!(with.digest(), accepted(&file("", "", "")).digest());
}

#[test]
fn mistakes_of_health() {
    let health =
        |line: &str, reason, remedy| finds(&file("", "", &format!("[health]\n{line}")), reason, remedy);
    health("sshd = \"baner\" # here", "cannot be \"baner\"", "did you mean \"banner\"?");
    health("interval = \"1\" # here", "not a time", "like \"1s\"");
    health("interval = \"1ms\" # here", "shorter than 100ms", "from \"100ms\"");
    health("timeout = \"2h\" # here", "longer than 1h", "to \"1h\"");
    health("fall = 0 # here", "`fall` is 0", "from 1 to 100");
    health("port = 0 # here", "`port` is 0", "from 1 to 65535");
    health("address = \"localhost\" # here", "not an IP address", "127.0.0.1");
    health("memory_pressure = 20 # here", "takes a table, not a number", "{ shed = 20, out = 60 }");
    health("memory_pressure = { shed = 101 } # here", "`shed` is 101", "from 0 to 100");
    health("memory_pressure = { shed = 50, out = 20 } # here", "out at 20 % before it sheds", "larger");
    health("disk_left = { shed = 1, out = 20 } # here", "out at 20 % before it sheds", "smaller");
    health("memory_left = { shd = 1 } # here", "unknown key `shd`", "did you mean `shed`?");
    health("filesystems = [\"var\"] # here", "not an absolute path", "begin it with /");
    health("rize = 2 # here", "unknown key `rize` in [health]", "did you mean `rise`?");
}

#[test]
fn mistakes_of_a_check() {
    let check = |lines: &str, reason, remedy| finds(&file("", "", lines), reason, remedy);
    check("[[check]] # here\nname = \"a\"", "[[check]] has no `command`", "add command = ");
    check("[[check]] # here\ncommand = \"true\"", "[[check]] has no `name`", "add name = ");
    check(
        "[[check]]\nname = \"a\"\ncommand = \" \" # here",
        "`command` is empty",
        "what the shell shall run",
    );
    check(
        "[[check]]\nname = \"a\"\ncommand = \"true\"\neffect = \"drain\" # here",
        "cannot be",
        "\"shed\", \"out\"",
    );
    let one = "[[check]]\nname = \"a\"\ncommand = \"true\"\n";
    check(
        &format!("{one}[[check]]\ncommand = \"true\"\nname = \"a\" # here"),
        "two checks are named",
        "a name of its own",
    );
}
