//! Who is alive, and what table follows from that.
//!
//! Alive is who is heard by us, or by somebody we hear. A missing link between two nodes changes nothing while a third
//! hears both.

use super::dirty::Dirty;
use super::votes::CONVICTED;
use super::{Engine, EngineConfig};
use crate::beat::{Health, Incarnation, NodeState, PeerReport, Seq, Standing};
use crate::hash::jhash2;
use crate::ids::{BucketSet, NodeId, NodeSet};
use crate::table::{Clocks, Layout, Reserve, Table, Weight};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The table, and what it is made of.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Shares {
    /// Those among whom buckets are dealt, ascending.
    members: Vec<(NodeId, Weight)>,
    view: u32,
    reserve: Reserve,
    /// Kept since to make them takes longer than a table. Of all nodes seen as members so far, or that the file names.
    clocks: Arc<Clocks>,
    table: Table,
    /// What the table gives to each member: it is asked for all the time.
    owned: BTreeMap<NodeId, BucketSet>,
}

impl Shares {
    /// Nobody has a share yet.
    pub fn none(config: &EngineConfig) -> Self {
        Self {
            members: Vec::new(),
            view: 0,
            reserve: config.reserve(),
            clocks: config.clocks(),
            table: Table::compute(&[], config.seed, config.layout),
            owned: BTreeMap::new(),
        }
    }

    /// Shares are dealt in another way from the next look on.
    pub fn reconfigured(&mut self, config: &EngineConfig) {
        self.members.clear();
        self.reserve = config.reserve();
        self.clocks = config.clocks();
    }

    /// Those among whom buckets are dealt.
    pub fn members(&self) -> &[(NodeId, Weight)] {
        &self.members
    }

    /// Digest of what the table is made of.
    pub fn view(&self) -> u32 {
        self.view
    }

    /// Deals among these; false if they are the same as before.
    fn deal(&mut self, members: Vec<(NodeId, Weight)>, config: &EngineConfig) -> bool {
        if members == self.members && self.view != 0 {
            return false;
        }
        let EngineConfig { seed, layout, pinned, .. } = *config;
        self.view = view_digest(&members, seed, layout, pinned);
        if members.iter().any(|(node, _)| !self.clocks.are_of(*node)) {
            self.clocks = config.clocks_with(&members);
        }
        self.table = Table::compute_with(&self.clocks, &members, layout, &self.reserve);
        self.owned = members.iter().map(|(node, _)| (*node, self.table.owned_by(*node))).collect();
        self.members = members;
        true
    }
}

impl Engine {
    /// Whether a heard `node` hears us, too.
    pub fn hears(&self, node: NodeId) -> bool {
        self.peers.heard().contains(node)
    }

    /// The nodes heard by us or by somebody we hear, and ourselves.
    pub fn alive(&self) -> NodeSet {
        self.peers.heard().or(self.peers.hidden()).with(self.config.me)
    }

    /// Digest of what our table is made of.
    pub fn view(&self) -> u32 {
        self.shares.view
    }

    /// The table that follows from what we know.
    pub fn table(&self) -> &Table {
        &self.shares.table
    }

    /// What the table gives to `node`.
    pub fn owned_by(&self, node: NodeId) -> BucketSet {
        self.shares.owned.get(&node).copied().unwrap_or_default()
    }

    /// Finds out who is alive and recomputes the table if that changed it.
    pub(super) fn look_around(&mut self) {
        if !self.dirty.clear(Dirty::TABLE) && self.peers.hidden().is_empty() {
            return;
        }
        self.dirty.mark(Dirty::CLAIMS.and(Dirty::ELSEWHERE));
        self.count_votes();
        let hidden = self.hidden_reports();
        self.peers.set_hidden(hidden.keys().copied().collect());
        let mut members: Vec<(NodeId, Standing)> = Vec::with_capacity(self.peers.heard().len() + 1);
        members.push((self.config.me, self.standing()));
        for beat in self.peers.heard_beats() {
            let health = if self.votes.is_defiant(beat.from) { CONVICTED } else { beat.standing.health };
            members.push((beat.from, Standing { health, ..beat.standing }));
        }
        members.extend(hidden.iter().map(|(node, (_, _, standing))| (*node, *standing)));
        if self.shares.deal(eligible(members), &self.config) {
            self.claims.forget_who_asked();
            self.dirty.mark(Dirty::BEAT);
        }
    }

    /// The nodes that we do not hear but somebody we hear does, with the newest that is known of them.
    fn hidden_reports(&self) -> BTreeMap<NodeId, (Incarnation, Seq, Standing)> {
        let mut hidden = BTreeMap::new();
        let known = self.peers.heard().with(self.config.me);
        let heard = self.peers.heard_peers();
        if heard.fold(NodeSet::EMPTY, |all, (_, peer)| all.or(peer.hears)).minus(known).is_empty() {
            return hidden;
        }
        for beat in self.peers.heard_beats() {
            for report in beat.peers.iter().filter(|report| self.is_hidden(report)) {
                let said = (report.incarnation, report.seq, report.standing);
                let known = hidden.entry(report.node).or_insert(said);
                if (known.0, known.1) < (said.0, said.1) {
                    *known = said;
                }
            }
        }
        hidden
    }

    /// Whether this report is of a node that we must know by hearsay.
    pub(super) fn is_hidden(&self, report: &PeerReport) -> bool {
        if !report.heard || report.node == self.config.me || self.peers.heard().contains(report.node) {
            return false;
        }
        // What it told us itself counts for more: it said goodbye, or began anew, and others do not know yet.
        self.peers.newest(report.node).is_none_or(|beat| {
            let gone = beat.standing.state == NodeState::Leaving && beat.claims.is_empty();
            report.incarnation >= beat.incarnation && !(gone && report.incarnation == beat.incarnation)
        })
    }

    /// Whether the table may give us anything.
    pub(super) fn is_member(&self) -> bool {
        self.shares.members.iter().any(|(node, _)| *node == self.config.me)
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
fn view_digest(members: &[(NodeId, Weight)], seed: u32, layout: Layout, pinned: NodeSet) -> u32 {
    let total = match layout {
        Layout::Balanced => 0,
        Layout::ClusterIp { total } => 0x100 | u32::from(total),
    };
    let mut words = vec![seed, total];
    words.extend(pinned.iter().map(|node| u32::from(node.get()) << 24));
    words.extend(members.iter().map(|(node, weight)| u32::from(node.get()) << 16 | u32::from(weight.get())));
    jhash2(&words, 0).max(1)
}
