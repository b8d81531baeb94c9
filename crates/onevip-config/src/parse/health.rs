//! `[health]` and `[[check]]`: what a node asks of itself.

use super::values;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::health::{
    Effect, HealthSettings, HostScope, NologinCheck, SshdCheck, Thresholds, UserCheck, Worse,
};
use crate::reader::Section;
use crate::settings::HEALTH;
use crate::span::Spanned;
use crate::words::SWITCH;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How many `[[check]]` there may be: each has a thread.
const CHECKS_MAX: usize = 16;

/// Reads `[health]`.
pub(super) fn health(section: Option<Section<'_>>, out: &mut Diagnostics) -> HealthSettings {
    let mut table = section.unwrap_or_else(|| Section::empty(&HEALTH));
    let known = &mut table;
    let health = HealthSettings {
        sshd: known.word_or_default("sshd", SshdCheck::WORDS, out),
        peer_check: known.word_or_default("witness", SWITCH, out),
        address: own_address(known, out),
        port: known.number("port", out).map(|port| port.value as u16),
        interval: pace(known, "interval", out),
        timeout: pace(known, "timeout", out),
        fall: known.number_or_default("fall", out),
        rise: known.number_or_default("rise", out),
        banner_every: pace(known, "banner_every", out),
        kex_every: pace(known, "kex_every", out),
        nologin: known.word_or_default("nologin", NologinCheck::WORDS, out),
        scope: known.word_or_default("scope", HostScope::WORDS, out),
        memory_pressure: thresholds(known, "memory_pressure", out),
        memory_left: thresholds(known, "memory_left", out),
        cpu_pressure: thresholds(known, "cpu_pressure", out),
        io_pressure: thresholds(known, "io_pressure", out),
        processes_left: thresholds(known, "processes_left", out),
        files_left: thresholds(known, "files_left", out),
        disk_left: thresholds(known, "disk_left", out),
        filesystems: known.or_default(out, filesystems),
    };
    table.finish(out);
    health
}

impl Default for HealthSettings {
    /// What holds where the file says nothing.
    fn default() -> Self {
        health(None, &mut Diagnostics::new())
    }
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
    let (fall, rise) = (section.number_or_default("fall", out), section.number_or_default("rise", out));
    let effect = section.word_or_default("effect", Effect::WORDS, out);
    section.finish(out);
    let name = name?;
    let check = UserCheck {
        name: name.value.clone(),
        command: command?.value,
        interval,
        timeout,
        fall,
        rise,
        effect,
    };
    Some((name, check))
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

fn filesystems(section: &mut Section<'_>, out: &mut Diagnostics) -> Option<Vec<PathBuf>> {
    let paths = section.strings("filesystems", out)?.value.into_iter();
    Some(paths.filter_map(|path| values::absolute_path("filesystems", path, out)).collect())
}

fn pace(section: &mut Section<'_>, key: &'static str, out: &mut Diagnostics) -> Duration {
    section.or_default(out, |section, out| {
        let text = section.string(key, out)?;
        let range = section.times(key);
        let remedy = "write a time from \"100ms\" to \"1h\", like \"1s\"";
        match humantime::parse_duration(&text.value) {
            Ok(time) if range.contains(&time) => Some(time),
            Ok(time) => {
                let bound = if time < *range.start() { "shorter than 100ms" } else { "longer than 1h" };
                out.mistake(&text.place, format!("`{key}` is {bound}"), remedy);
                None
            }
            Err(_) => {
                let reason = format!("`{key}` cannot be \"{}\": not a time", text.value);
                out.mistake(&text.place, reason, remedy);
                None
            }
        }
    })
}

/// `key = { shed = 20, out = 60 }`: what it does not name does not happen.
fn thresholds(section: &mut Section<'_>, key: &'static str, out: &mut Diagnostics) -> Thresholds {
    section.or_default(out, |section, out| {
        let mut table = section.table(key, out)?;
        let shed = table.number("shed", out);
        let gone = table.number("out", out);
        if let (Some(shed), Some(gone)) = (&shed, &gone) {
            let (wrong, word) = match section.worse(key) {
                Worse::Upwards => (gone.value < shed.value, "larger"),
                Worse::Downwards => (gone.value > shed.value, "smaller"),
            };
            if wrong {
                let reason =
                    format!("`{key}` is out at {} % before it sheds at {} %", gone.value, shed.value);
                out.mistake(&gone.place, reason, format!("let `out` be the {word} number of the two"));
            }
        }
        table.finish(out);
        let percent = |number: Spanned<u32>| number.value as u8;
        Some(Thresholds { shed: shed.map(percent), out: gone.map(percent) })
    })
}
