//! What the VIP is for: does anything listen on it, and is `sshd` set up for a share of everybody.

use super::{Diagnosis, Inputs, kerberos};
use crate::doctor::sshd::{Effective, Sshd};
use onevip_config::Vip;
use onevip_core::{Prefix, Transport};
use onevip_host::talkers::{self, Listener};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// OpenSSH's own default.
const STARTUPS_DEFAULT: u32 = 10;

/// The word for a service at whose port nobody listens.
pub(super) const NOT_LISTENING: &str = "not-listening";

pub(super) fn examine(inputs: &Inputs<'_>) -> Vec<Diagnosis> {
    let Ok(listeners) = talkers::listeners() else { return Vec::new() };
    let mut findings = Vec::new();
    for plan in &inputs.plan.vips {
        let configured = |port| Sshd::configured_at(port, &listeners);
        findings.extend(
            ports(&plan.vip).filter_map(|port| unheard(&listeners, &plan.vip.addresses, port, &configured)),
        );
    }
    if let Some(sshd) = Sshd::of(inputs.config, inputs.plan)
        && let Some(effective) = sshd.effective()
    {
        let named = sshd.config_name();
        findings.extend(startups(inputs, &effective, &named));
        findings.extend(penalties(sshd.version(), &effective, &named, &askers(inputs)));
        findings.extend(kerberos::examine(inputs, &sshd, &effective));
    }
    findings
}

/// The single TCP ports that a VIP serves; a range is a playground of many programs.
fn ports(vip: &Vip) -> impl Iterator<Item = u16> + '_ {
    let tcp = vip.services.iter().filter(|service| service.transport == Transport::Tcp);
    tcp.filter(|service| service.ports.start() == service.ports.end()).map(|service| *service.ports.start())
}

/// `configured` tells where the `sshd` of a port is to listen by its file.
fn unheard(
    listeners: &[Listener],
    vips: &[IpAddr],
    port: u16,
    configured: &dyn Fn(u16) -> Vec<SocketAddr>,
) -> Option<Diagnosis> {
    let on_port: Vec<&Listener> = listeners.iter().filter(|listener| listener.port == port).collect();
    let silent = vips.iter().filter(|vip| !on_port.iter().any(|listener| listener.hears(**vip)));
    let silent: Vec<IpAddr> = silent.copied().collect();
    if silent.is_empty() {
        return None;
    }
    let why = "clients that land here are refused: `Connection refused`";
    if on_port.is_empty() {
        // One connection while sshd_config has a mistake leaves the socket unit failed, also when that is mended
        // (systemd 252 and 257).
        let remedy = "start sshd (`systemctl start ssh`; where systemd listens for it, `systemctl restart ssh.socket`, which \
                      stays failed after a mistake in sshd_config); until then `onevip drain` here";
        return Some(Diagnosis::new(NOT_LISTENING, format!("nothing listens on port {port}"), why, remedy));
    }
    let named = silent.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let heard: Vec<String> = on_port.iter().map(|listener| listener.address.to_string()).collect();
    let found = format!("port {port} is served on {}, but not on the VIP {named}", heard.join(", "));
    let is_configured = |vip: &IpAddr| configured(port).contains(&SocketAddr::new(*vip, port));
    let remedy = if silent.iter().all(is_configured) {
        let settings: BTreeSet<&str> =
            silent
                .iter()
                .map(|vip| {
                    if vip.is_ipv4() { "net.ipv4.ip_nonlocal_bind=1" } else { "net.ipv6.ip_nonlocal_bind=1" }
                })
                .collect();
        let settings: Vec<&str> = settings.into_iter().collect();
        format!(
            "sshd_config names it already, but sshd began before the VIP was there: `systemctl restart ssh` (sessions stay). \
             So that it does not come back with the next boot, `{}` in /etc/sysctl.d, or no `ListenAddress` at all",
            settings.join("` and `")
        )
    } else {
        format!(
            "add `ListenAddress {}` to sshd_config, or remove all of them; then restart sshd",
            named.replace(", ", "` and `ListenAddress ")
        )
    };
    Some(Diagnosis::new("listen-address", found, why, remedy))
}

fn startups(inputs: &Inputs<'_>, effective: &Effective, file: &str) -> Option<Diagnosis> {
    let most = effective.max_startups()?;
    let vips = inputs.status.iter().flat_map(|status| &status.vips);
    // When the fullest node dies, all its users are back within a moment, divided among the others.
    let share = vips.flat_map(|vip| {
        let others = vip.nodes.iter().filter_map(|node| Some(node.peer.as_ref()?.sessions? as usize));
        let left = vip.nodes.len().saturating_sub(1).max(1);
        others.map(move |sessions| sessions.div_ceil(left))
    });
    let needed = share.max().unwrap_or(0).max(STARTUPS_DEFAULT as usize);
    (most < needed as u32).then(|| {
        Diagnosis::new(
            "max-startups",
            format!("MaxStartups begins to turn logins away at {most} ({file}); {needed} at once are to be expected"),
            "when a node dies its users come back all at once, and sshd turns a part of them away at random",
            format!("`MaxStartups {}:30:{}` in {file}", needed.max(100), (needed * 3).max(300)),
        )
    })
}

