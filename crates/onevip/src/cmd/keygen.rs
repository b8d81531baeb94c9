//! `onevip keygen`: makes the cluster's key file, and changes its keys without an interruption.

use crate::base::keys;
use crate::cmd::context::Context;
use onevip_config::Config;
use onevip_core::beat::KeyFile;
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `onevip keygen`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The key file [default: key_file of the configuration]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// First step of a change: add a new key that is only received
    #[arg(long, conflicts_with_all = ["promote", "retire"])]
    pub add: bool,
    /// Second step, when all nodes have it: send with the newest key
    #[arg(long, conflicts_with = "retire")]
    pub promote: bool,
    /// Third step, when all nodes send with it: forget the older keys
    #[arg(long)]
    pub retire: bool,
}

/// Makes or changes the file, and says what to do with it.
pub fn run(ctx: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let path = match &args.file {
        Some(path) => path.clone(),
        None => Config::load(&ctx.config)?.key_file,
    };
    let shown = path.display();
    if !(args.add || args.promote || args.retire) {
        keys::create(&path, &KeyFile::generate(keys::random()?))?;
        println!("{shown} has a new key; copy it to all nodes, readable by root alone");
        return Ok(ExitCode::SUCCESS);
    }
    let mut file = keys::read(&path)?;
    let next = if args.add {
        file.add(keys::random()?)?;
        "has one more key, which is only received so far; copy it to all nodes, `onevip reload` each, then --promote"
    } else if args.promote {
        file.promote()?;
        "sends with the newest key now; copy it to all nodes, `onevip reload` each, then --retire"
    } else {
        file.retire()?;
        "has forgotten the older keys; copy it to all nodes and `onevip reload` each"
    };
    keys::replace(&path, &file)?;
    println!("{shown} {next}");
    Ok(ExitCode::SUCCESS)
}
