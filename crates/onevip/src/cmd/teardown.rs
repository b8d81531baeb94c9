//! `onevip teardown`.

use crate::cli::Context;
use std::process::ExitCode;

/// Not built in.
pub fn run(_ctx: &Context) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`onevip teardown` is not built in")
}
