//! `onevip run`: serves the VIPs on this host until SIGTERM.

use crate::base::paths::Paths;
use crate::cmd::context::Context;
use crate::daemon;
use onevip_config::Config;
use onevip_host::run_dir::RunDir;
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Becomes the daemon. Mistakes of the file or the command line end it at once; what may be mended by waiting does not.
pub fn run(ctx: &Context) -> anyhow::Result<ExitCode> {
    log_to_stderr();
    let config = Config::load(&ctx.config)?;
    if ctx.node.is_some() {
        config.this_node(ctx.node.as_deref())?;
    }
    let paths = Paths {
        config: ctx.config.clone(),
        run_dir: RunDir::new(&ctx.run_dir),
        state_dir: ctx.state_dir.clone(),
    };
    daemon::run(ctx.node.as_deref(), &paths)?;
    Ok(ExitCode::SUCCESS)
}

/// One line per event that matters. Under systemd the journal adds the time itself.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("ONEVIP_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    if std::env::var_os("JOURNAL_STREAM").is_some() { lines.without_time().init() } else { lines.init() }
}
