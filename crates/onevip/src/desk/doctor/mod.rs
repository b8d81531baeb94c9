//! `onevip doctor`: what commonly goes wrong, found before it hurts. Each finding says what, why it matters, and what to do.
//!
//! A finding is something to be cured; on a healthy cluster there is none. It looks, and changes nothing.

mod cluster;
mod firewall;
pub mod health;
mod host;
mod iptables;
mod kerberos;
mod nft;
mod question;
mod rules;
mod service;

use super::question::Reply;
use crate::daemon::plan::Plan;
use crate::status::Status;
use onevip_config::Config;
use serde::Serialize;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A word for it that stays the same over releases.
    pub check: &'static str,
    /// What was found.
    pub finding: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to do.
    pub remedy: String,
}

impl Finding {
    fn new(
        check: &'static str,
        finding: impl Into<String>,
        why: &'static str,
        remedy: impl Into<String>,
    ) -> Self {
        Self { check, finding: finding.into(), why, remedy: remedy.into() }
    }

    fn is_about_sshd(&self) -> bool {
        self.check == "health" && self.finding.contains(" is ill: sshd: ")
    }
}

/// What is looked at.
pub struct Patient<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// What this host has to do.
    pub plan: &'a Plan,
    /// What its daemon says; `None` when none runs.
    pub status: Option<&'a Status>,
    /// What the nodes say of themselves; empty when they cannot be asked.
    pub replies: &'a [Reply],
}

/// Everything that is wrong, what matters most first.
pub fn examine(patient: &Patient<'_>) -> Vec<Finding> {
    let mut findings = host::daemon(patient);
    let service = service::examine(patient);
    // That nothing listens, both see; one word for it is enough.
    let told = service.iter().any(|finding| finding.check == "not-listening");
    findings.extend(health::examine(patient).into_iter().filter(|found| !(told && found.is_about_sshd())));
    findings.extend(cluster::examine(patient));
    findings.extend(service);
    findings.extend(firewall::examine(patient));
    findings.extend(host::examine(patient));
    findings
}
