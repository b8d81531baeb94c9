//! `[health]` and `[[check]]`: what a node asks of itself, and what the answers do to its share.
//!
//! Every host may have checks of its own, so nothing of this enters the digest that nodes compare.

use super::diagnostic::{Diagnostic, Diagnostics};
use super::reader::Section;
use super::span::Spanned;
use super::values;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// How many `[[check]]` there may be: each has a thread.
pub const CHECKS_MAX: usize = 16;
/// Between two questions, and how long an answer may take.
const PACE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

/// `[health]`, with defaults for what the file does not say.
#[derive(Clone, PartialEq, Debug)]
pub struct HealthSettings {
    /// What is asked of `sshd`.
    pub sshd: SshdCheck,
    /// Whether this node watches how the others' clients are served, and says so.
    pub witness: bool,
    /// Where `sshd` is asked; `None`: at the first address of the first VIP that serves TCP.
    pub address: Option<IpAddr>,
    /// On which port; `None`: the VIP's, 22 if it is among them.
    pub port: Option<u16>,
    /// Time between two questions while all is well.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// So many failures in a row, and the node is ill.
    pub fall: u32,
    /// So many good answers in a row, and it is well again.
    pub rise: u32,
    /// How often the banner of an `sshd` is asked for that nobody else connects to: each time leaves a line in its log.
    pub banner_every: Duration,
    /// How often a key exchange is made, with [`SshdCheck::Kex`].
    pub kex_every: Duration,
    /// Whether `/etc/nologin` and `/run/nologin` send new users elsewhere.
    pub nologin: NologinCheck,
    /// What counts as this host.
    pub scope: HostScope,
    /// PSI `full avg10` of memory, percent.
    pub memory_pressure: Thresholds,
    /// Memory that is left, percent.
    pub memory_left: Thresholds,
    /// PSI `some avg10` of the processors, percent.
    pub cpu_pressure: Thresholds,
    /// PSI `full avg10` of disks, percent.
    pub io_pressure: Thresholds,
    /// Processes and threads that could still be made, percent of the limit.
    pub processes_left: Thresholds,
    /// Open files that are left, percent of the kernel's limit.
    pub files_left: Thresholds,
    /// Room on a file system (blocks or inodes), percent.
    pub disk_left: Thresholds,
    /// The file systems that are looked at.
    pub filesystems: Vec<PathBuf>,
}

impl Default for HealthSettings {
    fn default() -> Self {
        let at = |shed, out| Thresholds { shed, out };
        Self {
            sshd: SshdCheck::Banner,
            witness: true,
            address: None,
            port: None,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            fall: 2,
            rise: 2,
            banner_every: Duration::from_secs(300),
            kex_every: Duration::from_secs(60),
            nologin: NologinCheck::Drain,
            scope: HostScope::Host,
            memory_pressure: at(Some(20), Some(60)),
            memory_left: at(Some(5), Some(2)),
            cpu_pressure: at(Some(90), None),
            io_pressure: at(Some(80), None),
            processes_left: at(Some(10), Some(3)),
            files_left: at(Some(10), Some(3)),
            disk_left: at(Some(3), Some(1)),
            filesystems: vec![PathBuf::from("/")],
        }
    }
}

/// What is asked of `sshd`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SshdCheck {
    /// That it answers connections with its banner.
    #[default]
    Banner,
    /// That, and once in a while that a key exchange completes.
    Kex,
    /// Nothing.
    Off,
}

/// What a `nologin` file does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum NologinCheck {
    /// New users go elsewhere while it is there.
    #[default]
    Drain,
    /// Nothing.
    Ignore,
}

/// What counts as this host where its resources are looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HostScope {
    /// The machine.
    #[default]
    Host,
    /// The control group that the daemon runs in: for containers that have one for everything in them.
    Cgroup,
}

/// What happens to a node that fails a check.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Effect {
    /// Its weight goes down, step by step.
    Shed,
    /// It gets no new users while others feel better.
    #[default]
    Out,
}

/// From where on a figure has an effect, in percent; `None`: never.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Thresholds {
    /// The node sheds load.
    pub shed: Option<u8>,
    /// The node is out.
    pub out: Option<u8>,
}

