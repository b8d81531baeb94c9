//! `onevip-lab bench build`: how long it takes to build the daemon, and how large it is then.
//!
//! With what is needed already downloaded: a release from nothing, in a directory of its own, and the debug build after a
//! change of the daemon or the core, in the directory where whoever works on it has built before.
//!
//! [`compare`] has another question: which of two source trees builds faster.

pub mod compare;
pub mod tree;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};

use self::tree::BUILD_WITHIN;
use super::results::BenchResults;
use super::rounds::Progress;
use crate::process::{check_interrupt, run_ok};

const TIME: &str = "time to build";
const SIZE: &str = "size";
const WHAT: &str = "onevip";

/// Builds, below the workspace in the current directory. Whoever has just built a release from nothing says how many
/// seconds that took, so that nobody waits for it again.
///
/// # Errors
/// When there is no workspace, or it does not build.
pub fn run(release_took: Option<f64>, command: String) -> Result<BenchResults> {
    ensure!(Path::new("crates/onevip/Cargo.toml").exists(), "to be called in the directory of the sources");
    let mut results = BenchResults::new("build", command);
    results.set("compiler", compiler()?);
    let progress = Progress::new("build");
    let dir = Scratch::new("release")?;
    let target = dir.path().to_str().context("the directory for temporary files has a strange name")?;
    let (program, took) = match release_took {
        Some(seconds) => (Path::new("target/release/onevip").to_path_buf(), seconds),
        None => {
            progress.tell("release, from nothing", true);
            (dir.path().join("release/onevip"), build(&["--release", "--target-dir", target])?)
        }
    };
    results.note(TIME, "release, from nothing", WHAT, "s", took);
    progress.tell("debug, as it is", true);
    build(&[])?;
    for (what, path) in [("core", "crates/onevip-core/src/lib.rs"), ("daemon", "crates/onevip/src/lib.rs")] {
        let scenario = format!("debug, after a change of the {what}");
        progress.tell(&scenario, true);
        touch(path)?;
        results.note(TIME, &scenario, WHAT, "s", build(&[])?);
    }
    let bytes = fs::metadata(&program).with_context(|| format!("no {}", program.display()))?.len();
    results.note(SIZE, "release, with its kernel part", WHAT, "MB", bytes as f64 / 1e6);
    results.finish();
    Ok(results)
}

/// Seconds that it takes to build.
fn build(options: &[&str]) -> Result<f64> {
    check_interrupt()?;
    let from = Instant::now();
    run_ok(
        Command::new("cargo").args(["build", "--locked", "--package", "onevip"]).args(options),
        BUILD_WITHIN,
    )?;
    Ok(from.elapsed().as_secs_f64())
}

/// Makes a source newer, as an editor would.
fn touch(path: &str) -> Result<()> {
    let file = File::options().append(true).open(path).with_context(|| format!("cannot open {path}"))?;
    file.set_modified(SystemTime::now()).with_context(|| format!("cannot touch {path}"))
}

/// The compiler's name and version.
fn compiler() -> Result<String> {
    let rustc = run_ok(Command::new("rustc").arg("--version"), Duration::from_secs(10))?;
    Ok(rustc.trim().to_owned())
}

/// A directory for temporary files that goes away.
struct Scratch(PathBuf);

impl Scratch {
    fn new(label: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("onevip-build-{label}-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
