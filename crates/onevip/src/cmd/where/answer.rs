//! One VIP's answer: hash, bucket, owner, and the reasons in words.

use super::client::Client;
use super::now::Now;
use onevip_config::{Config, Steering, Vip, VipService, nodelist};
use onevip_core::{BUCKETS, HashMode, Ports, Selector, Transport};
use serde::Serialize;
use std::net::IpAddr;

/// Which node of a VIP answers a client. As JSON it is the interface of `onevip where --json`.
#[derive(Serialize, Debug)]
pub(super) struct Answer {
    /// The client, as it was understood.
    pub client: String,
    /// Name of the VIP.
    pub vip: String,
    /// The hash, in hex; nothing where it cannot be known.
    pub hash: Option<String>,
    /// The bucket, 0 to 1023.
    pub bucket: Option<u16>,
    /// Name of the node that owns the bucket.
    pub node: Option<String>,
    /// Its number.
    pub node_id: Option<u8>,
    /// Why this node, or why none.
    pub reason: String,
    /// Where the table comes from.
    pub basis: &'static str,
    /// What the nodes said, where they could be asked: this counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<Now>,
    /// What the person who asks should know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    #[serde(skip)]
    lines: Vec<(&'static str, String)>,
    #[serde(skip)]
    nobody: &'static str,
}

impl Answer {
    /// Finds the answer. `dest_port` is the port of the VIP that the client connects to, where that is known.
    pub fn find(config: &Config, vip: &Vip, client: Client, dest_port: Option<u16>) -> Self {
        let mut answer = Self {
            client: client.to_string(),
            vip: vip.name.clone(),
            hash: None,
            bucket: None,
            node: None,
            node_id: None,
            reason: String::new(),
            basis: "configuration",
            now: None,
            warning: whose_address(config, client.address),
            lines: vec![("VIP", format!("{}: {}", vip.name, list(&vip.addresses)))],
            nobody: "nobody",
        };
        if !vip.addresses.iter().any(|address| address.is_ipv4() == client.address.is_ipv4()) {
            let family = if client.address.is_ipv4() { "IPv4" } else { "IPv6" };
            answer.because(format!("{} has no {family} address, so this client cannot reach it", vip.name));
            return answer;
        }
        let (selector, ports) = (vip.selector(), asked_ports(vip, client, dest_port));
        let mode = selector.hasher_for(client.address, ports).mode;
        answer.exception(config, vip, &selector, client.address);
        match missing(vip, mode, client, dest_port) {
            None => answer.look_up(config, vip, &selector, client.address, ports),
            Some(missing) => answer.depends(config, vip, mode, missing),
        }
        answer
    }

    /// The reasons, as pairs of a short name and a text.
    pub fn lines(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.lines.iter().map(|(name, text)| (*name, text.as_str()))
    }

    /// What stands in the place of a node when there is none.
    pub fn nobody(&self) -> &'static str {
        self.nobody
    }

    /// What counts for this source instead of what counts for others.
    fn exception(&mut self, config: &Config, vip: &Vip, selector: &Selector, source: IpAddr) {
        let Some(network) = selector.exception(source).map(|exception| exception.network) else { return };
        let rule = vip.sources.iter().find(|rule| rule.network == network);
        let text = match rule.map(|rule| &rule.steering) {
            Some(Steering::Pin(node)) => {
                let name =
                    config.node(*node).map_or_else(|| format!("node {node}"), |node| node.name.clone());
                format!("{network} is pinned to {name}; while that is out, the table decides")
            }
            Some(Steering::Hash(mode)) => format!("{network} hashes {}", mode_in_words(*mode)),
            None => return,
        };
        self.lines.push(("source", text));
    }

    /// Hash, bucket, table, owner.
    fn look_up(
        &mut self,
        config: &Config,
        vip: &Vip,
        selector: &Selector,
        source: IpAddr,
        ports: Option<Ports>,
    ) {
        let hasher = selector.hasher_for(source, ports);
        let (source_port, dest_port) = ports.map_or((0, 0), |ports| (ports.source, ports.dest));
        let hash = hasher.hash(source, source_port, dest_port);
        let bucket = selector.bucket_of_hash(source, hash);
        let table = config.full_table(vip);
        let what = hashed(hasher.mode, source, source_port, dest_port);
        let seed = if vip.seed == 0 { String::new() } else { format!(", seed {}", vip.seed) };
        self.hash = Some(format!("{hash:#010x}"));
        self.bucket = Some(bucket.get());
        let Some(node) = table.owner(bucket).and_then(|id| config.node(id)) else {
            // A valid configuration has a weight above 0 for every VIP, so the table has an owner for every bucket.
            self.because(format!("nobody owns bucket {bucket}: no node of {} has a weight", vip.name));
            return;
        };
        let own = table.owned_by(node.id).len();
        let members = nodelist::compress(config.nodes_of(vip).map(|node| node.name.as_str()));
        self.node = Some(node.name.clone());
        self.node_id = Some(node.id.get());
        self.lines.push(("node", format!("{}, number {}, {}", node.name, node.id, list(&node.addresses))));
        self.lines.push(("bucket", format!("{bucket}, from hash {hash:#010x} of {what}{seed}")));
        let share = format!("{} over {members}: {} has {own} of {BUCKETS} buckets", vip.mapping, node.name);
        self.lines.push(("table", share.clone()));
        self.reason = format!(
            "hash {hash:#010x} of {what}{seed} selects bucket {bucket}, which {} owns ({share})",
            node.name
        );
    }

