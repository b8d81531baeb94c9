//! Rules of `xt_recent`, two of which make a limit: one that notes a connection, and one that looks for too many.

use super::found::{Found, ImportedLimit};
use crate::{Diagnostic, Span};
use onevip_core::limit::{BURST_MAX, WINDOW_MAX};

/// The longest window that `[vip.service.limit]` takes.
const SECONDS_MAX: u32 = WINDOW_MAX.as_secs() as u32;

/// A rule of `xt_recent`.
pub(super) struct Recent {
    pub list: String,
    pub port: Option<u16>,
    pub step: Step,
    pub place: Span,
}

/// What such a rule does.
pub(super) enum Step {
    /// It notes the connection.
    Set,
    /// It looks whether there were too many.
    Check { seconds: u32, hits: u32, action: &'static str, renews: bool },
}

/// Pairs of a rule that checks and one that notes: how many get through depends on which comes first.
pub(super) fn limits(rules: Vec<Recent>, found: &mut Found) {
    for (at, rule) in rules.iter().enumerate() {
        let Step::Check { seconds, hits, action, renews } = rule.step else { continue };
        let is_set = |other: &Recent| other.list == rule.list && matches!(other.step, Step::Set);
        let set = rules.iter().position(is_set);
        let burst = match set {
            Some(set) if set > at => hits,
            // Noted before it is checked, a connection counts itself.
            Some(_) => hits - 1,
            None => {
                let reason = format!("nothing is ever noted in the list {}", rule.list);
                found.out.push(Diagnostic::advice(
                    &rule.place,
                    reason,
                    "the rule has no effect, and is left out",
                ));
                continue;
            }
        };
        if burst == 0 {
            found.out.push(Diagnostic::advice(
                &rule.place,
                "this rule lets nobody in",
                "it is left out; see what it was meant for",
            ));
            continue;
        }
        found.understand(
            &rule.place,
            format!("at most {burst} new connections of a source within {seconds} s, then {action}"),
        );
        if burst > BURST_MAX.into() || seconds > SECONDS_MAX {
            let reason =
                format!("onevip limits to at most {BURST_MAX} connections in at most {SECONDS_MAX} s");
            found.out.push(Diagnostic::advice(
                &rule.place,
                reason,
                "the limit is left out; write a smaller one by hand",
            ));
            continue;
        }
        let limit = ImportedLimit { port: rule.port, burst, seconds, action, counts_refused: renews };
        if !found.limits.contains(&limit) {
            found.limits.push(limit);
        }
    }
}
