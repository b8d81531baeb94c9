//! What each contestant sets up on its node, for both families.

use std::time::Duration;

use anyhow::Result;
use onevip_bpf::{Accelerate, Kernel, KernelConfig, VipConfig, ensure_bpffs};
use onevip_core::hash::{jhash2, reciprocal_scale};
use onevip_core::{Hasher, Selector};

use super::frames::{NETWORK6, SEED};
use super::{Filter, IpFamily};
use crate::lab::Lab;
use crate::net::{INTERFACE, ip_batch};
use crate::plan::{Host, vip4, vip6};
use crate::process::{feed, run_ok};
use crate::wire::parse_mac;

/// Prepares a node. It has the VIP's addresses, so that whatever passes a filter is received and counted.
///
/// # Errors
/// When the kernel or a program refuses.
pub fn prepare(lab: &Lab, contestant: Filter, id: u8) -> Result<()> {
    let (vip4, vip6, host) = (vip4(), vip6(), Host::Node(id));
    let addresses =
        format!("addr add {vip4}/32 dev {INTERFACE}\naddr add {vip6}/128 dev {INTERFACE} nodad\n");
    ip_batch(lab.name(), host, &addresses)?;
    let host = host.to_string();
    match contestant {
        Filter::Native => attach(lab, &host, id, Accelerate::Xdp),
        Filter::Generic => attach(lab, &host, id, Accelerate::XdpGeneric),
        Filter::Tc => attach(lab, &host, id, Accelerate::Off),
        Filter::Iptables => IpFamily::ALL.into_iter().try_for_each(|family| iptables(lab, &host, family)),
        Filter::Nft => IpFamily::ALL.into_iter().try_for_each(|family| {
            let mut nft = lab.command(&host, "nft")?;
            feed(nft.args(["-f", "-"]), &nft_rules(family))
        }),
        Filter::Floor => Ok(()),
    }
}

/// Our programs on a node that claims nothing and holds nothing, which is what most packets of a busy cluster meet.
fn attach(lab: &Lab, host: &str, id: u8, accelerate: Accelerate) -> Result<()> {
    let dir = lab.node(id).run_dir().join("bpf");
    lab.inside(host, || -> Result<()> {
        ensure_bpffs(&dir)?;
        let (mut kernel, _) = Kernel::open(&dir)?;
        let vip = VipConfig {
            addresses: vec![vip4().into(), vip6().into()],
            selector: Selector::uniform(Hasher { seed: SEED, ..Hasher::DEFAULT }),
            beat_port: 1112,
            orphan_wait_ms: 150,
            cluster_mac: parse_mac(lab.cluster_mac()),
        };
        kernel.set_config(&KernelConfig { vips: vec![vip] })?;
        kernel.attach(INTERFACE, accelerate)?;
        Ok(())
    })?
}

fn nft_rules(family: IpFamily) -> String {
    let ip = match family {
        IpFamily::V4 => "ip",
        IpFamily::V6 => "ip6",
    };
    let to_us = format!("iif \"{INTERFACE}\" {ip} daddr {}", family.vip());
    format!(
        "table {ip} cluster {{\n\
         chain prerouting {{ type filter hook prerouting priority mangle;\n\
         {to_us} jhash {ip} saddr mod 2 seed {SEED:#x} offset 1 == 1 meta pkttype set host accept\n\
         {to_us} drop\n}}\n}}\n"
    )
}

/// The node that `xt_cluster` does not choose. For IPv6 it hashes only the first 32 bits of a source, which all of ours
/// have in common.
fn local_node(family: IpFamily) -> u32 {
    match family {
        IpFamily::V4 => 1,
        IpFamily::V6 => {
            let octets = NETWORK6.octets();
            let first = u32::from_ne_bytes([octets[0], octets[1], octets[2], octets[3]]);
            2 - reciprocal_scale(jhash2(&[first], SEED), 2)
        }
    }
}

fn iptables(lab: &Lab, host: &str, family: IpFamily) -> Result<()> {
    let (vip, seed, local) = (family.vip().to_string(), format!("{SEED:#x}"), local_node(family).to_string());
    let own =
        ["-m", "cluster", "--cluster-hash-seed", &seed, "--cluster-total-nodes", "2", "--cluster-local-node"];
    for rest in [[&own[..], &[&local, "-j", "ACCEPT"]].concat(), vec!["-j", "DROP"]] {
        let mut iptables = lab.command(host, family.iptables())?;
        iptables.args(["-t", "mangle", "-A", "PREROUTING", "-d", &vip, "-i", INTERFACE]).args(rest);
        run_ok(&mut iptables, Duration::from_secs(20))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nftables_is_told_the_same_in_both_families() {
        let (v4, v6) = (nft_rules(IpFamily::V4), nft_rules(IpFamily::V6));
        assert!(v4.contains("ip daddr 198.51.100.10 jhash ip saddr mod 2"), "{v4}");
        assert!(v6.contains("ip6 daddr 2001:db8::10 jhash ip6 saddr mod 2"), "{v6}");
        assert_eq!(
            v4.replace("198.51.100.10", "VIP"),
            v6.replace("ip6", "ip").replace("2001:db8::10", "VIP")
        );
    }

    #[test]
    fn the_local_node_of_xt_cluster_is_one_of_two() {
        assert_eq!(local_node(IpFamily::V4), 1);
        assert!((1..=2).contains(&local_node(IpFamily::V6)));
    }
}