    /// The answer depends on something that was not told.
    fn depends(&mut self, config: &Config, vip: &Vip, mode: HashMode, missing: Missing) {
        let members = nodelist::compress(config.nodes_of(vip).map(|node| node.name.as_str()));
        self.nobody = missing.question();
        self.because(format!(
            "{} hashes {}: each connection may land on another of {members}",
            vip.name,
            mode_in_words(mode)
        ));
        self.warning = Some(missing.remedy().to_owned());
    }

    fn because(&mut self, reason: String) {
        self.lines.push(("why", reason.clone()));
        self.reason = reason;
    }
}

/// What the hash needs and was not told.
#[derive(Clone, Copy)]
enum Missing {
    SourcePort,
    DestPort,
}

impl Missing {
    fn question(self) -> &'static str {
        match self {
            Self::SourcePort => "depends on its port",
            Self::DestPort => "depends on the service",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::SourcePort => {
                "give the client's source port: ADDRESS:PORT, or [ADDRESS]:PORT (sshd logs it)"
            }
            Self::DestPort => "give the port that the client connects to: --dest-port 22",
        }
    }
}

/// What the question is about: the service on the port that was named, or the VIP's first one.
fn asked_service(vip: &Vip, dest_port: Option<u16>) -> Option<&VipService> {
    let serves = |service: &&VipService| dest_port.is_none_or(|port| service.ports.contains(&port));
    // Sorted, so TCP comes before UDP.
    vip.services.iter().find(serves)
}

/// The ports of the connection that the question is about.
fn asked_ports(vip: &Vip, client: Client, dest_port: Option<u16>) -> Option<Ports> {
    let service = asked_service(vip, dest_port);
    let transport = service.map_or(Transport::Tcp, |service| service.transport);
    let dest = dest_port.or_else(|| service.map(|service| *service.ports.start()))?;
    Some(Ports { transport, source: client.port.unwrap_or(0), dest })
}

/// What the mode needs and was not told.
fn missing(vip: &Vip, mode: HashMode, client: Client, dest_port: Option<u16>) -> Option<Missing> {
    match mode {
        HashMode::SourceIp | HashMode::SourceNet { .. } => None,
        HashMode::SourceIpPort | HashMode::SourceIpPortDestPort if client.port.is_none() => {
            Some(Missing::SourcePort)
        }
        HashMode::SourceIpPort => None,
        HashMode::SourceIpPortDestPort => {
            let only = matches!(vip.services.as_slice(), [one] if one.ports.start() == one.ports.end());
            (dest_port.is_none() && !only).then_some(Missing::DestPort)
        }
    }
}

/// What was hashed, in words.
fn hashed(mode: HashMode, source: IpAddr, source_port: u16, dest_port: u16) -> String {
    match mode {
        HashMode::SourceIp => format!("{source}"),
        HashMode::SourceIpPort => format!("{source} port {source_port}"),
        HashMode::SourceIpPortDestPort => format!("{source} port {source_port} to port {dest_port}"),
        HashMode::SourceNet { v4_prefix, v6_prefix } => match source {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(v4_prefix)).unwrap_or(0);
                format!("{}/{v4_prefix}", std::net::Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(v6_prefix)).unwrap_or(0);
                format!("{}/{v6_prefix}", std::net::Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        },
    }
}

/// What of a source a mode hashes.
fn mode_in_words(mode: HashMode) -> &'static str {
    match mode {
        HashMode::SourceIp => "the source address",
        HashMode::SourceIpPort => "source address and source port",
        HashMode::SourceIpPortDestPort => "source address, source port and destination port",
        HashMode::SourceNet { .. } => "the source network",
    }
}

/// A word when the address belongs to the cluster itself: somebody mistook it for the client's.
fn whose_address(config: &Config, address: IpAddr) -> Option<String> {
    if let Some(vip) = config.vips.iter().find(|vip| vip.addresses.contains(&address)) {
        return Some(format!(
            "{address} is the VIP {} itself; ask with the address the client comes from",
            vip.name
        ));
    }
    let node = config.nodes.iter().find(|node| node.addresses.contains(&address))?;
    Some(format!(
        "{address} is the node {} itself: it answers its own connections to a VIP it serves",
        node.name
    ))
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
