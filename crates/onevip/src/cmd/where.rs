//! `onevip where`: which node answers a client, and why.

use crate::cli::Context;
use std::process::ExitCode;

/// Options of `onevip where`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The client: an address, with its source port where the hash needs one ([2001:db8::1]:50022)
    #[arg(value_name = "ADDRESS[:PORT]")]
    pub client: String,
    /// As JSON, one object a line for each VIP
    #[arg(long)]
    pub json: bool,
}

/// Not built in.
pub fn run(_ctx: &Context, _args: &Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`onevip where` is not built in")
}
