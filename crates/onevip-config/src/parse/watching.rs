//! `[metrics]` and `[[hook]]`: how the daemon is watched.

use crate::diagnostic::Diagnostics;
use crate::event_kind::EventKind;
use crate::model::{Hook, Listen};
use crate::reader::Section;
use crate::span::Spanned;
use crate::suggest::nearest;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// How many hooks there may be.
const HOOKS_MAX: usize = 64;

/// Where metrics can be read.
pub(super) fn metrics(top: &mut Section<'_>, out: &mut Diagnostics) -> Option<Listen> {
    let mut section = top.table("metrics", out)?;
    section.require("listen", out);
    let listen = section.string("listen", out).and_then(|text| listen(&text, out));
    section.finish(out);
    listen
}

/// What runs when something happens.
pub(super) fn hooks(top: &mut Section<'_>, out: &mut Diagnostics) -> Vec<Hook> {
    let sections = top.tables("hook", out);
    if let Some(beyond) = sections.get(HOOKS_MAX) {
        let reason = format!("there are {} hooks, more than {HOOKS_MAX}", sections.len());
        out.mistake(
            beyond.place(),
            reason,
            "let one command handle several events: on = [\"node-out\", \"node-heard\"]",
        );
    }
    sections.into_iter().filter_map(|section| hook(section, out)).collect()
}

fn hook(mut section: Section<'_>, out: &mut Diagnostics) -> Option<Hook> {
    section.require("on", out);
    section.require("command", out);
    let on = section.strings("on", out).map(|events| events.value).unwrap_or_default();
    let known = on.iter().filter(|event| is_event(event, out)).map(|event| event.value.clone()).collect();
    let command = section.string("command", out).and_then(|command| command_line(command, out));
    let timeout = section.or_default(out, |section, out| {
        timeout(&section.string("timeout", out)?, section.times("timeout"), out)
    });
    section.finish(out);
    Some(Hook { on: known, command: command?, timeout })
}

fn is_event(event: &Spanned<String>, out: &mut Diagnostics) -> bool {
    if EventKind::named(&event.value).is_some() {
        return true;
    }
    let remedy = match nearest(&event.value, EventKind::ALL.iter().map(|kind| kind.name())) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => format!("write one of {}", EventKind::ALL.map(EventKind::name).join(", ")),
    };
    out.mistake(&event.place, format!("there is no event \"{}\"", event.value), remedy);
    false
}

fn command_line(command: Spanned<String>, out: &mut Diagnostics) -> Option<String> {
    if !command.value.trim().is_empty() && !command.value.contains('\0') {
        return Some(command.value);
    }
    out.mistake(
        &command.place,
        "`command` is empty",
        "write what the shell shall run, like \"/usr/local/bin/page-me\"",
    );
    None
}

fn timeout(
    text: &Spanned<String>,
    range: &RangeInclusive<Duration>,
    out: &mut Diagnostics,
) -> Option<Duration> {
    let read = humantime::parse_duration(&text.value).ok();
    let fits = read.filter(|span| range.contains(span));
    if fits.is_none() {
        let reason = format!("`timeout` cannot be \"{}\"", text.value);
        out.mistake(&text.place, reason, "write a time of at most ten minutes, like \"10s\"");
    }
    fits
}

/// `127.0.0.1:9108`, `[::1]:9108`, or a path. Not for the network: nothing there asks who reads.
fn listen(text: &Spanned<String>, out: &mut Diagnostics) -> Option<Listen> {
    if text.value.starts_with('/') && text.value.len() < 100 && !text.value.contains('\0') {
        return Some(Listen::Unix(text.value.clone().into()));
    }
    match text.value.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() && address.port() != 0 => Some(Listen::Tcp(address)),
        Ok(address) => {
            let reason = format!("metrics cannot be read at {address}");
            let remedy = "choose a port of 127.0.0.1 or [::1]: whoever is to read them from elsewhere goes through a \
                          proxy that asks for a password";
            out.mistake(&text.place, reason, remedy);
            None
        }
        Err(_) => {
            let reason = format!("`listen` cannot be \"{}\"", text.value);
            out.mistake(
                &text.place,
                reason,
                "write \"127.0.0.1:9108\", or the path of a socket, \"/run/onevip/metrics.sock\"",
            );
            None
        }
    }
}
