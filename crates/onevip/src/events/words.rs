//! What the engines say, in words: for the log, for `onevip status`, for other nodes.

use onevip_config::Config;
use onevip_core::beat::NodeState;
use onevip_core::membership::{Family, WhyLost, WhyOut};
use onevip_core::{NodeId, NodeSet};
use std::net::IpAddr;

/// The name of a node.
pub fn called(config: &Config, id: NodeId) -> String {
    config.node(id).map_or_else(|| format!("node {id}"), |node| node.name.clone())
}

/// The names of nodes.
pub fn names(config: &Config, nodes: NodeSet) -> Vec<String> {
    nodes.iter().map(|node| called(config, node)).collect()
}

/// The addresses of a node; none for one that is not in the file.
pub fn addresses(config: &Config, id: NodeId) -> &[IpAddr] {
    config.node(id).map_or(&[], |node| &node.addresses)
}

/// Why nobody will find a node gone.
pub fn unaskable(node: &str, addresses: &[IpAddr]) -> String {
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    format!(
        "{node}'s kernel does not answer for {}: if it falls silent, its sessions are kept until it is back",
        addresses.join(", ")
    )
}

/// The word for a state.
pub fn state_word(state: NodeState) -> &'static str {
    match state {
        NodeState::Joining => "joining",
        NodeState::Serving => "serving",
        NodeState::Draining => "draining",
        NodeState::Leaving => "leaving",
    }
}

/// Why a node is no longer heard.
pub fn why_lost(why: WhyLost) -> &'static str {
    match why {
        WhyLost::Silent => "nothing arrives from it any more",
        WhyLost::DoesNotHearUs => "it speaks, but does not hear us",
        WhyLost::Left => "it said goodbye",
        WhyLost::Restarted => "its daemon started anew",
    }
}

/// What [`why_out`] has put into these words; `None` for others.
pub fn read_why_out(words: &str) -> Option<WhyOut> {
    let all = [
        WhyOut::Listening,
        WhyOut::Held,
        WhyOut::Drained,
        WhyOut::Leaving,
        WhyOut::Lossy,
        WhyOut::HeldBack,
        WhyOut::Unhealthy,
        WhyOut::VotedOut,
        WhyOut::NoWeight,
        WhyOut::Deaf(Family::V4),
        WhyOut::Deaf(Family::V6),
        WhyOut::Mute,
        WhyOut::Ignored,
        WhyOut::NoLease,
    ];
    all.into_iter().find(|why| why_out(*why) == words)
}

/// Why this node takes no share.
pub fn why_out(why: WhyOut) -> &'static str {
    match why {
        WhyOut::Deaf(Family::V4) => "no beat reaches it by IPv4",
        WhyOut::Deaf(Family::V6) => "no beat reaches it by IPv6",
        WhyOut::Listening => "it listens before it begins",
        WhyOut::Held => "another host has its number, or its key does not open the others' beats",
        WhyOut::Drained => "it was drained",
        WhyOut::Leaving => "it leaves",
        WhyOut::Lossy => "its link loses frames",
        WhyOut::HeldBack => "it fell out too often lately",
        WhyOut::VotedOut => "other nodes found that it does not answer its clients",
        WhyOut::Unhealthy => "others feel better",
        WhyOut::NoWeight => "its weight is 0",
        WhyOut::Mute => "its beats cannot be sent",
        WhyOut::Ignored => "other nodes beat, but do not take its beats",
        WhyOut::NoLease => "nobody acknowledges its beats",
    }
}
