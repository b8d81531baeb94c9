//! Bugs that the checks must find: planted by tests and the simulator, never in the daemon.

/// A bug that the checks must find: planted by tests, never in the daemon.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Mutation {
    /// The real thing.
    #[default]
    None,
    /// Gains without looking whether somebody still claims.
    ClaimBeforeRelease,
    /// The lease outlives the time after which others take over.
    LeaseLongerThanDeath,
    /// A peer is heard when anything arrives from it, acknowledged or not.
    NoFreshness,
    /// Gains first, tells the kernel who may hold flows afterwards.
    ElsewhereAfterMine,
    /// The lease is renewed whether anybody hears us or not.
    LeaseUnheard,
    /// Gains without waiting for acknowledgements of the intent.
    ClaimUnacknowledged,
    /// A lapsed lease is renewed without giving up the claims first.
    LapseKeepsClaims,
    /// After a stall the silence of the others counts although it was our own.
    TrustsAfterStall,
    /// Two that do not hear each other are not told of each other's claims.
    NoRulings,
    /// Releases a bucket, but does not say that sessions may be left in it.
    ForgetsSessions,
    /// Goes on as if nobody had voted it out.
    DefiesVotes,
    /// Being voted out it takes no share at all, though nobody may be left who does.
    VotesEmptyTheCluster,
    /// A kernel that never answered is found gone by its silence.
    TrustsSilence,
    /// Heard, but never acknowledged, for whatever reason the peers reject its beats, it takes itself for alone.
    AloneAmongStrangers,
    /// Goes on as if its beats were sent.
    ClaimsThoughMute,
}

impl Mutation {
    /// Every bug that can be planted.
    pub const ALL: [Self; 15] = [
        Self::ClaimBeforeRelease,
        Self::LeaseLongerThanDeath,
        Self::NoFreshness,
        Self::ElsewhereAfterMine,
        Self::LeaseUnheard,
        Self::ClaimUnacknowledged,
        Self::LapseKeepsClaims,
        Self::TrustsAfterStall,
        Self::NoRulings,
        Self::ForgetsSessions,
        Self::DefiesVotes,
        Self::VotesEmptyTheCluster,
        Self::TrustsSilence,
        Self::AloneAmongStrangers,
        Self::ClaimsThoughMute,
    ];
}
