//! What the files say, understood value by value, none compared with another yet.
//!
//! `parse` makes it, `validate` makes a [`Config`](crate::Config) of it. What could not be understood was reported and is
//! absent, so that all mistakes come to light at once.

use crate::health::{HealthSettings, UserCheck};
use crate::model::{Acceleration, Delivery, Hook, Listen, Membership, ServiceCheck, SupportSettings};
use crate::span::{Span, Spanned};
use crate::words::HashWord;
use onevip_core::limit::Limit;
use onevip_core::membership::Failback;
use onevip_core::{AddressOrder, Answerer, HashMode, MacAddr, Mapping, Other, Prefix, Transport};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that the files say.
pub struct Draft {
    pub place: Span,
    pub cluster: Option<String>,
    pub membership: Membership,
    pub beat: Duration,
    pub failback: Failback,
    pub key_file: PathBuf,
    pub control_group: Option<String>,
    pub metrics: Option<Listen>,
    pub hooks: Vec<Hook>,
    pub support: SupportSettings,
    pub health: HealthSettings,
    pub checks: Vec<UserCheck>,
    pub never_banned: Vec<Prefix>,
    pub vips: Vec<VipDraft>,
    pub nodes: Vec<NodeDraft>,
}

/// What one `[[vip]]` says.
pub struct VipDraft {
    pub place: Span,
    pub name: Option<Spanned<String>>,
    pub addresses: Vec<Spanned<IpAddr>>,
    pub interface: Option<String>,
    /// `None` when the file does not say: all nodes.
    pub nodes: Option<Spanned<Vec<Spanned<String>>>>,
    /// By the name of the node.
    pub weights: Vec<(Spanned<String>, Spanned<u32>)>,
    pub hash: HashWord,
    pub prefix: PrefixLengths,
    pub seed: u32,
    pub mapping: Mapping,
    pub address_order: Spanned<AddressOrder>,
    pub delivery: Delivery,
    pub mac: Option<Spanned<MacAddr>>,
    pub accelerate: Acceleration,
    /// At a place in no line where the file does not say.
    pub beat_port: Spanned<u32>,
    pub other: Other,
    pub services: Vec<ServiceDraft>,
    pub sources: Vec<SourceDraft>,
    /// Whether the file has any `[[vip.service]]`, right or wrong.
    pub says_services: bool,
}

/// What `prefix = { … }` says: how many leading bits of an address make a network.
pub struct PrefixLengths {
    pub ipv4: u8,
    pub ipv6: u8,
    /// Where they stand; in no line where the file does not say.
    pub place: Span,
}

impl PrefixLengths {
    /// The hash mode that a word means; `source-net` takes these prefixes.
    pub const fn mode(&self, word: HashWord) -> HashMode {
        match word {
            HashWord::Ip => HashMode::SourceIp,
            HashWord::IpPort => HashMode::SourceIpPort,
            HashWord::IpPortDestPort => HashMode::SourceIpPortDestPort,
            HashWord::Net => HashMode::SourceNet { v4_prefix: self.ipv4, v6_prefix: self.ipv6 },
        }
    }
}

/// What one `[[vip.service]]` says.
pub struct ServiceDraft {
    pub transport: Transport,
    pub ports: Spanned<RangeInclusive<u16>>,
    /// `None` when the file does not say: as the VIP.
    pub hash: Option<Spanned<HashWord>>,
    pub answerer: Spanned<Answerer>,
    pub check: Option<Spanned<ServiceCheck>>,
    pub limit: Option<Spanned<Limit>>,
    pub slices: Option<Spanned<u32>>,
}

/// What one `[[vip.source]]` says.
pub struct SourceDraft {
    pub place: Span,
    pub network: Spanned<Prefix>,
    pub hash: Option<Spanned<HashWord>>,
    pub pin: Option<Spanned<String>>,
}

/// What one `[[node]]` says.
pub struct NodeDraft {
    pub place: Span,
    pub name: Option<Spanned<String>>,
    pub id: Option<Spanned<u32>>,
    pub addresses: Vec<Spanned<IpAddr>>,
    pub weight: Spanned<u32>,
}
