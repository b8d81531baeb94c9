//! `[vip.service.limit]`: how many connections a source may open.

use super::{prefix, values};
use crate::diagnostic::Diagnostics;
use crate::reader::Section;
use crate::span::Spanned;
use crate::words::REFUSED;
use onevip_core::limit::{Limit, Refusal};
use std::ops::RangeInclusive;
use std::time::Duration;

/// What a `[[vip.service]]` says about a limit.
pub(super) fn limit(service: &mut Section<'_>, out: &mut Diagnostics) -> Option<Spanned<Limit>> {
    let mut section = service.table("limit", out)?;
    let place = section.place().clone();
    section.require("burst", out);
    section.require("window", out);
    let burst = section.number("burst", out);
    let window = section.string("window", out).and_then(|text| window(&text, section.times("window"), out));
    let refusal = section.word_or_default("action", Refusal::WORDS, out);
    let counts_refused = section.word_or_default("refused", REFUSED, out);
    let lengths = section.or_default(out, prefix);
    let allow = section.or_default(out, |section, out| section.strings("allow", out)).value;
    let mut allow: Vec<_> = allow.iter().filter_map(|text| values::network(text, out)).collect();
    // The order means nothing, and the kernel part does not keep it.
    allow.sort_unstable();
    allow.dedup();
    section.finish(out);
    let limit = Limit {
        burst: burst?.value as u8,
        window: window?,
        counts_refused,
        refusal,
        v4_prefix: lengths.ipv4,
        v6_prefix: lengths.ipv6,
        allow,
    };
    Some(Spanned::new(limit, place))
}

fn window(
    text: &Spanned<String>,
    range: &RangeInclusive<Duration>,
    out: &mut Diagnostics,
) -> Option<Duration> {
    let read = humantime::parse_duration(&text.value).ok();
    let fits = read.filter(|span| range.contains(span));
    if fits.is_none() {
        let reason = format!("`window` cannot be \"{}\"", text.value);
        out.mistake(&text.place, reason, "write a time from \"100ms\" to \"1h\", like \"7s\"");
    }
    fits
}
