//! What every subcommand knows, and how it shows itself.

use std::io::IsTerminal;
use std::path::PathBuf;

/// The exit code for a wrong command line or configuration.
pub const EXIT_WRONG: u8 = 2;

/// The command line asks for something that makes no sense here: exit code [`EXIT_WRONG`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Mistake(pub String);

/// What every subcommand knows.
#[derive(Clone, Debug)]
pub struct Context {
    /// The configuration file.
    pub config: PathBuf,
    /// Where the running daemon keeps its state.
    pub run_dir: PathBuf,
    /// Where the daemon keeps what must survive a reboot.
    pub state_dir: PathBuf,
    /// The name given with `--node`.
    pub node: Option<String>,
    /// Whether the output shall be JSON.
    pub json: bool,
}

/// Whether a stream takes colour: a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
pub fn colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
