//! Puts a node's VIPs in place on this host: programs, addresses, cluster MAC, settings.

use crate::base::plan::{Plan, VipPlan, early_drop};
use anyhow::Context;
use onevip_bpf::{Kernel, OpenOutcome};
use onevip_core::{Bucket, Flags};
use onevip_host::journal::{Change, Journal};
use onevip_host::netlink::Netlink;
use onevip_host::run_dir::RunDir;
use onevip_host::{VipSetup, cgroup, others, reset};
use std::net::IpAddr;

/// Kernel part first, then the address: no packet for the VIP ever meets a host without a verdict.
///
/// # Errors
/// The kernel refuses something; what was set up before stays, `teardown` removes it.
pub fn set_up(plan: &Plan, run_dir: &RunDir, journal: &mut Journal) -> anyhow::Result<Kernel> {
    let setups: &[VipSetup] = &plan.vips.iter().map(VipPlan::setup).collect::<Vec<_>>();
    let mut netlink = Netlink::open().context("cannot talk to the kernel over netlink")?;
    onevip_bpf::ensure_bpffs(&run_dir.pins())?;
    let (mut kernel, origin) = Kernel::open(&run_dir.pins())?;
    match origin {
        OpenOutcome::Fresh => tracing::info!("kernel part loaded"),
        OpenOutcome::Adopted => tracing::info!("kernel part adopted from an earlier daemon"),
        OpenOutcome::Upgraded => tracing::info!("kernel part of an earlier version replaced, its state kept"),
        OpenOutcome::Rebuilt { why } => tracing::warn!("kernel part rebuilt: {why}"),
    }
    let wanted = plan.kernel_config();
    if kernel.config().is_some_and(|old| old != wanted) {
        expect_sessions_everywhere(&kernel);
    }
    give_up_addresses(setups, journal)?;
    kernel.set_config(&wanted)?;
    for (interface, accelerate) in plan.attachments() {
        let attached = kernel.attach(&interface, early_drop(accelerate))?;
        tracing::info!("attached to {interface}: {attached}");
    }
    guard_ports(plan, run_dir)?;
    others::ensure(setups, &mut netlink, journal)?;
    for setup in setups {
        for repair in setup.ensure(&mut netlink, journal)? {
            tracing::info!("{}", repair.at_start());
        }
    }
    clear_away(setups, &mut kernel, journal)?;
    Ok(kernel)
}

/// Under another hash sockets lie in other buckets than those that are marked: until the next scan has found them, any
/// bucket may have some.
fn expect_sessions_everywhere(kernel: &Kernel) {
    let words = kernel.words();
    for vip in 0..onevip_bpf::VIPS_MAX {
        for bucket in Bucket::all() {
            words.set_flags(vip, bucket, words.flags(vip, bucket).with(Flags::GUESTS));
        }
    }
}

/// No process of this host may take a port of another node's slice. Where that cannot be prevented everything else works.
fn guard_ports(plan: &Plan, run_dir: &RunDir) -> anyhow::Result<()> {
    if !plan.vips.iter().any(|vip| vip.vip.selector().is_sliced()) {
        return Ok(onevip_bpf::release_ports(&run_dir.pins())?);
    }
    let guarded = match cgroup::of_this_host() {
        None => Err(anyhow::anyhow!("no cgroup file system of version 2 is mounted")),
        Some(group) => onevip_bpf::guard_ports(&run_dir.pins(), &group).map(|()| group).map_err(Into::into),
    };
    match guarded {
        Ok(group) => {
            tracing::info!("ports of other nodes are refused to the processes in {}", group.display())
        }
        Err(error) => tracing::error!(
            "ports of other nodes are not refused to the processes of this host: {error:#}; a mosh-server that takes one \
             is never reached: mount -t cgroup2 none /sys/fs/cgroup/unified, then restart the daemon"
        ),
    }
    Ok(())
}

/// Takes VIPs from this host that the configuration no longer has, while the kernel part still judges their packets, and
/// resets their sessions: without the address no reset gets out.
fn give_up_addresses(setups: &[VipSetup], journal: &mut Journal) -> anyhow::Result<()> {
    let serves = |address: &IpAddr| setups.iter().any(|setup| setup.addresses.contains(address));
    let given_up: Vec<_> = journal.addresses().into_iter().filter(|address| !serves(address)).collect();
    reset::sessions_of(&given_up, |said| tracing::warn!("addresses that the file no longer has: {said}"));
    let stays = |change: &Change| !matches!(change, Change::Address { address, .. } if !serves(address));
    for change in journal.undo_unless(stays)? {
        tracing::info!("the configuration no longer asks for {change}: undone");
    }
    Ok(())
}

/// Takes away what an earlier configuration has left on this host: the address first, then the kernel part that judged
/// its packets.
fn clear_away(setups: &[VipSetup], kernel: &mut Kernel, journal: &mut Journal) -> anyhow::Result<()> {
    let needed =
        |change: &Change| setups.iter().any(|setup| setup.needs(change)) || others::needs(setups, change);
    for change in journal.undo_unless(needed)? {
        tracing::info!("the configuration no longer asks for {change}: undone");
    }
    let interfaces: Vec<&str> = setups.iter().map(|setup| setup.interface.as_str()).collect();
    Ok(kernel.detach_all_but(&interfaces)?)
}
