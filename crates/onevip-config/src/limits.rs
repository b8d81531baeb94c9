//! `[vip.service.limit]`: how many connections a source may open.

use super::diagnostic::{Diagnostic, Diagnostics};
use super::model::Protocol;
use super::reader::Section;
use super::services::ServiceDraft;
use super::span::Spanned;
use super::values;
use onevip_core::limit::{BURST_MAX, Limit, Refusal, WINDOW_MAX};
use std::time::Duration;

/// How many limits all services together may have.
const LIMITS_MAX: usize = 8;
/// The shortest window: below it a client that tries again at once is hardly counted.
const WINDOW_MIN: Duration = Duration::from_millis(100);
/// How many networks all limits together may let through uncounted.
const ALLOWED_MAX: usize = 4096;

const REFUSALS: &[(&str, Refusal)] = &[
    ("icmp-port-unreachable", Refusal::Unreachable),
    ("tcp-reset", Refusal::Reset),
    ("drop", Refusal::Drop),
];
const REFUSED: &[(&str, bool)] = &[("count", true), ("ignore", false)];

/// What a `[[vip.service]]` says about a limit.
pub(super) fn limit(service: &mut Section<'_>, out: &mut Diagnostics) -> Option<Spanned<Limit>> {
    let mut section = service.table("limit", "[vip.service.limit]", out)?;
    let place = section.place().clone();
    section.require("burst", out);
    section.require("window", out);
    let burst = section.integer("burst", 1..=u32::from(BURST_MAX), out);
    let window = section.string("window", out).and_then(|text| window(&text, out));
    let refusal = section.choice("action", REFUSALS, out).map_or_else(Refusal::default, |word| word.value);
    let counts_refused = section.choice("refused", REFUSED, out).is_none_or(|word| word.value);
    let (v4_prefix, v6_prefix) = prefixes(&mut section, out);
    let allow = section.strings("allow", out).map(|list| list.value).unwrap_or_default();
    let mut allow: Vec<_> = allow.iter().filter_map(|text| values::network(text, out)).collect();
    // The order means nothing, and the kernel part does not keep it.
    allow.sort_unstable();
    allow.dedup();
    section.finish(out);
    let burst = burst?.value as u8;
    let limit = Limit { burst, window: window?, counts_refused, refusal, v4_prefix, v6_prefix, allow };
    Some(Spanned::new(limit, place))
}

/// What makes a source: an address of IPv4, and of IPv6 the network that a home or a host has.
fn prefixes(section: &mut Section<'_>, out: &mut Diagnostics) -> (u8, u8) {
    let Some(mut table) = section.table("prefix", "`prefix`", out) else { return (32, 64) };
    let ipv4 = table.integer("ipv4", 1..=32, out).map_or(32, |bits| bits.value as u8);
    let ipv6 = table.integer("ipv6", 1..=128, out).map_or(64, |bits| bits.value as u8);
    table.finish(out);
    (ipv4, ipv6)
}

fn window(text: &Spanned<String>, out: &mut Diagnostics) -> Option<Duration> {
    let read = humantime::parse_duration(&text.value).ok();
    let fits = read.filter(|span| (WINDOW_MIN..=WINDOW_MAX).contains(span));
    if fits.is_none() {
        let reason = format!("`window` cannot be \"{}\"", text.value);
        out.mistake(&text.place, reason, "write a time from \"100ms\" to \"1h\", like \"7s\"");
    }
    fits
}

/// Only TCP has connections that are opened.
pub(super) fn fits(service: &ServiceDraft, out: &mut Diagnostics) {
    let Some(limit) = service.limit.as_ref().filter(|_| service.protocol != Protocol::Tcp) else { return };
    let reason = "a limit counts connections that are opened, and UDP has none";
    out.mistake(
        &limit.place,
        reason,
        "leave `limit` out, or let the service limit itself, as DNS servers do",
    );
}

/// No more limits, and networks in them, than there is room for.
pub(super) fn count(services: &[&ServiceDraft], out: &mut Diagnostics) {
    let limits: Vec<_> = services.iter().filter_map(|service| service.limit.as_ref()).collect();
    if let Some(beyond) = limits.get(LIMITS_MAX) {
        let reason = format!("the services have {} limits together, more than {LIMITS_MAX}", limits.len());
        out.mistake(&beyond.place, reason, "let one [[vip.service]] with a range of ports have the limit");
    }
    let networks: usize = limits.iter().map(|limit| limit.value.allow.len()).sum();
    if let Some(last) = limits.last().filter(|_| networks > ALLOWED_MAX) {
        let reason = format!("the limits allow {networks} networks together, more than {ALLOWED_MAX}");
        out.push(Diagnostic::mistake(&last.place, reason, "name wider networks"));
    }
}