/// One `[[check]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserCheck {
    /// Its name, unique.
    pub name: String,
    /// What the shell runs; it succeeds with exit code 0.
    pub command: String,
    /// Time between two runs.
    pub interval: Duration,
    /// A run that takes longer has failed.
    pub timeout: Duration,
    /// So many failures in a row count.
    pub fall: u32,
    /// So many successes in a row count.
    pub rise: u32,
    /// What a failure does.
    pub effect: Effect,
}

const SSHD_CHECKS: &[(&str, SshdCheck)] =
    &[("banner", SshdCheck::Banner), ("kex", SshdCheck::Kex), ("off", SshdCheck::Off)];
const SWITCH: &[(&str, bool)] = &[("on", true), ("off", false)];
const NOLOGIN_CHECKS: &[(&str, NologinCheck)] =
    &[("drain", NologinCheck::Drain), ("ignore", NologinCheck::Ignore)];
const SCOPES: &[(&str, HostScope)] = &[("host", HostScope::Host), ("cgroup", HostScope::Cgroup)];
const EFFECTS: &[(&str, Effect)] = &[("shed", Effect::Shed), ("out", Effect::Out)];

/// Which way a figure gets worse.
#[derive(Clone, Copy)]
enum Worse {
    Upwards,
    Downwards,
}

/// Reads `[health]`.
pub(super) fn health(section: Option<Section<'_>>, out: &mut Diagnostics) -> HealthSettings {
    let mut health = HealthSettings::default();
    let Some(mut table) = section else { return health };
    let known = &mut table;
    set(&mut health.sshd, known.choice("sshd", SSHD_CHECKS, out).map(|word| word.value));
    set(&mut health.witness, known.choice("witness", SWITCH, out).map(|word| word.value));
    health.address = own_address(known, out);
    health.port = known.integer("port", 1..=65535, out).map(|port| port.value as u16);
    set(&mut health.interval, pace(known, "interval", out));
    set(&mut health.timeout, pace(known, "timeout", out));
    set(&mut health.fall, count(known, "fall", out));
    set(&mut health.rise, count(known, "rise", out));
    set(&mut health.banner_every, pace(known, "banner_every", out));
    set(&mut health.kex_every, pace(known, "kex_every", out));
    set(&mut health.nologin, known.choice("nologin", NOLOGIN_CHECKS, out).map(|word| word.value));
    set(&mut health.scope, known.choice("scope", SCOPES, out).map(|word| word.value));
    thresholds(&mut health.memory_pressure, known, "memory_pressure", Worse::Upwards, out);
    thresholds(&mut health.memory_left, known, "memory_left", Worse::Downwards, out);
    thresholds(&mut health.cpu_pressure, known, "cpu_pressure", Worse::Upwards, out);
    thresholds(&mut health.io_pressure, known, "io_pressure", Worse::Upwards, out);
    thresholds(&mut health.processes_left, known, "processes_left", Worse::Downwards, out);
    thresholds(&mut health.files_left, known, "files_left", Worse::Downwards, out);
    thresholds(&mut health.disk_left, known, "disk_left", Worse::Downwards, out);
    if let Some(paths) = known.strings("filesystems", out) {
        let absolute = |path| values::absolute_path("filesystems", path, out);
        health.filesystems = paths.value.into_iter().filter_map(absolute).collect();
    }
    table.finish(out);
    health
}

/// Reads the `[[check]]`s.
pub(super) fn checks(sections: Vec<Section<'_>>, out: &mut Diagnostics) -> Vec<UserCheck> {
    let mut checks: Vec<(Spanned<String>, UserCheck)> = Vec::new();
    for section in sections {
        if checks.len() == CHECKS_MAX {
            let remedy = "let one command check several things";
            out.mistake(section.place(), format!("there are more than {CHECKS_MAX} [[check]]"), remedy);
            break;
        }
        let Some((name, check)) = check(section, out) else { continue };
        if let Some((earlier, _)) = checks.iter().find(|(earlier, _)| earlier.value == name.value) {
            let reason = format!("two checks are named \"{}\"", name.value);
            let mistake = Diagnostic::mistake(&name.place, reason, "give each [[check]] a name of its own");
            out.push(mistake.also(&earlier.place, "first used here"));
        }
        checks.push((name, check));
    }
    checks.into_iter().map(|(_, check)| check).collect()
}