/// Whose connections `sshd` sees without a login: this host's checks come from the VIPs, where they ask, and, in doubt,
/// from loopback; peers come from the nodes' own addresses.
fn askers(inputs: &Inputs<'_>) -> Vec<Prefix> {
    let vips = inputs.plan.vips.iter().flat_map(|plan| plan.vip.addresses.iter());
    let nodes = inputs.config.nodes.iter().flat_map(|node| node.addresses.iter());
    let loopback = [(Ipv4Addr::new(127, 0, 0, 0).into(), 8), (Ipv6Addr::LOCALHOST.into(), 128)];
    let loopback = loopback.into_iter().filter_map(|(address, length)| Prefix::new(address, length));
    let told = inputs.config.health.address.iter().chain(vips).chain(nodes).copied().map(Prefix::host);
    loopback.chain(told).collect()
}

/// Since 9.8 OpenSSH shuts out addresses that connect and do not log in, as health checks do.
fn penalties(
    version: Option<(u32, u32)>,
    effective: &Effective,
    file: &str,
    askers: &[Prefix],
) -> Option<Diagnosis> {
    let on = effective.get("persourcepenalties").is_some_and(|value| value != "no");
    let exempt = effective.get("persourcepenaltyexemptlist").unwrap_or("none");
    let exempt: Vec<Prefix> = exempt.split(',').filter_map(|net| net.parse().ok()).collect();
    let all: BTreeSet<&Prefix> = askers.iter().collect();
    let covered = all.iter().all(|asker| exempt.iter().any(|net| net.contains(asker)));
    (version >= Some((9, 8)) && on && !covered).then(|| {
        let names: Vec<String> = all.iter().map(ToString::to_string).collect();
        Diagnosis::new(
            "source-penalties",
            "sshd punishes sources that connect without logging in, this cluster's own health checks included",
            "after some checks the node would look ill without being so",
            format!("`PerSourcePenaltyExemptList {}` in {file}", names.join(",")),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(address: &str, v6_only: bool) -> Listener {
        Listener { address: address.parse().unwrap(), port: 22, inode: 1, v6_only }
    }

    #[test]
    fn a_vip_is_heard_by_its_own_or_by_a_wildcard_of_its_family() {
        let found = |listeners: &[Listener], vip: &str| {
            unheard(listeners, &[vip.parse().unwrap()], 22, &|_| Vec::new()).map(|finding| finding.check)
        };
        let (v4, v6) = ("198.51.100.10", "2001:db8::10");
        assert_eq!(found(&[], v4), Some(NOT_LISTENING));
        assert_eq!(found(&[listener("198.51.100.11", false)], v4), Some("listen-address"));
        assert_eq!(found(&[listener(v4, false)], v4), None);
        assert_eq!(found(&[listener("0.0.0.0", false)], v4), None);
        assert_eq!(found(&[listener("0.0.0.0", false)], v6), Some("listen-address"));
        assert_eq!(found(&[listener("::", false)], v4), None);
        assert_eq!(found(&[listener("::", true)], v4), Some("listen-address"));
        assert_eq!(found(&[listener("::", true)], v6), None);
    }

    #[test]
    fn an_sshd_that_began_before_the_vip_was_there_is_to_be_restarted() {
        let own = [listener("198.51.100.11", false)];
        let vips = ["198.51.100.10".parse().unwrap()];
        let remedy = |at: &[&str]| {
            let configured = |_| at.iter().map(|text| text.parse().unwrap()).collect();
            unheard(&own, &vips, 22, &configured).unwrap().remedy
        };
        assert!(remedy(&["198.51.100.11:22"]).contains("add `ListenAddress 198.51.100.10`"));
        let again = remedy(&["198.51.100.11:22", "198.51.100.10:22"]);
        assert!(
            again.contains("systemctl restart ssh") && again.contains("net.ipv4.ip_nonlocal_bind=1"),
            "{again}"
        );
        assert!(!again.contains("add `ListenAddress"), "{again}");
    }

    #[test]
    fn penalties_are_a_finding_only_where_they_are_and_hit_us() {
        let effective = |text: &str| Effective::parse(text);
        let askers = ["127.0.0.0/8", "198.51.100.10", "2001:db8::10"].map(|net| net.parse().unwrap());
        let finding = |version, text: &str| penalties(version, &effective(text), "f", &askers);
        let of = |version, text: &str| finding(version, text).is_some();
        let on = "persourcepenalties crash:90 authfail:5 noauth:1\npersourcepenaltyexemptlist none\n";
        assert!(of(Some((9, 8)), on) && of(Some((10, 0)), on) && !of(Some((9, 7)), on) && !of(None, on));
        assert!(!of(Some((9, 8)), "persourcepenalties no\n"));
        let exempt = |list| format!("persourcepenalties crash:90\npersourcepenaltyexemptlist {list}\n");
        assert!(of(Some((9, 8)), &exempt("127.0.0.1/32")), "calls come from the VIP");
        assert!(!of(Some((9, 8)), &exempt("127.0.0.0/8,198.51.100.0/24,2001:db8::/64")));
        let remedy = finding(Some((10, 0)), on).unwrap().remedy;
        let list = remedy.split(['`', ' ']).nth(2).unwrap();
        assert!(!of(Some((10, 0)), &exempt(list)), "content with its own remedy: {remedy}");
    }
}
