//! `onevip-lab bench build`: how long it takes to build the daemon, and how large it is then.
//!
//! In a directory of its own, with what is needed already downloaded: from nothing, and again after a change of the
//! daemon and of the core.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};

use super::rounds::Progress;
use super::sheet::Sheet;
use crate::process::run_ok;

/// A build that takes longer than this hangs.
const BUILD_WITHIN: Duration = Duration::from_secs(1800);
const TIME: &str = "time to build";
const SIZE: &str = "size";

/// Builds, below the workspace in the current directory.
///
/// # Errors
/// When there is no workspace, or it does not build.
pub fn run(command: String) -> Result<Sheet> {
    ensure!(Path::new("crates/onevip/Cargo.toml").exists(), "to be called in the directory of the sources");
    let mut sheet = Sheet::new("build", command);
    let rustc = run_ok(Command::new("rustc").arg("--version"), Duration::from_secs(10))?;
    sheet.set("compiler", rustc.trim());
    let progress = Progress::new("build");
    let dir = Scratch(std::env::temp_dir().join(format!("onevip-build-{}", std::process::id())));
    for (profile, options) in [("release", &["--release"][..]), ("debug", &[][..])] {
        let mut build = |what: &str, touched: Option<&str>| -> Result<()> {
            progress.tell(&format!("{profile}, {what}"), true);
            if let Some(path) = touched {
                touch(path)?;
            }
            let from = Instant::now();
            let mut cargo = Command::new("cargo");
            cargo
                .args(["build", "--locked", "--package", "onevip", "--target-dir"])
                .arg(&dir.0)
                .args(options);
            run_ok(&mut cargo, BUILD_WITHIN)?;
            sheet.note(TIME, what, profile, "s", from.elapsed().as_secs_f64());
            Ok(())
        };
        build("from nothing", None)?;
        build("after a change of the core", Some("crates/onevip-core/src/lib.rs"))?;
        build("after a change of the daemon", Some("crates/onevip/src/main.rs"))?;
    }
    let program = dir.0.join("release/onevip");
    let bytes = fs::metadata(&program).with_context(|| format!("no {}", program.display()))?.len();
    sheet.note(SIZE, "onevip, with its kernel part", "release", "MB", bytes as f64 / 1e6);
    sheet.finish();
    Ok(sheet)
}

/// Makes a source newer, as an editor would.
fn touch(path: &str) -> Result<()> {
    let file = File::options().append(true).open(path).with_context(|| format!("cannot open {path}"))?;
    file.set_modified(SystemTime::now()).with_context(|| format!("cannot touch {path}"))
}

/// A directory that goes away.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
