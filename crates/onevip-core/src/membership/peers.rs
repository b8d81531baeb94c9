//! The other nodes: all of whom we know, which of them we hear, and which only others hear.

use super::Peer;
use crate::beat::Beat;
use crate::ids::{NodeId, NodeSet};
use crate::time::Time;
use std::collections::BTreeMap;

/// Everybody else.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Peers {
    known: BTreeMap<NodeId, Peer>,
    heard: NodeSet,
    hidden: NodeSet,
}

impl Peers {
    /// Nodes of which we only know that they may exist.
    pub fn unheard(nodes: NodeSet, now: Time) -> Self {
        let known = nodes.iter().map(|node| (node, Peer::unheard(now))).collect();
        Self { known, heard: NodeSet::EMPTY, hidden: NodeSet::EMPTY }
    }

    /// What we know of `node`, which may be new to us.
    pub fn get_or_insert(&mut self, node: NodeId, now: Time) -> &mut Peer {
        self.known.entry(node).or_insert_with(|| Peer::unheard(now))
    }

    /// What we know of `node`.
    pub fn get(&self, node: NodeId) -> Option<&Peer> {
        self.known.get(&node)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, node: NodeId) -> Option<&mut Peer> {
        self.known.get_mut(&node)
    }

    /// Whether there is nobody else, nor was ever.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Everybody, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.known.iter().map(|(node, peer)| (*node, peer))
    }

    /// The same, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut Peer)> {
        self.known.iter_mut().map(|(node, peer)| (*node, peer))
    }

    /// Those whom we hear and who hear us.
    pub fn heard_peers(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.iter().filter(|(_, peer)| peer.heard)
    }

    /// The newest beats of those.
    pub fn heard_beats(&self) -> impl Iterator<Item = &Beat> {
        self.heard_peers().filter_map(|(_, peer)| peer.newest.as_deref())
    }

    /// The newest beat of `node`.
    pub fn newest(&self, node: NodeId) -> Option<&Beat> {
        self.get(node).and_then(|peer| peer.newest.as_deref())
    }

    /// Which nodes we hear and hear us.
    pub fn heard(&self) -> NodeSet {
        self.heard
    }

    /// From now on we hear `node`, or do not; false if that was so already.
    pub fn set_heard(&mut self, now: Time, node: NodeId, heard: bool) -> bool {
        let Some(peer) = self.known.get_mut(&node).filter(|peer| peer.heard != heard) else { return false };
        (peer.heard, peer.since) = (heard, now);
        self.heard = if heard { self.heard.with(node) } else { self.heard.without(node) };
        true
    }

    /// Which nodes we do not hear, but somebody does whom we hear.
    pub fn hidden(&self) -> NodeSet {
        self.hidden
    }

    /// Those are hidden from now on.
    pub fn set_hidden(&mut self, hidden: NodeSet) {
        self.hidden = hidden;
    }
}
