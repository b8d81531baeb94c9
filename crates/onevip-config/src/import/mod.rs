//! A way in: from the rules of the old systems to a configuration with the same mapping.
//!
//! Each reader (`iptables.rs`, `nft.rs`, `pacemaker.rs`) turns a file into what it [`Found`], with the place of every
//! finding; `found.rs` makes one whole of them, `write.rs` the text of the configuration. What was read and not
//! understood is said with its line, never passed over: a client that moves by mistake meets a host without its session.

mod found;
mod iptables;
mod nft;
mod pacemaker;
mod recent;
#[cfg(test)]
mod tests;
mod tokens;
mod write;

pub use found::{Answers, Found, Member, Scheme};

use crate::{Config, Diagnostics, SourceFile, Span};
use std::sync::Arc;

/// What came of an import.
#[derive(Debug)]
pub struct Imported {
    /// The configuration; `None` when there are mistakes.
    pub text: Option<String>,
    /// What was understood, with its place, in the order of the files.
    pub understood: Vec<(Span, String)>,
    /// What was not, or wants a decision.
    pub found: Diagnostics,
}

/// Reads rules and parameters, whatever they are, and writes a configuration of them.
pub fn import(sources: &[Arc<SourceFile>], answers: &Answers) -> Imported {
    let mut found = Found::default();
    for source in sources {
        read(source, answers, &mut found);
    }
    found.settle(sources, answers);
    let text = (!found.out.has_mistakes()).then(|| write::configuration(&found, answers));
    if let Some(text) = &text {
        check(text, &mut found);
    }
    let text = text.filter(|_| !found.out.has_mistakes());
    Imported { text, understood: found.understood, found: found.out }
}

/// Gives a file to the reader that it is for.
fn read(source: &Arc<SourceFile>, answers: &Answers, found: &mut Found) {
    let text = source.text();
    let any_line = |begins: &[&str]| {
        text.lines().any(|line| begins.iter().any(|token| line.trim_start().starts_with(token)))
    };
    if text.trim_start().starts_with('{') && text.contains("\"nftables\"") {
        found.out.mistake(
            &Span::whole(source),
            "this is the JSON of nft, which does not say all that is needed",
            "give the output of `nft list ruleset`, without -j",
        );
    } else if any_line(&["primitive ", "Resource:", "Clone:"]) {
        pacemaker::read(source, answers, found);
    } else if any_line(&["-A ", "-I ", "[", "iptables ", "ip6tables ", "arptables ", "link"]) {
        iptables::read(source, found);
    } else if any_line(&["table ", "add rule ", "nft "]) {
        nft::read(source, found);
    } else {
        found.out.mistake(
            &Span::whole(source),
            "this is none of what can be imported",
            "give the output of iptables-save, nft list ruleset, crm configure show or pcs resource config",
        );
    }
}

/// The configuration must be in order, but for what nobody could know: names and addresses of nodes.
fn check(text: &str, found: &mut Found) {
    let filled_in = text.replace(write::FILL_IN, "");
    let (_, diagnostics) = Config::inspect_text("(the new configuration)", filled_in);
    diagnostics.iter().for_each(|one| found.out.push(one.clone()));
}
