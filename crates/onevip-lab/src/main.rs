//! The `onevip-lab` command: a thin layer of arguments over the library.

use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use onevip_lab::bench::event::Event;
use onevip_lab::bench::{page, sheet::Sheet};
use onevip_lab::{Fault, Lab, Name, Options, bench, cleanup, demo, hog, lab, load, process};

/// A onevip cluster in a box: network namespaces, one bridge, real OpenSSH.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Sub,
}

/// The faults in words, for `fault --help`.
const KINDS: &str = "\
Kinds:
  power-off       processes, kernel state and link gone at once; healing boots the node
  freeze          every process of the node is stopped, its kernel lives
  freeze-onevip   the daemon is stopped
  freeze-sshd     the sshd that listens is stopped; sessions go on
  kill-onevip     the daemon is killed; healing starts it again
  kill-sshd       the sshd that listens is killed; healing starts it again
  sshd-slow       ten seconds pass before its banner
  sshd-maxstartups  its MaxStartups are taken by clients that do not log in
  nologin         the node has a /run/nologin
  fork-bomb       something makes processes until there can be no more (in the node's cgroup)
  memory-hog      something takes nearly all of the node's memory (a limit in its cgroup)
  cpu-hog         something keeps more processors busy than there are, at low priority
  disk-full       the node's root file system is full (a small one in its place)
  cut             the node's link is down
  mute            nothing the node sends arrives
  deaf            the node hears nothing
  loss=PERCENT    so many percent of all frames are lost, in each direction
  split           hosts on different sides do not hear each other: split 'unix1,unix2|unix3,unix4';
                  client is on the first side and client2 on the second, unless named elsewhere
  snoop           the bridge withholds IP multicast that nobody asked for";

/// Which lab is meant.
#[derive(Args)]
struct Which {
    /// Name of the lab
    #[arg(long, default_value = "lab")]
    name: String,
}

#[derive(Subcommand)]
enum Sub {
    /// Build a lab (an earlier one of that name is removed first)
    Up {
        #[command(flatten)]
        which: Which,
        /// Number of nodes, 1 to 16
        #[arg(long, default_value_t = 4)]
        nodes: usize,
        /// Number of client addresses, 1 to 130
        #[arg(long, default_value_t = 60)]
        clients: usize,
        /// A onevip.toml to use instead of the generated one
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// A fixed set of nodes instead of living membership
        #[arg(long = "static", conflicts_with = "config")]
        is_static: bool,
        /// Start no daemon: plain hosts, none of which has the VIP
        #[arg(long)]
        no_onevip: bool,
    },
    /// Take a lab down and remove every trace of it
    Down {
        #[command(flatten)]
        which: Which,
        /// All labs
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
    /// Show what a lab consists of and what of it runs
    Status {
        #[command(flatten)]
        which: Which,
        /// For scripts
        #[arg(long)]
        json: bool,
    },
    /// Log in to the VIP, as a user would
    Ssh {
        #[command(flatten)]
        which: Which,
        /// The client address to come from
        #[arg(long, value_name = "ADDRESS")]
        from: Option<IpAddr>,
        /// What to run there; a shell by default
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Run a command on a host: unix1 to unixN, client, client2 or switch
    Exec {
        #[command(flatten)]
        which: Which,
        /// The host
        host: String,
        /// The command
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Tell the story of onevip in the terminal, live
    Demo {
        /// Number of nodes, 2 to 16
        #[arg(long, default_value_t = 4)]
        nodes: usize,
        /// No pauses for reading
        #[arg(long)]
        fast: bool,
    },
    /// Measure, and write the page about it
    #[command(subcommand)]
    Bench(Bench),
    /// Make something go wrong on purpose
    #[command(after_help = KINDS)]
    Fault {
        #[command(flatten)]
        which: Which,
        /// What goes wrong
        kind: String,
        /// The node it befalls; for split the sides, e.g. 'unix1,unix2|unix3,unix4'; for snoop nothing
        #[arg(value_name = "NODE")]
        target: Option<String>,
    },
    /// Greet and echo on port 7, as the node of this number
    #[command(hide = true)]
    Echo { id: u8 },
    /// Take and give bulk data on port 5001
    #[command(hide = true)]
    Bulk,
    /// Take something in excess, on a node that is to suffer from it
    #[command(hide = true, subcommand)]
    Hog(hog::Hog),
    /// Heal the faults of a node (or split, or snoop), or all of them
    Heal {
        #[command(flatten)]
        which: Which,
        /// A node, split or snoop; everything by default
        #[arg(value_name = "NODE")]
        target: Option<String>,
    },
}

#[derive(Subcommand)]
enum Bench {
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
        output: Output,
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
        output: Output,
        /// Trials with seeds of their own
        #[arg(long, default_value_t = bench::balance::TRIALS)]
        trials: usize,
    },
    /// What a foreign packet costs the node that drops it, beside iptables and nftables
    Reject {
        #[command(flatten)]
        output: Output,
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
        output: Output,
        /// Name of the lab
        #[arg(long, default_value = "bench-throughput")]
        name: String,
        /// Numbers of nodes, each measured in a lab of its own
        #[arg(long, value_delimiter = ',', default_value = "1,4")]
        nodes: Vec<usize>,
        /// Rounds
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Length of a turn
        #[arg(long, default_value_t = 1.0)]
        seconds: f64,
    },
    /// How long it takes to get in, and how many get in within a second, beside the direct way and HAProxy
    Connect {
        #[command(flatten)]
        output: Output,
        /// Name of the lab
        #[arg(long, default_value = "bench-connect")]
        name: String,
        /// Numbers of nodes, each measured in a lab of its own
        #[arg(long, value_delimiter = ',', default_value = "1,4")]
        nodes: Vec<usize>,
        /// Rounds
        #[arg(long, default_value_t = 11)]
        rounds: usize,
    },
    /// How long nobody answers when something fails, beside keepalived and HAProxy
    Peers {
        #[command(flatten)]
        output: Output,
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
        output: Output,
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
        output: Output,
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
        output: Output,
        /// A release was just built from nothing, which took so many seconds: do not build another
        #[arg(long, value_name = "SECONDS")]
        release_took: Option<f64>,
    },
    /// How long each part of `make bench` took, and all of it
    #[command(hide = true)]
    Total {
        #[command(flatten)]
        output: Output,
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
struct Output {
    /// Print the raw result, for scripts
    #[arg(long)]
    json: bool,
    /// Keep the raw result in this directory as DATE-KIND.json
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
}

#[derive(Args)]
struct Failover {
    /// Name of the lab
    #[arg(long, default_value = "bench")]
    name: String,
    /// For scripts: figures of every single take as well
    #[arg(long)]
    json: bool,
    /// How often each event happens (loss and stress: once)
    #[arg(long, default_value_t = 20)]
    repeat: u32,
    /// What happens: power-off, cut, mute, deaf, freeze, freeze-onevip, kill-onevip, drain, restart, reload, add,
    /// split, loss, stress; all of these by default
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    fault: Vec<Event>,
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
    /// Keep every take and the daemons' logs
    #[arg(long, value_name = "DIR")]
    keep_raw: Option<PathBuf>,
}

#[derive(Args)]
struct HealthBench {
    /// Name of the lab
    #[arg(long, default_value = "benchhealth")]
    name: String,
    /// For scripts: every single take
    #[arg(long)]
    json: bool,
    /// How often each fault happens
    #[arg(long, default_value_t = 5)]
    repeat: u32,
    /// What goes wrong; everything that health is about by default
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    fault: Vec<String>,
    /// How long floods and silent clients go on, in seconds
    #[arg(long, default_value_t = 600)]
    nuisance: u64,
    /// Number of nodes, 2 to 16
    #[arg(long, default_value_t = 4)]
    nodes: usize,
    /// Number of client addresses, 1 to 130
    #[arg(long, default_value_t = 40)]
    clients: usize,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("onevip-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Sub) -> Result<()> {
    match command {
        Sub::Up { which, nodes, clients, config, is_static, no_onevip } => {
            let mut options = Options::new(&which.name).nodes(nodes).clients(clients);
            options.onevip = !no_onevip;
            options.living = !is_static;
            options.config = config.map(|path| read_config(&path)).transpose()?;
            up(options)
        }
        Sub::Down { all: true, .. } => down_all(),
        Sub::Down { which, all: false } => lab::down(&Name::new(&which.name)?),
        Sub::Status { which, json } => status(&which.name, json),
        Sub::Ssh { which, from, command } => ssh(&which.name, from, &command),
        Sub::Exec { which, host, command } => exec(&which.name, &host, &command),
        Sub::Demo { nodes, fast } => {
            process::catch_interrupts()?;
            demo::run(nodes, fast)
        }
        Sub::Fault { which, kind, target } => {
            Lab::open(&which.name)?.fault(&Fault::parse(&kind, target.as_deref())?)
        }
        Sub::Bench(kind) => bench(kind),
        Sub::Echo { id } => load::echo::serve(id),
        Sub::Bulk => load::bulk::serve(),
        Sub::Hog(hog) => hog.run(),
        Sub::Heal { which, target } => Lab::open(&which.name)?.heal(target.as_deref()).map(drop),
    }
}

fn bench(kind: Bench) -> Result<()> {
    process::catch_interrupts()?;
    let command = invocation();
    match kind {
        Bench::Failover(failover) => bench_failover(failover),
        Bench::Health(health) => bench_health(health),
        Bench::Rolling { name, json, nodes, clients } => {
            let report = bench::rolling::run(Options::new(&name).nodes(nodes).clients(clients))?;
            if json {
                print(&serde_json::to_string_pretty(&report)?)?
            } else {
                print(&report)?
            }
            let violations = report.violations();
            anyhow::ensure!(violations.is_empty(), "promises were broken: {}", violations.join("; "));
            Ok(())
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
            let settings = bench::load::Settings { options, sessions, ssh, length, seed };
            tell(&bench::load::run(&settings, command)?, &output)
        }
        Bench::Build { output, release_took } => tell(&bench::build::run(release_took, command)?, &output),
        Bench::Total { output, parts } => tell(&bench::total::run(&parts)?, &output),
        Bench::Page { results, template, page } => page::write(&page::Places { results, template, page }),
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

fn tell(sheet: &Sheet, output: &Output) -> Result<()> {
    if let Some(dir) = &output.save {
        let path = sheet.save(dir)?;
        eprintln!("kept in {}", path.display());
    }
    if output.json { print(&serde_json::to_string_pretty(sheet)?) } else { print(sheet) }
}

fn bench_failover(wanted: Failover) -> Result<()> {
    let mut options = Options::new(&wanted.name).nodes(wanted.nodes).clients(wanted.clients);
    options.living = !wanted.is_static;
    let events = if wanted.fault.is_empty() { Event::ALL.to_vec() } else { wanted.fault };
    let settings = bench::Settings {
        options,
        events,
        repeat: wanted.repeat,
        fast: wanted.fast,
        keep_raw: wanted.keep_raw,
    };
    let report = bench::failover::run(&settings)?;
    if wanted.json {
        print(&serde_json::to_string_pretty(&report)?)?
    } else {
        print(&report)?
    }
    let violations = report.violations();
    anyhow::ensure!(violations.is_empty(), "promises were broken: {}", violations.join("; "));
    anyhow::ensure!(report.problems.is_empty(), "{} acts could not be measured", report.problems.len());
    Ok(())
}

fn bench_health(wanted: HealthBench) -> Result<()> {
    let options = Options::new(&wanted.name).nodes(wanted.nodes).clients(wanted.clients);
    let all = || bench::health::KINDS.map(str::to_owned).to_vec();
    let kinds = if wanted.fault.is_empty() { all() } else { wanted.fault };
    let nuisance = Duration::from_secs(wanted.nuisance);
    let settings = bench::health::Settings { options, kinds, repeat: wanted.repeat, nuisance };
    let report = bench::health::health(&settings)?;
    if wanted.json {
        print(&serde_json::to_string_pretty(&report)?)?
    } else {
        print(&report)?
    }
    let violations = report.violations();
    anyhow::ensure!(violations.is_empty(), "promises were broken: {}", violations.join("; "));
    Ok(())
}

fn read_config(path: &PathBuf) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {} (--config)", path.display()))
}

fn up(options: Options) -> Result<()> {
    process::catch_interrupts()?;
    let lab = Lab::up(options)?;
    print(&lab.status())?;
    lab.keep();
    Ok(())
}

fn down_all() -> Result<()> {
    let errors: Vec<String> = cleanup::all_labs()
        .iter()
        .filter_map(|name| lab::down(name).err().map(|e| format!("{e:#}")))
        .collect();
    anyhow::ensure!(errors.is_empty(), "{}", errors.join("; "));
    Ok(())
}

fn status(name: &str, json: bool) -> Result<()> {
    let status = Lab::open(name)?.status();
    if json { print(&serde_json::to_string_pretty(&status)?) } else { print(&status) }
}

fn ssh(name: &str, from: Option<IpAddr>, command: &[String]) -> Result<()> {
    let lab = Lab::open(name)?;
    let to = from.map_or(lab.vip()[0], |from| lab.vip_for(from));
    let mut ssh = lab.ssh_command(to, from)?;
    // Together with the destination, so that words that begin with a dash are the command's and not ssh's.
    ssh.args(if command.is_empty() { &[][..] } else { &["--"] }).args(command);
    replace_with(ssh)
}

fn exec(name: &str, host: &str, words: &[String]) -> Result<()> {
    let mut command = Lab::open(name)?.command(host, &words[0])?;
    command.args(&words[1..]);
    replace_with(command)
}

/// Becomes the command: terminal, signals and exit status are its own.
fn replace_with(mut command: Command) -> Result<()> {
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", command.get_program().to_string_lossy()))
}

/// Prints; a reader that has gone away is no error worth a panic.
fn print(text: &dyn std::fmt::Display) -> Result<()> {
    match writeln!(io::stdout(), "{}", text.to_string().trim_end()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
