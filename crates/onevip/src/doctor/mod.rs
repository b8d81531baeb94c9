//! `onevip doctor`: what commonly goes wrong, found before it hurts. Each finding says what, why it matters, and what to do.
//!
//! A finding is something to be cured; on a healthy cluster there is none. It looks, and changes nothing.

mod cluster;
mod connection;
pub mod facts;
mod firewall;
pub mod health;
mod host;
pub mod host_keys;
mod iptables;
mod kerberos;
mod keytab;
mod nft;
mod rules;
mod service;
pub mod sshd;

use crate::base::plan::Plan;
use crate::report::status::Status;
use crate::rpc::nodes::Reply;
use facts::NodeFacts;
use onevip_config::Config;
use serde::Serialize;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// A word for it that stays the same over releases.
    pub check: &'static str,
    /// What was found.
    pub finding: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to do.
    pub remedy: String,
}

impl Diagnosis {
    fn new(
        check: &'static str,
        finding: impl Into<String>,
        why: &'static str,
        remedy: impl Into<String>,
    ) -> Self {
        Self { check, finding: finding.into(), why, remedy: remedy.into() }
    }
}

/// What is looked at.
pub struct Inputs<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// What this host has to do.
    pub plan: &'a Plan,
    /// What its daemon says; `None` when none runs.
    pub status: Option<&'a Status>,
    /// What the nodes say of themselves; empty when they cannot be asked.
    pub replies: &'a [Reply<NodeFacts>],
}

/// Everything that is wrong, what matters most first.
pub fn examine(inputs: &Inputs<'_>) -> Vec<Diagnosis> {
    let mut findings = host::daemon(inputs);
    let service = service::examine(inputs);
    // That nothing listens, both see; one word for it is enough.
    let told = service.iter().any(|finding| finding.check == service::NOT_LISTENING);
    findings.extend(health::examine(inputs, told));
    findings.extend(cluster::examine(inputs));
    findings.extend(service);
    findings.extend(firewall::examine(inputs));
    findings.extend(host::examine(inputs));
    findings
}
