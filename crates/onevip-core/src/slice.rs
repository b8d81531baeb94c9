//! Which ports of a range are a node's own, for services that are answered by whoever has the socket.
//!
//! A port belongs to the node whose number less one it leaves when divided by the number of slices: with 16 slices `unix3`
//! has 60002, 60018, 60034 and so on. So slices follow node numbers alone; neither the table nor who lives moves them, and
//! a different range changes nobody's ports. Ports that lie side by side belong to different nodes, so a program that
//! tries one after the other, as `mosh-server` does, finds one of its own within so many tries as there are slices. And as
//! their number is a power of two, doubling it takes ports away only for nodes that had none.

use crate::ids::NodeId;
use std::ops::RangeInclusive;

/// Most slices: one for each node number.
pub const SLICES_MAX: u8 = 64;
/// How many there are where the configuration does not say, if that is enough.
pub const SLICES: u8 = 16;

/// The ports of one node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Slice {
    /// The number of slices less one.
    mask: u8,
    own: u8,
}

impl Slice {
    /// All ports: the only one of one slice.
    pub const WHOLE: Self = Self { mask: 0, own: 0 };

    /// That of a node among so many, which must be a power of two up to [`SLICES_MAX`]. `None` when it is none, or when
    /// the node's number is greater.
    pub fn of(node: NodeId, slices: u8) -> Option<Self> {
        let fits = slices.is_power_of_two() && slices <= SLICES_MAX && node.get() <= slices;
        fits.then(|| Self { mask: slices - 1, own: node.get() - 1 })
    }

    /// Whether a port is in it.
    pub const fn contains(self, port: u16) -> bool {
        port & self.mask as u16 == self.own as u16
    }

    /// How many of these ports are in it.
    pub fn count(self, ports: RangeInclusive<u16>) -> usize {
        ports.filter(|&port| self.contains(port)).count()
    }

    /// From what [`Slice::bits`] tells; `None` where that can be no slice's.
    pub const fn from_bits(mask: u8, own: u8) -> Option<Self> {
        let fits = mask < SLICES_MAX && (mask + 1).is_power_of_two() && own <= mask;
        if fits { Some(Self { mask, own }) } else { None }
    }

    /// As the programs compare: the bits of a port that count, and what they must be.
    pub const fn bits(self) -> (u8, u8) {
        (self.mask, self.own)
    }
}

/// How many slices there are when the configuration does not say: [`SLICES`], or more where node numbers ask for it.
pub fn slices_for(highest: NodeId) -> u8 {
    highest.get().next_power_of_two().max(SLICES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u8) -> NodeId {
        NodeId::new(id).unwrap()
    }

    #[test]
    fn every_port_belongs_to_exactly_one_of_all_nodes() {
        for slices in [1, 2, 16, 64] {
            let all: Vec<Slice> = (1..=slices).map(|id| Slice::of(node(id), slices).unwrap()).collect();
            for port in 60000..=60999 {
                assert_eq!(all.iter().filter(|slice| slice.contains(port)).count(), 1, "{port} of {slices}");
            }
            let total: usize = all.iter().map(|slice| slice.count(60000..=60999)).sum();
            assert_eq!(total, 1000);
        }
        assert!(Slice::WHOLE.contains(1) && Slice::WHOLE.contains(65535));
    }

    #[test]
    fn more_slices_take_ports_only_for_nodes_that_had_none() {
        for id in 1..=16 {
            let (before, after) = (Slice::of(node(id), 16).unwrap(), Slice::of(node(id), 32).unwrap());
            let newcomer = Slice::of(node(id + 16), 32).unwrap();
            for port in 60000..=60999 {
                assert_eq!(before.contains(port), after.contains(port) || newcomer.contains(port));
            }
        }
    }

    #[test]
    fn the_number_of_slices_follows_the_highest_node_number() {
        assert_eq!([1, 4, 16, 17, 33, 64].map(|id| slices_for(node(id))), [16, 16, 16, 32, 64, 64]);
        assert_eq!(Slice::of(node(17), 16), None);
        assert_eq!(Slice::of(node(1), 12), None, "no power of two");
        assert_eq!(Slice::of(node(1), 128), None);
    }
}
