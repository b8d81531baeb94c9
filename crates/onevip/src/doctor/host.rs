//! This host: its daemon, its rights, its kernel, its key.

use super::{Diagnosis, Inputs};
use crate::base::keys;
use crate::report::status::VipStatus;
use crate::sessions::processes;
use onevip_bpf::{KernelFeatures, Neighbour};
use onevip_config::Membership;
use std::fs;

/// Linux has tcx since this version.
const TCX_SINCE: (u32, u32) = (6, 6);

pub(super) fn daemon(inputs: &Inputs<'_>) -> Vec<Diagnosis> {
    let Some(status) = inputs.status else {
        return vec![Diagnosis::new(
            "daemon",
            "no onevip daemon runs on this host",
            "it answers nobody new; what it held it still holds",
            "`systemctl start onevip`, and `journalctl -u onevip` if that fails",
        )];
    };
    let interfaces = status.vips.iter().filter_map(interface);
    let lapsed = |vip: &VipStatus| vip.trouble.is_none() && !vip.lease.live && vip.lease.left_ms != 0;
    let lease = status.vips.iter().any(lapsed).then(|| {
        Diagnosis::new(
            "lease",
            "the lease of this node ran out",
            "it answers nobody new until others acknowledge its beats again",
            "`onevip status` says whom it hears; a daemon that does not run in time needs its real-time rights",
        )
    });
    let resets = status.daemon_resets.then(|| {
        Diagnosis::new(
            "resets",
            "a packet filter of this host keeps the stack's resets back; onevip sends them itself",
            "sessions of a node that died are ended some seconds later, and other programs may miss their resets as well",
            "let segments of unknown connections to the VIP through: no `ct state invalid drop` and no \"new and not SYN\" \
             rule before the accept, or net.netfilter.nf_conntrack_tcp_loose=1; then restart the daemon",
        )
    });
    interfaces.chain(lease).chain(resets).collect()
}

fn interface(vip: &VipStatus) -> Option<Diagnosis> {
    let trouble = vip.trouble.as_ref()?;
    Some(Diagnosis::new(
        "interface",
        format!("{}: {trouble}", vip.name),
        "no packet and no beat passes: this node serves nobody there, and the others have to",
        "`ip -d link` and `ip address` show it, the log of the network manager says why; the node serves again by itself \
         when it is back. For an address that is not to come back, restart the daemon",
    ))
}

pub(super) fn examine(inputs: &Inputs<'_>) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    findings.extend(key(inputs));
    findings.extend(rights(inputs));
    findings.extend(kernel(inputs, &KernelFeatures::probe()));
    findings.extend(neighbours(inputs));
    findings
}

fn key(inputs: &Inputs<'_>) -> Option<Diagnosis> {
    if inputs.config.membership != Membership::Living {
        return None;
    }
    let error = keys::read(&keys::location(&inputs.config.key_file)).err()?;
    Some(Diagnosis::new(
        "key-file",
        format!("{error:#}"),
        "whoever reads it can forge beats; and without it the daemon cannot start again",
        "as said; a new one is distributed with `onevip keygen --add`, `--promote`, `--retire`",
    ))
}

fn rights(inputs: &Inputs<'_>) -> Vec<Diagnosis> {
    let Some(daemon) = inputs.status.and_then(|status| status.daemon.as_ref()) else { return Vec::new() };
    let mut findings = Vec::new();
    if !daemon.realtime {
        let cgroup = realtime_cgroup(daemon.pid);
        let (found, remedy) = match &cgroup {
            Some(file) => (
                format!(
                    "the daemon has no real-time rights: its cgroup has no budget for them ({file} is 0)"
                ),
                format!(
                    "`echo 100000 > {file}`, and the same in the cgroups above it; or move the service out of it"
                ),
            ),
            None => (
                "the daemon has no real-time rights".to_owned(),
                "give it CAP_SYS_NICE, as the unit does, or `LimitRTPRIO=10`".to_owned(),
            ),
        };
        findings.push(Diagnosis::new(
            "real-time",
            found,
            "on a busy host its beats are late, and others take over",
            remedy,
        ));
    }
    if !daemon.memory_locked {
        findings.push(Diagnosis::new(
            "memory-lock",
            "the daemon's memory is not locked",
            "when this host swaps its beats are late, and others take over",
            "give it CAP_IPC_LOCK, as the unit does, or `LimitMEMLOCK=infinity`",
        ));
    }
    findings
}

/// The file that keeps a process of a v1 cpu cgroup from real-time scheduling.
fn realtime_cgroup(pid: u32) -> Option<String> {
    let cgroups = String::from_utf8(processes::file(pid.try_into().ok()?, "cgroup")?).ok()?;
    let path = cgroups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        parts.next()?.split(',').any(|controller| controller == "cpu").then(|| parts.next()).flatten()
    })?;
    let places = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"];
    let file = |place: &&str| format!("{place}{}/cpu.rt_runtime_us", path.trim_end_matches('/'));
    places.iter().map(file).find(|file| fs::read_to_string(file).is_ok_and(|budget| budget.trim() == "0"))
}

fn kernel(inputs: &Inputs<'_>, kernel: &KernelFeatures) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    let hint = kernel.hint();
    if !hint.is_empty() {
        findings.push(Diagnosis::new(
            "kernel",
            hint.trim_start_matches("; ").to_owned(),
            "the kernel part cannot be loaded without it",
            "boot a newer kernel of your distribution",
        ));
    }
    if inputs.status.is_some_and(|status| status.ports_guarded == Some(false)) {
        findings.push(Diagnosis::new(
            "ports-unguarded",
            "processes of this host may take UDP ports that belong to other nodes",
            "a mosh-server on such a port is never reached, and its user waits in vain",
            "mount a cgroup file system of version 2 (mount -t cgroup2 none /sys/fs/cgroup/unified) and restart the \
             daemon; its log says what was in the way",
        ));
    }
    let version =
        kernel.release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().ok());
    let version: Vec<u32> = version.take(2).flatten().collect();
    let has_tcx = matches!(version.as_slice(), [major, minor] if (*major, *minor) >= TCX_SINCE);
    let attached = inputs.status.iter().flat_map(|status| &status.attached);
    for attached in attached.filter(|attached| has_tcx && attached.mode == "clsact") {
        findings.push(Diagnosis::new(
            "attach-mode",
            format!("attached to {} as a clsact filter, though this kernel has tcx", attached.interface),
            "clsact costs every packet a little more, and a `tc filter del` by somebody else removes it",
            "`onevip teardown`, then start the daemon again, while the node is drained",
        ));
    }
    findings
}

/// Whose programs come first. The daemon puts its own before them, so who is found here does the same.
fn neighbours(inputs: &Inputs<'_>) -> Vec<Diagnosis> {
    let attached = inputs.status.iter().flat_map(|status| &status.attached);
    let finding = |interface: &str, side: &str, program: Neighbour| {
        Diagnosis::new(
            "program-first",
            format!("{program} sees the packets of {interface} before onevip does, at {side}"),
            "what it does not pass on onevip neither judges (ingress) nor guards (egress): this host may answer \
             everybody, or hear no node",
            format!("let it attach behind onevip, or take it off: bpftool net show dev {interface}"),
        )
    };
    attached
        .flat_map(|attached| {
            let before = onevip_bpf::before_ours(&attached.interface).unwrap_or_default();
            before.into_iter().map(|(side, program)| finding(&attached.interface, side, program))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_such_a_cgroup_is_not_kept_from_anything() {
        assert_eq!(realtime_cgroup(u32::MAX), None);
    }
}
