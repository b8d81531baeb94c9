//! The `onevip-lab` command: a thin layer of arguments over the library.

mod bench_command;

use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use onevip_lab::kind::{self, HOST_KINDS, HostKind, HostKinds};
use onevip_lab::{Lab, LabFault, Name, Options, cleanup, demo, lab, matrix, process, service, stressor};

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
  no-interface    the node's interface is deleted; healing makes it anew, with the node's own addresses
  other-mac       the node's interface has another MAC; healing gives it its own again
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
        /// Kinds of hosts, for all nodes or for one: hardened,unix2=two-nics
        #[arg(long, value_name = "KIND[,KIND]")]
        host: Option<HostKinds>,
    },
    /// List the kinds of hosts there are
    Kinds,
    /// Run the same stories over kinds of hosts, and say which promises each keeps
    Matrix {
        /// Only these kinds; all by default
        #[arg(long, value_name = "KIND", value_delimiter = ',')]
        kinds: Vec<String>,
        /// Write a table of them, as Markdown
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
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
    Bench(bench_command::Bench),
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
    Stressor(stressor::Stressor),
    /// Heal the faults of a node (or split, or snoop), or all of them
    Heal {
        #[command(flatten)]
        which: Which,
        /// A node, split or snoop; everything by default
        #[arg(value_name = "NODE")]
        target: Option<String>,
    },
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
        Sub::Up { which, nodes, clients, config, is_static, no_onevip, host } => {
            let mut options = Options::new(&which.name).nodes(nodes).clients(clients);
            options.onevip = !no_onevip;
            options.living = !is_static;
            options.hosts = host.unwrap_or_default();
            options.config = config.map(|path| read_config(&path)).transpose()?;
            up(options)
        }
        Sub::Kinds => kinds(),
        Sub::Matrix { kinds, out } => run_matrix(&kinds, out.as_deref()),
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
            Lab::open(&which.name)?.fault(&LabFault::parse(&kind, target.as_deref())?)
        }
        Sub::Bench(kind) => bench_command::run(kind),
        Sub::Echo { id } => service::echo::serve(id),
        Sub::Bulk => service::bulk::serve(),
        Sub::Stressor(stressor) => stressor.run(),
        Sub::Heal { which, target } => Lab::open(&which.name)?.heal(target.as_deref()).map(drop),
    }
}

fn kinds() -> Result<()> {
    HOST_KINDS.iter().try_for_each(|kind| print(&format!("{:18}{}", kind.name, kind.about)))
}

/// A line for each kind as it is done, and a table of all into `out`; fails when one broke a promise, or could not be tried.
fn run_matrix(names: &[String], out: Option<&Path>) -> Result<()> {
    process::catch_interrupts()?;
    let wanted: Vec<&HostKind> = match names {
        [] => HOST_KINDS.iter().collect(),
        names => names.iter().map(|name| kind::find(name)).collect::<Result<_>>()?,
    };
    let (mut bad, mut rows) = (0, String::new());
    for (done, kind) in wanted.iter().enumerate() {
        let found = matrix::broken_promises(kind, Options::new("matrix"));
        process::check_interrupt()?;
        let (verdict, why) = match found {
            Ok(broken) if broken.is_empty() => ("as it should be", broken),
            Ok(broken) => ("BREAKS promises", broken),
            Err(error) => ("could not be tried", vec![format!("{error:#}")]),
        };
        bad += usize::from(!why.is_empty());
        print(&format!("[{}/{}] {}: {verdict}", done + 1, wanted.len(), kind.name))?;
        why.iter().try_for_each(|words| print(&format!("      {words}")))?;
        rows += &format!("| `{}` | {} | {} | {verdict} |\n", kind.name, kind.about, kind.right.words());
    }
    if let Some(path) = out {
        std::fs::write(path, matrix::page(&rows))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    anyhow::ensure!(bad == 0, "{bad} of {} kinds are not as they should be", wanted.len());
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
