//! A campaign of random cluster lives: `simulate [--lives N] [--seed N] [--nodes A..B] [--minutes M] [--kind KIND]`.
//!
//! `simulate --scale` prints what a node costs in clusters of 2 to 64, a JSON object a line, for `onevip-lab bench scale`.
//!
//! `simulate --figures REPEATS` measures what `docs/membership.md` quotes instead, `simulate --cost NODES` only what
//! the engine costs in a cluster of that size.
//!
//! Without `--seed` it lives N lives with consecutive seeds and shows progress; a life that violates an invariant is
//! listed with its seed. With `--seed N` alone it lives that one life and prints everything that happens in it.

use onevip_core::membership::Mutation;
use onevip_core::sim::figures::{self, Gap, Incident, measure};
use onevip_core::sim::{FaultKind, LifeOutcome, LifePlan, live};
use std::time::{Duration, Instant};

struct Args {
    lives: Option<u64>,
    seed: Option<u64>,
    minutes: Option<u64>,
    figures: Option<u64>,
    cost: Option<u64>,
    plan: LifePlan,
}

fn main() {
    if std::env::args().skip(1).eq(["--scale"]) {
        return print_scale();
    }
    let args = match parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(why) => {
            eprintln!("simulate: {why}");
            std::process::exit(2);
        }
    };
    if let Some(repeats) = args.figures {
        return print_figures(repeats);
    }
    if let Some(nodes) = args.cost {
        println!("{nodes} nodes: {:?}", figures::cost(nodes as usize, 10));
        return;
    }
    let failed = match (args.seed, args.lives, args.minutes) {
        (Some(seed), None, None) => replay(seed, &args.plan),
        _ => campaign(&args),
    };
    std::process::exit(i32::from(failed));
}

fn print_scale() {
    for nodes in [2, 4, 8, 16, 32, 64] {
        let cost = figures::cost(nodes, 4);
        // Virtual time does not mind company; what the engine costs is measured before, alone.
        let mut gaps: Vec<u64> = std::thread::scope(|scope| {
            let life = |seed| scope.spawn(move || measure(Incident::PowerOff, nodes, seed).unanswered_ns);
            let lives: Vec<_> = (1..=3).map(life).collect();
            lives.into_iter().map(|life| life.join().expect("a life that ends does not panic")).collect()
        });
        gaps.sort_unstable();
        println!(
            "{{\"nodes\": {nodes}, \"beats_per_second\": {}, \"beat_bytes\": {}, \"engine_us_per_second\": {}, \
             \"gap_s\": {}}}",
            cost.beats_per_second,
            cost.beat_bytes,
            cost.node_ns_per_second as f64 / 1e3,
            gaps[gaps.len() / 2] as f64 / 1e9
        );
    }
}

fn print_figures(repeats: u64) {
    println!(
        "4 nodes, {repeats} times each; gap: the longest time a bucket went unanswered; twice: answered by two"
    );
    for incident in Incident::ALL {
        let gaps: Vec<Gap> = (0..repeats).map(|seed| measure(incident, 4, seed)).collect();
        let of = |what: fn(&Gap) -> u64| {
            let mut all: Vec<u64> = gaps.iter().map(what).collect();
            all.sort_unstable();
            (all[all.len() / 2] as f64 / 1e6, all[all.len() - 1] as f64 / 1e6)
        };
        let (gap, twice) = (of(|gap| gap.unanswered_ns), of(|gap| gap.twice_ns));
        let name = format!("{incident:?}");
        println!(
            "{name:<14} gap {:6.1} / {:6.1} ms   twice {:6.1} / {:6.1} ms",
            gap.0, gap.1, twice.0, twice.1
        );
    }
    for nodes in [2, 3, 4, 8] {
        println!("{nodes} nodes: {:?}", figures::stall(nodes, 60 * repeats, 5));
    }
    for (nodes, percent) in [(4, 5), (4, 30), (3, 30), (2, 30), (8, 30)] {
        println!("{nodes} nodes, one loses {percent} %: {:?}", figures::lossy(nodes, percent * 10_000, 3));
    }
    println!("64 nodes: {:?}", figures::measure(Incident::PowerOff, 64, 1));
    println!("64 nodes: {:?}", figures::cost(64, 10));
}

