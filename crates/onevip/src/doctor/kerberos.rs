//! Kerberos: clients ask for a ticket for the name that they typed, which is the VIP's; so every node needs a key for it.

use super::{Diagnosis, Inputs};
use crate::doctor::keytab;
use crate::doctor::sshd::{Effective, Sshd};
use onevip_host::programs;
use std::fs;
use std::path::PathBuf;

/// MIT's default.
const KEYTAB: &str = "/etc/krb5.keytab";

pub(super) fn examine(inputs: &Inputs<'_>, sshd: &Sshd, effective: &Effective) -> Vec<Diagnosis> {
    if effective.get("gssapiauthentication") != Some("yes") {
        return Vec::new();
    }
    let path = keytab_of_host();
    // Some distributions turn it on everywhere: without a host's key Kerberos is not in use here.
    let Ok(principals) = keytab::principals(&path) else { return Vec::new() };
    if !principals.iter().any(|principal| principal.starts_with("host/")) {
        return Vec::new();
    }
    let names = names(inputs);
    let mut findings = Vec::new();
    findings.extend(names.iter().filter(|name| !has_key(&principals, name)).map(|name| {
        Diagnosis::new(
            "kerberos-principal",
            format!("{} has no key for host/{name}, the name of a VIP", path.display()),
            "clients get a ticket for the name they typed; who lands here cannot log in with it",
            format!(
                "in kadmin `addprinc -randkey host/{name}` and `ktadd host/{name}`, once; then copy that key to the \
                 keytab of every node (each `ktadd` makes the earlier ones worthless)"
            ),
        )
    }));
    if !names.is_empty() && effective.get("gssapistrictacceptorcheck") == Some("yes") {
        findings.push(Diagnosis::new(
            "kerberos-acceptor",
            format!(
                "sshd takes tickets for this host's own name alone (GSSAPIStrictAcceptorCheck yes), not for {}",
                names.join(", ")
            ),
            "clients get a ticket for the name they typed, which is the VIP's",
            format!("`GSSAPIStrictAcceptorCheck no` in {}", sshd.config_name()),
        ));
    }
    findings
}

/// Upper and lower case are the same in host names; realms are not ours to judge.
fn has_key(principals: &[String], name: &str) -> bool {
    let hosts = principals.iter().filter_map(|p| p.strip_prefix("host/")?.split('@').next());
    hosts.into_iter().any(|host| host.eq_ignore_ascii_case(name))
}

/// The names of the VIPs: those of the file, and those that the addresses resolve to.
fn names(inputs: &Inputs<'_>) -> Vec<String> {
    let mut names = inputs.config.support.names.clone();
    let addresses = inputs.plan.vips.iter().flat_map(|plan| &plan.vip.addresses);
    // A program that is killed when the name service does not answer.
    names.extend(addresses.filter_map(|address| {
        let mut getent = programs::find("getent")?.command();
        let line = programs::output_of(getent.args(["hosts", &address.to_string()]))?;
        let name = line.split_whitespace().nth(1)?.to_owned();
        // Kerberos knows hosts by their full names.
        name.contains('.').then_some(name)
    }));
    names.iter_mut().for_each(|name| name.make_ascii_lowercase());
    names.sort_unstable();
    names.dedup();
    names
}

/// The keytab that `sshd` uses. Its environment cannot be read (it writes its title over it), but the files can that it
/// is made of; whoever starts it otherwise names the keytab in the environment of the doctor, as for `klist -k`.
fn keytab_of_host() -> PathBuf {
    let said = |file: &str, key: &str| {
        let text = fs::read_to_string(file).ok()?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix(key))?;
        Some(line.trim_start().strip_prefix('=')?.trim().trim_matches('"').to_owned())
    };
    let name = std::env::var("KRB5_KTNAME")
        .ok()
        .or_else(|| said("/etc/default/ssh", "KRB5_KTNAME"))
        .or_else(|| said("/etc/sysconfig/sshd", "KRB5_KTNAME"))
        .or_else(|| said("/etc/krb5.conf", "default_keytab_name"))
        .unwrap_or_else(|| KEYTAB.to_owned());
    let path = name.strip_prefix("FILE:").or_else(|| name.strip_prefix("WRFILE:")).unwrap_or(&name);
    PathBuf::from(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_host_alone() {
        let has =
            |name: &str| has_key(&["host/Login.example.org@EXAMPLE.ORG".into(), "nfs/other@E".into()], name);
        assert!(has("login.example.org") && !has("login") && !has("other"));
    }
}
