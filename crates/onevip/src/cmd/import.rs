//! `onevip import`: from the rules of an old system to a configuration with the same mapping.
//!
//! The configuration goes to standard output or a file, the report to standard error: what was understood, line by line,
//! and what was not.

use crate::cmd::context::{EXIT_WRONG, colour};
use anyhow::{Context as _, bail};
use onevip_config::SourceFile;
use onevip_config::import::{Answers, Imported, Member, import};
use onevip_core::MacAddr;
use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;

/// Nothing that these commands print is anywhere near this long.
const BYTES_MAX: u64 = 16 << 20;

/// Options of `onevip import`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Output of iptables-save, arptables-save, ip maddr, nft list ruleset, crm configure show or pcs resource config; - is
    /// standard input
    #[arg(value_name = "FILE", default_value = "-")]
    files: Vec<PathBuf>,
    /// Write the configuration there [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file of --output if it is there
    #[arg(long, requires = "output")]
    force: bool,
    /// A node: its hostname and own addresses; once for each, in the order of their numbers
    #[arg(long, value_name = "NAME=ADDRESS[,ADDRESS]")]
    host: Vec<HostArg>,
    /// The name of the cluster
    #[arg(long, value_name = "NAME", default_value = "login")]
    cluster: String,
    /// The shared address, where the rules do not name it
    #[arg(long, value_name = "ADDRESS")]
    vip: Vec<IpAddr>,
    /// The cluster MAC, where it is not in the input
    #[arg(long, value_name = "MAC")]
    mac: Option<String>,
    /// The seed of the hash, where it is not in the input (0x… is hex)
    #[arg(long, value_name = "SEED", value_parser = seed)]
    seed: Option<u32>,
    /// How many nodes there are, where it is not in the input
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    nodes: Option<u8>,
    /// What Pacemaker's IPaddr2 makes, where its parameters do not tell
    #[arg(long, value_name = "AGENT", value_parser = ["clusterip", "cluster"])]
    agent: Option<String>,
}

/// `unix1=198.51.100.11,2001:db8::11`
#[derive(Clone, Debug)]
struct HostArg(Member);

impl FromStr for HostArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write NAME=ADDRESS, like unix1=198.51.100.11".to_owned();
        let (name, addresses) = text.split_once('=').ok_or_else(wrong)?;
        let addresses: Result<Vec<IpAddr>, _> = addresses.split(',').map(str::parse).collect();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        if name.is_empty() || !name.chars().all(plain) {
            return Err(wrong());
        }
        Ok(Self(Member { name: name.to_owned(), addresses: addresses.map_err(|_| wrong())? }))
    }
}

fn seed(text: &str) -> Result<u32, String> {
    let read = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    read.map_err(|_| "a seed has 32 bits: a number, or hex with 0x".to_owned())
}

/// Imports. The exit code is 2 when something could not be understood, and then nothing is written.
///
/// # Errors
/// A file cannot be read, or the output cannot be written or is there already.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let sources = args.files.iter().map(|path| read(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let mac = args.mac.as_deref().map(str::parse::<MacAddr>).transpose();
    let answers = Answers {
        cluster: args.cluster.clone(),
        vip: args.vip.clone(),
        mac: mac.ok().context("--mac is no MAC: write six bytes in hex, like 01:00:5e:33:64:0a")?,
        seed: args.seed,
        nodes: args.nodes,
        members: args.host.iter().map(|HostArg(member)| member.clone()).collect(),
        clusterip_agent: args.agent.as_ref().map(|agent| agent == "clusterip"),
    };
    let imported = import(&sources, &answers);
    report(&imported)?;
    let Some(text) = imported.text else { return Ok(ExitCode::from(EXIT_WRONG)) };
    match &args.output {
        None => std::io::stdout().write_all(text.as_bytes())?,
        Some(path) => write(path, &text, args.force)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> anyhow::Result<Arc<SourceFile>> {
    let mut bytes = Vec::new();
    let name = if path == Path::new("-") {
        std::io::stdin().take(BYTES_MAX + 1).read_to_end(&mut bytes).context("cannot read standard input")?;
        PathBuf::from("<stdin>")
    } else {
        let file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        file.take(BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .with_context(|| format!("cannot read {}", path.display()))?;
        path.to_owned()
    };
    if bytes.len() as u64 > BYTES_MAX {
        bail!("{} is longer than 16 MiB; that is no output of these commands", name.display());
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| anyhow::anyhow!("{} is not text; give the output of a command", name.display()))?;
    Ok(SourceFile::new(name, text))
}

fn report(imported: &Imported) -> anyhow::Result<()> {
    let mut err = std::io::stderr();
    for (place, what) in &imported.understood {
        let line = place.line_number().map_or(String::new(), |line| format!(":{line}"));
        writeln!(err, "{}{line}: {what}", place.source().path().display())?;
    }
    if !imported.found.is_empty() {
        writeln!(err, "\n{}", imported.found.render(colour(&err)))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str, force: bool) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).truncate(true).create(force).create_new(!force);
    let mut file = options.open(path).with_context(|| match path.exists() && !force {
        true => format!("{} is there already; replace it with --force", path.display()),
        false => format!("cannot write {}", path.display()),
    })?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}
