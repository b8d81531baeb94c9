//! Who is alive, and what table follows from that.
//!
//! Alive is who is heard by us, or by somebody we hear. A missing link between two nodes changes nothing while a third
//! hears both.

use super::votes::CONVICTED;
use super::{Config, Engine};
use crate::beat::{Health, Incarnation, NodeState, PeerReport, Seq, Standing};
use crate::hash::jhash2;
use crate::ids::{BucketSet, NodeId, NodeSet};
use crate::table::{Mapping, Table, Weight};
use std::collections::BTreeMap;

impl Engine {
    /// Whether a heard `node` hears us, too.
    pub fn hears(&self, node: NodeId) -> bool {
        self.heard.contains(node)
    }

    /// The nodes heard by us or by somebody we hear, and ourselves.
    pub fn alive(&self) -> NodeSet {
        self.heard.or(self.hidden).with(self.config.me)
    }

    /// Digest of what our table is made of.
    pub fn view(&self) -> u32 {
        self.view
    }

    /// The table that follows from what we know.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// What the table gives to `node`.
    pub fn owned_by(&self, node: NodeId) -> BucketSet {
        self.owned.get(&node).copied().unwrap_or_default()
    }

    /// Finds out who is alive and recomputes the table if that changed it.
    pub(super) fn look_around(&mut self) {
        if !self.news && self.hidden.is_empty() {
            return;
        }
        (self.news, self.recheck, self.guests_news) = (false, true, true);
        self.count_votes();
        let hidden = self.hidden_reports();
        self.hidden = hidden.keys().copied().collect();
        let mut members: Vec<(NodeId, Standing)> = Vec::with_capacity(self.heard.len() + 1);
        members.push((self.config.me, self.standing()));
        for node in self.heard.iter() {
            if let Some(beat) = self.peers.get(&node).and_then(|peer| peer.newest.as_ref()) {
                let defies = self.defiant.contains(node);
                let health = if defies { CONVICTED } else { beat.standing.health };
                members.push((node, Standing { health, ..beat.standing }));
            }
        }
        members.extend(hidden.iter().map(|(node, (_, _, standing))| (*node, *standing)));
        let members = eligible(members);
        if members != self.members || self.view == 0 {
            let Config { seed, mapping, pinned, .. } = self.config;
            self.view = view_digest(&members, seed, mapping, pinned);
            if members.iter().any(|(node, _)| !self.clocks.are_of(*node)) {
                self.clocks = self.config.clocks_with(&members);
            }
            self.table = Table::compute_with(&self.clocks, &members, mapping, &self.reserve);
            self.owned = members.iter().map(|(node, _)| (*node, self.table.owned_by(*node))).collect();
            self.members = members;
            self.asked = [BucketSet::EMPTY; 2]; // Who asked for something may not be its wanted owner any more.
            self.urgent = true;
        }
    }

    /// The nodes that we do not hear but somebody we hear does, with the newest that is known of them.
    fn hidden_reports(&self) -> BTreeMap<NodeId, (Incarnation, Seq, Standing)> {
        let mut hidden = BTreeMap::new();
        let known = self.heard.with(self.config.me);
        let heard = self.peers.values().filter(|peer| peer.heard);
        if heard.fold(NodeSet::EMPTY, |all, peer| all.or(peer.hears)).minus(known).is_empty() {
            return hidden;
        }
        for node in self.heard.iter() {
            let Some(beat) = self.peers.get(&node).and_then(|peer| peer.newest.as_ref()) else { continue };
            for report in beat.peers.iter().filter(|report| self.is_hidden(report)) {
                let news = (report.incarnation, report.seq, report.standing);
                let known = hidden.entry(report.node).or_insert(news);
                if (known.0, known.1) < (news.0, news.1) {
                    *known = news;
                }
            }
        }
        hidden
    }

    /// Whether this report is of a node that we must know by hearsay.
    pub(super) fn is_hidden(&self, report: &PeerReport) -> bool {
        if !report.heard || report.node == self.config.me || self.heard.contains(report.node) {
            return false;
        }
        // What it told us itself counts for more: it said goodbye, or began anew, and others do not know yet.
        let newest = self.peers.get(&report.node).and_then(|peer| peer.newest.as_ref());
        newest.is_none_or(|beat| {
            let gone = beat.standing.state == NodeState::Leaving && beat.claims.is_empty();
            report.incarnation >= beat.incarnation && !(gone && report.incarnation == beat.incarnation)
        })
    }

    /// Whether the table may give us anything.
    pub(super) fn is_member(&self) -> bool {
        self.members.iter().any(|(node, _)| *node == self.config.me)
    }
}

/// Of the serving nodes with a weight, the least ill.
fn eligible(nodes: Vec<(NodeId, Standing)>) -> Vec<(NodeId, Weight)> {
    let serves = |s: &Standing| s.state == NodeState::Serving && s.weight != Weight::ZERO;
    let least: Option<Health> = nodes.iter().filter(|(_, s)| serves(s)).map(|(_, s)| s.health).min();
    let mut members: Vec<(NodeId, Weight)> = nodes
        .into_iter()
        .filter(|(_, s)| serves(s) && Some(s.health) == least)
        .map(|(node, s)| (node, s.weight))
        .collect();
    members.sort_unstable();
    members
}

/// Digest of everything that the table depends on; never 0.
fn view_digest(members: &[(NodeId, Weight)], seed: u32, mapping: Mapping, pinned: NodeSet) -> u32 {
    let total = match mapping {
        Mapping::Balanced => 0,
        Mapping::ClusterIp { total } => 0x100 | u32::from(total),
    };
    let mut words = vec![seed, total];
    words.extend(pinned.iter().map(|node| u32::from(node.get()) << 24));
    words.extend(members.iter().map(|(node, weight)| u32::from(node.get()) << 16 | u32::from(weight.get())));
    jhash2(&words, 0).max(1)
}
