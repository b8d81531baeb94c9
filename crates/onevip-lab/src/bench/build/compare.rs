//! Two source trees side by side: how long each takes to build after a change, and a release from nothing.
//!
//! Both are copied under a temporary directory and build into directories of their own. They take turns, so that whatever
//! else the machine does befalls both. The results give medians, and ratios round by round.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::tree::{ChangedFile, Tree};
use super::{Scratch, compiler};
use crate::bench::results::{Aim, BenchResults, figure};
use crate::bench::rounds::{Progress, take_turns};
use crate::bench::stats::ratio;
use crate::process::run;

const THIS: &str = "this";
const OTHER: &str = "other";
const AFTER_CHANGE: &str = "time to build after a change";
const DEBUG: &str = "time of a debug build from nothing";
const RELEASE: &str = "time of a release build from nothing";
/// More rounds tell nothing more, and each takes minutes.
const ROUNDS_MAX: usize = 50;
/// A build is not longer when it is longer by less than this: so much differs from run to run.
const NOT_LONGER: f64 = 1.05;
/// A release from nothing may take so much longer.
const RELEASE_AT_MOST: f64 = 1.15;

/// What to compare.
#[derive(Clone, Debug)]
pub struct BuildComparison {
    /// This checkout.
    pub this: PathBuf,
    /// The other one, such as one of an earlier commit.
    pub other: PathBuf,
    /// What is built.
    pub package: String,
    /// What is changed before each build.
    pub changes: Vec<ChangedFile>,
    /// Builds after each change.
    pub rounds: usize,
    /// Release builds from nothing; 0 for none.
    pub releases: usize,
}

/// What is changed unless told otherwise: where it lies now, and where it lay before crates were split out.
pub fn default_changes() -> Vec<ChangedFile> {
    vec![
        ChangedFile::new(
            "health checks",
            &[
                "crates/onevip-health/src/sshd/probe.rs",
                "crates/onevip-health/src/sshd/mod.rs",
                "crates/onevip-health/src/lib.rs",
                "crates/onevip/src/health/sshd/probe.rs",
            ],
        ),
        ChangedFile::new(
            "doctor",
            &["crates/onevip/src/doctor/rules.rs", "crates/onevip/src/desk/doctor/rules.rs"],
        ),
    ]
}

/// Builds, telling on standard error how far it is.
///
/// # Errors
/// When a tree is no checkout, has none of the files that are to be changed, or does not build; or the user interrupts.
pub fn run_comparison(comparison: &BuildComparison, command: String) -> Result<BenchResults> {
    let BuildComparison { package, changes, rounds, releases, .. } = comparison;
    ensure!(
        (1..=ROUNDS_MAX).contains(rounds) && *releases <= ROUNDS_MAX,
        "1 to {ROUNDS_MAX} rounds (--rounds), 0 to {ROUNDS_MAX} releases (--releases)"
    );
    let mut results = BenchResults::new("build-comparison", command);
    results.set("compiler", compiler()?);
    results.set("package", package);
    results.set("rounds", rounds);
    results.set("releases", releases);
    let scratch = Scratch::new("compare")?;
    let progress = Progress::new("build");
    let mut trees = Vec::new();
    for (name, checkout) in [(THIS, &comparison.this), (OTHER, &comparison.other)] {
        progress.tell(&format!("copy of {}", checkout.display()), true);
        results.set(name, commit(checkout));
        trees.push(Tree::copy(name, checkout, scratch.path())?);
    }
    for tree in &mut trees {
        // Before anything is built, so that a file that is not there is found out at once.
        changes.iter().try_for_each(|file| tree.change(file))?;
    }
    take_turns(&progress, "debug, from nothing", 1, &mut trees, |tree| {
        results.note(DEBUG, package, tree.name, "s", tree.build(package, false)?);
        Ok(())
    })?;
    for file in changes {
        take_turns(
            &progress,
            &format!("after a change of the {}", file.label),
            *rounds,
            &mut trees,
            |tree| {
                tree.change(file)?;
                results.note(AFTER_CHANGE, &file.label, tree.name, "s", tree.build(package, false)?);
                Ok(())
            },
        )?;
    }
    take_turns(&progress, "release, from nothing", *releases, &mut trees, |tree| {
        tree.forget_builds()?;
        results.note(RELEASE, package, tree.name, "s", tree.build(package, true)?);
        Ok(())
    })?;
    conclude(&mut results);
    Ok(results)
}

/// The ratios in words, and what is wanted of them.
fn conclude(results: &mut BenchResults) {
    for metric in [AFTER_CHANGE, DEBUG, RELEASE] {
        let scenarios: Vec<String> = results.scenarios(metric).into_iter().map(str::to_owned).collect();
        for scenario in scenarios {
            let samples = |whose| results.find(metric, &scenario, whose).map(|series| &series.samples[..]);
            let Some(all) = samples(THIS).zip(samples(OTHER)).and_then(|(own, other)| ratio(own, other))
            else {
                continue;
            };
            let (median, least, most) = (figure(all.median), figure(all.least), figure(all.most));
            results.remarks.push(format!(
                "{metric}, {scenario}: {THIS} takes {median} × {OTHER}, {least} to {most} in single rounds."
            ));
        }
    }
    results.aims.push(Aim::at_most(AFTER_CHANGE, THIS, Some(OTHER), NOT_LONGER));
    results.aims.push(Aim::at_most(RELEASE, THIS, Some(OTHER), RELEASE_AT_MOST));
    results.finish();
}

/// Which commit a checkout is at, and whether it differs from that; its path where git does not know.
fn commit(checkout: &std::path::Path) -> String {
    let mut git = Command::new("git");
    git.arg("-C").arg(checkout).args(["describe", "--always", "--dirty"]);
    let described = run(&mut git, Duration::from_secs(10)).ok().filter(|output| output.status.success());
    let words = described.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    words.unwrap_or_else(|| checkout.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_told_and_held_against_their_aims() {
        let mut results = BenchResults::new("test", String::new());
        for (this, other) in [(9.0, 10.0), (18.0, 20.0), (12.0, 10.0)] {
            results.note(AFTER_CHANGE, "doctor", THIS, "s", this);
            results.note(AFTER_CHANGE, "doctor", OTHER, "s", other);
        }
        results.note(RELEASE, "onevip", THIS, "s", 120.0);
        results.note(RELEASE, "onevip", OTHER, "s", 100.0);
        conclude(&mut results);
        assert!(results.remarks[0].ends_with("this takes 0.90 × other, 0.90 to 1.20 in single rounds."));
        let reached: Vec<bool> = results.evaluate().iter().map(|outcome| outcome.reached).collect();
        assert_eq!(reached, [true, false], "{:?}", results.evaluate());
    }

    #[test]
    fn what_is_changed_by_default_lies_in_this_tree() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for file in default_changes() {
            let there = file.candidates.iter().any(|path| root.join(path).is_file());
            assert!(there, "none of {:?}", file.candidates);
        }
    }
}
