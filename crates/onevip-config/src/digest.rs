//! What all nodes must agree on, as eight bytes.
//!
//! Each node shows the digest of its configuration to the others, so a file that was forgotten on one node is noticed.
//! It covers the meaning, not the spelling: comments, order and defaults written out do not count. Nor do settings
//! that each host may choose for itself: interface, acceleration, where the key lies, who may use the control socket,
//! health checks, metrics, hooks and what `[desk]` says.
//!
//! SHA-256 rather than the kernel's hash: two files that differ must not meet by accident, nor by the design of somebody
//! who wants a difference to go unnoticed. Eight bytes of it are enough to tell at most 64 files apart.

use crate::model::{Config, Node, SourceRule, Steering, Vip, VipService};
use onevip_core::limit::{Limit, Refusal};
use onevip_core::{AddressOrder, Answerer, HashMode, Other};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::net::IpAddr;

impl Config {
    /// A digest of everything that all nodes must agree on. Equal for files of equal meaning; stable over releases
    /// that do not change what a file means.
    pub fn digest(&self) -> [u8; 8] {
        // Destructured, so that a new setting cannot be forgotten here.
        let Self {
            cluster,
            membership,
            beat,
            failback,
            key_file: _,
            control_group: _,
            metrics: _,
            hooks: _,
            support: _,
            health: _,
            checks: _,
            never_banned,
            vips,
            nodes,
        } = self;
        let mut canon = Canon(Sha256::new());
        canon.text("onevip configuration 1");
        canon.text(cluster);
        canon.text(membership.as_str());
        canon.number(beat.as_micros() as u64);
        canon.text(failback.as_str());
        let mut vips: Vec<&Vip> = vips.iter().collect();
        vips.sort_by(|a, b| a.name.cmp(&b.name));
        canon.number(vips.len() as u64);
        for vip in vips {
            canon.vip(vip);
        }
        canon.number(nodes.len() as u64);
        for node in nodes {
            canon.node(node);
        }
        // Only where there are some, so that files without them keep the digest they had.
        if !never_banned.is_empty() {
            let sorted: BTreeSet<_> = never_banned.iter().collect();
            canon.text("never banned");
            canon.number(sorted.len() as u64);
            sorted.iter().for_each(|prefix| canon.text(&prefix.to_string()));
        }
        let hash: [u8; 32] = canon.0.finalize().into();
        let mut short = [0; 8];
        short.copy_from_slice(&hash[..8]);
        short
    }

    /// The digest as people see it: 16 hex digits.
    pub fn digest_hex(&self) -> String {
        self.digest().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Feeds the hash so that no two different meanings give the same bytes: every text is preceded by its length.
struct Canon(Sha256);

impl Canon {
    fn number(&mut self, number: u64) {
        self.0.update(number.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text);
    }

    fn addresses(&mut self, addresses: &[IpAddr]) {
        let mut sorted = addresses.to_vec();
        sorted.sort_unstable();
        self.number(sorted.len() as u64);
        for address in sorted {
            self.text(&address.to_string());
        }
    }

    fn mode(&mut self, mode: HashMode) {
        let (mode, v4, v6) = match mode {
            HashMode::SourceIp => (0, 0, 0),
            HashMode::SourceIpPort => (1, 0, 0),
            HashMode::SourceIpPortDestPort => (2, 0, 0),
            HashMode::SourceNet { v4_prefix, v6_prefix } => (3, v4_prefix, v6_prefix),
        };
        self.0.update([mode, v4, v6]);
    }

    fn vip(&mut self, vip: &Vip) {
        let Vip {
            name,
            addresses,
            interface: _,
            nodes,
            weights,
            hash,
            seed,
            mapping,
            address_order,
            delivery,
            mac,
            accelerate: _,
            beat_port,
            services,
            other,
            sources,
        } = vip;
        self.text(name);
        self.addresses(addresses);
        self.number(nodes.word());
        self.mode(*hash);
        self.number(u64::from(*seed));
        self.text(mapping.as_str());
        self.0.update([match address_order {
            AddressOrder::Memory => 0,
            AddressOrder::Host => 1,
        }]);
        self.text(delivery.as_str());
        self.0.update(mac.0);
        self.number(u64::from(*beat_port));
        self.number(services.len() as u64);
        for service in services {
            self.service(service, *hash);
        }
        for SourceRule { network, steering } in sources {
            self.text("source");
            self.text(&network.to_string());
            match steering {
                Steering::Hash(mode) => self.mode(*mode),
                Steering::Pin(node) => self.number(u64::from(node.get())),
            }
        }
        for (node, weight) in weights {
            self.text("weight");
            self.number(u64::from(node.get()));
            self.number(u64::from(*weight));
        }
        match other {
            Other::Owner => {}
            Other::Drop => self.text("drop"),
        }
    }

    /// A service of a VIP that hashes by `hash`.
    fn service(&mut self, service: &VipService, hash: HashMode) {
        // What health asks is each host's own business.
        let VipService { transport, ports, hash: own, answerer, limit, slices, check: _ } = service;
        self.text(transport.as_str());
        self.number(u64::from(*ports.start()));
        self.number(u64::from(*ports.end()));
        if *own != hash {
            self.text("hash");
            self.mode(*own);
        }
        match answerer {
            Answerer::Bucket => {}
            Answerer::Socket(_) => {
                self.text("socket");
                self.number(u64::from(*slices));
            }
        }
        if let Some(limit) = limit {
            self.limit(limit);
        }
    }

    fn limit(&mut self, limit: &Limit) {
        let Limit { burst, window, counts_refused, refusal, v4_prefix, v6_prefix, allow } = limit;
        self.text("limit");
        self.number(window.as_millis() as u64);
        let refusal = match refusal {
            Refusal::Drop => 0,
            Refusal::Reset => 1,
            Refusal::Unreachable => 2,
        };
        self.0.update([*burst, (*counts_refused).into(), refusal, *v4_prefix, *v6_prefix]);
        let sorted: BTreeSet<_> = allow.iter().collect();
        self.number(sorted.len() as u64);
        sorted.iter().for_each(|network| self.text(&network.to_string()));
    }

    fn node(&mut self, node: &Node) {
        let Node { name, id, addresses, weight } = node;
        self.text(&name.to_lowercase());
        self.number(u64::from(id.get()));
        self.addresses(addresses);
        self.number(u64::from(*weight));
    }
}
