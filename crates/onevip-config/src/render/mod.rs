//! A way without a daemon: the original scheme as static rules of today's kernels, from the same configuration.
//!
//! `nft.rs` and `iptables.rs` write what their format can say and refuse, with a reason, what it cannot; `script.rs` puts
//! the rules into a shell script that starts and stops them. Nothing here keeps watch over anything: what such rules
//! cannot do stands at the head of every script.

mod iptables;
mod nft;
mod script;
#[cfg(test)]
mod tests;

use crate::{Config, Delivery, Node, Vip};
use onevip_core::{AddressOrder, Answerer, HashMode, Mapping, Other};
use std::fmt;
use std::net::Ipv4Addr;

/// The kind of rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Format {
    /// nftables, by its `jhash`.
    Nft,
    /// iptables and arptables, by `-m cluster`.
    Iptables,
}

/// Why a VIP cannot be rendered.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct RenderError {
    vip: String,
    reason: String,
    remedy: String,
}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VIP {}: {}; {}", self.vip, self.reason, self.remedy)
    }
}

/// What the rules of a VIP rest on: everything both formats can say.
struct Plan<'a> {
    vip: &'a Vip,
    address: Vec<Ipv4Addr>,
    interface: &'a str,
    choice: Choice,
}

/// Whose packets this node takes.
enum Choice {
    /// `reciprocal_scale(hash, total)` is `number - 1`.
    Block { number: u8, total: u8 },
    /// `reciprocal_scale(hash, 1024)` is in one of these ranges, ends included.
    Buckets(Vec<(u16, u16)>),
}

/// Renders what `node` does for its VIPs, as a shell script.
///
/// # Errors
/// Every reason why the format cannot say it.
pub fn render(config: &Config, node: &Node, format: Format) -> Result<String, Vec<RenderError>> {
    let (mut plans, mut refusals) = (Vec::new(), Vec::new());
    for vip in config.vips.iter().filter(|vip| vip.nodes.contains(node.id)) {
        match plan(config, node, vip, format) {
            Ok(plan) => plans.push(plan),
            Err(refusal) => refusals.push(refusal),
        }
    }
    if plans.is_empty() && refusals.is_empty() {
        refusals.push(RenderError {
            vip: "(none)".to_owned(),
            reason: format!("{} serves no VIP", node.name),
            remedy: "choose another with --node".to_owned(),
        });
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    Ok(script::script(config, node, format, &plans))
}

fn plan<'a>(config: &Config, node: &Node, vip: &'a Vip, format: Format) -> Result<Plan<'a>, RenderError> {
    let refuse = |reason: &str, remedy: &str| RenderError {
        vip: vip.name.clone(),
        reason: reason.to_owned(),
        remedy: remedy.to_owned(),
    };
    let address: Vec<Ipv4Addr> = vip.v4().collect();
    if address.is_empty() {
        return Err(refuse(
            "it has no IPv4 address, and static rules cannot put the cluster MAC into neighbour advertisements",
            "IPv6 needs the daemon",
        ));
    }
    let Some(interface) = vip.interface.as_deref() else {
        return Err(refuse(
            "the file does not name its interface",
            "write `interface = \"eth0\"` into [[vip]]",
        ));
    };
    if vip.delivery != Delivery::Multicast {
        return Err(refuse(
            "its MAC is unicast, which static rules cannot make an interface take",
            "use delivery = \"multicast\", or the daemon",
        ));
    }
    if vip.hash != HashMode::SourceIp {
        return Err(refuse(
            "no rule hashes ports or networks as onevip does, so `onevip where` would be wrong",
            "use hash = \"source-ip\", or the daemon",
        ));
    }
    if vip.address_order != AddressOrder::Memory {
        return Err(refuse(
            "no rule of today's kernels hashes addresses as CLUSTERIP did (address_order = \"host\")",
            "keep the daemon, or write address_order = \"memory\" and let every client move once",
        ));
    }
    if vip.services.iter().any(|service| service.hash != vip.hash || service.answerer != Answerer::Bucket) {
        return Err(refuse(
            "a service of it is answered by another hash or by whoever has the socket",
            "give all its services the hash of the VIP, or use the daemon",
        ));
    }
    if vip.other == Other::Drop {
        return Err(refuse(
            "it drops what no service wants (other = \"drop\")",
            "leave `other` out and say that in your firewall, or use the daemon",
        ));
    }
    let choice = choice(config, node, vip, format).map_err(|(reason, remedy)| refuse(&reason, remedy))?;
    Ok(Plan { vip, address, interface, choice })
}

fn choice(config: &Config, node: &Node, vip: &Vip, format: Format) -> Result<Choice, (String, &'static str)> {
    if node.weight == 0 {
        let reason = format!("{} has weight 0: it answers nobody", node.name);
        return Err((reason, "render it on the other nodes only"));
    }
    let total = vip.nodes.len() as u8;
    match vip.mapping {
        Mapping::Balanced if format == Format::Iptables => {
            let reason = "-m cluster deals in equal blocks, not by the balanced table".to_owned();
            Err((reason, "use --format nft, or mapping = \"clusterip\" and let clients move once"))
        }
        Mapping::Balanced => {
            let owned = config.full_table(vip).owned_by(node.id);
            Ok(Choice::Buckets(ranges(owned.iter().map(onevip_core::Bucket::get))))
        }
        Mapping::ClusterIp => {
            if config.nodes_of(vip).any(|other| other.weight == 0) {
                let reason = "a node has weight 0, whose block rules cannot deal to the others".to_owned();
                return Err((reason, "use the daemon, or take the node out of `nodes`"));
            }
            if node.id.get() > total {
                let reason =
                    format!("{} is number {} of {total}: a spare, which has no block", node.name, node.id);
                return Err((reason, "render it on the nodes 1 to N only"));
            }
            if format == Format::Iptables && total > 32 {
                return Err((format!("-m cluster knows 32 nodes at most, not {total}"), "use --format nft"));
            }
            Ok(Choice::Block { number: node.id.get(), total })
        }
    }
}

/// Ascending numbers as ranges, ends included.
fn ranges(numbers: impl Iterator<Item = u16>) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    ranges
}
