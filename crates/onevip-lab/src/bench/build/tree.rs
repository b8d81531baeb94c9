//! A copy of a source tree under a temporary directory, in which files are changed and built.
//!
//! The checkout that it comes from is only read: neither its files nor its build directory are touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::process::{check_interrupt, run_ok};

/// A build that takes longer than this hangs.
pub const BUILD_WITHIN: Duration = Duration::from_secs(1800);
/// What is no source: builds of the checkout, and its history.
const LEFT_OUT: [&str; 2] = ["target", ".git"];

/// A file that is changed before a build: the first of these paths that a tree has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedFile {
    /// What is changed, as the results name it.
    pub label: String,
    /// Paths below the root of a tree; a file that was moved is found under either.
    pub candidates: Vec<PathBuf>,
}

impl ChangedFile {
    /// With these candidates.
    pub fn new(label: &str, candidates: &[&str]) -> Self {
        Self { label: label.to_owned(), candidates: candidates.iter().map(PathBuf::from).collect() }
    }

    /// Reads `LABEL=PATH[,PATH…]`.
    ///
    /// # Errors
    /// When it has another form, or a path leads out of the tree.
    pub fn parse(text: &str) -> Result<Self> {
        let (label, paths) = text.split_once('=').unwrap_or_default();
        let candidates: Vec<&str> = paths.split(',').filter(|path| !path.is_empty()).collect();
        ensure!(
            !label.is_empty() && !candidates.is_empty(),
            "{text:?} is not like health=crates/onevip-health/src/lib.rs,crates/onevip/src/health/mod.rs"
        );
        let leads_out = |path: &&str| path.starts_with('/') || path.split('/').any(|part| part == "..");
        let outside = candidates.iter().find(|path| leads_out(path));
        ensure!(outside.is_none(), "{} does not lie below the tree", outside.unwrap_or(&""));
        Ok(Self::new(label, &candidates))
    }

    /// Its path in a tree.
    ///
    /// # Errors
    /// When the tree has none of the candidates.
    fn find(&self, root: &Path) -> Result<PathBuf> {
        let paths = self.candidates.iter().map(|path| root.join(path));
        let found = paths.into_iter().find(|path| path.is_file());
        found.with_context(|| {
            let all: Vec<_> = self.candidates.iter().map(|path| path.display().to_string()).collect();
            format!("{} has none of {} (--change)", root.display(), all.join(", "))
        })
    }
}

/// A copy of a tree, and a build directory of its own.
pub struct Tree {
    /// What the results call it.
    pub name: &'static str,
    root: PathBuf,
    target: PathBuf,
    /// Files that differ from the original, and what they were. They are restored when this is dropped.
    changed: Vec<(PathBuf, String)>,
    changes: u64,
}

impl Tree {
    /// Copies a checkout below `scratch`.
    ///
    /// # Errors
    /// When it is no checkout of this project, or cannot be copied.
    pub fn copy(name: &'static str, checkout: &Path, scratch: &Path) -> Result<Self> {
        ensure!(
            checkout.join("Cargo.lock").is_file() && checkout.join("crates").is_dir(),
            "{} is no checkout of onevip: it has no Cargo.lock or no crates",
            checkout.display()
        );
        let (root, target) = (scratch.join(name), scratch.join(format!("{name}-target")));
        copy_dir(checkout, &root).with_context(|| format!("cannot copy {}", checkout.display()))?;
        Ok(Self { name, root, target, changed: Vec::new(), changes: 0 })
    }

    /// Makes a file differ from what was built last, so that its crate has to be compiled again: a constant is appended
    /// that nobody uses, with another value each time.
    ///
    /// # Errors
    /// When the tree has no such file, or it cannot be written.
    pub fn change(&mut self, file: &ChangedFile) -> Result<()> {
        let path = file.find(&self.root)?;
        if !self.changed.iter().any(|(known, _)| *known == path) {
            let original = fs::read_to_string(&path)?;
            self.changed.push((path.clone(), original));
        }
        self.changes += 1;
        let original = self.changed.iter().find(|(known, _)| *known == path).map(|(_, text)| text.as_str());
        let text = format!(
            "{}\n#[allow(dead_code)]\nconst CHANGED_BY_THE_BENCHMARK: u64 = {};\n",
            original.unwrap_or_default(),
            self.changes
        );
        fs::write(&path, text).with_context(|| format!("cannot change {}", path.display()))
    }

