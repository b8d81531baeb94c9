//! `onevip-lab bench`: the arguments of each benchmark, and what becomes of its figures.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use onevip_lab::bench::build::compare::{self, BuildComparison};
use onevip_lab::bench::build::tree::ChangedFile;
use onevip_lab::bench::failover::disruption::Disruption;
use onevip_lab::bench::{page, results::BenchResults};
use onevip_lab::{Options, bench, process};
use serde::Serialize;

use crate::print;

/// Which one.
#[derive(Subcommand)]
pub enum Bench {
    /// What users notice of faults and of planned changes: gaps in new connections, sessions lost, answers given twice
    Failover(Failover),
    /// How long an ill node goes on getting new users
    Health(HealthBench),
    /// What users notice of a reboot of all nodes, one after the other, by the script in packaging/
    Rolling {
        /// Name of the lab
        #[arg(long, default_value = "bench-rolling")]
        name: String,
        /// For scripts
        #[arg(long)]
        json: bool,
        /// Number of nodes, 2 to 16
        #[arg(long, default_value_t = 4)]
        nodes: usize,
        /// Number of client addresses, 1 to 130
        #[arg(long, default_value_t = 60)]
        clients: usize,
    },
    /// What a packet costs in each program, by test runs in the kernel
    Program {
        #[command(flatten)]
        output: OutputOptions,
        /// Runs of each round
        #[arg(long, default_value_t = 1_000_000)]
        repeat: u32,
        /// Rounds
        #[arg(long, default_value_t = 15)]
        rounds: usize,
    },
    /// How evenly clients are spread over nodes, and how many move when something changes
    Balance {
        #[command(flatten)]
        output: OutputOptions,
        /// Trials with seeds of their own
        #[arg(long, default_value_t = bench::balance::TRIALS)]
        trials: usize,
    },
    /// What a foreign packet costs the node that drops it, beside iptables and nftables
    Reject {
        #[command(flatten)]
        output: OutputOptions,
        /// Name of the lab
        #[arg(long, default_value = "bench-reject")]
        name: String,
        /// Rounds
        #[arg(long, default_value_t = 15)]
        rounds: usize,
        /// Frames each contestant is sent in a round
        #[arg(long, default_value_t = bench::reject::FRAMES)]
        frames: u32,
    },
    /// Bulk data up and down through the VIP, beside the direct way and HAProxy
    Throughput {
        #[command(flatten)]
        output: OutputOptions,
        /// Name of the lab
        #[arg(long, default_value = "bench-throughput")]
        name: String,
        /// Numbers of nodes, each measured in a lab of its own
        #[arg(long, value_delimiter = ',', default_value = "1,4")]
        nodes: Vec<usize>,
        /// Rounds
        #[arg(long, default_value_t = 4)]
        rounds: usize,
        /// Length of a turn
        #[arg(long, default_value_t = 0.6)]
        seconds: f64,
    },
    /// How long it takes to get in, and how many get in within a second, beside the direct way and HAProxy
    Connect {
        #[command(flatten)]
        output: OutputOptions,
        /// Name of the lab
        #[arg(long, default_value = "bench-connect")]
        name: String,
        /// Numbers of nodes, each measured in a lab of its own
        #[arg(long, value_delimiter = ',', default_value = "1,4")]
        nodes: Vec<usize>,
        /// Rounds
        #[arg(long, default_value_t = 8)]
        rounds: usize,
    },
    /// How long nobody answers when something fails, beside keepalived and HAProxy
    Peers {
        #[command(flatten)]
        output: OutputOptions,
        /// Beginning of the names of the labs
        #[arg(long, default_value = "bench-peers")]
        name: String,
        /// How often each fault happens to each system
        #[arg(long, default_value_t = 3)]
        rounds: usize,
    },
    /// What a node costs as clusters grow, beside what was predicted
    Scale {
        #[command(flatten)]
        output: OutputOptions,
        /// Name of the lab
        #[arg(long, default_value = "bench-scale")]
        name: String,
        /// Numbers of nodes, growing
        #[arg(long, value_delimiter = ',', default_value = "2,4,8,16")]
        nodes: Vec<usize>,
        /// Seconds for which nothing happens
        #[arg(long, default_value_t = 8.0)]
        rest: f64,
        /// The example `simulate` of onevip-core, for clusters up to 64
        #[arg(long, value_name = "PROGRAM")]
        simulator: Option<PathBuf>,
    },
    /// Many sessions, most of them real ssh, while nodes fail and return at random
    Load {
        #[command(flatten)]
        output: OutputOptions,
        /// Name of the lab
        #[arg(long, default_value = "bench-load")]
        name: String,
        /// Number of nodes, 2 to 16
        #[arg(long, default_value_t = 4)]
        nodes: usize,
        /// Sessions wanted
        #[arg(long, default_value_t = 2000)]
        sessions: usize,
        /// At most so many of them with ssh, and as memory allows; the others are light
        #[arg(long, default_value_t = 2000)]
        ssh: usize,
        /// Minutes of faults
        #[arg(long, default_value_t = 30.0)]
        minutes: f64,
        /// What chance follows from
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// How long the daemon takes to build, and how large it is
    Build {
        #[command(flatten)]
        output: OutputOptions,
        /// A release was just built from nothing, which took so many seconds: do not build another
        #[arg(long, value_name = "SECONDS")]
        release_took: Option<f64>,
        #[command(flatten)]
        comparison: Comparison,
    },
    /// How long each part of `make bench` took, and all of it
    #[command(hide = true)]
    Total {
        #[command(flatten)]
        output: OutputOptions,
        /// The parts, as PART=SECONDS
        #[arg(required = true)]
        parts: Vec<String>,
    },
    /// Write docs/benchmarks.md and its plots from the raw results
    Page {
        /// Directory of the raw results
        #[arg(long, value_name = "DIR", default_value = "bench/results")]
        results: PathBuf,
        /// The words of the page
        #[arg(long, value_name = "FILE", default_value = "bench/page.md")]
        template: PathBuf,
        /// The page
        #[arg(long, value_name = "FILE", default_value = "docs/benchmarks.md")]
        page: PathBuf,
    },
}

/// What becomes of the figures.
#[derive(Args)]
pub struct OutputOptions {
    /// Print the raw result, for scripts
    #[arg(long)]
    json: bool,
    /// Keep the raw result in this directory as DATE-KIND.json
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
}

/// What `build --other` takes.
#[derive(Args)]
pub struct Comparison {
    /// Compare with another checkout instead, such as one of an earlier commit: how long each takes to build after a
    /// change. Both are copied; neither is touched
    #[arg(long, value_name = "PATH", conflicts_with = "release_took")]
    other: Option<PathBuf>,
    /// What is changed, and in which file: the first that a tree has. May be repeated; the health checks and the doctor by
    /// default
    #[arg(long, value_name = "LABEL=PATH[,PATH…]", requires = "other", value_parser = ChangedFile::parse)]
    change: Vec<ChangedFile>,
    /// What is built
    #[arg(long, requires = "other", default_value = "onevip")]
    package: String,
    /// Builds of each tree after each change, 1 to 50
    #[arg(long, requires = "other", default_value_t = 5)]
    rounds: usize,
    /// Release builds of each tree from nothing, 0 to 50; each takes minutes
    #[arg(long, requires = "other", default_value_t = 0)]
    releases: usize,
}

/// What `failover` takes.
#[derive(Args)]
pub struct Failover {
    /// Name of the lab
    #[arg(long, default_value = "bench")]
    name: String,
    /// For scripts: figures of every single measurement as well
    #[arg(long)]
    json: bool,
    /// How often each disruption happens (loss and stress: once)
    #[arg(long, default_value_t = 20)]
    repeat: u32,
    /// What happens: power-off, cut, mute, deaf, freeze, freeze-onevip, kill-onevip, drain, restart, reload, add,
    /// split, loss, stress; all of these by default
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    fault: Vec<Disruption>,
    /// Number of nodes, 2 to 16
    #[arg(long, default_value_t = 4)]
    nodes: usize,
    /// Number of client addresses, 1 to 130
    #[arg(long, default_value_t = 60)]
    clients: usize,
    /// A fixed set of nodes instead of living membership, for comparison
    #[arg(long = "static")]
    is_static: bool,
    /// Loss and stress for a quarter of a minute and a minute, instead of one and ten
    #[arg(long)]
    fast: bool,
    /// Keep every measurement and the daemons' logs
    #[arg(long, value_name = "DIR")]
    keep_raw: Option<PathBuf>,
}

/// What `health` takes.
#[derive(Args)]
pub struct HealthBench {
    /// Name of the lab
    #[arg(long, default_value = "benchhealth")]
    name: String,
    /// For scripts: every single measurement
    #[arg(long)]
    json: bool,
    /// How often each fault happens
    #[arg(long, default_value_t = 5)]
    repeat: u32,
    /// What goes wrong; everything that health is about by default
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    fault: Vec<String>,
    /// How long floods and silent clients go on, in seconds
    #[arg(long = "nuisance", value_name = "SECONDS", default_value_t = 600)]
    background: u64,
    /// Number of nodes, 2 to 16
    #[arg(long, default_value_t = 4)]
    nodes: usize,
    /// Number of client addresses, 1 to 130
    #[arg(long, default_value_t = 40)]
    clients: usize,
}

/// Measures.
///
/// # Errors
/// When it cannot be measured or kept, or a promise was broken meanwhile.
pub fn run(kind: Bench) -> Result<()> {
    process::catch_interrupts()?;
    let command = invocation();
    match kind {
        Bench::Failover(failover) => bench_failover(failover),
        Bench::Health(health) => bench_health(health),
        Bench::Rolling { name, json, nodes, clients } => {
            let report = bench::rolling::run(Options::new(&name).nodes(nodes).clients(clients))?;
            conclude(&report, &report.violations(), json)
        }
        Bench::Program { output, repeat, rounds } => {
            tell(&bench::program::run(repeat, rounds, command)?, &output)
        }
        Bench::Balance { output, trials } => tell(&bench::balance::run(trials, command)?, &output),
        Bench::Reject { output, name, rounds, frames } => {
            tell(&bench::reject::run(&name, rounds, frames, command)?, &output)
        }
        Bench::Throughput { output, name, nodes, rounds, seconds } => {
            tell(&bench::throughput::run(&name, &nodes, rounds, seconds, command)?, &output)
        }
        Bench::Connect { output, name, nodes, rounds } => {
            tell(&bench::connect::run(&name, &nodes, rounds, command)?, &output)
        }
        Bench::Peers { output, name, rounds } => tell(&bench::peers::run(&name, rounds, command)?, &output),
        Bench::Scale { output, name, nodes, rest, simulator } => {
            let rest = Duration::try_from_secs_f64(rest).context("--rest")?;
            tell(&bench::scale::run(&name, &nodes, rest, simulator.as_deref(), command)?, &output)
        }
        Bench::Load { output, name, nodes, sessions, ssh, minutes, seed } => {
            let options = Options::new(&name).nodes(nodes).clients(60);
            let length = Duration::try_from_secs_f64(minutes * 60.0).context("--minutes")?;
            let settings = bench::load::LoadBenchSettings { options, sessions, ssh, length, seed };
            tell(&bench::load::run(&settings, command)?, &output)
        }
        Bench::Build { output, release_took, comparison } => {
            tell(&bench_build(release_took, comparison, command)?, &output)
        }
        Bench::Total { output, parts } => tell(&bench::total::run(&parts)?, &output),
        Bench::Page { results, template, page } => page::write(&page::PagePaths { results, template, page }),
    }
}

/// How this program was called, for whoever wants to repeat it: without its path, and without what becomes of the
/// figures.
fn invocation() -> String {
    let mut words = vec!["onevip-lab".to_owned()];
    let mut given = std::env::args().skip(1);
    while let Some(word) = given.next() {
        match word.as_str() {
            "--json" => {}
            "--save" => drop(given.next()),
            _ if word.starts_with("--save=") => {}
            _ => words.push(word),
        }
    }
    words.join(" ")
}

fn tell(results: &BenchResults, output: &OutputOptions) -> Result<()> {
    if let Some(dir) = &output.save {
        let path = results.save(dir)?;
        eprintln!("kept in {}", path.display());
    }
    if output.json { print(&serde_json::to_string_pretty(results)?) } else { print(results) }
}

fn bench_build(release_took: Option<f64>, wanted: Comparison, command: String) -> Result<BenchResults> {
    let Some(other) = wanted.other else { return bench::build::run(release_took, command) };
    let changes = if wanted.change.is_empty() { compare::default_changes() } else { wanted.change };
    let comparison = BuildComparison {
        this: ".".into(),
        other,
        package: wanted.package,
        changes,
        rounds: wanted.rounds,
        releases: wanted.releases,
    };
    compare::run_comparison(&comparison, command)
}

fn bench_failover(wanted: Failover) -> Result<()> {
    let mut options = Options::new(&wanted.name).nodes(wanted.nodes).clients(wanted.clients);
    options.living = !wanted.is_static;
    let disruptions = if wanted.fault.is_empty() { Disruption::ALL.to_vec() } else { wanted.fault };
    let settings = bench::failover::FailoverBenchSettings {
        options,
        disruptions,
        repeat: wanted.repeat,
        fast: wanted.fast,
        keep_raw: wanted.keep_raw,
    };
    let report = bench::failover::run(&settings)?;
    conclude(&report, &report.violations(), wanted.json)?;
    anyhow::ensure!(report.problems.is_empty(), "{} scenarios could not be measured", report.problems.len());
    Ok(())
}

fn bench_health(wanted: HealthBench) -> Result<()> {
    let options = Options::new(&wanted.name).nodes(wanted.nodes).clients(wanted.clients);
    let all = || bench::health::KINDS.map(str::to_owned).to_vec();
    let kinds = if wanted.fault.is_empty() { all() } else { wanted.fault };
    let background = Duration::from_secs(wanted.background);
    let settings = bench::health::HealthBenchSettings { options, kinds, repeat: wanted.repeat, background };
    let report = bench::health::run(&settings)?;
    conclude(&report, &report.violations(), wanted.json)
}

/// Prints a report; an error when promises were broken.
fn conclude(report: &(impl Serialize + Display), violations: &[String], json: bool) -> Result<()> {
    if json {
        print(&serde_json::to_string_pretty(report)?)?
    } else {
        print(report)?
    }
    anyhow::ensure!(violations.is_empty(), "promises were broken: {}", violations.join("; "));
    Ok(())
}
