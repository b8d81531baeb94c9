//! The lines of a recording: which lives there are, and one digest for each block of them.

use onevip_core::sim::record::{Digest, block, short};
use onevip_core::sim::{LifePlan, calls, live};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The first seed that the test records.
pub const FIRST: u64 = 1;
/// How many lives of each kind.
pub const LIVES: u64 = 400;
/// How many share one digest.
pub const BLOCK: u64 = 50;

/// What is recorded: clusters of the usual sizes, single nodes, large clusters, and calls in any order.
const KINDS: [&str; 4] = ["any", "one", "large", "calls"];

fn digest(kind: &str, seed: u64) -> Digest {
    let nodes = match kind {
        "one" => 1..=1,
        "large" => 12..=24,
        "calls" => return calls::record(seed),
        _ => LifePlan::default().nodes,
    };
    live(seed, &LifePlan { nodes, record: true, ..LifePlan::default() }).digest.expect("it is recorded")
}

/// One line a block, on all processors. Of single nodes there are a quarter, of large clusters a tenth.
pub fn record(first: u64, lives: u64, length: u64) -> Vec<String> {
    let mut blocks = Vec::new();
    for kind in KINDS {
        let count = match kind {
            "one" => lives / 4,
            "large" => lives / 10,
            _ => lives,
        };
        let last = first + count - 1;
        blocks.extend(
            (first..=last).step_by(length as usize).map(|from| (kind, from..=last.min(from + length - 1))),
        );
    }
    let next = AtomicUsize::new(0);
    let lines = std::sync::Mutex::new(vec![String::new(); blocks.len()]);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(|| {
                while let Some((kind, seeds)) = blocks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let digest = short(&block(seeds.clone(), |seed| digest(kind, seed)));
                    let line = format!("{kind} {}..={} {digest}", seeds.start(), seeds.end());
                    let at = blocks.iter().position(|other| other == &(*kind, seeds.clone()));
                    lines.lock().expect("no panic while locked")[at.expect("it is one of them")] = line;
                }
            });
        }
    });
    lines.into_inner().expect("no panic while locked")
}