    /// Builds a package; returns how many seconds that took.
    ///
    /// # Errors
    /// When it does not build, or takes longer than [`BUILD_WITHIN`].
    pub fn build(&self, package: &str, release: bool) -> Result<f64> {
        check_interrupt()?;
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--locked", "--package", package]).args(release.then_some("--release"));
        cargo.arg("--target-dir").arg(&self.target).current_dir(&self.root);
        let from = Instant::now();
        run_ok(&mut cargo, BUILD_WITHIN).with_context(|| format!("in {} tree", self.name))?;
        Ok(from.elapsed().as_secs_f64())
    }

    /// Removes everything that was built.
    ///
    /// # Errors
    /// When something stays.
    pub fn forget_builds(&self) -> Result<()> {
        match fs::remove_dir_all(&self.target) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.target.display()))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        for (path, original) in &self.changed {
            let _ = fs::write(path, original);
        }
    }
}

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, name) = (entry.file_type()?, entry.file_name());
        let place = to.join(&name);
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, place)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), place)?;
        } else if kind.is_dir() && !LEFT_OUT.iter().any(|left| name == **left) {
            copy_dir(&entry.path(), &place)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Scratch;
    use super::*;

    fn checkout(scratch: &Scratch) -> PathBuf {
        let root = scratch.path().join("checkout");
        for (path, text) in [
            ("Cargo.lock", ""),
            ("crates/a/src/lib.rs", "fn a() {}\n"),
            ("target/debug/a", "built"),
            (".git/HEAD", "main"),
        ] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_copy_has_sources_and_nothing_built() {
        let scratch = Scratch::new("copy").unwrap();
        let tree = Tree::copy("this", &checkout(&scratch), scratch.path()).unwrap();
        assert!(tree.root.join("crates/a/src/lib.rs").is_file());
        assert!(!tree.root.join("target").exists() && !tree.root.join(".git").exists());
        assert!(Tree::copy("other", Path::new("/nonexistent"), scratch.path()).is_err());
    }

    #[test]
    fn each_change_is_another_one_and_what_was_changed_is_restored_also_by_a_panic() {
        let scratch = Scratch::new("change").unwrap();
        let original = checkout(&scratch);
        let file = ChangedFile::new("a", &["crates/gone/src/lib.rs", "crates/a/src/lib.rs"]);
        let mut tree = Tree::copy("this", &original, scratch.path()).unwrap();
        let path = tree.root.join("crates/a/src/lib.rs");
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut texts = vec![fs::read_to_string(&path).unwrap()];
            for _ in 0..2 {
                tree.change(&file).unwrap();
                texts.push(fs::read_to_string(&path).unwrap());
            }
            assert!(texts[0] != texts[1] && texts[1] != texts[2], "{texts:?}");
            assert_eq!(texts[2].matches("const ").count(), 1, "{texts:?}");
            let _tree = tree;
            panic!("a build that fails");
        }));
        assert!(failed.unwrap_err().downcast_ref::<&str>() == Some(&"a build that fails"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "fn a() {}\n");
        assert_eq!(fs::read_to_string(original.join("crates/a/src/lib.rs")).unwrap(), "fn a() {}\n");
    }

    #[test]
    fn a_file_is_looked_for_below_the_tree_only() {
        let file = ChangedFile::parse("health=crates/a/x.rs,crates/b/x.rs").unwrap();
        assert_eq!(file, ChangedFile::new("health", &["crates/a/x.rs", "crates/b/x.rs"]));
        for wrong in ["health", "health=", "=x.rs", "health=/etc/passwd", "health=../x.rs"] {
            assert!(ChangedFile::parse(wrong).is_err(), "{wrong}");
        }
        let error = file.find(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(error.contains("none of crates/a/x.rs, crates/b/x.rs"), "{error}");
    }
}