fn check(mut section: Section<'_>, out: &mut Diagnostics) -> Option<(Spanned<String>, UserCheck)> {
    section.require("name", out);
    section.require("command", out);
    let name = section.string("name", out).and_then(|name| values::label("name", name, out));
    let command = section.string("command", out).filter(|command| {
        let empty = command.value.trim().is_empty() || command.value.contains('\0');
        if empty {
            out.mistake(
                &command.place,
                "`command` is empty",
                "write what the shell shall run, e.g. \"test -d /home/admin\"",
            );
        }
        !empty
    });
    let interval = pace(&mut section, "interval", out);
    let timeout = pace(&mut section, "timeout", out);
    let (fall, rise) = (count(&mut section, "fall", out), count(&mut section, "rise", out));
    let effect = section.choice("effect", EFFECTS, out);
    section.finish(out);
    let name = name?;
    let check = UserCheck {
        name: name.value.clone(),
        command: command?.value,
        interval: interval.unwrap_or(Duration::from_secs(10)),
        timeout: timeout.unwrap_or(Duration::from_secs(5)),
        fall: fall.unwrap_or(2),
        rise: rise.unwrap_or(2),
        effect: effect.map_or_else(Effect::default, |word| word.value),
    };
    Some((name, check))
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// The address to ask; loopback is as good as any.
fn own_address(section: &mut Section<'_>, out: &mut Diagnostics) -> Option<IpAddr> {
    let text = section.string("address", out)?;
    let address = text.value.parse().ok();
    if address.is_none() {
        let remedy = "write an address on which this host's sshd listens, like \"127.0.0.1\"";
        out.mistake(&text.place, format!("\"{}\" is not an IP address", text.value), remedy);
    }
    address
}

fn count(section: &mut Section<'_>, key: &'static str, out: &mut Diagnostics) -> Option<u32> {
    section.integer(key, 1..=100, out).map(|number| number.value)
}

fn pace(section: &mut Section<'_>, key: &'static str, out: &mut Diagnostics) -> Option<Duration> {
    let text = section.string(key, out)?;
    let remedy = "write a time from \"100ms\" to \"1h\", like \"1s\"";
    match humantime::parse_duration(&text.value) {
        Ok(time) if PACE.contains(&time) => Some(time),
        Ok(time) => {
            let bound = if time < *PACE.start() { "shorter than 100ms" } else { "longer than 1h" };
            out.mistake(&text.place, format!("`{key}` is {bound}"), remedy);
            None
        }
        Err(_) => {
            let reason = format!("`{key}` cannot be \"{}\": not a time", text.value);
            out.mistake(&text.place, reason, remedy);
            None
        }
    }
}

/// `key = { shed = 20, out = 60 }`: what it does not name does not happen.
fn thresholds(
    place: &mut Thresholds,
    section: &mut Section<'_>,
    key: &'static str,
    worse: Worse,
    out: &mut Diagnostics,
) {
    let Some(mut table) = section.table(key, "thresholds", out) else { return };
    let shed = table.integer("shed", 0..=100, out);
    let gone = table.integer("out", 0..=100, out);
    if let (Some(shed), Some(gone)) = (&shed, &gone) {
        let (wrong, word) = match worse {
            Worse::Upwards => (gone.value < shed.value, "larger"),
            Worse::Downwards => (gone.value > shed.value, "smaller"),
        };
        if wrong {
            let reason = format!("`{key}` is out at {} % before it sheds at {} %", gone.value, shed.value);
            out.mistake(&gone.place, reason, format!("let `out` be the {word} number of the two"));
        }
    }
    let percent = |number: Spanned<u32>| number.value as u8;
    *place = Thresholds { shed: shed.map(percent), out: gone.map(percent) };
    table.finish(out);
}
