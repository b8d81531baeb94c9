//! What must hold for limits: only where connections are opened, and no more than there is room for.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::draft::ServiceDraft;
use onevip_core::Transport;

/// How many limits all services together may have.
const LIMITS_MAX: usize = 8;
/// How many networks all limits together may let through uncounted.
const ALLOWED_MAX: usize = 4096;

/// Only TCP has connections that are opened.
pub(super) fn fits(service: &ServiceDraft, out: &mut Diagnostics) {
    let Some(limit) = service.limit.as_ref().filter(|_| service.transport != Transport::Tcp) else { return };
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