fn replay(seed: u64, plan: &LifePlan) -> bool {
    let outcome = live(seed, &LifePlan { trace: true, ..plan.clone() });
    println!("{outcome:#?}");
    outcome.violation.is_some()
}

fn campaign(args: &Args) -> bool {
    let (first, began) = (args.seed.unwrap_or(1), Instant::now());
    let limit = args.minutes.map(|minutes| Duration::from_secs(minutes * 60));
    let lives = args.lives.unwrap_or(if limit.is_some() { u64::MAX } else { 10_000 });
    let next = std::sync::atomic::AtomicU64::new(0);
    let failures = std::sync::Mutex::new(Vec::<LifeOutcome>::new());
    let (beats, twice, sessions) = (
        std::sync::atomic::AtomicU64::new(0),
        std::sync::atomic::AtomicU64::new(0),
        std::sync::atomic::AtomicU64::new(0),
    );
    use std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= lives || limit.is_some_and(|limit| began.elapsed() > limit) {
                        break;
                    }
                    let outcome = live(first + number, &args.plan);
                    beats.fetch_add(outcome.beats, Relaxed);
                    twice.fetch_add(outcome.answered_twice, Relaxed);
                    sessions.fetch_add(outcome.sessions, Relaxed);
                    if let Some(violation) = &outcome.violation {
                        println!(
                            "seed {}: {:?}, {} nodes: {violation:?}",
                            outcome.seed, outcome.kind, outcome.nodes
                        );
                        failures.lock().expect("no panic while locked").push(outcome);
                    }
                    if number % 1000 == 999 {
                        println!("{} lives, {:?}", number + 1, began.elapsed());
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic while locked");
    let lived = next.into_inner().min(lives);
    println!(
        "about {lived} lives in {:?}: {} violations; {} beats, {} sessions, {} answered twice",
        began.elapsed(),
        failures.len(),
        beats.into_inner(),
        sessions.into_inner(),
        twice.into_inner()
    );
    for kind in FaultKind::ALL {
        let of_kind: Vec<&LifeOutcome> = failures.iter().filter(|o| o.kind == kind).collect();
        if !of_kind.is_empty() {
            let seeds: Vec<u64> = of_kind.iter().take(8).map(|o| o.seed).collect();
            println!("  {kind:?}: {} (seeds {seeds:?})", of_kind.len());
        }
    }
    !failures.is_empty()
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut parsed =
        Args { lives: None, seed: None, minutes: None, figures: None, cost: None, plan: LifePlan::default() };
    while let Some(arg) = args.next() {
        let value = args.next().ok_or(format!("{arg} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{arg} {value}: not a number"));
        match arg.as_str() {
            "--lives" => parsed.lives = Some(number()?),
            "--seed" => parsed.seed = Some(number()?),
            "--minutes" => parsed.minutes = Some(number()?),
            "--figures" => parsed.figures = Some(number()?.max(1)),
            "--cost" => parsed.cost = Some(number()?.clamp(1, 64)),
            "--nodes" => {
                parsed.plan.nodes = range(&value).ok_or(format!("--nodes {value}: not like 2..5"))?
            }
            "--kind" => {
                let kind = FaultKind::ALL.into_iter().find(|k| format!("{k:?}").eq_ignore_ascii_case(&value));
                parsed.plan.kind = Some(kind.ok_or(format!("--kind {value}: one of {:?}", FaultKind::ALL))?);
            }
            "--mutation" => {
                let mutation =
                    Mutation::ALL.into_iter().find(|m| format!("{m:?}").eq_ignore_ascii_case(&value));
                parsed.plan.mutation =
                    mutation.ok_or(format!("--mutation {value}: one of {:?}", Mutation::ALL))?;
            }
            _ => return Err(format!("{arg}: unknown; see the head of the file")),
        }
    }
    Ok(parsed)
}

fn range(value: &str) -> Option<std::ops::RangeInclusive<usize>> {
    let (low, high) = value.split_once("..")?;
    let (low, high) = (low.parse().ok()?, high.trim_start_matches('=').parse().ok()?);
    (1 <= low && low <= high && high <= 64).then_some(low..=high)
}
