//! `[[vip.service]]`: what a VIP serves, how that hashes and who answers.

use super::limit::limit;
use super::values;
use crate::diagnostic::Diagnostics;
use crate::draft::ServiceDraft;
use crate::model::ServiceCheck;
use crate::reader::Section;
use crate::words::{ANSWERERS, HashWord};
use onevip_core::Transport;

/// Reads one `[[vip.service]]`.
pub(super) fn service(mut section: Section<'_>, out: &mut Diagnostics) -> Option<ServiceDraft> {
    section.require("protocol", out);
    section.require("port", out);
    let transport = section.word("protocol", Transport::WORDS, out);
    let ports = section.number_or_string("port", out).and_then(|text| values::ports(&text, out));
    let hash = section.word("hash", HashWord::WORDS, out);
    let answerer = section.or_default(out, |section, out| section.word("owner", ANSWERERS, out));
    let check = section.word("check", ServiceCheck::WORDS, out);
    let limit = limit(&mut section, out);
    let slices = section.number("slices", out);
    section.finish(out);
    Some(ServiceDraft { transport: transport?.value, ports: ports?, hash, answerer, check, limit, slices })
}
