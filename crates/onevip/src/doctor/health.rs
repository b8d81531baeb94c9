//! What the nodes found when they asked themselves whether they can serve users.

use super::{Diagnosis, Inputs};
use onevip_health::impact::CheckState;
use onevip_health::monitor::SSHD;
use onevip_health::results::CheckReport;

/// Without what the check of `sshd` found, where that is told otherwise.
pub(super) fn examine(inputs: &Inputs<'_>, skips_sshd: bool) -> Vec<Diagnosis> {
    let Some(health) = inputs.status.and_then(|status| status.health.as_ref()) else { return Vec::new() };
    let me = &inputs.plan.node.name;
    let mut findings: Vec<Diagnosis> = health
        .checks
        .iter()
        .filter(|check| check.state != CheckState::Well && !(skips_sshd && check.name == SSHD))
        .map(|check| {
            Diagnosis::new(
                "health",
                format!("{me} is ill: {}: {}", check.name, check.finding),
                if check.state == CheckState::Shed {
                    "fewer new users come here, and those that do find a host that has little room"
                } else {
                    "new users go to other nodes, which have to bear them; who is logged in here may suffer"
                },
                remedy(check).to_owned(),
            )
        })
        .collect();
    for reply in inputs.replies.iter().filter(|reply| reply.node != *me) {
        let Ok(facts) = &reply.answer else { continue };
        findings.extend(facts.ill.iter().map(|words| {
            Diagnosis::new(
                "node-ill",
                format!("{} is ill: {words}", reply.node),
                "the others carry its new users, and there is one node less to fail",
                format!("`onevip doctor` on {} says what to do", reply.node),
            )
        }));
    }
    findings
}

/// What is ill here, in words that another node can show.
pub fn words(checks: &[CheckReport]) -> Vec<String> {
    let ill = checks.iter().filter(|check| check.state != CheckState::Well);
    ill.map(|check| format!("{}: {}", check.name, check.finding)).collect()
}

fn remedy(check: &CheckReport) -> &'static str {
    match check.name.split(' ').next().unwrap_or_default() {
        SSHD if check.is_full() => {
            "look who connects and does not log in (`ss -tn state established '( sport = :22 )'`); raise MaxStartups, or \
             limit sources with PerSourceMaxStartups"
        }
        SSHD | "key" => {
            "`systemctl status ssh` and its log; a hung one is replaced with `systemctl restart ssh`, sessions stay"
        }
        "answers" => {
            "look what drops them or leads them elsewhere: `sysctl net.ipv4.conf.{all,IFACE}.{rp_filter,arp_ignore}`, \
             `ip -d link` (NOARP), `ip route get CLIENT from VIP`, `ip rule`, `nft list ruleset` with its arp tables. The \
             node tries by itself whether it is cured"
        }
        "nologin" => "if nobody shuts this host down, remove /etc/nologin and /run/nologin",
        "processes" => {
            "`ps -eLf --sort=-nlwp | head`: end what makes so many; limit users with `TasksMax=` of user-.slice"
        }
        "memory" => {
            "`ps -e --sort=-rss | head`: end what takes so much; limit users with `MemoryMax=` of user-.slice"
        }
        "cpu" => "`top`; limit users with `CPUWeight=` and `CPUQuota=` of user-.slice",
        "io" => "`iotop` or /proc/pressure/io say who; a disk or a file server may be slow as a whole",
        "files" => "`lsof | awk '{print $1}' | sort | uniq -c | sort -n`: end what has so many files open",
        "disk" => {
            "`df -h`, `df -i` and `du -x`: make room; read-only: `dmesg` says why, `fsck`, then mount it anew"
        }
        "check" => "the words are those of the command in [[check]]: run it by hand",
        _ => "docs/health.md says what this check looks at",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onevip_health::host::watch::HostWatch;
    use std::path::Path;

    #[test]
    fn every_check_of_a_host_has_a_remedy_of_its_own() {
        let names = HostWatch::new(&onevip_config::HealthSettings::default(), Path::new("/")).names();
        let check = |name: &str| CheckReport {
            name: name.to_owned(),
            state: CheckState::Out,
            finding: "x".into(),
            since_seconds: 0,
            last_seconds: None,
        };
        for name in names.iter().map(String::as_str).chain(["sshd", "answers", "check home"]) {
            assert!(!remedy(&check(name)).contains("health.md"), "{name}");
        }
    }
}
