//! Whether beats come by every address family of the VIP.
//!
//! Each beat is sent once in each family, so a family whose copies stay away while those of the other come is withheld on
//! the way: a snooping switch, a filter. Clients of that family would not reach us either, and their buckets would be
//! claimed blindly. Who hears a family from nobody says that it is ill: nodes that hear it take its share. If all are
//! equally deaf nothing moves, and the other family goes on being served.

use super::{Engine, Event, Family, Output};
use crate::ids::NodeId;
use crate::time::Time;

impl Engine {
    /// The VIP has addresses of both families. Call it once, before anything else; without it nothing is held against
    /// a family that is silent.
    pub fn expect_both_families(&mut self) {
        self.own_link.both_families = true;
    }

    /// Whether one family comes from nobody, though we hear others by the other.
    pub fn deaf_to(&self) -> Option<Family> {
        self.own_link.deaf_to
    }

    /// Judges every peer's copies by family, and our own reception.
    pub(super) fn look_at_families(&mut self, now: Time) {
        if !self.own_link.both_families {
            return;
        }
        let patience = self.config.timing.listen;
        let mut changes: Vec<(NodeId, Family, bool)> = Vec::new();
        // Of the peers that have been heard for long enough to be judged: how many, and how many miss which family.
        let (mut judged, mut missing) = (0, [0; 2]);
        for (node, peer) in self.peers.iter_mut().filter(|(_, peer)| peer.heard) {
            let since = peer.since.max(self.contact.woke());
            if now < since + patience {
                continue;
            }
            judged += 1;
            for family in [Family::V4, Family::V6] {
                let stays_away = now >= peer.arrived_by[family.index()].max(since) + patience;
                missing[family.index()] += usize::from(stays_away);
                if peer.misses[family.index()] != stays_away {
                    peer.misses[family.index()] = stays_away;
                    changes.push((node, family, stays_away));
                }
            }
        }
        let events = changes.into_iter().map(|(node, family, lost)| Event::FamilyLost { node, family, lost });
        self.outputs.extend(events.map(Output::Event));
        // Nobody new to judge by: what we found stays found.
        if judged > 0 {
            let mut families = [Family::V4, Family::V6].into_iter();
            self.own_link.deaf_to = families.find(|family| missing[family.index()] == judged);
        }
    }
}
