//! Ten thousand random lives of random clusters, and planted bugs that such lives must find.
//!
//! A life is a function of its seed: `cargo run --release -p onevip-core --example simulate -- --seed N` replays the
//! one that failed here, step by step.
#![allow(clippy::unwrap_used)] // A test may panic, its helpers included.

use onevip_core::membership::Mutation;
use onevip_core::sim::{LifeOutcome, LifePlan, live};
use std::sync::atomic::{AtomicU64, Ordering};

/// Lives the lives of `seeds` on all processors and returns those that violated an invariant.
fn violations(seeds: std::ops::Range<u64>, plan: &LifePlan) -> Vec<LifeOutcome> {
    let next = AtomicU64::new(seeds.start);
    let failed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let outcome = live(seed, plan);
                    if outcome.violation.is_some() {
                        failed.lock().unwrap().push(outcome);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}

#[test]
fn ten_thousand_lives_keep_all_invariants() {
    let failed = violations(1..10_001, &LifePlan::default());
    let lines: Vec<String> = failed
        .iter()
        .map(|o| format!("seed {}: {:?}, {} nodes: {:?}", o.seed, o.kind, o.nodes, o.violation))
        .collect();
    assert!(failed.is_empty(), "{} lives violated an invariant:\n{}", failed.len(), lines.join("\n"));
}

/// Among the same seeds that the real protocol survives; only so many of them are lived as it takes.
fn is_found(mutation: Mutation, invariants: &[&str]) {
    let plan = LifePlan { nodes: 2..=5, mutation, ..LifePlan::default() };
    let mut found = std::collections::BTreeSet::new();
    for first in (1..1501).step_by(50) {
        let failed = violations(first..first + 50, &plan);
        found.extend(failed.iter().filter_map(|o| o.violation.as_ref()).map(|v| v.invariant));
        if !found.is_empty() && invariants.iter().all(|invariant| found.contains(invariant)) {
            return;
        }
    }
    assert!(!found.is_empty(), "{mutation:?} was not found in 1,500 lives");
    panic!("{mutation:?} should violate {invariants:?}, violated {found:?}");
}

#[test]
fn claiming_before_the_other_released_is_found() {
    is_found(Mutation::ClaimBeforeRelease, &["I1"]);
}

#[test]
fn claiming_without_acknowledgement_is_found() {
    is_found(Mutation::ClaimUnacknowledged, &["I1"]);
}

#[test]
fn a_lease_longer_than_death_is_found() {
    is_found(Mutation::LeaseLongerThanDeath, &["I1"]);
}

#[test]
fn missing_freshness_is_found() {
    is_found(Mutation::NoFreshness, &[]);
}

#[test]
fn elsewhere_after_mine_is_found() {
    is_found(Mutation::ElsewhereAfterMine, &["I6"]);
}

#[test]
fn a_lease_renewed_without_being_heard_is_found() {
    is_found(Mutation::LeaseUnheard, &[]);
}

#[test]
fn a_lapsed_lease_that_keeps_claims_is_found() {
    is_found(Mutation::LapseKeepsClaims, &["I4"]);
}

#[test]
fn trust_after_a_stall_is_found() {
    is_found(Mutation::TrustsAfterStall, &[]);
}

#[test]
fn missing_rulings_are_found() {
    is_found(Mutation::NoRulings, &["I2"]);
}

#[test]
fn defying_a_vote_is_found() {
    is_found(Mutation::DefiesVotes, &["I7"]);
}

#[test]
fn votes_that_leave_nobody_to_serve_are_found() {
    is_found(Mutation::VotesEmptyTheCluster, &["I2"]);
}

#[test]
fn forgotten_sessions_are_found() {
    is_found(Mutation::ForgetsSessions, &["I6"]);
}

#[test]
fn trust_in_the_silence_of_those_who_never_answered_is_found() {
    is_found(Mutation::TrustsSilence, &["I6"]);
}

#[test]
fn claiming_alone_among_nodes_that_reject_our_beats_is_found() {
    is_found(Mutation::AloneAmongStrangers, &["I8"]);
}

#[test]
fn claiming_though_no_beat_can_be_sent_is_found() {
    is_found(Mutation::ClaimsThoughMute, &["I8"]);
}
