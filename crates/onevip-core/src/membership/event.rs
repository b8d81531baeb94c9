//! What people are told as it happens (`onevip watch`, the log).

use super::family::Family;
use crate::beat::{Incarnation, NodeState};
use crate::ids::{NodeId, NodeSet};
use std::time::Duration;

/// Why a peer is no longer heard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WhyLost {
    /// Nothing arrives from it any more.
    Silent,
    /// It speaks, but does not acknowledge what we send: it is deaf, or we are mute, or the link is one-way.
    DoesNotHearUs,
    /// It said goodbye.
    Left,
    /// Its daemon started anew.
    Restarted,
}

/// Something worth a line.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// We hear this node and it hears us.
    Heard {
        /// Which.
        node: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
    },
    /// We do not hear this node any more.
    Lost {
        /// Which.
        node: NodeId,
        /// Why.
        why: WhyLost,
    },
    /// The kernel of a silent node was found to be gone, so orphans of its sessions may be reset.
    KernelGone(NodeId),
    /// The kernel of a node without a daemon answers: its sessions live.
    KernelAnswers(NodeId),
    /// The kernel of this node answers none of our questions though it lives, or was never known to: it cannot be found
    /// gone; or (true) it answers now.
    Askable(NodeId, bool),
    /// Somebody said that this silent node is gone, so orphans of its sessions may be reset.
    Forgotten(NodeId),
    /// Others know a later life of this node: they take our beats for recordings. We have to begin anew with a larger
    /// incarnation than this, see [`super::Engine::reincarnate`].
    Outlived(Incarnation),
    /// We entered this state.
    State(NodeState),
    /// We claim so many buckets now.
    Claims(usize),
    /// Our lease ran out, and with it all claims: nobody acknowledged us, or we were stopped.
    Lapsed,
    /// Frames are lost on our own link, whomever we ask (or no longer).
    Lossy(bool),
    /// We fell out so often lately that we take no share for this long, unless the others are worse.
    HeldBack(Duration),
    /// Our own loop was stopped for this long.
    Stalled(Duration),
    /// Another host beats with our node number.
    Twin {
        /// Its host number.
        host: u32,
    },
    /// Two hosts beat with this node number; the newcomer is ignored.
    Duplicate {
        /// The number.
        node: NodeId,
        /// The newcomer's host number.
        host: u32,
    },
    /// A node beats that is not in our file.
    NotInFile(NodeId),
    /// A majority of those who can tell found that this node (it may be ourselves) does not answer clients; or no
    /// longer.
    Votes {
        /// Which node.
        node: NodeId,
        /// Who found so; `None`: it is no longer voted out.
        by: Option<NodeSet>,
    },
    /// The copies of this node's beats by one VIP family stay away, though those by the other come; or come again.
    FamilyLost {
        /// Which node.
        node: NodeId,
        /// Which family.
        family: Family,
        /// Whether they stay away.
        lost: bool,
    },
    /// Beats of this cluster arrive that none of our keys opens.
    Unreadable,
}
