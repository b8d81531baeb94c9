//! The kinds of events: what hooks name in the configuration, what `onevip watch` shows and what metrics count.

use std::fmt;

/// What kind of thing happened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum EventKind {
    /// Another node is heard.
    NodeHeard,
    /// Another node is not heard any more.
    NodeOut,
    /// The kernel of a node is found gone: its sessions are reset.
    KernelGone,
    /// The kernel of a node answers again.
    KernelAnswers,
    /// The kernel of a node answers questions, so that it can be found gone.
    Askable,
    /// The kernel of a node does not answer questions.
    Unaskable,
    /// An administrator said that a node is gone.
    Forgotten,
    /// Other nodes know a later life of this one.
    Outlived,
    /// This node does something else: it joins, serves, drains, leaves.
    State,
    /// A check of this node's health changed its mind.
    Health,
    /// This node claims another number of buckets.
    Claims,
    /// This node's lease ran out.
    Lapsed,
    /// This node's links lose frames.
    Lossy,
    /// They do not any more.
    Steady,
    /// This node fell out too often and waits.
    HeldBack,
    /// Beats of a node come by one family alone.
    FamilyOut,
    /// They come by both again.
    FamilyHeard,
    /// The beat loop was stopped for a while.
    Stalled,
    /// Another host has this node's number.
    Twin,
    /// Two other hosts have one number.
    Duplicate,
    /// A node beats that this configuration does not name.
    NotInFile,
    /// Beats arrive that no key opens.
    Unreadable,
    /// A prefix is kept out.
    Banned,
    /// A prefix is kept out no longer.
    Unbanned,
    /// This node finds that another one does not serve.
    Suspect,
    /// This node finds that it does again.
    Trust,
    /// The nodes voted one out.
    VotedOut,
    /// They took it in again.
    VotedIn,
}

impl EventKind {
    /// Every kind, in the order in which they are shown.
    pub const ALL: [Self; 28] = [
        Self::NodeHeard,
        Self::NodeOut,
        Self::KernelGone,
        Self::KernelAnswers,
        Self::Askable,
        Self::Unaskable,
        Self::Forgotten,
        Self::Outlived,
        Self::State,
        Self::Health,
        Self::Claims,
        Self::Lapsed,
        Self::Lossy,
        Self::Steady,
        Self::HeldBack,
        Self::FamilyOut,
        Self::FamilyHeard,
        Self::Stalled,
        Self::Twin,
        Self::Duplicate,
        Self::NotInFile,
        Self::Unreadable,
        Self::Banned,
        Self::Unbanned,
        Self::Suspect,
        Self::Trust,
        Self::VotedOut,
        Self::VotedIn,
    ];

    /// Its name in the configuration, in the log and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NodeHeard => "node-heard",
            Self::NodeOut => "node-out",
            Self::KernelGone => "kernel-gone",
            Self::KernelAnswers => "kernel-answers",
            Self::Askable => "askable",
            Self::Unaskable => "unaskable",
            Self::Forgotten => "forgotten",
            Self::Outlived => "outlived",
            Self::State => "state",
            Self::Health => "health",
            Self::Claims => "claims",
            Self::Lapsed => "lapsed",
            Self::Lossy => "lossy",
            Self::Steady => "steady",
            Self::HeldBack => "held-back",
            Self::FamilyOut => "family-out",
            Self::FamilyHeard => "family-heard",
            Self::Stalled => "stalled",
            Self::Twin => "twin",
            Self::Duplicate => "duplicate",
            Self::NotInFile => "not-in-file",
            Self::Unreadable => "unreadable",
            Self::Banned => "banned",
            Self::Unbanned => "unbanned",
            Self::Suspect => "suspect",
            Self::Trust => "trust",
            Self::VotedOut => "voted-out",
            Self::VotedIn => "voted-in",
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
